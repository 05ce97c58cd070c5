"""Parses addresses as Django does, and writes them in turboSMTP's form. Pure."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from email.errors import HeaderParseError, ObsoleteHeaderDefect
from email.headerregistry import AddressHeader
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.utils.encoding import punycode

from django_turbosmtp._lib.limits import MAX_ADDRESS_LENGTH
from django_turbosmtp._lib.text import (
    SURROGATE,
    encode_words,
    find_surrogate,
    has_break,
    shorten,
)
from django_turbosmtp._lib.versions import MODERN_MIME, BadHeaderError
from django_turbosmtp.exceptions import InvalidAddress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Nearly all addresses have this plain form, for which Python's parser would need a
# hundred times as long.
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_PLAIN = re.compile(
    rf"(?P<spec>{_ATEXT}+(?:\.{_ATEXT}+)*@"
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
    r"(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*)"
)
_PLAIN_NAMED = re.compile(
    rf"(?P<name>[A-Za-z0-9'_ -]*[A-Za-z0-9'_-]) +<{_PLAIN.pattern}>"
)
_ATOMS = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
_DOTTED = re.compile(rf"(?:{_ATEXT}|\.)+")
_IDNA = re.compile(r"[A-Za-z0-9_.-]+")
#: Cache addresses of at most this many characters. A longer text is hardly an address.
_MAX_KEPT = 500
_BARE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/?^_`{|}~ -]*")


#: Exceptions that Python's parser raises for malformed input: on 3.11.7, for example,
#: an IndexError for "A B @", and a RecursionError for a thousand brackets.
_CRASHES = (HeaderParseError, ValueError, IndexError, AttributeError, RecursionError)

#: Python calls these defects, but Django 5.2 sends to such addresses: the full stops of
#: old Japanese phone addresses, control characters in a name, an open bracket.
_TOLERATED = re.compile(
    r"local-part is not dot-atom|invalid repeated '\.'|non-printables"
    r"|Invalid (?:leading|trailing) '\.'|missing trailing '>'"
)


class AddressInjection(InvalidAddress, BadHeaderError):  # noqa: N818 - as its base
    """An address that would become more than one header. Also Django's error."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address: display name, and an addr-spec in ASCII (domain in IDNA)."""

    name: str
    addr_spec: str
    #: Whether it had an RFC 5322 comment, which is not part of the two above.
    has_comment: bool = False

    @property
    def domain(self) -> str:
        return self.addr_spec.rpartition("@")[2]

    @property
    def key(self) -> str:
        """Return a key that is the same for all spellings of the mailbox."""
        local, _, domain = self.addr_spec.rpartition("@")
        # Unnecessary quotes change nothing (RFC 5321, 4.1.2).
        if local[:1] == local[-1:] == '"' and _ATOMS.fullmatch(local[1:-1]):
            local = local[1:-1]
        return f"{local}@{domain.lower()}"

    def __str__(self) -> str:
        """Return the form for ``to``, ``cc`` and ``bcc``.

        turboSMTP splits these at commas before it reads quoted strings (docs/wire.rst,
        quirk 1). So a name with a comma is written as RFC 2047 encoded words.
        """
        return self._format(encode_words if "," in self.name else format_phrase)

    def format_unsplit(self) -> str:
        """Return the form for ``from`` and Reply-To, which turboSMTP does not split."""
        return self._format(format_phrase)

    def _format(self, write: Callable[[str], str]) -> str:
        return f"{write(self.name)} <{self.addr_spec}>" if self.name else self.addr_spec

    @property
    def has_long_name(self) -> bool:
        """Whether the name needs several encoded words.

        Python keeps the white space between such words (seen on 3.11.7 and 3.12.1), and
        programs split the name at different places.
        """
        return "?= =?" in encode_words(self.name) if not self.name.isascii() else False


def is_plain(mailbox: Mailbox) -> bool:
    """Return whether all programs read this mailbox from a field in the same way."""
    return not mailbox.has_comment and not mailbox.has_long_name


def format_phrase(text: str) -> str:
    """Return a name in the form for a header: bare, quoted or as RFC 2047 words."""
    if not text.isascii() or not text.isprintable() or "=?" in text:
        return encode_words(text)
    if _BARE_NAME.fullmatch(text) and text == " ".join(text.split()):
        return text
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def refuse_line_breaks(text: str, where: str) -> None:
    """Raise `AddressInjection` for text that would become another header."""
    if has_break(text):
        raise AddressInjection(
            f"{where}: {shorten(text)!r} contains a line break or a null character,"
            " which would inject a header. Remove it."
        )


# Cached, because the messages of a call usually have the same sender, and each
# recipient is parsed twice: for the envelope and for the To or Cc header.
@lru_cache(maxsize=256)
def _read_plain(text: str) -> Mailbox | None:
    match = _PLAIN.fullmatch(text) or _PLAIN_NAMED.fullmatch(text)
    return match and Mailbox(match.groupdict().get("name", ""), match["spec"])


def parse(value: Any, where: str) -> Mailbox:
    """Return the mailbox in ``value`` (str or lazy str).

    ``where``: the name of the field, for errors. Raise `InvalidAddress` unless it is
    exactly one address with a domain and an ASCII local part.
    """
    text = str(value)
    if len(text) <= _MAX_KEPT and (mailbox := _read_plain(text)):
        return mailbox
    mailboxes = _parse_all(text, where)
    if len(mailboxes) != 1:
        raise InvalidAddress(
            f"{where}: {shorten(text)!r} contains {len(mailboxes)} addresses, not one."
            " Use a list item for each address, and put a name with a comma in quotes."
        )
    return mailboxes[0]


def normalize_address(text: str) -> str:
    """Return an address in the form the log compares: bare, in lower case, in IDNA.

    Does not raise: of an invalid address, only the parts that can be converted are. The
    result is cut to the length of the column.
    """
    # Remove null characters, as log.storable does: PostgreSQL does not store them.
    text = text.replace("\0", "\u2400").strip().lower()
    if text.endswith(">"):
        text = text.rpartition("<")[2][:-1].strip()
    local, at, domain = text.rpartition("@")
    if not domain.isascii():
        with contextlib.suppress(UnicodeError):
            text = f"{local}{at}{punycode(domain)}"
    return text[:MAX_ADDRESS_LENGTH]


def parse_list(value: Any, where: str) -> list[Mailbox]:
    """Return the mailboxes of a whole address header, in order.

    Raise `InvalidAddress` as `parse` does.
    """
    text = str(value)
    return _parse_all(text, where) if text.strip() else []


def parse_each(values: Iterable[Any], where: str) -> list[Mailbox]:
    """Return the mailboxes of a message's address list. Empty items are skipped."""
    return [parse(value, where) for value in values if value]


def _parse_all(text: str, where: str) -> list[Mailbox]:
    refuse_line_breaks(text, where)
    try:
        parsed = AddressHeader.value_parser(text)
    except _CRASHES as error:
        raise _build_error(text, where, "it cannot be read as an address") from error
    # "John Q. Public <j@x.com>" is obsolete syntax, but very common. So are encoded
    # words in quotes, which RFC 2047 forbids.
    defects = [
        defect
        for defect in parsed.all_defects
        if not isinstance(defect, ObsoleteHeaderDefect)
        and "encoded word" not in str(defect).replace("-", " ")
    ]
    if not MODERN_MIME and all(
        _DOTTED.fullmatch(mailbox.local_part or "") for mailbox in parsed.all_mailboxes
    ):
        defects = [d for d in defects if not _TOLERATED.search(str(d))]
    if any(group.display_name for group in parsed.addresses if _is_group(group)):
        raise _build_error(
            text, where, "it is a group; turboSMTP accepts single addresses only"
        )
    mailboxes = [
        _build_mailbox(mailbox, text, where) for mailbox in parsed.all_mailboxes
    ]
    if defects:
        raise _build_error(text, where, "; ".join(dict.fromkeys(map(str, defects))))
    return mailboxes


def _is_group(address: Any) -> bool:
    return bool(address) and address[0].token_type == "group"  # noqa: S105


def _is_quoted(token: Any) -> bool:
    """Return whether the local part of a parsed mailbox is quoted."""
    if token.token_type == "local-part":  # noqa: S105
        return any(part.token_type == "quoted-string" for part in token)  # noqa: S105
    return any(_is_quoted(part) for part in token if isinstance(part, list))


def _build_mailbox(parsed: Any, text: str, where: str) -> Mailbox:
    local, domain = parsed.local_part, parsed.domain
    if not local or not domain:
        raise _build_error(text, where, "it has no '@' followed by a domain")
    if not local.isascii():
        raise _build_error(
            text,
            where,
            "there are characters before the '@' that need SMTPUTF8, which turboSMTP"
            " does not support",
        )
    spec = parsed.addr_spec
    if _is_quoted(parsed) and not spec.startswith('"'):
        spec = f'"{local}"@{domain}'
    # Python removes all kinds of white space from a domain, and so joins its parts.
    written = str(parsed).rpartition("<")[2]
    if any(character.isspace() and not character.isascii() for character in written):
        raise _build_error(text, where, "there is white space in its domain")
    if not domain.isascii():
        try:
            idna = punycode(domain)
        except UnicodeError as error:
            raise _build_error(
                text, where, f"its domain has no IDNA form: {error}"
            ) from None
        if not _IDNA.fullmatch(idna):
            # A full-width ">" becomes ">", which would make two addresses of one.
            raise _build_error(
                text, where, "its domain has characters that IDNA replaces by others"
            )
        spec = f"{spec[: -len(domain)]}{idna}"
    name = parsed.display_name or ""
    refuse_line_breaks(name, where)  # It may be from an encoded word.
    if find_surrogate(name) is not None:
        raise _build_error(text, where, f"its name contains {SURROGATE}")
    if MODERN_MIME and len(name.splitlines()) > 1:
        raise _build_error(text, where, "its name contains a line separator")
    return Mailbox(name, spec, has_comment="(" in str(parsed) and "(" not in name)


def _build_error(text: str, where: str, why: str) -> InvalidAddress:
    return InvalidAddress(
        f"{where}: {shorten(text)!r} is not an address turboSMTP accepts: {why}."
    )


def refuse_commas(mailbox: Mailbox, where: str) -> None:
    """Raise InvalidAddress for an addr-spec that turboSMTP would split in two."""
    if "," in mailbox.addr_spec:
        raise InvalidAddress(
            f"{where}: {mailbox.addr_spec!r} has a comma before the '@'. turboSMTP"
            " splits this field at commas, so it cannot be used."
        )
