"""Views that count their runs, wait at a gate, or are wrapped by others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property, wraps
from itertools import count
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from tests.support.clients import Gate, WayIn

Background = Callable[..., Future[TestResponse]]


def counting(app: Flask, way: WayIn, path: str = "/", **options: Any) -> Callable[..., str]:
    """Add a view that answers with the number of its run."""
    runs = count(1)

    @way
    def view(**arguments: object) -> str:
        return f"run {next(runs)}"

    app.add_url_rule(path, f"view {path}", view, **{"methods": ["POST"], **options})
    return view


def failing_once(app: Flask, way: WayIn, error: type[BaseException] = ValueError) -> None:
    """Add a view whose first run raises, and whose second answers."""
    runs = count(1)

    @app.post("/")
    @way
    def view() -> str:
        if next(runs) == 1:
            raise error
        return "second run"


def gated(app: Flask, way: WayIn) -> Gate:
    """Add a view whose first run stands before a gate, and which answers with its run's number."""
    gate, runs = Gate(), count(1)

    @app.post("/")
    @way
    def view() -> str:
        run = next(runs)
        if run == 1:
            gate()
        return f"run {run}"

    return gate


class LazyView:
    """The recipe of Flask's documentation, which imports a view at its first request."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    @cached_property
    def view(self) -> Any:
        return self._find()

    def __call__(self, *args: Any) -> Any:
        return self.view(*args)


def add_view(app: Flask) -> None:
    """Add a view that answers with the number of its run."""
    runs = count(1)
    app.add_url_rule("/", "view", lambda: f"run {next(runs)}", methods=["POST"])


def logged(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return wrapper
