"""A progress bar for terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.core.management.base import OutputWrapper

_WIDTH = 40


class Progress:
    """Shows progress on a terminal; only then, ``count`` is called for the total."""

    def __init__(self, stream: OutputWrapper, count: Callable[[], int]) -> None:
        self._stream = stream
        self._total = count() if stream.isatty() else 0
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._total:
            self._stream.write("\n", ending="")

    def advance(self, number: int) -> None:
        """Add to the number that is done."""
        self._done += number
        if not self._total:
            return
        share = min(1.0, self._done / self._total)
        bar = "#" * round(share * _WIDTH)
        self._stream.write(
            f"\r[{bar:<{_WIDTH}}] {share:4.0%}  {self._done:,} of {self._total:,}",
            ending="",
        )
        self._stream.flush()
