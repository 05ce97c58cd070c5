"""Lengths of columns that are also needed by the code that fills them."""

from __future__ import annotations

from typing import Final

#: Length of the reference id column. turboSMTP documents no limit.
MAX_REFERENCE_LENGTH: Final = 255

#: Length of the address column: a local part of 64, "@" and a domain of 255 (RFC 5321,
#: 4.5.3.1). Longer addresses are refused, and the log stores their beginning.
MAX_ADDRESS_LENGTH: Final = 320

#: Keep at most this many characters of a tag in the log.
MAX_TAG_LENGTH: Final = 255

#: Length of the column that has the source of a suppression.
MAX_SOURCE_LENGTH: Final = 100
