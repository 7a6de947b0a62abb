"""The application of ``app.py`` with a view of three steps, which call services that keep count.

The path of a request names points, separated by commas, and the worker kills itself the first time
that a request with its key reaches one of them. There is a point before and after each command that
is sent to the store: ``before-claim``, ``after-begin-pay``, ``before-end-charge`` and so on. Where
the path names a number instead, each service takes this many milliseconds to answer.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from flask import has_request_context, request

from flask_idempotent import Crash, current_claim, idempotent, step
from flask_idempotent.stores.base import Step, StepResult
from flask_idempotent.web.state import state_of
from tests.chaos.app import app, run
from tests.chaos.notes import FOLDER, note, read_notes

#: The methods of the store that send a command while a view with steps is served.
COMMANDS = ("claim", "contend", "read_steps", "write_step", "complete", "release")


def reach(point: str) -> None:
    """Kill this process, where the request asks for it and no other try of it was here."""
    points = (request.view_args or {}).get("points", "") if has_request_context() else ""
    if point not in points.split(","):
        return
    key = request.headers["Idempotency-Key"]
    try:
        (Path(os.environ[FOLDER]) / f"killed-{key}-{point}").touch(exist_ok=False)
    except FileExistsError:
        return
    note("kill", kind="services", key=key, point=point)
    os.kill(os.getpid(), signal.SIGKILL)


def mortal(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method of the store, so that the worker may die before and after its command."""

    @wraps(method)
    def wrapped(storage_key: str, *arguments: Any, **options: Any) -> Any:
        written = arguments[1] if method.__name__ == "write_step" else None
        name = method.__name__ if written is None else _name_of(written)
        reach(f"before-{name}")
        result = method(storage_key, *arguments, **options)
        if result is StepResult.WRITTEN and written.value is not None:
            key = request.headers["Idempotency-Key"]
            note("recorded", kind="services", key=key, step=written.name)
        reach(f"after-{name}")
        return result

    return wrapped


def _name_of(written: Step) -> str:
    return f"{'begin' if written.value is None else 'end'}-{written.name}"


@app.before_request
def _use_mortal_store() -> None:
    """Let the store of this process reach a point before and after each command."""
    store = state_of(app).engine.store
    if "claim" not in vars(store):
        for name in COMMANDS:
            setattr(store, name, mortal(getattr(store, name)))


def call_service(name: str, reference: str = "") -> dict[str, str]:
    """Call a service, which notes each call: nothing that it did is lost with this process."""
    note("call", kind="services", key=current_claim.key, step=name, reference=reference)
    points = (request.view_args or {})["points"]
    time.sleep(int(points) / 1000 if points.isdigit() else 0)
    return {"step": name}


def ask_service(crash: Crash) -> Any:
    """Decide after a crash: the service that takes no keys can be asked what it has done."""
    note("asked", kind="services", key=crash.key, steps=dict(crash.steps))
    if crash.steps.get("pay") != "started":
        return "rerun"
    has_paid = any(
        (note["event"], note["key"], note.get("step")) == ("call", crash.key, "pay")
        for note in read_notes(Path(os.environ[FOLDER]), "services")
    )
    return ({"step": "pay"}, 201) if has_paid else "rerun"


def take_three_steps() -> tuple[Any, int]:
    """Reserve, charge with a key for the service, and pay without one."""
    run(0)
    note("run", kind="services", key=current_claim.key)
    step("reserve", call_service, "reserve")
    step("charge", call_service, "charge", current_claim.key_for("charge"))
    return step("pay", call_service, "pay", once=True), 201


@app.post("/asked/<points>")
@idempotent(on_crash=ask_service)
def asked(points: str) -> tuple[Any, int]:
    """Three steps; a function decides about what is unknown."""
    return take_three_steps()


@app.post("/unknown/<points>")
@idempotent
def unknown(points: str) -> tuple[Any, int]:
    """Three steps; what is unknown stays so."""
    return take_three_steps()
