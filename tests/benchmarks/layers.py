"""Where the time of a request goes.

A timer interrupts the process every millisecond, and the code that runs then is charged with the
time since the last interrupt. A profiler that hooks into every call would slow small functions down
and make them seem expensive; this one slows hardly anything down.
"""

from __future__ import annotations

import linecache
import os
import signal
from collections import Counter
from types import FrameType
from typing import Any

from tests.benchmarks.bench import Bench, Findings
from tests.benchmarks.contestants import BARE, OURS, Contestant, environs
from tests.benchmarks.series import Series, median_time

PROFILED = ((BARE, "no key"), (OURS, "no key"), (OURS, "first"), (OURS, "replay"))
#: Seconds between two interrupts.
_EVERY = 0.001
#: The layer of a frame's code, by a part of its file's name. Other code belongs to its caller's.
_LAYERS = {
    f"{os.sep}redis{os.sep}": "redis-py",
    f"{os.sep}hiredis{os.sep}": "redis-py",
    f"{os.sep}flask{os.sep}": "Flask and Werkzeug",
    f"{os.sep}werkzeug{os.sep}": "Flask and Werkzeug",
}
#: What the names of this library's own layers begin with.
OURS_IS = "Flask-Idempotent: "
_OURS = f"{os.sep}flask_idempotent{os.sep}"
_SOCKET = "socket and server"

#: The file and line of each frame of an interrupted request, the innermost first.
Stack = list[tuple[str, int]]


def _layer(file: str, line_number: int) -> str | None:
    line = linecache.getline(file, line_number)
    if ".recv_into(" in line or ".sendall(" in line:
        return _SOCKET
    if _OURS in file:
        return OURS_IS + file.rpartition(_OURS)[2].removesuffix(".py")
    return next((layer for part, layer in _LAYERS.items() if part in file), None)


def _layer_of(stack: Stack) -> str | None:
    return next(filter(None, (_layer(*place) for place in stack)), None)


def _served(contestant: Contestant, requests: list[dict[str, Any]]) -> tuple[list[Stack], float]:
    """The interrupted requests, and the median of the microseconds that a request took."""
    stacks: list[Stack] = []

    def interrupt(_: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            stack.append((frame.f_code.co_filename, frame.f_lineno or 0))
            frame = frame.f_back
        stacks.append(stack)

    handler = signal.signal(signal.SIGALRM, interrupt)
    timer = signal.setitimer(signal.ITIMER_REAL, _EVERY, _EVERY)
    try:
        whole = median_time(contestant.answer, requests)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
    return stacks, whole


def _profile(contestant: Contestant, kind: str, samples: int) -> dict[str, float]:
    """Microseconds of a request in each layer."""
    requests = environs(kind, samples + 1)
    contestant.answer(requests.pop())
    stacks, whole = _served(contestant, requests)
    layers = Counter(layer for stack in stacks if (layer := _layer_of(stack)) is not None)
    return {layer: whole * number / layers.total() for layer, number in layers.most_common()}


def measure(bench: Bench) -> Findings:
    """Profile bare Flask, and ours without a key, with a first request and with a replay."""
    findings = Findings("Where the time of a request goes", [])
    with bench.runners(BARE, OURS) as made:
        for name, kind in PROFILED:
            for layer, each in made[name].run(_profile, kind, bench.size.samples).items():
                findings.series.append(Series(f"{name}, {kind}: {layer}", "µs", (each,)))
    return findings
