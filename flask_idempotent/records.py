"""Records: what a store keeps for a key.

A record is in progress (``RunningRecord``), completed (``CompletedRecord``) or released
(``ReleasedRecord``). ``record_format`` turns them into bytes and back.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from flask_idempotent.errors import RecordUnreadable

#: Length of an owner token and of a fingerprint, in bytes.
OWNER_SIZE = FINGERPRINT_SIZE = 16


class RunningRecord(NamedTuple):
    """A key whose view is running, or whose owner died.

    :param owner: random token of the run, 16 bytes.
    :param fingerprint: digest of the request, 16 bytes.
    :param attempt: 1 on a first run, one more for each later run of the key.
    :param grace_ms: milliseconds that the record is kept after its lease has ended.
    :param host: name of the machine that runs the view.
    :param pid: number of the process that runs the view.
    :param started: wall clock when the run began, in seconds since 1970. It is shown to people; no
        store compares it.
    :param method: the request's method.
    :param endpoint: the endpoint of its route.
    :param first_attempt: the attempt from which on the key belongs to this fingerprint. A response
        of an earlier run is not stored any more.
    :param died: where a request decides what follows a crash, and no view runs: the attempt of the
        run that died, whose ``host``, ``pid`` and ``started`` these are. 0 where a view runs.
    :param held: whether that request has decided to hold the key, until its lease ends.
    """

    owner: bytes
    fingerprint: bytes
    attempt: int = 1
    grace_ms: int = 0
    host: str = ""
    pid: int = 0
    started: float = 0.0
    method: str = ""
    endpoint: str = ""
    first_attempt: int = 1
    died: int = 0
    held: bool = False

    def follow(self, earlier: Record) -> RunningRecord:
        """Return this record as the next attempt after an earlier record of its key.

        Where the key belonged to another request before, or had a response that this request
        corrects, the responses of all runs before this one are refused from now on.
        """
        attempt = first_attempt = earlier.attempt + 1
        if not isinstance(earlier, CompletedRecord) and earlier.fingerprint == self.fingerprint:
            first_attempt = earlier.first_attempt
        return self._replace(attempt=attempt, first_attempt=first_attempt)

    def decide_about(self, dead: RunningRecord) -> RunningRecord:
        """Return this record as that of a request that decides what follows another's death.

        It keeps what is known of the run that died, for the next one that is asked.
        """
        return self._replace(
            host=dead.host, pid=dead.pid, started=dead.started, died=dead.died or dead.attempt
        )

    def tombstone(self) -> ReleasedRecord:
        """Return what is left when the key is released while this record's owner may still run."""
        return ReleasedRecord(**{name: getattr(self, name) for name in ReleasedRecord._fields})


class ReleasedRecord(NamedTuple):
    """A tombstone: a key that was released while an earlier owner may still run.

    It keeps the attempt number from starting again, and a place for a response that comes late.
    Any request may claim the key.

    :param owner: token of the run that was released, 16 bytes.
    :param fingerprint: digest of its request, 16 bytes.
    :param attempt: its number; the next run has one more.
    :param host: name of the machine that ran the view.
    :param pid: number of the process that ran the view.
    :param started: wall clock when that run began, in seconds since 1970.
    :param method: the request's method.
    :param endpoint: the endpoint of its route.
    :param first_attempt: as in a running record.
    """

    owner: bytes
    fingerprint: bytes
    attempt: int
    host: str = ""
    pid: int = 0
    started: float = 0.0
    method: str = ""
    endpoint: str = ""
    first_attempt: int = 1

    def as_claim(self) -> RunningRecord:
        """Return the claim that was released, as one whose lease is over."""
        return RunningRecord(**self._asdict(), grace_ms=0)


class CompressedBody(NamedTuple):
    """A response body that is kept compressed.

    :param data: a zlib stream (RFC 1950).
    :param size: size of the body itself, in bytes.
    """

    data: bytes
    size: int

    def expand(self, limit: int) -> bytes:
        """Return the body itself.

        :param limit: the largest body to expand, in bytes.
        :raises RecordUnreadable: when the body is larger, or not what the record says.
        """
        if self.size > limit:
            raise RecordUnreadable(f"its body of {self.size} bytes is larger than max_body")
        stream = zlib.decompressobj()
        try:
            # A damaged stream may expand to any size. One byte too many is enough to notice.
            body = stream.decompress(self.data, self.size + 1)
        except zlib.error as error:
            raise RecordUnreadable(f"its body is damaged: {error}") from error
        if len(body) != self.size or not stream.eof or stream.unused_data:
            raise RecordUnreadable("its body does not have the size that the record says")
        return body


class CompletedRecord(NamedTuple):
    """A key whose view has answered, with the response.

    :param owner: token of the run that answered, 16 bytes.
    :param fingerprint: digest of the request, 16 bytes.
    :param attempt: the number of the run that answered.
    :param status: the status code, or the whole status line where its reason is not the usual one.
    :param headers: names and values in their order, repetitions included.
    :param body: the body, perhaps compressed, or None for a response that was not kept.
    :param time: wall clock of the answer, in seconds since 1970. It is shown to people; no store
        compares it.
    :param compress: whether to write the body compressed, where that makes it smaller.
    :param method: the request's method.
    :param endpoint: the endpoint of its route.
    :param operation: digest of the request's method and path, where a corrected request with the
        same ones may take the key; empty where the key stays with this request.
    :param session: what a replay repeats of the session, as the web layer encodes it; empty for
        nothing. It is private: no log, signal, command or ``repr`` shows it.
    """

    owner: bytes
    fingerprint: bytes
    attempt: int
    status: int | str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | CompressedBody | None = None
    time: float = 0.0
    compress: bool = False
    method: str = ""
    endpoint: str = ""
    operation: bytes = b""
    session: bytes = b""

    def __repr__(self) -> str:
        shown = self._asdict() | {"session": f"<{len(self.session)} bytes>"}
        return f"{type(self).__name__}({', '.join(f'{name}={shown[name]!r}' for name in shown)})"

    @property
    def status_code(self) -> int:
        """The status code, such as 201."""
        return _status_code(self.status)

    @property
    def body_size(self) -> int:
        """Size of the body in bytes, 0 where it was not kept."""
        return self.body.size if isinstance(self.body, CompressedBody) else len(self.body or b"")

    def whole_body(self, limit: int) -> bytes:
        """Return the body itself, empty where it was not kept.

        :param limit: the largest compressed body to expand, in bytes.
        :raises RecordUnreadable: when it is larger, or damaged.
        """
        if isinstance(self.body, CompressedBody):
            return self.body.expand(limit)
        return self.body or b""


Record = RunningRecord | CompletedRecord | ReleasedRecord


class CompletedSummary(NamedTuple):
    """A completed record without its headers and body, for lists of records.

    :param attempt: the number of the run that answered.
    :param status: the status code, or the whole status line where its reason is not the usual one.
    :param time: wall clock of the answer, in seconds since 1970.
    :param method: the request's method.
    :param endpoint: the endpoint of its route.
    """

    attempt: int
    status: int | str
    time: float
    method: str = ""
    endpoint: str = ""

    @property
    def status_code(self) -> int:
        """The status code, such as 201."""
        return _status_code(self.status)


def summary_of(record: Record) -> RunningRecord | ReleasedRecord | CompletedSummary:
    """Leave out the headers and the body of a completed record."""
    if isinstance(record, CompletedRecord):
        return CompletedSummary(
            record.attempt, record.status, record.time, record.method, record.endpoint
        )
    return record


def _status_code(status: int | str) -> int:
    return status if isinstance(status, int) else int(status.partition(" ")[0])
