"""Where the time of a request goes.

A timer looks at the running request every so often, and whose code it finds there has the time
since. Unlike a profiler that hooks into every call, this hardly slows anything down, so that
small functions do not look larger than they are.
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
#: Seconds between two looks.
_EVERY = 0.001
#: Where a frame's code lies, and whose it is. What belongs to nobody here is its caller's.
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

#: The files and lines of a request when the timer looked, the innermost first.
Seen = list[tuple[str, int]]


def _layer(file: str, line_number: int) -> str | None:
    line = linecache.getline(file, line_number)
    if ".recv_into(" in line or ".sendall(" in line:
        return _SOCKET
    if _OURS in file:
        return OURS_IS + file.rpartition(_OURS)[2].removesuffix(".py")
    return next((layer for part, layer in _LAYERS.items() if part in file), None)


def _layer_of(seen: Seen) -> str | None:
    return next(filter(None, (_layer(*place) for place in seen)), None)


def _served(contestant: Contestant, requests: list[dict[str, Any]]) -> tuple[list[Seen], float]:
    """What the timer saw, and the median of microseconds that a request took."""
    looks: list[Seen] = []

    def look(_: int, frame: FrameType | None) -> None:
        seen = []
        while frame is not None:
            seen.append((frame.f_code.co_filename, frame.f_lineno or 0))
            frame = frame.f_back
        looks.append(seen)

    handler = signal.signal(signal.SIGALRM, look)
    timer = signal.setitimer(signal.ITIMER_REAL, _EVERY, _EVERY)
    try:
        whole = median_time(contestant.answer, requests)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
    return looks, whole


def _profile(contestant: Contestant, kind: str, samples: int) -> dict[str, float]:
    """Microseconds of a request in each layer."""
    requests = environs(kind, samples + 1)
    contestant.answer(requests.pop())
    looks, whole = _served(contestant, requests)
    layers = Counter(layer for seen in looks if (layer := _layer_of(seen)) is not None)
    return {layer: whole * number / layers.total() for layer, number in layers.most_common()}


def measure(bench: Bench) -> Findings:
    """Where the time of bare Flask, of a first request and of a replay goes."""
    findings = Findings("Where the time of a request goes", [])
    with bench.lanes(BARE, OURS) as made:
        for name, kind in PROFILED:
            for layer, each in made[name].run(_profile, kind, bench.size.samples).items():
                findings.series.append(Series(f"{name}, {kind}: {layer}", "µs", (each,)))
    return findings
