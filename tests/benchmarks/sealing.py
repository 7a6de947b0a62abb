"""What sealed records cost: a request, and the bytes and the time of one record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from flask_idempotent.record_format import decode, encode
from flask_idempotent.records import FINGERPRINT_SIZE, OWNER_SIZE, CompletedRecord
from flask_idempotent.sealing import Sealer
from tests.benchmarks.bench import Bench, Findings, Target
from tests.benchmarks.contestants import BODY_SIZE, OURS, SEALED, SECRET
from tests.benchmarks.cost import time_in_turns
from tests.benchmarks.series import Series, median_time

#: Kinds of requests, and the largest ratio to those whose records are not sealed.
_LIMITS = {"first": 1.1, "replay": 1.15}
_STORAGE_KEY = "IDEMPOTENT_{0123456789abcdefghijkl}"


def requests(bench: Bench) -> Findings:
    """Time requests whose records are sealed, beside those whose records are not."""
    times = time_in_turns(bench.size, partial(bench.runners, OURS, SEALED), _LIMITS)
    series = {
        (kind, name): Series(f"{kind}: {name}", "µs", values)
        for (kind, name), values in times.items()
    }
    return Findings("Sealed records: a request", list(series.values()), list(_targets(series)))


def _targets(series: Mapping[tuple[str, str], Series]) -> Iterator[Target]:
    for kind, limit in _LIMITS.items():
        over = series[kind, SEALED].over(series[kind, OURS])
        yield Target(f"{SEALED}, {kind}: time over {OURS}'s", over, limit)


def record(bench: Bench) -> Findings:
    """Measure one record, sealed and not."""
    findings = Findings("Sealed records: one response", [])
    response = CompletedRecord(
        bytes(OWNER_SIZE), bytes(FINGERPRINT_SIZE), 1, 201, (), b"x" * BODY_SIZE
    )
    for name, sealer in (("as it is", None), ("sealed", Sealer((SECRET.encode(),)))):
        write = partial(encode, response, _STORAGE_KEY, sealer)
        read = partial(decode, write(), _STORAGE_KEY, sealer)
        figures = {
            "size": (len(write()), "bytes"),
            "to keep": (_time(write, bench.size.calls), "µs"),
            "to replay": (_time(read, bench.size.calls), "µs"),
        }
        findings.series.extend(
            Series(f"{name}, a body of {BODY_SIZE} bytes, {what}", unit, (value,))
            for what, (value, unit) in figures.items()
        )
    return findings


def _time(act: Callable[[], object], calls: int) -> float:
    return median_time(lambda _: act(), range(calls * 10))
