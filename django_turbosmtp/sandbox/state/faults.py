"""Faults on demand: how the sandbox fails when it is told to."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

#: Answers with this HTTP status.
STATUS_KINDS = ("400", "401", "403", "404", "413", "429", "500", "502", "503", "504")
#: Refusals in words of turboSMTP's own.
NAMED_KINDS = ("nocredit", "inactive", "old_errors", "old_nocredit")
#: Answers that look wrong whatever became of the message.
ODD = {"html", "cut_json", "wrong_type", "empty", "redirect"}
#: The message is accepted as always; only the way of the answer differs.
ACCEPTING = {"no_mid", "lost_answer", "close", "slow_headers", "slow_body", "latency"}
_DROPPED = {"reset_before_body", "reset_after_body", "timeout"}
KINDS = (
    *STATUS_KINDS,
    *NAMED_KINDS,
    *sorted(ODD),
    *sorted(ACCEPTING),
    *sorted(_DROPPED),
)
_SECONDS = {"timeout": 60.0, "slow_headers": 3.0, "slow_body": 3.0, "latency": 1.0}


@dataclass(kw_only=True, eq=False)
class Fault:
    """One ordered fault; `times=None` holds until it is cleared."""

    kind: str
    times: int | None = 1
    skip: int = 0
    retry_after: float | str | None = None
    match: str | None = None
    seconds: float | None = None
    accept: bool = False
    used: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Refuse what could never happen as asked."""
        if self.kind not in KINDS:
            raise ValueError(
                f"unknown fault {self.kind!r}; known are {', '.join(KINDS)}"
            )
        _check_number("times", self.times, optional=True, whole=True, least=1)
        _check_number("skip", self.skip, whole=True)
        _check_number("seconds", self.seconds, optional=True)
        # The arguments may come as JSON from anyone, whatever their annotations.
        _check_type("accept", self.accept, bool)
        _check_type("match", self.match, str, type(None))
        _check_type("retry_after", self.retry_after, int, float, str, type(None))
        if isinstance(self.retry_after, str) and not (
            self.retry_after.isascii() and self.retry_after.isprintable()
        ):
            raise ValueError("retry_after must be printable ASCII")
        if self.kind == "reset_before_body" and (self.match or self.accept):
            raise ValueError(
                "reset_before_body acts before the body is read: it can neither "
                "match nor accept it"
            )

    @property
    def spent(self) -> bool:
        """Whether it has happened as often as asked."""
        return self.times is not None and self.used >= self.times

    @property
    def accepts(self) -> bool:
        """Whether the message is stored before the fault shows."""
        return self.accept or self.kind in ACCEPTING

    @property
    def duration(self) -> float:
        """The seconds asked for, or this kind's own."""
        if self.seconds is not None:
            return self.seconds
        return _SECONDS.get(self.kind, 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        names = ("kind", "times", "skip", "retry_after", "match", "seconds", "accept")
        return {name: getattr(self, name) for name in (*names, "used", "skipped")}


class Faults:
    """The ordered faults; the first one that applies to a request is taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Put a fault behind those already there."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    @property
    def active(self) -> list[Fault]:
        """The faults still to happen, in order."""
        with self._lock:
            return list(self._faults)

    def take(self, body: bytes | None) -> Fault | None:
        """Return the fault for this request; without a body, one that needs none.

        A fault counts only those requests that no fault before it has taken, and the
        look before the body leaves all other faults untouched.
        """
        with self._lock:
            for fault in self._faults:
                if (fault.kind == "reset_before_body") != (body is None):
                    if body is None and not fault.match and fault.skip == fault.skipped:
                        return None
                    continue
                if body is not None and not _matches(fault.match, body):
                    continue
                if fault.skipped < fault.skip:
                    fault.skipped += 1
                    continue
                fault.used += 1
                if fault.spent:
                    self._faults.remove(fault)
                return fault
        return None


def _matches(match: str | None, body: bytes) -> bool:
    if not match:
        return True
    text = body.decode("utf-8", "replace")
    if match in text:
        return True
    try:
        # As a person would write it: without JSON's escapes.
        return match in json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return False


def _check_type(name: str, value: object, *kinds: type) -> None:
    # By type(), since a bool is an int to isinstance().
    if type(value) not in kinds:
        raise ValueError(f"{name} may not be {value!r}")


def _check_number(
    name: str,
    value: object,
    *,
    optional: bool = False,
    whole: bool = False,
    least: int = 0,
) -> None:
    if optional and value is None:
        return
    kinds = (int,) if whole else (int, float)
    good = isinstance(value, kinds) and not isinstance(value, bool)
    if not good or not least <= value < 86400:  # type: ignore[operator]
        raise ValueError(
            f"{name} must be a number from {least} to 86399, not {value!r}"
        )
