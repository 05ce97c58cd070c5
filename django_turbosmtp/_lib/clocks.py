"""The clocks of waits, which run on where a test holds the time still.

freezegun replaces the functions of `time` in every module, but shows the real time to
code that some libraries call: a wait that reads both never ends. What stands in a class
it does not replace.
"""

from __future__ import annotations

import time


class Clock:
    """The functions of `time`, as they were at the import."""

    monotonic = staticmethod(time.monotonic)
    perf_counter = staticmethod(time.perf_counter)
    time = staticmethod(time.time)
