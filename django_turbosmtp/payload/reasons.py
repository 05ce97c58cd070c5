"""Why a message cannot go as fields."""

from __future__ import annotations


class NotExact(Exception):  # noqa: N818 - a reason, not an error
    """The fields cannot say this exactly; the text says what."""
