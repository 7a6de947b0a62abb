"""Records that Hypothesis makes: this package's, and those that somebody else may have written."""

from __future__ import annotations

import struct
import zlib

import msgpack
from hypothesis import strategies as st

from flask_idempotent._record_header import VERSION
from flask_idempotent.records import (
    FINGERPRINT_SIZE,
    OWNER_SIZE,
    CompletedRecord,
    ReleasedRecord,
    RunningRecord,
)

OWNER, FINGERPRINT = b"o" * OWNER_SIZE, b"f" * FINGERPRINT_SIZE

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Header fields that can be sent (RFC 9110, 5.1 and 5.5).
NAMES = st.text(st.sampled_from("!#$%&'*+-.^_`|~059AZaz"), min_size=1, max_size=20)
VALUES = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]) | st.just("\t"))
TIMES = st.floats(0, 253_402_300_799)
ATTEMPTS = st.integers(1, 2**32 - 1)
OWNERS = st.binary(min_size=OWNER_SIZE, max_size=OWNER_SIZE)
FINGERPRINTS = st.binary(min_size=FINGERPRINT_SIZE, max_size=FINGERPRINT_SIZE)
CODES = st.integers(200, 999)
STATUSES = CODES | st.builds("{} {}".format, CODES, VALUES)
ORIGINS = {
    "host": TEXT,
    "pid": st.integers(0, 2**31),
    "started": TIMES,
    "method": TEXT,
    "endpoint": TEXT,
}


def _with_first(
    record: RunningRecord | ReleasedRecord, later: int
) -> RunningRecord | ReleasedRecord:
    return record._replace(first_attempt=max(1, record.attempt - later))


def _deciding(record: RunningRecord, died: int, held: bool) -> RunningRecord:
    died = min(died, record.attempt - 1)
    return record._replace(died=died, held=held and died > 0)


RUNNING_RECORDS = st.builds(
    _with_first,
    # Lua counts milliseconds exactly up to this limit.
    st.builds(
        _deciding,
        st.builds(
            RunningRecord, OWNERS, FINGERPRINTS, ATTEMPTS, st.integers(0, 2**53 - 1), **ORIGINS
        ),
        st.integers(0, 2**32),
        st.booleans(),
    ),
    st.integers(0, 2**32),
)
RELEASED_RECORDS = st.builds(
    _with_first,
    st.builds(ReleasedRecord, OWNERS, FINGERPRINTS, ATTEMPTS, **ORIGINS),
    st.integers(0, 2**32),
)
COMPLETED_RECORDS = st.builds(
    CompletedRecord,
    OWNERS,
    FINGERPRINTS,
    ATTEMPTS,
    STATUSES,
    st.lists(st.tuples(NAMES, VALUES), max_size=5).map(tuple),
    st.none() | st.binary(max_size=100) | st.sampled_from([b"{}" * 500, b"\0" * 10_000]),
    TIMES,
    st.booleans(),
    TEXT,
    TEXT,
    st.just(b"") | OWNERS,
    st.binary(max_size=50),
)
RECORDS = RUNNING_RECORDS | COMPLETED_RECORDS | RELEASED_RECORDS


def header(
    version: int = VERSION,
    state: bytes = b"c",
    grace: int = 0,
    attempt: int = 1,
    offer: int = 0,
    first: int | None = None,
    died: int = 0,
) -> bytes:
    """The header of a record, with any numbers."""
    packed = struct.pack(">BcQII", version, state, grace, attempt, offer)
    first = attempt if first is None else first
    return packed + OWNER + FINGERPRINT + struct.pack(">II", first, died)


def completed(
    status: object = 200,
    headers: object = (),
    body: object = b"",
    time: object = 1.0,
    session: object = b"",
    **numbers: int,
) -> bytes:
    """A completed record with any parts, right or wrong."""
    payload = [status, time, b"", "POST", "orders", headers, body, session]
    return header(**numbers) + msgpack.packb(payload, unicode_errors="surrogatepass")


def in_progress(
    host: object = "web-1",
    pid: object = 1,
    started: object = 1.0,
    state: bytes = b"p",
    **numbers: int,
) -> bytes:
    """A running or a released record with any parts, right or wrong."""
    return header(state=state, **numbers) + msgpack.packb(["POST", "orders", host, pid, started])


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT
    | st.text(max_size=5) | st.binary(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)  # fmt: skip
BODIES = st.binary(max_size=50)
#: Records that somebody else may have written: of the right shape, each part right or anything.
HOSTILE = st.builds(
    completed,
    STATUSES | ANYTHING | st.builds("{} {}".format, st.integers(), st.text(max_size=5)),
    st.lists(NAMES | VALUES | st.text(max_size=5), max_size=6) | ANYTHING,
    BODIES | st.tuples(st.just("zlib"), BODIES.map(zlib.compress), st.integers(0, 60)) | ANYTHING,
    TIMES | ANYTHING,
    st.just(b"") | BODIES | ANYTHING,
) | st.builds(
    in_progress,
    TEXT | ANYTHING,
    st.integers(-1, 2**33) | ANYTHING,
    TIMES | st.floats() | ANYTHING,
    state=st.sampled_from([b"p", b"p", b"r"]),
    attempt=st.integers(0, 2) | st.just(2**32 - 1),
    first=st.integers(0, 2) | st.none(),
    grace=st.just(0) | st.integers(0, 2**64 - 1),
    offer=st.integers(0, 100) | st.just(2**32 - 1),
)
