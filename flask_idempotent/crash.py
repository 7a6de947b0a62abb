"""What is known of a run that died, for a function that decides what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

#: What is known of a step: it began and is not known to have ended, or it ended.
StepState = Literal["started", "ended"]


@dataclass(frozen=True, slots=True)
class Crash:
    """A run that was interrupted: what a function given as ``on_crash`` decides about.

    Its process died or hangs, or it ended while it was unknown whether one of its steps with
    ``once`` took effect, such as by an exception of that step.

    The function runs in the request that has taken the key over, so ``flask.request`` and
    ``current_claim`` are there: ``current_claim.key_for(name)`` makes the keys that the dead run
    used.

    :param key: the client's own key.
    :param storage_key: the name of the record in the store, as in log lines.
    :param attempt: the number of the run that died.
    :param started: when it began by its own wall clock, in seconds since 1970.
    :param host: the name of the machine that it ran on.
    :param pid: the number of its process.
    :param steps: the names and states of its steps, and of those of earlier runs, in their order.
    """

    key: str = field(repr=False)  # It would get into logs.
    storage_key: str
    attempt: int
    started: float
    host: str
    pid: int
    steps: Mapping[str, StepState] = field(default_factory=dict, hash=False)
