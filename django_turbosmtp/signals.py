"""The signals around sending and tracking."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

from django_turbosmtp._lib.versions import RobustSignal

ESP_NAME: Final = "turboSMTP"

#: Sent before a message is translated: ``message``, ``esp_name``. A receiver may
#: change the message, or raise `CancelSend` to cancel it.
pre_send = Signal()

#: Sent once for every message that was tried, whatever came of it: ``message``,
#: ``status`` (its ``turbosmtp_status``), ``esp_name``. What a receiver raises is
#: logged, never raised, so that no accepted message looks as if it had failed.
post_send = RobustSignal()

#: Sent for every tracking event: ``event``, ``esp_name``.
tracking = RobustSignal()

#: Sent once when the queue of an account stops, because every message would be refused:
#: ``mailer`` (its alias, "" for EMAIL_BACKEND), ``error``, ``esp_name``.
queue_stopped = RobustSignal()
