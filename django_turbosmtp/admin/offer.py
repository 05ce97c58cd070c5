"""The form for sending a message again: its recipients and their addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from django_turbosmtp.admin.show import show_status
from django_turbosmtp.delivery.decision import MAY_HAVE_IT, find_doubtful
from django_turbosmtp.delivery.stored import will_renew

if TYPE_CHECKING:
    from django.http import QueryDict

    from django_turbosmtp.delivery.decision import Offer
    from django_turbosmtp.models import Message

#: Let the user choose among at most this many recipients. With more, the page offers
#: only groups.
MOST = 100

#: The names of the fields: a position, the address for a position, and a group.
_CHOSEN, _ADDRESS, _GROUP = "to", "address-", "group"


def describe_offer(message: Message, offer: Offer, data: QueryDict) -> dict[str, Any]:
    """Return the data of the form. ``data``: the values that the user has posted."""
    doubtful = find_doubtful(offer.recipients)
    chosen = frozenset(read_targets(data, offer)) if data else _choose_first(offer)
    is_long = len(offer.recipients) > MOST
    return {
        "groups": _list_groups(offer) if is_long else [],
        "rows": []
        if is_long
        else [
            {
                "position": recipient.position,
                "name": _CHOSEN,
                "address_name": f"{_ADDRESS}{recipient.position}",
                "address": data.get(
                    f"{_ADDRESS}{recipient.position}", recipient.address
                ),
                "shown": recipient.shown or recipient.address,
                "kind": recipient.get_kind_display(),
                "status": show_status(recipient.status),
                "obstacle": offer.refused.get(recipient.position, ""),
                "is_chosen": recipient.position in chosen,
                "is_doubtful": recipient.position in doubtful,
            }
            for recipient in offer.recipients
        ],
        "decision": offer.decision,
        "is_doubtful": bool(doubtful & chosen),
        "is_unknown": any(
            recipient.status in MAY_HAVE_IT
            for recipient in offer.recipients
            if recipient.position in chosen
        ),
        "differences": _list_differences(message),
    }


def _choose_first(offer: Offer) -> frozenset[int]:
    """Return the positions that are chosen first: those missing, or else all."""
    positions = offer.missing or {r.position for r in offer.recipients}
    return frozenset(positions) - offer.refused.keys()


def _list_differences(message: Message) -> list[str]:
    """Return how the new message differs from the first one."""
    if not will_renew(message):
        return [_("The message is the same, with its first date.")]
    return [
        _("The text, the headers and the attachments are the same."),
        _("The date and the message id are new."),
    ]


def _list_groups(offer: Offer) -> list[dict[str, Any]]:
    missing, total = len(offer.missing), len(offer.recipients)
    return [
        {
            "value": "missing",
            "label": _("The recipients that it did not reach"),
            "count": missing,
            "is_chosen": bool(missing),
        },
        {
            "value": "all",
            "label": _("All recipients"),
            "count": total,
            "is_chosen": not missing,
        },
    ]


def read_targets(data: QueryDict, offer: Offer) -> dict[int, str]:
    """Return the chosen positions, each with the address that was entered."""
    match data.get(_GROUP):
        case "missing":
            return dict.fromkeys(offer.missing, "")
        case "all":
            return dict.fromkeys((r.position for r in offer.recipients), "")
    return {
        number: data.get(f"{_ADDRESS}{number}", "")
        for number in map(read_number, data.getlist(_CHOSEN))
        if number >= 0
    }


def read_number(text: str | None) -> int:
    """Return a number of the form, -1 for any other text."""
    return int(text) if text and text.isdecimal() and len(text) < 10 else -1
