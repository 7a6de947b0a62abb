"""An operator's answer in place of that of an owner who died."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import click

from flask_idempotent import _http_syntax
from flask_idempotent.cli import formatting
from flask_idempotent.cli.options import Refused
from flask_idempotent.engine.transactions import Answer, Transaction, commit_answer
from flask_idempotent.records import OWNER_SIZE, CompletedRecord, ReleasedRecord, RunningRecord
from flask_idempotent.settings import Settings
from flask_idempotent.stores.base import RecordInfo
from flask_idempotent.stores.inspectable import InspectableStore

#: Statuses whose responses end with their headers (RFC 9110, sections 15.3.5 and 15.4.5).
_WITHOUT_BODY = (204, 304)


class Resolution(NamedTuple):
    """What an operator wants the requests of a key to get.

    :param status: the status code.
    :param headers: the headers, without those that are added to each replay.
    :param body: the body.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def description(self) -> str:
        """The answer in a few words."""
        return f"status {self.status} and a body of {formatting.size(len(self.body))}"


def parse_resolution(
    status: int | None, headers: tuple[str, ...], body: str | None
) -> Resolution | None:
    """Read the options of an answer; None where there is no status, so that the view runs again.

    :raises click.UsageError: when they do not make a response that can be sent.
    """
    if status is None:
        if headers or body is not None:
            raise click.UsageError("--header and --body belong to an answer: add --status.")
        return None
    pairs = tuple(map(_parse_header, headers))
    content = _read_body(body)
    if content and status in _WITHOUT_BODY:
        raise click.UsageError(f"A response with status {status} has no body: leave out --body.")
    if content and not any(name.lower() == "content-type" for name, _ in pairs):
        pairs += (("Content-Type", _guess_type(content)),)
    try:
        _http_syntax.check_response(status, pairs)
    except ValueError as error:
        raise click.UsageError(f"This answer cannot be sent: {error}.") from None
    return Resolution(status, pairs, content)


def _parse_header(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon:
        raise click.BadParameter(
            f"{header!r} is not a header: write it as 'Location: /orders/7'.", param_hint="--header"
        )
    return name.strip(), value.strip()


def _read_body(body: str | None) -> bytes:
    if body is None:
        return b""
    if body == "-":
        return sys.stdin.buffer.read()
    if not body.startswith("@"):
        return os.fsencode(body)
    try:
        return Path(body[1:]).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{error}.", param_hint="--body") from None


def _guess_type(body: bytes) -> str:
    try:
        json.loads(body)
    except ValueError:
        return "text/plain; charset=utf-8"
    return "application/json"


def answer_for(
    store: InspectableStore,
    info: RecordInfo,
    record: RunningRecord | ReleasedRecord,
    settings: Settings,
    resolution: Resolution,
    *,
    even_running: bool,
) -> bool:
    """Answer for the owner of a claim: in the database of the view's transaction, and in the store.

    :param record: the claim, or the tombstone that it has left at an open step.
    :param settings: the settings of its view.
    :param even_running: whether its lease may be running.
    :returns: False where the claim has changed, so that nothing was stored.
    :raises Refused: when no replay would have the answer as it is, or the view has committed.
    """
    _check_kept(resolution, settings)
    completed = CompletedRecord(
        owner=os.urandom(OWNER_SIZE),
        fingerprint=record.fingerprint,
        attempt=record.attempt,
        **resolution._asdict(),
        time=time.time(),
        method=record.method,
        endpoint=record.endpoint,
    )
    ttl_ms = max(settings.engine.expire_ms, info.ttl_ms)
    if settings.transaction is not None:
        # First, because a late owner can commit until there is a row.
        _commit(settings.transaction, Answer(info.storage_key, completed, ttl_ms))
    resolved = store.resolve(
        info.storage_key, record.owner, completed, ttl_ms=ttl_ms, even_running=even_running
    )
    # If another request has the key by now, it gets the answer from the database.
    return resolved or settings.transaction is not None


def _check_kept(resolution: Resolution, settings: Settings) -> None:
    for name, _ in resolution.headers:
        if name.lower() in settings.dropped_headers:
            raise Refused(f"No replay repeats the header {name}: leave it out.")
    if len(resolution.body) > settings.max_body:
        raise Refused(
            f"The body has {formatting.size(len(resolution.body))}, and max_body of the view is "
            f"{formatting.size(settings.max_body)}."
        )


def _commit(transaction: Transaction, answer: Answer) -> None:
    earlier = transaction.look_up(answer.storage_key)
    if earlier is not None and earlier.ttl_ms > 0:
        raise Refused(_COMMITTED_MEANWHILE)
    replaces = None if earlier is None else earlier.record.owner
    if commit_answer(transaction, answer, replaces=replaces) is not answer:
        raise Refused(_COMMITTED_MEANWHILE)


_COMMITTED_MEANWHILE = "The view has committed meanwhile: the next request gets its answer."
