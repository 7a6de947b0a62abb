"""Pinning processes to processors."""

from __future__ import annotations

import os


def pin(processor: int, pid: int = 0) -> None:
    """Pin a process, or this one, to a processor, where the system can and there are several.

    Python runs one thread of a process at a time. To wake the next one on another processor takes
    as long as what is measured here, and the time differs from run to run.
    """
    if hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        if len(processors) > 1:
            os.sched_setaffinity(pid, {processors[processor]})
