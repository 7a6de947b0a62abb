"""What the values of a store say of themselves."""

from __future__ import annotations

import pytest

from flask_idempotent.records import Record, summary_of
from flask_idempotent.stores.base import RecordInfo
from tests.stores.harness import answer, running

OPEN = {"reserve": "ended", "charge": "started"}
ENDED = {"reserve": "ended"}


def info_of(record: Record, **facts: object) -> RecordInfo:
    return RecordInfo("IDEMPOTENT_{k}", summary_of(record), 1000, 100, **facts)  # type: ignore[arg-type]


class TestRecordInfo:
    def test_open_steps(self) -> None:
        """The steps that began and are not known to have ended are named, and no others."""
        assert info_of(running("ada"), steps=OPEN).open_steps == ("charge",)
        assert info_of(running("ada"), steps=ENDED).open_steps == ()

    @pytest.mark.parametrize(
        ("record", "facts", "resolvable"),
        [
            (running("ada"), {"lease_left_ms": 0}, True),
            (running("ada"), {"lease_left_ms": 0, "steps": OPEN}, True),
            (running("ada"), {"lease_left_ms": 5, "steps": OPEN}, False),
            (running("ada")._replace(held=True), {"lease_left_ms": 5}, True),
            (running("ada").tombstone(), {"steps": OPEN}, True),
            (running("ada").tombstone(), {"steps": ENDED}, False),
            (answer(), {}, False),
        ],
    )
    def test_is_resolvable(
        self, record: Record, facts: dict[str, object], resolvable: bool
    ) -> None:
        """An operator may resolve what nobody runs, unless the key is free or has its answer."""
        assert info_of(record, **facts).is_resolvable is resolvable
