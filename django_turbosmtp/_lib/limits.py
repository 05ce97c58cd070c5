"""Lengths of columns, which the code that fills them has to know too."""

from __future__ import annotations

from typing import Final

#: Length of the reference id column; turboSMTP names no bound.
MAX_REFERENCE_LENGTH: Final = 255

#: Length of the address column: a local part of 64, "@" and a domain of 255 (RFC 5321,
#: 4.5.3.1). What is longer, and so refused, is cut there.
MAX_ADDRESS_LENGTH: Final = 320

#: Keep at most this many characters of a tag in the log.
MAX_TAG_LENGTH: Final = 255

#: Length of the column that has the source of a suppression.
MAX_SOURCE_LENGTH: Final = 100
