"""Pinning processes to one processor."""

from __future__ import annotations

import os


def pin(pid: int = 0) -> None:
    """Pin a process, or this one, to the first processor, where the system allows it.

    A contestant and the server take turns anyway, as do the threads of a contestant. To wake the
    next one on another processor takes up to a quarter of the time of a request in a virtual
    machine, and differs from machine to machine and from run to run.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})
