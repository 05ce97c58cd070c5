"""Signals for sending, tracking and the queue."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

from django_turbosmtp._lib.versions import RobustSignal

ESP_NAME: Final = "turboSMTP"

#: Sent before a message is translated: ``message``, ``esp_name``. A receiver may
#: change the message, or raise `CancelSend` to cancel it.
pre_send = Signal()

#: Sent once after the attempts to send a message, with any outcome: ``message``,
#: ``status`` (its ``turbosmtp_status``), ``esp_name``. Exceptions of receivers are
#: logged and not raised, because the message may have been accepted.
post_send = RobustSignal()

#: Sent for every tracking event: ``event``, ``esp_name``.
tracking = RobustSignal()

#: Sent once when the queue of an account stops, because every message would be refused:
#: ``mailer`` (its alias, "" for EMAIL_BACKEND), ``error``, ``esp_name``.
queue_stopped = RobustSignal()
