"""How much of the server's memory a record takes, its key included."""

from __future__ import annotations

import json
import random
import statistics
from functools import partial

from flask_idempotent.record_format import decode, encode
from flask_idempotent.records import FINGERPRINT_SIZE, OWNER_SIZE, CompletedRecord
from tests.benchmarks.bench import Bench, Findings, Target
from tests.benchmarks.contestants import BODY_SIZE, OURS, Contestant, environ, fresh_key
from tests.benchmarks.series import Series, median_time
from tests.support.redis_servers import Server

_BATCH = 1_000
_RECORD = "memory of a record, its key included"
#: Bytes that a record may take beside the body that it keeps.
_BESIDE = 250


def _store(contestant: Contestant, records: int) -> None:
    for _ in range(records):
        contestant.answer(environ(fresh_key()))


def _usage(server: Server) -> float:
    """Bytes of a key and its record, as MEMORY USAGE says: the mean of all keys."""
    keys = list(server.client.scan_iter(count=_BATCH))
    sizes: list[int] = []
    for start in range(0, len(keys), _BATCH):
        pipeline = server.client.pipeline(transaction=False)
        for key in keys[start : start + _BATCH]:
            pipeline.memory_usage(key, samples=0)
        sizes += pipeline.execute()
    return statistics.mean(sizes)


def measure(bench: Bench) -> Findings:
    """Measure the records of first requests."""
    series = []
    with bench.runners(OURS, bench.peer) as made:
        for name, runner in made.items():
            bench.server.client.flushall()
            # A tenth of the records is enough for the mean of the peer's.
            runner.run(_store, bench.size.records // (1 if name == OURS else 10) or 1)
            series.append(Series(f"{name}, {_RECORD}", "bytes", (_usage(bench.server),)))
    bench.server.client.flushall()
    findings = Findings(f"Memory of a record with a body of {BODY_SIZE} bytes", series)
    value = findings[f"{OURS}, {_RECORD}"].median
    findings.targets.append(Target(_RECORD, value, BODY_SIZE + _BESIDE, "bytes"))
    return findings


# Compression of larger bodies.

_KIB = 1024


def _document(size: int) -> bytes:
    """A list of orders as JSON, of about this size in bytes."""
    rng = random.Random(size)
    orders: list[dict[str, object]] = []
    while len(json.dumps(orders)) < size:
        for _ in range(1 + size // 4096):
            orders.append(
                {
                    "id": rng.randrange(10**9),
                    "customer": f"{rng.randrange(16**12):012x}",
                    "price": rng.randrange(10**5) / 100,
                    "state": rng.choice(["open", "paid", "sent"]),
                    "created": f"2026-11-26T12:{rng.randrange(60):02d}:00Z",
                }
            )
    return json.dumps(orders).encode()


def compression(bench: Bench) -> Findings:
    """Measure the size of bodies of JSON, and the time to keep and to replay them."""
    findings = Findings("Stored bodies, compressed and not", [])
    for kib in bench.size.bodies:
        body = _document(kib * _KIB)
        for name, compress in (("as it is", False), ("compressed", True)):
            plain = bytes(OWNER_SIZE), bytes(FINGERPRINT_SIZE)
            record = CompletedRecord(*plain, 1, 200, (), body, 0.0, compress)
            data = encode(record)
            figures = {
                "size": (len(data) / _KIB, "KiB"),
                "to keep": (_time(partial(encode, record), bench.size.calls), "µs"),
                "to replay": (_time(partial(decode, data), bench.size.calls), "µs"),
            }
            findings.series.extend(
                Series(f"{name}, {kib} KiB of JSON, {what}", unit, (value,))
                for what, (value, unit) in figures.items()
            )
    return findings


def _time(act: partial[object], calls: int) -> float:
    return median_time(lambda _: act(), range(calls))
