"""The state of a sandbox: accounts, messages, requests and faults."""

from django_turbosmtp.sandbox.state.accounts import Accounts
from django_turbosmtp.sandbox.state.faults import Fault
from django_turbosmtp.sandbox.state.state import State
from django_turbosmtp.sandbox.state.store import Received, Refused, RequestRecord, Store

__all__ = [
    "Accounts",
    "Fault",
    "Received",
    "Refused",
    "RequestRecord",
    "State",
    "Store",
]
