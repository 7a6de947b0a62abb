"""Sealing: what opens a seal, and everything that does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_idempotent import sealing
from flask_idempotent._record_header import DIED, FINGERPRINT, HEAD_SIZE, HEADER_SIZE, OWNER
from flask_idempotent.errors import RecordUnreadable, SettingsError
from flask_idempotent.record_format import decode, decode_offer, decode_summary, encode
from flask_idempotent.records import Record, RunningRecord, summary_of
from flask_idempotent.sealing import (
    MARK,
    OVERHEAD,
    Sealer,
    StepPlace,
    open_step,
    seal_step,
    sealer_of,
    secret_fingerprint,
)
from tests.support.hostile_records import RECORDS, RUNNING_RECORDS
from tests.support.records import COMPLETED, RELEASED, RUNNING

NEW, OLD = b"the newest secret", b"the older secrets"
KEY = "IDEMPOTENT_{a key of 22 digits....}"
SEALER = Sealer((NEW, OLD))
LARGE = COMPLETED._replace(body=b"a large body " * 1000)
EACH_STATE = [RUNNING, RUNNING._replace(died=2, held=True), RELEASED, COMPLETED, LARGE]


def unreadable(data: bytes, key: str = KEY, sealer: Sealer | None = SEALER) -> str:
    """Return why a record cannot be read, with its body and as an operator sees it."""
    with pytest.raises(RecordUnreadable) as caught:
        decode(data, key, sealer)
    return str(caught.value)


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


class TestRecords:
    @given(RECORDS)
    def test_round_trip(self, record: Record) -> None:
        """A sealed record is read as it was written, and its summary from its first bytes."""
        data = encode(record, KEY, SEALER)
        # A body may be compressed; then the record has it compressed, with a seal and without.
        assert decode(data, KEY, SEALER) == decode(encode(record))
        assert decode_summary(data[:HEAD_SIZE], KEY, SEALER) == summary_of(record)

    @pytest.mark.parametrize("record", EACH_STATE)
    def test_only_the_header_is_readable(self, record: Record) -> None:
        """The header stays readable for scripts, and nothing else of a record is."""
        data, plain = encode(record, KEY, SEALER), encode(record)
        assert data[:HEADER_SIZE] == plain[:HEADER_SIZE]
        assert data[HEADER_SIZE : HEADER_SIZE + 1] == MARK
        for word in (b"POST", b"orders", b"web-1", b"body", b"201"):
            assert word not in data

    def test_size(self) -> None:
        """A seal adds 29 bytes to a response, and 28 more where a summary is apart from the rest;
        to a record in progress 45, because it names the owner who sealed it."""
        extra = [len(encode(record, KEY, SEALER)) - len(encode(record)) for record in EACH_STATE]
        assert extra == [45, 45, 45, 1 + OVERHEAD, 1 + 2 * OVERHEAD]

    @pytest.mark.parametrize("record", EACH_STATE)
    def test_no_two_seals_are_alike(self, record: Record) -> None:
        """The same record is sealed differently each time."""
        assert encode(record, KEY, SEALER) != encode(record, KEY, SEALER)

    @pytest.mark.parametrize("record", EACH_STATE)
    def test_moved(self, record: Record) -> None:
        """A record under another name is unreadable."""
        assert "no secret" in unreadable(encode(record, KEY, SEALER), KEY + "2")

    @pytest.mark.parametrize("record", [COMPLETED, LARGE])
    def test_each_header_byte(self, record: Record) -> None:
        """A completed record of which one byte of the header was changed is unreadable."""
        for position in range(HEADER_SIZE):
            assert unreadable(flipped(encode(record, KEY, SEALER), position)), position

    @pytest.mark.parametrize("record", EACH_STATE)
    def test_each_byte_behind_it(self, record: Record) -> None:
        """A record of which one byte behind the header was changed is unreadable."""
        data = encode(record, KEY, SEALER)
        for position in {*range(HEADER_SIZE, min(len(data), 200)), HEAD_SIZE, len(data) - 1}:
            if position < len(data):
                assert unreadable(flipped(data, position))

    @pytest.mark.parametrize("part", [OWNER, FINGERPRINT])
    def test_relabelled_run(self, part: slice) -> None:
        """A record in progress with another owner or fingerprint is unreadable."""
        assert unreadable(flipped(encode(RUNNING, KEY, SEALER), part.start))

    @pytest.mark.parametrize("record", EACH_STATE)
    def test_truncated(self, record: Record) -> None:
        """A record whose seal was cut off anywhere is unreadable."""
        data = encode(record, KEY, SEALER)
        ends = {*range(HEADER_SIZE, min(len(data), 160)), HEAD_SIZE, HEAD_SIZE + 1, len(data) - 1}
        for end in ends:
            if end < len(data):
                assert unreadable(data[:end])

    def test_parts_of_two_records(self) -> None:
        """The rest of a response is not accepted behind the beginning of another."""
        one, other = encode(LARGE, KEY, SEALER), encode(LARGE, KEY, SEALER)
        assert unreadable(one[:HEAD_SIZE] + other[HEAD_SIZE:])
        assert unreadable(encode(COMPLETED, KEY, SEALER) + other[HEAD_SIZE:])

    def test_a_seal_of_another_kind(self) -> None:
        """What was sealed for a run or a step is not accepted as another record of the key."""
        run = encode(RUNNING, KEY, SEALER)[HEADER_SIZE:]
        place = StepPlace(KEY, RUNNING.fingerprint, "charge", RUNNING.owner)
        step = seal_step(SEALER, place, b"\x95" + bytes(5))
        assert unreadable(encode(COMPLETED, KEY, SEALER)[:HEADER_SIZE] + run)
        assert unreadable(encode(RUNNING, KEY, SEALER)[:HEADER_SIZE] + step)
        with pytest.raises(RecordUnreadable):
            open_step(SEALER, place, run)


class TestTakeOver:
    """``contend.lua`` writes a new header, and may keep what it finds behind the old one."""

    def deciding(self, died: bool = True) -> bytes:
        dead = encode(RUNNING, KEY, SEALER)
        decider = RUNNING._replace(owner=b"d" * 16, attempt=4, died=3 if died else 0)
        return encode(decider, KEY, SEALER)[:HEADER_SIZE] + dead[HEADER_SIZE:]

    def test_facts_of_the_dead_run(self) -> None:
        """A run that decides keeps what the dead run has sealed, and it names that run."""
        record = decode(self.deciding(), KEY, SEALER)
        assert isinstance(record, RunningRecord)
        assert (record.owner, record.died) == (b"d" * 16, 3)
        assert (record.host, record.pid) == (RUNNING.host, RUNNING.pid)
        assert self.deciding()[HEADER_SIZE + 1 :].startswith(RUNNING.owner)

    def test_only_for_a_decision(self) -> None:
        """Where a view runs, the seal must be that of its own run."""
        assert "another run" in unreadable(self.deciding(died=False))

    def test_tombstone_of_a_decision(self) -> None:
        """The tombstone that an operator's release leaves of it is read."""
        data = bytearray(self.deciding())
        data[1:10] = b"r" + bytes(8)
        data[DIED] = bytes(4)
        assert decode(bytes(data), KEY, SEALER)[:2] == (b"d" * 16, RUNNING.fingerprint)


class TestOffers:
    @given(RUNNING_RECORDS)
    def test_offer(self, record: RunningRecord) -> None:
        """A late owner's offer is sealed like a completed record, and becomes one as it is."""
        offset = len(encode(record, KEY, SEALER))
        offer = encode(COMPLETED, KEY, SEALER)
        data = encode(record, KEY, SEALER, offer=offset) + offer
        assert decode(data, KEY, SEALER) == record
        assert decode_offer(data, KEY, SEALER) == decode(offer, KEY, SEALER) == COMPLETED

    def test_moved(self) -> None:
        """An offer of another key is unreadable."""
        offset = len(encode(RUNNING, KEY, SEALER))
        data = encode(RUNNING, KEY, SEALER, offer=offset) + encode(COMPLETED, KEY + "2", SEALER)
        with pytest.raises(RecordUnreadable):
            decode_offer(data, KEY, SEALER)


class TestSteps:
    PLACE = StepPlace(KEY, b"f" * 16, "charge", b"a" * 16)

    def test_round_trip(self) -> None:
        """The value of a step is not readable, and is opened as it was."""
        sealed = seal_step(SEALER, self.PLACE, b"a value")
        assert b"a value" not in sealed
        assert len(sealed) == len(b"a value") + len(MARK) + OVERHEAD
        assert open_step(SEALER, self.PLACE, sealed) == b"a value"

    @pytest.mark.parametrize(
        "change",
        [
            {"storage_key": KEY + "2"},
            {"fingerprint": b"g" * 16},
            {"step": "refund"},
            {"owner": b"b" * 16},
        ],
    )
    def test_moved(self, change: dict[str, Any]) -> None:
        """A value of another key, request, step or owner is unreadable."""
        sealed = seal_step(SEALER, self.PLACE, b"a value")
        with pytest.raises(RecordUnreadable):
            open_step(SEALER, self.PLACE._replace(**change), sealed)

    def test_unsealed(self) -> None:
        """A value without a seal is read only where None is a secret."""
        with pytest.raises(RecordUnreadable, match="is not sealed"):
            open_step(SEALER, self.PLACE, b"value")
        assert open_step(Sealer((NEW, None)), self.PLACE, b"value") == b"value"

    def test_without_secrets(self) -> None:
        """Without secrets a value stays as it is, and a sealed one is unreadable."""
        assert seal_step(None, self.PLACE, b"value") == b"value"
        assert open_step(None, self.PLACE, b"value") == b"value"
        sealed = seal_step(SEALER, self.PLACE, b"value")
        with pytest.raises(RecordUnreadable, match="IDEMPOTENT_SECRETS is not set"):
            open_step(None, self.PLACE, sealed)


class TestSecrets:
    @pytest.mark.parametrize("record", EACH_STATE)
    def test_the_first_seals_and_all_open(self, record: Record) -> None:
        """The first secret seals, and every secret opens."""
        by_new, by_old = encode(record, KEY, SEALER), encode(record, KEY, Sealer((OLD,)))
        assert decode(by_new, KEY, Sealer((NEW,))) == decode(by_old, KEY, SEALER) == record
        assert "no secret in IDEMPOTENT_SECRETS opens it" in unreadable(
            by_new, sealer=Sealer((OLD,))
        )

    @pytest.mark.parametrize("record", EACH_STATE)
    def test_without_secrets(self, record: Record) -> None:
        """An application without secrets cannot read a sealed record, and the error says why."""
        data = encode(record, KEY, SEALER)
        assert "and IDEMPOTENT_SECRETS is not set" in unreadable(data, sealer=None)
        with pytest.raises(RecordUnreadable, match="is sealed"):
            decode_summary(data[:HEAD_SIZE])

    @pytest.mark.parametrize("record", EACH_STATE)
    def test_downgrade(self, record: Record) -> None:
        """A record without a seal is read only where None is among the secrets."""
        plain = encode(record)
        for sealer in (SEALER, Sealer((NEW,))):
            assert "is not sealed" in unreadable(plain, sealer=sealer)
            with pytest.raises(RecordUnreadable, match="is not sealed"):
                decode_summary(plain[:HEAD_SIZE], KEY, sealer)
        for secrets in ((NEW, None), (None, NEW), (NEW, None, OLD)):
            assert decode(plain, KEY, Sealer(secrets)) == record

    @pytest.mark.parametrize("record", EACH_STATE)
    def test_none_first(self, record: Record) -> None:
        """With None first, records are written without a seal, and both kinds are read."""
        sealer = Sealer((None, NEW))
        assert encode(record, KEY, sealer) == encode(record)
        assert seal_step(sealer, TestSteps.PLACE, b"value") == b"value"
        assert decode(encode(record, KEY, SEALER), KEY, sealer) == record

    def test_forged(self) -> None:
        """A seal that was made without a secret opens nothing."""
        forged = encode(COMPLETED, KEY, Sealer((b"guessed" * 3,)))
        assert "no secret" in unreadable(forged)

    def test_not_shown(self) -> None:
        """No repr shows a secret, and a fingerprint of eight digits tells secrets apart."""
        assert NEW.decode() not in repr(SEALER) + str(SEALER) + repr(sealer_of((NEW,)))
        assert len(secret_fingerprint(NEW)) == 8
        assert secret_fingerprint(NEW) != secret_fingerprint(OLD)
        assert sealer_of(()) is None

    def test_missing_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the package that seals, an error says how to install it."""
        monkeypatch.setattr(sealing.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(SettingsError, match=r"pip install 'flask-idempotent\[sealing\]'"):
            Sealer((NEW,))

    @given(st.binary(max_size=80))
    def test_any_bytes(self, payload: bytes) -> None:
        """Whatever follows a header, it is unreadable where it was not sealed with a secret."""
        assert unreadable(encode(COMPLETED)[:HEADER_SIZE] + payload)
        assert unreadable(encode(RUNNING)[:HEADER_SIZE] + MARK + payload)
