"""Claims: what a request asks for, and a key that is ours while its view runs."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from flask_idempotent import _timing
from flask_idempotent._digests import url_safe_digest
from flask_idempotent._msgpack import pack
from flask_idempotent.errors import LeaseLost, RecordUnreadable, StepUnknown, StoreError
from flask_idempotent.records import OWNER_SIZE, CompletedRecord, RunningRecord
from flask_idempotent.settings import EngineSettings
from flask_idempotent.stores.base import Renewal

if TYPE_CHECKING:
    from flask_idempotent.engine.steps import Steps

_HOST = socket.gethostname()


class ClaimRequest(NamedTuple):
    """What a request asks of the engine.

    :param storage_key: the name of the record in the store.
    :param key: the client's own key, for signals and logs.
    :param fingerprint: the digest of the request.
    :param settings: the settings of its view.
    :param method: the request's method.
    :param endpoint: the endpoint of its route, for operators who inspect the record.
    :param path: the parts of its address which, with the method, name the operation.
    """

    storage_key: str
    key: str
    fingerprint: bytes
    settings: EngineSettings
    method: str = ""
    endpoint: str = ""
    path: tuple[str | None, ...] = ()

    def may_correct(self, record: CompletedRecord) -> bool:
        """Whether this is a corrected request, which may replace a response that is stored.

        :param record: the stored response of another request.
        """
        return record.operation != b"" and record.operation == self.operation()

    def operation(self) -> bytes:
        """Digest method and path, which a corrected request has in common with the first one."""
        return hashlib.blake2b(pack((self.method, *self.path)), digest_size=16).digest()


@dataclass(eq=False, slots=True)
class Claim:
    """A key that is ours while its view runs.

    :param request: what was asked.
    :param record: the record as it was claimed.
    :param sent: the monotonic time before the claim's command was sent; the lease cannot have
        begun earlier.
    :param held: False once the lease is known to be lost.
    :param dead_record: after a take-over the record of the owner that died, where the store has it.
    """

    request: ClaimRequest
    record: RunningRecord
    sent: float
    held: bool = True
    dead_record: RunningRecord | None = None
    #: Held while a command about this claim is under way, so that no two overlap. The class is
    #: looked up late: gevent may replace it after this module is imported.
    lock: threading.Lock = field(default_factory=lambda: threading.Lock())
    #: The response is being stored, and may be the other record that a renewal finds.
    completing: bool = False
    #: It was completed, released or abandoned, and must not be renewed.
    settled: bool = False
    #: The view has started.
    view_started: bool = False
    #: The view has returned; its response may still stream.
    view_returned: bool = False
    #: The view has called ``release()``.
    released_by_view: bool = False
    #: Owner token of the answer in the view's own database that this run may replace.
    replaces: bytes | None = None
    #: It is completed with an answer that the view's own database has.
    restored: bool = False
    #: A step of its run was refused, because another run may have the key.
    step_refused: bool = False
    #: What is known of its steps, once one was called.
    steps: Steps | None = None
    #: The log already has a warning that the view runs longer than ``max_run``.
    overrun_reported: bool = False
    #: The monotonic time before the last successful claim or renewal was sent.
    renewed: float = field(init=False)
    pid: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        self.renewed = self.sent

    @property
    def storage_key(self) -> str:
        """The name of the record in the store."""
        return self.request.storage_key

    @property
    def key(self) -> str:
        """The client's own key."""
        return self.request.key

    @property
    def owner(self) -> str:
        """The owner token as hexadecimal digits: random, and new for each run."""
        return self.record.owner.hex()

    @property
    def attempt(self) -> int:
        """1 on the first run, higher after an owner died: a fencing token. 0 without a store."""
        return self.record.attempt

    @property
    def is_to_decide(self) -> bool:
        """Whether an earlier owner died, and this one decides what follows before a view runs."""
        return self.record.died > 0

    @property
    def is_in_store(self) -> bool:
        """Whether the store has it; False where the store failed and the view runs anyway."""
        return self.record.attempt > 0

    @property
    def has_steps(self) -> bool:
        """Whether the store may have steps of this run, or of an earlier one of the key."""
        return self.steps is not None or self.record.attempt > 1 or self.restored

    @property
    def ttl_ms(self) -> int:
        """Milliseconds that its record is kept from each renewal on."""
        return self.record.grace_ms + self.request.settings.lease_ms

    def is_step_error(self, error: Exception) -> bool:
        """Whether an error that has left the view is one of a step, and not of the view's own."""
        if self.steps is not None and isinstance(error, StoreError | RecordUnreadable):
            return True
        return isinstance(error, LeaseLost | StepUnknown)

    def keep_for_hold(self) -> None:
        """Keep its record for as long as a key may be held, from the next command on."""
        grace_ms = max(self.record.grace_ms, self.request.settings.grace_of_once_ms)
        self.record = self.record._replace(grace_ms=grace_ms)

    def key_for(self, name: str, number: int = 1) -> str:
        """Make an idempotency key for what the view calls; see ``current_claim.key_for``."""
        if not _names_call(name, number):
            raise ValueError(_WRONG_NAME.format(name, number))
        return url_safe_digest(self.storage_key, self.request.fingerprint, name, number)

    def release(self) -> None:
        """Give up the key when the view ends: its response is not stored, the next request runs.

        For a view that finds that it has nothing to do.
        """
        self.released_by_view = True

    @property
    def is_ours(self) -> bool:
        """Whether this process made the claim; a forked child owns none of its parent's."""
        return self.pid == os.getpid()

    def is_due(self, now: float) -> bool:
        """Whether the lease must be renewed now."""
        return now - self.renewed > self.request.settings.lease * _timing.RENEW_AFTER

    def has_lapsed(self, now: float) -> bool:
        """Whether the lease is over, as far as this process knows."""
        return now - self.renewed >= self.request.settings.lease

    def has_overrun(self, now: float) -> bool:
        """Whether the view runs longer than ``max_run``."""
        limit = self.request.settings.max_run
        return limit is not None and not self.view_returned and now - self.sent > limit

    def completed(
        self,
        status: int | str,
        headers: tuple[tuple[str, str], ...],
        body: bytes | None,
        session: bytes = b"",
    ) -> CompletedRecord:
        """Make the record of this run's response.

        The parameters are those of ``Engine.complete``.
        """
        running, settings = self.record, self.request.settings
        compress = (
            settings.compress is not None and body is not None and len(body) >= settings.compress
        )
        record = CompletedRecord(
            owner=running.owner,
            fingerprint=running.fingerprint,
            attempt=running.attempt,
            status=status,
            headers=headers,
            body=body,
            time=time.time(),
            compress=compress,
            method=running.method,
            endpoint=running.endpoint,
            session=session,
        )
        if record.status_code in settings.correctable:
            return record._replace(operation=self.request.operation())
        return record

    def renewal(self) -> Renewal:
        """What the store needs to renew this claim."""
        return Renewal(self.storage_key, self.record, self.ttl_ms, self.has_steps)


def claim_without_store(request: ClaimRequest) -> Claim:
    """Make a claim that the store does not have, because it fails; its attempt is 0."""
    record = new_record(request, os.urandom(OWNER_SIZE))._replace(attempt=0)
    return Claim(request, record, time.monotonic())


def new_record(request: ClaimRequest, owner: bytes) -> RunningRecord:
    """Make the record of a run that begins now in this process, as attempt 1."""
    return RunningRecord(
        owner=owner,
        fingerprint=request.fingerprint,
        attempt=1,
        grace_ms=request.settings.grace_ms,
        host=_HOST,
        pid=os.getpid(),
        started=time.time(),
        method=request.method,
        endpoint=request.endpoint,
    )


def _names_call(name: object, number: object) -> bool:
    is_number = isinstance(number, int) and not isinstance(number, bool) and number > 0
    return isinstance(name, str) and name != "" and is_number


_WRONG_NAME = (
    "key_for() takes a name that is not empty, and a number from 1 on, such as "
    "key_for('stripe', 2), not {!r} and {!r}"
)
