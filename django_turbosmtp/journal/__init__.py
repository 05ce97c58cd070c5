"""The log's write side: a row before a message leaves, its outcome right after."""

from django_turbosmtp.journal.entries import Addressee, Conclusion, Entry, Result, Try
from django_turbosmtp.journal.journal import Journal, open_journal, report_failure

__all__ = [
    "Addressee",
    "Conclusion",
    "Entry",
    "Journal",
    "Result",
    "Try",
    "open_journal",
    "report_failure",
]
