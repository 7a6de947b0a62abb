"""Describes the library's signals in plain words, for the ledger's list of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask

from flask_idempotent import signals


def report_signals(app: Flask, note: Callable[[str, str, str | None], None]) -> None:
    """Call *note* with an event and its key for each signal that the library sends for *app*."""
    for name, sentence in SENTENCES.items():
        signal = getattr(signals, name)
        signal.connect(_receiver(note, name, sentence), sender=app, weak=False)


def _receiver(
    note: Callable[[str, str, str | None], None], name: str, sentence: Callable[..., str]
) -> Callable[..., None]:
    def receive(_app: Flask, key: str | None = None, **data: Any) -> None:
        note(name, sentence(**data), key)

    return receive


def _claimed(attempt: int, **_: Any) -> str:
    if attempt == 1:
        return "First request with this key: the view runs"
    return f"The earlier owner died: the view runs, attempt {attempt}"


def _completed(kept: bool, **_: Any) -> str:
    return "Response kept for duplicates" if kept else "Response passed on, but not kept"


def _released(reason: str, **_: Any) -> str:
    return f"Key released ({reason}): the next request runs"


def _waited(seconds: float, **_: Any) -> str:
    return f"Duplicate waited {seconds:.1f} s for the first request"


def _replayed(waited: float, age: float, **_: Any) -> str:
    old = "" if waited else f", {age:.1f} s old"
    return f"Duplicate answered with the first response{old}"


def _rejected(problem: str, status: int, **_: Any) -> str:
    return f"Rejected with {status}: {problem}"


def _lease_lost(**_: Any) -> str:
    return "Lease lost: the request took longer than its claim"


def _store_failed(operation: str, error: Exception, **_: Any) -> str:
    return f"Store failed at {operation}: {type(error).__name__}"


SENTENCES: dict[str, Callable[..., str]] = {
    "claimed": _claimed,
    "completed": _completed,
    "released": _released,
    "waited": _waited,
    "replayed": _replayed,
    "rejected": _rejected,
    "lease_lost": _lease_lost,
    "store_failed": _store_failed,
}
