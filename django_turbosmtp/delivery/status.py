"""``message.turbosmtp_status``: the result of a send."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_turbosmtp.statuses import Outcome, Status


@dataclass(frozen=True, kw_only=True)
class RecipientStatus:
    """The result for one recipient. ``message_id``: exact digits, or None."""

    status: Status
    message_id: str | None = None


# Cached, because most recipients of a call have the same status.
_build_status = lru_cache(maxsize=16)(
    lambda state, message_id: RecipientStatus(status=state, message_id=message_id)
)


class TurboSMTPStatus:
    """The result of a send; set as ``message.turbosmtp_status``.

    Like django-anymail's status object, plus ``reference_id``, ``outcome``, ``error``
    (an exception or None) and ``attempts``: 0 if it could not be translated, or if it
    was not tried after an error of another message.
    """

    def __init__(self, *, reference_id: str | None = None) -> None:
        self.reference_id = reference_id
        self.outcome: Outcome | None = None
        self.recipients: dict[str, RecipientStatus] = {}
        self.esp_response: Any = None
        self.error: BaseException | None = None
        self.attempts = 0

    @property
    def status(self) -> set[Status] | None:
        """The statuses of all recipients (a set of str), or None before the send."""
        return {r.status for r in self.recipients.values()} or None

    @property
    def message_id(self) -> str | set[str] | None:
        """The message id (exact digits), or a set of them after several requests."""
        ids = {r.message_id for r in self.recipients.values() if r.message_id}
        if len(ids) > 1:
            return ids
        return next(iter(ids), None)

    def set_recipients(
        self, addresses: Iterable[str], state: Status, message_id: str | None
    ) -> None:
        """Give each address this status."""
        status = _build_status(state, message_id)
        self.recipients.update(dict.fromkeys(addresses, status))

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} outcome={self.outcome!r} status={self.status!r}"
            f" message_id={self.message_id!r} reference_id={self.reference_id!r}>"
        )
