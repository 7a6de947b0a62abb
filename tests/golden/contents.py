"""What the store has of each kind: records and steps, in the clear and sealed."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from flask_idempotent import _step_values
from flask_idempotent.record_format import decode, decode_offer, encode
from flask_idempotent.records import CompletedRecord, Record
from flask_idempotent.sealing import Sealer, StepPlace, open_step, seal_step
from tests.support.hostile_records import FINGERPRINT, OWNER
from tests.support.records import COMPLETED, RELEASED, RUNNING

STORAGE_KEY = "IDEMPOTENT_{a key of 22 digits....}"
SECRETS = (b"a secret of the golden records", None)

LARGE = COMPLETED._replace(body=b"a large body " * 200)
RECORDS: dict[str, Record] = {
    "in progress": RUNNING,
    "deciding": RUNNING._replace(died=2),
    "held": RUNNING._replace(died=2, held=True),
    "released": RELEASED,
    "completed": COMPLETED,
    "completed, compressed": LARGE._replace(compress=True),
    "completed, larger than its head": LARGE,
    "completed, status line": COMPLETED._replace(status="299 ODD"),
    "completed, not kept": COMPLETED._replace(body=None, session=b"", operation=b""),
}
#: A value of each type that a step may return.
VALUES: dict[str, Any] = {
    "none": None,
    "numbers": [True, 0, -1, 2**63, -(2**80), 1.5],
    "texts": ["", "Täßchen", b"\x00\xff"],
    "nested": {"a": [1, (2, 3)], "b": {}},
    "exact": Decimal("9.90"),
    "id": UUID("5d3b6a1e-7b1c-4f0e-9d7e-2f6c1a9b8e00"),
    "times": [
        datetime(2026, 1, 2, 3, 4, 5, 6, UTC), datetime(2026, 1, 2), date(2026, 1, 2),
        time(3, 4, 5), timedelta(days=1, microseconds=7),
    ],
}  # fmt: skip


def written() -> dict[str, dict[str, str]]:
    """Return the bytes of everything, as hexadecimal digits."""
    sealer = Sealer(SECRETS)
    records = {name: encode(record) for name, record in RECORDS.items()}
    offered = encode(RUNNING, offer=len(records["in progress"]))
    place = StepPlace(STORAGE_KEY, FINGERPRINT, "charge", OWNER)
    value = _step_values.encode("charge", VALUES["exact"])
    kinds = {
        "records": records,
        "sealed records": {n: encode(r, STORAGE_KEY, sealer) for n, r in RECORDS.items()},
        "offers": {"in progress": offered + records["completed"]},
        "steps": {name: _step_values.encode(name, value) for name, value in VALUES.items()},
        "sealed steps": {"exact": seal_step(sealer, place, value)},
    }
    return {kind: {n: data.hex() for n, data in each.items()} for kind, each in kinds.items()}


def read(kind: str, data: bytes) -> object:
    """Read one of the bytes as this release does."""
    sealer = Sealer(SECRETS)
    if kind == "sealed steps":
        place = StepPlace(STORAGE_KEY, FINGERPRINT, "charge", OWNER)
        return _step_values.decode(open_step(sealer, place, data))
    if kind == "steps":
        return _step_values.decode(data)
    if kind == "offers":
        return decode_offer(data)
    return plain(decode(data, STORAGE_KEY, sealer if kind == "sealed records" else None))


def expected(kind: str, name: str) -> object:
    """Return what one of the bytes stands for."""
    if kind.endswith("steps"):
        return VALUES[name]
    return COMPLETED if kind == "offers" else plain(RECORDS[name])


def plain(record: Record) -> Record:
    """Return a record with its body itself, whether that is compressed or not."""
    if not isinstance(record, CompletedRecord) or record.body is None:
        return record
    return record._replace(body=record.whole_body(10_000), compress=False)
