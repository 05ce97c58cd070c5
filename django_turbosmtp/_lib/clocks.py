"""Clocks for waits, which continue to run while a test freezes the time.

freezegun replaces the functions of `time` in every module, but shows the real time to
code that some libraries call. A wait that read both would never end. freezegun does not
replace functions that are attributes of a class.
"""

from __future__ import annotations

import time


class Clock:
    """The functions of `time`, as they were when this module was imported."""

    monotonic = staticmethod(time.monotonic)
    perf_counter = staticmethod(time.perf_counter)
    time = staticmethod(time.time)
