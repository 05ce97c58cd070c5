"""Parses addresses like turboSMTP: splits at commas first, then parses each part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
# Full stops may be anywhere: such addresses exist, and turboSMTP may accept them.
_LOCAL = r"""[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+|"(?:[ !#-\[\]-~]|\\[ -~])*\""""
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*|\[(?:IPv6:)?[0-9A-Fa-f:.]+\]"
_ADDRESS = re.compile(rf"(?P<local>{_LOCAL})@(?P<domain>{_DOMAIN})")
_NAMED = re.compile(r"(?P<name>.*?)[ \t]*<(?P<address>[^<>]*)>")
_QUOTED = re.compile(r'"(?P<inner>(?:[^"\\]|\\.)*)"')
# A name with RFC 5322's special characters must be in quotes.
_UNQUOTED = re.compile(r'[^"<>()@,;:\\\[\]]*')
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
LINE_BREAK = re.compile(r"[\r\n]")


@dataclass(frozen=True, kw_only=True)
class ParsedAddress:
    """A display name, decoded, and an ASCII addr-spec."""

    name: str
    address: str

    @property
    def domain(self) -> str:
        """The part after the last @."""
        return self.address.rpartition("@")[2]


def parse(text: str) -> ParsedAddress | None:
    """Return the one mailbox in `text`, or None when it is not valid."""
    text = text.strip(" \t")
    if _CONTROL.search(text):
        return None
    if _is_address(text):
        return ParsedAddress(name="", address=text)
    found = _NAMED.fullmatch(text)
    if found is None or not _is_address(found["address"]):
        return None
    name = _decode_name(found["name"].strip(" \t"))
    if name is None:
        return None
    return ParsedAddress(name=name, address=found["address"])


def parse_list(text: str) -> tuple[list[ParsedAddress], list[str]]:
    """Split at commas, also in quotes (quirk 1); return valid and invalid parts."""
    good: list[ParsedAddress] = []
    bad: list[str] = []
    for piece in text.split(",") if text.strip() else ():
        mailbox = parse(piece)
        if mailbox is None:
            bad.append(piece.strip())
        else:
            good.append(mailbox)
    return good, bad


def _is_address(text: str) -> bool:
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return False
    return len(found["local"]) <= 64 and len(found["domain"]) <= 253


def _decode_name(text: str) -> str | None:
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted["inner"])
    if not _UNQUOTED.fullmatch(text):
        return None
    try:
        decoded = str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return None
    return None if LINE_BREAK.search(decoded) else decoded
