"""The application that the chaos tests serve. Its views write notes of what ran."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, has_request_context, jsonify, request

from flask_idempotent import current_claim, idempotent, signals
from tests.chaos.notes import FOLDER, gate_of, note

app = Flask("chaos")
app.config.update(json.loads(os.environ.get("CHAOS_CONFIG", "{}")))


@app.before_request
def _asked() -> None:
    note("ask", key=request.headers.get("Idempotency-Key"), request=request.headers["X-Request"])


@app.after_request
def _answered(response: Response) -> Response:
    key, number = request.headers.get("Idempotency-Key"), request.headers["X-Request"]
    note("answer", key=key, request=number, status=response.status_code)
    return response


def _note_signal(event: str) -> None:
    def receive(sender: object, key: str, **facts: Any) -> None:
        ours = g.get("owner") if has_request_context() else None
        note(event, key=key, owner=facts.get("owner", ours))

    signals._signals[event].connect(receive, app, weak=False)


for _event in ("completed", "released", "lease_lost"):
    _note_signal(_event)


@signals.store_failed.connect_via(app)
def _failed(sender: object, operation: str, error: Exception) -> None:
    note("store_failed", operation=operation, error=str(error))


def run(
    milliseconds: int, is_over: Callable[[], bool] = lambda: True
) -> tuple[Response, int, dict[str, str]]:
    """Run for a while, and answer with the name of this run.

    :param is_over: what must be true too before it ends.
    """
    facts = {"key": current_claim.key, "owner": current_claim.owner, "run": uuid.uuid4().hex}
    g.owner, number = current_claim.owner, request.headers["X-Request"]
    note("start", attempt=current_claim.attempt, request=number, path=request.path, **facts)
    time.sleep(milliseconds / 1000)
    while not is_over():
        time.sleep(0.005)
    note("end", **facts)
    return jsonify(facts), 201, {"X-Run": facts["run"]}


@app.post("/work/<int:milliseconds>")
@idempotent
def work(milliseconds: int) -> tuple[Response, int, dict[str, str]]:
    """Takes a while."""
    return run(milliseconds)


@app.post("/gated")
@idempotent
def gated() -> tuple[Response, int, dict[str, str]]:
    """Runs until the test opens the gate of its key."""
    return run(0, gate_of(Path(os.environ[FOLDER]), current_claim.key).exists)


@app.post("/impatient/<int:milliseconds>")
@idempotent(timeout=0)
def impatient(milliseconds: int) -> tuple[Response, int, dict[str, str]]:
    """Takes a while; its duplicates get 409 at once."""
    return run(milliseconds)


@app.post("/hang/<int:milliseconds>")
@idempotent
def hang(milliseconds: int) -> tuple[Response, int, dict[str, str]]:
    """Hangs in a key's first run, for longer than gunicorn lets a worker hang."""
    marker = Path(os.environ[FOLDER]) / f"hung-{current_claim.key}"
    if marker.exists():
        return run(0)
    marker.touch()
    return run(milliseconds)
