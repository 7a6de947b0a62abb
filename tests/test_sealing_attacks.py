"""What somebody can do to sealed records who writes to the store and has no secret."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from flask_idempotent._record_header import HEAD_SIZE, HEADER_SIZE
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.record_format import decode, decode_offer, decode_summary, encode
from flask_idempotent.records import CompletedRecord, Record, RunningRecord
from flask_idempotent.sealing import Sealer
from tests.support.records import COMPLETED, RELEASED, RUNNING

SEALER = Sealer((b"the newest secret", b"the older secrets"))
KEY, OTHER_KEY = "IDEMPOTENT_{one}", "IDEMPOTENT_{other}"
#: What an attacker may have seen: records of two keys, in each state, small and large.
RECORDS: dict[str, list[Record]] = {
    KEY: [
        RUNNING,
        RUNNING._replace(owner=b"p" * 16, host="web-2"),
        RELEASED,
        COMPLETED,
        COMPLETED._replace(owner=b"p" * 16, body=b"another body"),
        COMPLETED._replace(owner=b"q" * 16, body=b"large" * 1000),
    ],
    OTHER_KEY: [
        RUNNING._replace(host="elsewhere"),
        COMPLETED._replace(body=b"not for you"),
        COMPLETED._replace(body=b"not for you " * 1000),
    ],
}
SEEN = [encode(record, key, SEALER) for key in RECORDS for record in RECORDS[key]]
#: Cuts and pieces of these, with bytes of the attacker's own between them.
PIECES = st.builds(
    lambda data, start, end: data[start:end],
    st.sampled_from(SEEN),
    st.sampled_from([0, HEADER_SIZE, HEADER_SIZE + 1, HEADER_SIZE + 17, HEAD_SIZE]),
    st.sampled_from([None, 2, HEADER_SIZE, HEAD_SIZE, -16]),
)
FORGED = st.lists(PIECES | st.binary(max_size=60), min_size=1, max_size=4).map(b"".join)


@st.composite
def edited(draw: st.DrawFn) -> bytes:
    """A record of which some bytes were changed."""
    data = bytearray(draw(st.sampled_from(SEEN)))
    for position in draw(st.lists(st.integers(0, 70), max_size=3)):
        data[position] = draw(st.integers(0, 255))
    return bytes(data)


def facts_of(record: Record) -> tuple[object, ...]:
    """What is sealed of a record in progress."""
    assert not isinstance(record, CompletedRecord)
    return record.host, record.pid, record.started, record.method, record.endpoint


GENUINE = [record for record in RECORDS[KEY] if isinstance(record, CompletedRecord)]
FACTS = {facts_of(record) for record in RECORDS[KEY] if not isinstance(record, CompletedRecord)}


@given(FORGED | edited())
def test_forged(data: bytes) -> None:
    """Whatever the attacker puts together, what is read is unreadable, or a response that the key
    had with its own header, or the facts of a run of the key."""
    with suppress(RecordUnreadable):
        record = decode(data, KEY, SEALER)
        if isinstance(record, CompletedRecord):
            assert record in GENUINE
        else:
            assert facts_of(record) in FACTS
    with suppress(RecordUnreadable):
        offer = decode_offer(data, KEY, SEALER)
        assert offer is None or offer in GENUINE
    with suppress(RecordUnreadable):
        summary = decode_summary(data[:HEAD_SIZE], KEY, SEALER)
        assert summary.endpoint == "orders"


@given(edited())
def test_relabelled_run(data: bytes) -> None:
    """The fingerprint of a record in progress stays that of its request, and its owner too, unless
    it is made that of a run that decides, or a tombstone. The rest of its header can be changed:
    scripts change it too."""
    with suppress(RecordUnreadable):
        record = decode(data, KEY, SEALER)
        assert record.fingerprint == RUNNING.fingerprint
        if isinstance(record, RunningRecord) and not record.died:
            assert record.owner in (RUNNING.owner, b"p" * 16)
