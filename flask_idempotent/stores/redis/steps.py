"""The steps of a record as Redis keeps them: a hash beside the record.

Its field ``f`` has the fingerprint of the request that the steps belong to. A field whose name is
``s`` and the name of a step says that this step began, and ``e`` and the name that it ended. Their
values are the owner token of the run and msgpack ``[time, value]``, which is sealed where records
are. A step has one of the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from flask_idempotent._msgpack import UNPACK_ERRORS, pack, unpack
from flask_idempotent._record_header import HEADER_SIZE
from flask_idempotent.crash import StepState
from flask_idempotent.errors import RecordUnreadable
from flask_idempotent.record_format import encode
from flask_idempotent.records import FINGERPRINT_SIZE, OWNER_SIZE, RunningRecord
from flask_idempotent.sealing import Sealer, StepPlace, open_step, seal_step
from flask_idempotent.stores.base import Step, StepResult
from flask_idempotent.stores.redis.commands import decode_name

_FINGERPRINT, _STARTED, _ENDED = b"f", b"s", b"e"
#: A reply of ``step.lua``.
_DAMAGED = -2
_NOBODYS = "its steps are damaged: they do not say what request they are of"
_STATES: Mapping[bytes, StepState] = {_STARTED: "started", _ENDED: "ended"}


class StepCodec(NamedTuple):
    """Writes the steps of one request as Redis keeps them, and reads them.

    :param storage_key: the name of the record.
    :param fingerprint: digest of the request that the record is for.
    :param sealer: seals and opens what steps have returned; None to leave it readable.
    """

    storage_key: str
    fingerprint: bytes
    sealer: Sealer | None

    def arguments(self, record: RunningRecord, step: Step, ttl_ms: int | None) -> tuple[Any, ...]:
        """Return the arguments of ``step.lua``."""
        kind = _STARTED if step.value is None else _ENDED
        place = self._place_of(step.name, step.owner)
        payload = seal_step(self.sealer, place, pack([step.time, step.value]))
        first = encode(record)[:HEADER_SIZE] + payload
        # The first argument is the only one that a command does not cache.
        return first, "" if ttl_ms is None else ttl_ms, kind, step.name

    def result_of(self, name: str, reply: Any) -> StepResult | Step:
        """Read the reply of ``step.lua``.

        :param name: the name of the step.
        :raises RecordUnreadable: when another run's step of this name has damaged bytes, or it is
            unknown what request the steps are of.
        """
        if isinstance(reply, list):
            kind, data = reply
            return self._decode(kind, name, data)
        if reply == _DAMAGED:
            raise RecordUnreadable(_NOBODYS)
        return StepResult(reply)

    def read(self, reply: list[bytes]) -> list[Step]:
        """Read the reply to ``HGETALL``.

        :raises RecordUnreadable: when a step of this request has damaged bytes, or it is unknown
            what request the steps are of.
        """
        fields = dict(zip(reply[::2], reply[1::2], strict=True))
        steps_fingerprint = fields.pop(_FINGERPRINT, b"")
        if reply and len(steps_fingerprint) != FINGERPRINT_SIZE:
            raise RecordUnreadable(_NOBODYS)
        if steps_fingerprint != self.fingerprint:
            return []
        steps = [
            self._decode(field[:1], decode_name(field[1:]), data) for field, data in fields.items()
        ]
        return sorted(steps, key=lambda step: step.time)

    def _decode(self, kind: bytes, name: str, data: bytes) -> Step:
        owner, payload = data[:OWNER_SIZE], data[OWNER_SIZE:]
        try:
            time, value = unpack(open_step(self.sealer, self._place_of(name, owner), payload))
        except UNPACK_ERRORS as error:
            raise RecordUnreadable(f"step {name!r} is damaged: {error}") from error
        is_value = type(value) is bytes if kind == _ENDED else value is None and kind == _STARTED
        if type(time) is not float or not is_value:
            raise RecordUnreadable(f"step {name!r} is damaged: it is not what this package writes")
        return Step(name, owner, time, value)

    def _place_of(self, name: str, owner: bytes) -> StepPlace:
        return StepPlace(self.storage_key, self.fingerprint, name, owner)


def was_written(reply: Any) -> bool:
    """Whether a reply of ``step.lua`` means that replicas must confirm it."""
    return bool(reply == StepResult.WRITTEN.value)


def states_of(fields: Iterable[bytes]) -> dict[str, StepState]:
    """Return the names and states of steps from the names of the hash's fields."""
    return {
        decode_name(field[1:]): _STATES[field[:1]]
        for field in sorted(fields)
        if field[:1] in _STATES
    }
