"""Shows values of the log as HTML: icons with words, and ages with exact times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import formats, timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import ngettext_lazy

from django_turbosmtp._lib.times import make_aware, measure_age
from django_turbosmtp.admin.sentences import describe_problem
from django_turbosmtp.statuses import Status

if TYPE_CHECKING:
    import datetime

    from django_turbosmtp.models import Message

#: Seconds of a unit, and a phrase. Whole phrases, because languages inflect them.
_AGES = (
    (31_536_000, ngettext_lazy("%d year ago", "%d years ago")),
    (2_592_000, ngettext_lazy("%d month ago", "%d months ago")),
    (86_400, ngettext_lazy("%d day ago", "%d days ago")),
    (3_600, ngettext_lazy("%d hour ago", "%d hours ago")),
    (60, ngettext_lazy("%d minute ago", "%d minutes ago")),
    (1, ngettext_lazy("%d second ago", "%d seconds ago")),
)


def show_status(status: str) -> SafeString:
    """Return a status as word and icon."""
    row = Status(status)
    return format_html(
        '<span class="turbosmtp-status turbosmtp-{}"><span aria-hidden="true">{}</span>'
        " {}</span>",
        row.tone,
        row.icon,
        row.label,
    )


def _describe_age(seconds: float) -> str:
    """Return how long ago it was in the largest unit, "" for the future."""
    if seconds < 0:
        return ""
    # "0 seconds ago" would need another phrase.
    passed = max(1, int(seconds))
    unit, words = next(age for age in _AGES if passed >= age[0])
    return words % (passed // unit)


def show_time(moment: datetime.datetime) -> str:
    """Return how long ago a time was, and the time."""
    age = _describe_age(measure_age(moment))
    return format_html(
        '<time datetime="{}"><span class="turbosmtp-age">{}</span>'
        ' <span class="turbosmtp-exact">{}</span></time>',
        make_aware(moment).isoformat(),
        age,
        show_moment(moment),
    )


def show_moment(moment: datetime.datetime) -> str:
    """Return a time with seconds, in the user's time zone and format."""
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    date = formats.date_format(local, "SHORT_DATE_FORMAT")
    return f"{date} {formats.time_format(local, 'H:i:s')}"


def show_labels(message: Message) -> str:
    """Return campaign and further tags, each once."""
    tags = message.tags if isinstance(message.tags, list) else []
    names = dict.fromkeys([message.campaign, *map(str, tags)])
    names.pop("", None)
    return format_html_join(
        " ", '<span class="turbosmtp-label">{}</span>', ((name,) for name in names)
    )


def show_error(message: Message) -> SafeString:
    """Return why a message has a problem, in the user's language."""
    text = describe_problem(message)
    if not text:
        return SafeString()
    return format_html('<span class="turbosmtp-error">{}</span>', text)
