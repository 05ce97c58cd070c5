"""The log: a row for every message that the backend handles.

Only the package `log` writes rows. Times are UTC, sizes are bytes.
Text that a database cannot hold (NUL, unpaired surrogates) is replaced, and the row
names the fields in ``altered``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.core.files.storage import storages
from django.db import models
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.utils import timezone
from django.utils.functional import LazyObject
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from django_turbosmtp._lib.hashes import HASH_LENGTH, list_hashes, show_address
from django_turbosmtp._lib.limits import (
    MAX_ADDRESS_LENGTH,
    MAX_REFERENCE_LENGTH,
    MAX_SOURCE_LENGTH,
    MAX_TAG_LENGTH,
)
from django_turbosmtp._lib.versions import uuid7
from django_turbosmtp.statuses import Kind, Outcome, Reason, Status, find_event_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.core.files.storage import Storage

    # The class is only generic for type checkers.
    _CharField = models.CharField[str, str]
else:
    _CharField = models.CharField

#: Use at most this many values in one statement: SQLite allows 999 parameters.
_VALUES = 400

#: The search compares this many characters of the beginning of a subject.
MAX_SUBJECT_START = 64


def shorten_subject(subject: str) -> str:
    """Return the beginning of a subject in the form for the search."""
    return " ".join(subject.split()).casefold()[:MAX_SUBJECT_START]


def list_further_tags(tags: Iterable[Any], campaign: str) -> list[str]:
    """Return the tags that have a separate row: all except the campaign, each once."""
    names = dict.fromkeys(str(tag)[:MAX_TAG_LENGTH] for tag in tags)
    names.pop(campaign, None)
    return list(names)


class ExactCharField(_CharField):
    """Text that every database compares character by character.

    MySQL and MariaDB would treat "é" as "e", "ß" as "s", and "Shop" as "shop". On
    MySQL, trailing spaces are still ignored: only MariaDB's collation counts them.
    """

    def db_parameters(self, connection: Any) -> Any:
        """Return the parameters of the column, with a binary collation on MySQL."""
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            is_mariadb = connection.mysql_is_mariadb
            collation = "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_bin"
            parameters["collation"] = collation
        return parameters


class SubjectStartField(ExactCharField):
    """The beginning of the subject, set by ``save()``, but not by ``update()``."""

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:  # noqa: ARG002
        """Return the beginning of the instance's subject, and set the attribute."""
        start = shorten_subject(model_instance.subject)  # type: ignore[attr-defined]
        setattr(model_instance, self.attname, start)
        return start


class Message(models.Model):
    """One message and its result.

    The key is a UUID of version 7 (RFC 9562), made before the row is written: in order
    of time, so that the newest rows are at the end of every index.
    """

    id = models.UUIDField(_("id"), primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(_("created at"))
    concluded_at = models.DateTimeField(_("concluded at"), null=True)
    status = models.CharField(
        _("status"),
        max_length=12,
        choices=Status.list_choices,
        default=Status.SENDING.value,
    )
    outcome = models.CharField(
        _("outcome"), max_length=12, choices=Outcome.list_choices, blank=True
    )
    reference_id = ExactCharField(
        _("reference id"), max_length=MAX_REFERENCE_LENGTH, db_index=True
    )
    mid = ExactCharField(
        _("message id"),
        max_length=40,
        blank=True,
        db_index=True,
        help_text=_(
            "turboSMTP's own id. A message with only Bcc recipients has a separate"
            " one for each recipient."
        ),
    )
    mailer = ExactCharField(_("mailer"), max_length=100, blank=True)
    #: The fingerprint of the account (`conf.accounts`), "" if it is not known.
    account = models.CharField(max_length=32, blank=True, editable=False)
    api_version = models.PositiveSmallIntegerField(_("API version"))
    from_email = models.TextField(pgettext_lazy("sender", "from"), blank=True)
    subject = models.TextField(_("subject"), blank=True)
    subject_start = SubjectStartField(
        _("beginning of the subject"),
        max_length=MAX_SUBJECT_START,
        blank=True,
        editable=False,
    )
    first_recipient = ExactCharField(
        _("first recipient"), max_length=MAX_ADDRESS_LENGTH, blank=True
    )
    recipient_count = models.PositiveIntegerField(_("recipients"), default=0)
    size = models.PositiveBigIntegerField(
        _("size"), default=0, help_text=_("Approximate size of the e-mail, in bytes.")
    )
    campaign = ExactCharField(_("campaign"), max_length=MAX_TAG_LENGTH, blank=True)
    tags = models.JSONField(_("tags"), default=list, blank=True)
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    headers = models.JSONField(_("headers"), default=dict, blank=True)
    why_mime = models.TextField(
        _("reason for MIME"),
        blank=True,
        help_text=_("Why it was sent as a MIME message; blank if it was not."),
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    error = models.TextField(_("error"), blank=True)
    error_class = models.CharField(_("kind of error"), max_length=100, blank=True)
    altered = models.JSONField(
        _("altered"),
        default=list,
        blank=True,
        help_text=_("The fields with characters that the database cannot store."),
    )
    is_unchecked = models.BooleanField(
        _("suppressed addresses not checked"),
        default=False,
        help_text=_(
            "The suppressed addresses could not be read, so it was sent to all of its"
            " recipients."
        ),
    )

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering: ClassVar = ["-created_at", "-id"]
        # Each contains the order, so that a page of any list is read from one index.
        indexes: ClassVar = [
            models.Index(
                fields=["created_at", "id", "status"], name="turbosmtp_created"
            ),
            models.Index(
                fields=["status", "created_at", "id"], name="turbosmtp_status"
            ),
            models.Index(
                fields=["mailer", "created_at", "id", "status"], name="turbosmtp_mailer"
            ),
            models.Index(
                fields=["campaign", "created_at", "id", "status"],
                name="turbosmtp_campaign",
            ),
            models.Index(
                fields=["subject_start", "created_at", "id"],
                # LIKE cannot use another index unless the collation is "C".
                opclasses=["varchar_pattern_ops", "timestamptz_ops", "uuid_ops"],
                name="turbosmtp_subject",
            ),
        ]
        # The log cannot be edited in the admin.
        default_permissions = ("view",)
        permissions: ClassVar = [
            ("view_message_body", _("Can view the body of messages")),
            ("resend_message", _("Can send messages again")),
            ("cancel_message", _("Can cancel queued messages")),
        ]

    def __str__(self) -> str:
        return self.subject or str(self.id)


class Content(models.Model):
    """Bodies and wire fields of a message. Its own table: lists do not need them.

    ``wire``: the first request's fields, without bodies, attachments' bytes or
    credentials.
    """

    message = models.OneToOneField(
        Message, models.CASCADE, primary_key=True, related_name="content"
    )
    text = models.TextField(_("text"), blank=True)
    html = models.TextField(_("HTML"), blank=True)
    wire = models.JSONField(_("wire fields"), default=dict, blank=True)
    #: Whether the three above, with the attachments, are exactly the request's fields,
    #: so that the message can be rebuilt. False for MIME, and after any redaction.
    is_exact = models.BooleanField(default=False, editable=False)
    #: Whether the payload is kept after the message has been accepted: for MIME, which
    #: cannot be rebuilt, if the log stores all parts of it.
    keeps_payload = models.BooleanField(default=False, editable=False)

    class Meta:
        verbose_name = _("content")
        verbose_name_plural = _("contents")
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.pk)


class Recipient(models.Model):
    """One recipient of a message, with a separate status.

    ``address``: normalized, so that it can be compared. ``shown``: as it is in the
    message.
    """

    message = models.ForeignKey(Message, models.CASCADE, related_name="recipients")
    position = models.PositiveIntegerField(_("position"))
    kind = models.CharField(_("kind"), max_length=3, choices=Kind.list_choices)
    address = ExactCharField(_("address"), max_length=MAX_ADDRESS_LENGTH, db_index=True)
    shown = models.TextField(_("shown as"), blank=True)
    status = models.CharField(
        _("status"),
        max_length=12,
        choices=Status.list_choices,
        default=Status.SENDING.value,
    )
    mid = ExactCharField(_("message id"), max_length=40, blank=True, db_index=True)
    why = models.CharField(
        _("why left out"),
        max_length=16,
        blank=True,
        help_text=_("The reason for the suppression, or “guard”."),
    )

    class Meta:
        verbose_name = _("recipient")
        verbose_name_plural = _("recipients")
        ordering: ClassVar = ["message", "position"]
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["message", "position"], name="turbosmtp_recipient_position"
            )
        ]

    def __str__(self) -> str:
        return self.shown or self.address


class HashedAddress(models.Model):
    """Data about an address, stored under its hash instead of the address.

    ``lifted_at``: when it was last taken off the list of suppressed addresses, so that
    older events do not put it there again. ``erased_at``: when its person was erased,
    so that later events about earlier mail do not store it again.
    """

    hash = ExactCharField(primary_key=True, max_length=HASH_LENGTH)
    lifted_at = models.DateTimeField(null=True)
    erased_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.hash

    @classmethod
    def remember(cls, addresses: Iterable[str], field: str, alias: str) -> None:
        """Set ``field`` of these addresses to the present, in whole seconds.

        The times of turboSMTP's events have no fractions of seconds.
        """
        values: dict[str, Any] = {field: timezone.now().replace(microsecond=0)}
        # There are no hashes without a SECRET_KEY.
        hashes = sorted({h for address in addresses for h in list_hashes(address)[:1]})
        rows = cls._default_manager.using(alias)
        for start in range(0, len(hashes), _VALUES):
            part = hashes[start : start + _VALUES]
            new = [cls(hash=found, **values) for found in part]
            rows.bulk_create(new, ignore_conflicts=True)
            rows.filter(hash__in=part).update(**values)


class Suppression(models.Model):
    """An address that no mail is sent to. ``source``: who or what added it."""

    address = ExactCharField(_("address"), max_length=MAX_ADDRESS_LENGTH, unique=True)
    reason = models.CharField(
        _("reason"),
        max_length=16,
        choices=Reason.list_choices,
        default=Reason.MANUAL.value,
    )
    source = models.CharField(_("source"), max_length=MAX_SOURCE_LENGTH, blank=True)
    since = models.DateTimeField(_("since"), default=timezone.now)
    note = models.TextField(_("note"), blank=True)

    class Meta:
        verbose_name = _("suppressed address")
        verbose_name_plural = _("suppressed addresses")
        ordering: ClassVar = ["-since", "-id"]

    def __str__(self) -> str:
        return show_address(self.address)


@receiver(post_delete, sender=Suppression)
def remember_lifting(instance: Suppression, using: str, **_kwargs: Any) -> None:
    """Store when a suppression was removed, no matter which code deletes the row."""
    HashedAddress.remember([instance.address], "lifted_at", using)


class Event(models.Model):
    """One event that turboSMTP reported; see `tracking.events.TrackingEvent`.

    ``message`` and ``position`` are None as long as the log has no such row.
    ``digest``: the same for the same event, so that it is kept once.
    """

    id = models.UUIDField(_("id"), primary_key=True, default=uuid7, editable=False)
    digest = ExactCharField(max_length=40, unique=True, editable=False)
    message = models.ForeignKey(
        Message, models.CASCADE, null=True, related_name="events"
    )
    #: The position of the recipient in the message.
    position = models.PositiveIntegerField(_("position"), null=True)
    event_type = models.CharField(_("event"), max_length=16)
    occurred_at = models.DateTimeField(_("time"))
    received_at = models.DateTimeField(_("received at"))
    event_id = ExactCharField(_("event id"), max_length=255, blank=True)
    mid = ExactCharField(_("message id"), max_length=40, blank=True)
    reference_id = ExactCharField(
        _("reference id"), max_length=MAX_REFERENCE_LENGTH, blank=True
    )
    address = ExactCharField(_("address"), max_length=MAX_ADDRESS_LENGTH, blank=True)
    reject_reason = models.CharField(_("reason"), max_length=16, blank=True)
    bounce_kind = models.CharField(_("kind of bounce"), max_length=16, blank=True)
    answer = models.TextField(_("answer"), blank=True)
    user_agent = models.TextField(_("program"), blank=True)
    click_url = models.TextField(_("link"), blank=True)
    is_machine = models.BooleanField(_("probably a machine"), default=False)
    raw = models.JSONField(_("raw event"), default=dict)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.event_type} {self.address}"

    @property
    def status(self) -> Status | None:
        """The status that the event leads to, or None if its type is unknown."""
        return find_event_status(self.event_type, is_machine=self.is_machine)


class Unmatched(models.Model):
    """An event whose message is not in the log. Its own table: few events are."""

    # No constraint in the database, so that events can be deleted in one statement.
    event = models.OneToOneField(
        Event,
        models.DO_NOTHING,
        primary_key=True,
        db_constraint=False,
        related_name="unmatched",
    )
    mid = ExactCharField(max_length=40, blank=True, db_index=True)
    reference_id = ExactCharField(
        max_length=MAX_REFERENCE_LENGTH, blank=True, db_index=True
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.pk)


class Tag(models.Model):
    """A tag of a message other than its campaign, in addition to the list in its row.

    It is used to find the message. Most messages only have a campaign, with an index.
    """

    message = models.ForeignKey(Message, models.CASCADE, related_name="tag_rows")
    name = ExactCharField(_("tag"), max_length=MAX_TAG_LENGTH)

    class Meta:
        verbose_name = _("tag")
        verbose_name_plural = _("tags")
        default_permissions = ()
        # Not a unique index: some databases do not distinguish "Order" and "order".
        indexes: ClassVar = [
            models.Index(fields=["name", "message"], name="turbosmtp_tag_name")
        ]

    def __str__(self) -> str:
        return self.name


class Resend(models.Model):
    """Links a message to the one it resends. Its own table: few messages are resent."""

    message = models.OneToOneField(
        Message, models.CASCADE, primary_key=True, related_name="resend_of"
    )
    original = models.ForeignKey(Message, models.CASCADE, related_name="resends")

    class Meta:
        verbose_name = _("resend")
        verbose_name_plural = _("resends")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.original_id} > {self.message_id}"


class Attempt(models.Model):
    """One attempt to send a request, unless the first one was accepted.

    A message that was accepted on the first attempt has no such rows. ``answer`` is
    what turboSMTP answered, as text; "" where no answer came.
    """

    message = models.ForeignKey(Message, models.CASCADE, related_name="tries")
    position = models.PositiveIntegerField(_("position"))
    began_at = models.DateTimeField(_("began at"))
    seconds = models.FloatField(_("seconds"))
    recipients = models.TextField(_("recipients"), blank=True)
    status_code = models.PositiveSmallIntegerField(_("HTTP status"), null=True)
    error = models.TextField(_("error"), blank=True)
    error_class = models.CharField(_("kind of error"), max_length=100, blank=True)
    answer = models.TextField(_("answer"), blank=True)

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering: ClassVar = ["message", "position"]
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["message", "position"], name="turbosmtp_attempt_position"
            )
        ]

    def __str__(self) -> str:
        return f"{self.message_id}/{self.position}"


class Payload(models.Model):
    """A piece of the first request's JSON, so that a message can be sent again.

    Stored until the message is accepted, and for MIME until its body is pruned. In
    pieces, because a database limits the size of a statement (16 MB on MariaDB).
    """

    message = models.ForeignKey(Message, models.CASCADE, related_name="payload")
    position = models.PositiveIntegerField(_("position"))
    data = models.BinaryField(_("data"))

    class Meta:
        verbose_name = _("payload")
        verbose_name_plural = _("payloads")
        ordering: ClassVar = ["message", "position"]
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["message", "position"], name="turbosmtp_payload_position"
            )
        ]

    def __str__(self) -> str:
        return f"{self.message_id}/{self.position}"


class QueuedMessage(models.Model):
    """A message that waits in the queue, or that a worker is sending.

    Deleted when the message has its outcome. ``token``: of the worker that claimed the
    message, None while it waits.
    """

    message = models.OneToOneField(
        Message, models.CASCADE, primary_key=True, related_name="queued"
    )
    mailer = ExactCharField(max_length=100, blank=True)
    #: The fingerprint of the account (`conf.accounts`).
    account = models.CharField(max_length=32, editable=False)
    priority = models.SmallIntegerField(default=0)
    not_before = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    recipients = models.PositiveIntegerField()
    #: Bytes of its payload, so that a worker can limit its memory.
    payload_size = models.PositiveBigIntegerField(default=0)
    #: Whether the payload may stay in the log if the message is not accepted.
    keeps_payload = models.BooleanField(default=True)
    #: The number of times it was refused and put back.
    tries = models.PositiveIntegerField(default=0)
    first_tried_at = models.DateTimeField(null=True)
    token = models.UUIDField(null=True, editable=False)
    #: When `run_due` handles it: enqueues it if it waits, or releases it.
    due_at = models.DateTimeField(editable=False)

    class Meta:
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(fields=["due_at"], name="turbosmtp_queue_due"),
            # Messages with a high priority are sent first. Few messages have one.
            models.Index(
                fields=["-priority", "not_before"], name="turbosmtp_queue_priority"
            ),
            # No index on the token: SQLite and MariaDB would use it to read all waiting
            # messages, instead of the few whose keys are in the statement.
        ]

    def __str__(self) -> str:
        return str(self.pk)


class QueueAccount(models.Model):
    """The queue of one account: whether it is paused or stopped, and why.

    ``probe_at``: when one message is sent to test whether turboSMTP accepts mail again.
    """

    account = models.CharField(primary_key=True, max_length=32, editable=False)
    mailer = ExactCharField(max_length=100, blank=True)
    paused_until = models.DateTimeField(null=True)
    #: The number of pauses since a message was accepted. Each is longer than the last.
    pauses = models.PositiveIntegerField(default=0)
    stopped_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True)
    error_class = models.CharField(max_length=100, blank=True)
    probe_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.mailer or self.account


class RateUse(models.Model):
    """Recipients that count towards ``RATE`` until ``counts_until``."""

    account = models.CharField(max_length=32)
    recipients = models.PositiveIntegerField()
    counts_until = models.DateTimeField()

    class Meta:
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(fields=["account", "counts_until"], name="turbosmtp_rate")
        ]

    def __str__(self) -> str:
        return f"{self.account}: {self.recipients}"


class Heartbeat(models.Model):
    """The last time that a periodic task has run."""

    name = ExactCharField(primary_key=True, max_length=32)
    at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class AttachmentStorage(LazyObject):  # type: ignore[type-arg]
    """The storage of attachments: ``STORAGES["turbosmtp"]`` or the default.

    Lazy, as Django's own default storage is: settings may not be there yet.
    """

    def _setup(self) -> None:
        alias = "turbosmtp" if "turbosmtp" in settings.STORAGES else "default"
        self._wrapped: Storage = storages[alias]


def choose_storage() -> Any:
    """Return the storage of attachments; a function, so that migrations name it."""
    return AttachmentStorage()


class StoredFile(models.Model):
    """The bytes of an attachment, once for all messages that have it."""

    sha256 = models.CharField("SHA-256", max_length=64, primary_key=True)
    size = models.PositiveBigIntegerField(_("size"))
    file = models.FileField(_("file"), storage=choose_storage, max_length=255)
    #: The bytes may be missing, so they are saved again before the file is used.
    being_removed = models.BooleanField(default=False, editable=False)

    class Meta:
        verbose_name = _("stored file")
        verbose_name_plural = _("stored files")
        default_permissions = ()

    def __str__(self) -> str:
        return self.sha256


class Attachment(models.Model):
    """An attachment. ``stored``: its bytes, if ``LOG_ATTACHMENTS`` is True."""

    message = models.ForeignKey(Message, models.CASCADE, related_name="attachments")
    position = models.PositiveIntegerField(_("position"))
    name = models.TextField(_("name"), blank=True)
    type = models.CharField(_("type"), max_length=255, blank=True)
    size = models.PositiveBigIntegerField(_("size"))
    sha256 = models.CharField("SHA-256", max_length=64)
    content_id = models.TextField(_("content id"), blank=True)
    stored = models.ForeignKey(
        StoredFile, models.SET_NULL, null=True, related_name="attachments"
    )

    class Meta:
        verbose_name = _("attachment")
        verbose_name_plural = _("attachments")
        ordering: ClassVar = ["message", "position"]
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["message", "position"], name="turbosmtp_attachment_position"
            )
        ]

    def __str__(self) -> str:
        return self.name
