"""``LOG_REDACT``: the site's functions that remove secrets from texts for the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp._lib.loggers import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = get_logger("django_turbosmtp.log")


class Redactor:
    """Redacts texts by the functions of ``LOG_REDACT``; see `conf.log`."""

    def __init__(self, functions: Sequence[Callable[[str, str], str]]) -> None:
        self._functions = functions

    def redact_text(self, name: str, text: str) -> str:
        """Return what may be stored of a text of the field ``name``.

        A function that fails is logged, and nothing of the text is stored.
        """
        for function in self._functions if text else ():
            try:
                text = str(function(text, name))
            except Exception as error:
                raise_interrupt(error)
                logger.exception("LOG_REDACT failed for a message's %s.", name)
                return f"({type(error).__name__} in LOG_REDACT)"
        return text

    def redact_json(self, name: str, value: Any) -> Any:
        """Return a JSON value with each of its texts redacted."""
        if not self._functions:
            return value
        if isinstance(value, str):
            return self.redact_text(name, value)
        if isinstance(value, dict):
            return {key: self.redact_json(name, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.redact_json(name, item) for item in value]
        return value
