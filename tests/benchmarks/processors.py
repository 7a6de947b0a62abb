"""Which processor a process runs on."""

from __future__ import annotations

import os


def keep_on(processor: int, pid: int = 0) -> None:
    """Keep a process, or this one, on one of the processors, where there are two and it can be.

    Python runs one thread of a process at a time; to wake the next one on another processor takes
    as long as what is measured here, and differs from run to run.
    """
    if hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        if len(processors) > 1:
            os.sched_setaffinity(pid, {processors[processor]})
