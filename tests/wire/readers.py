"""Applications that read a body before the library does; a header of the request says how.

Each has two views, and below ``/bare`` a twin of each that the library leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, jsonify, request

from flask_idempotent import Idempotent, idempotent

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

View = Callable[[str], Any]


def read_files(current: Request, size: int) -> None:
    for file in current.files.values():
        file.read(size)


READERS: dict[str, Callable[[Request], object]] = {
    "uncached": lambda current: current.get_data(cache=False),
    "stream": lambda current: current.stream.read(),
    "peek": lambda current: current.stream.read(4),
    "json": lambda current: current.get_json(silent=True),
    "form": lambda current: current.form,
    "files": partial(read_files, size=-1),
    "file-peek": partial(read_files, size=8),
    "values-uncached": lambda current: (current.values, current.get_data(cache=False)),
}


def read() -> None:
    READERS[request.headers["X-Reader"]](request)


def find_key(current: Request) -> str | None:
    READERS[current.headers["X-Reader"]](current)
    return current.headers.get("Idempotency-Key")


def form(case: str) -> Any:
    files = [file.read().hex() for file in request.files.values()]
    return jsonify(list(request.form.items(multi=True)), files, request.get_data().hex())


def stream(case: str) -> Any:
    return jsonify(request.stream.read().hex())


def plain(view: View) -> View:
    return view


def reading(view: View) -> View:
    """Put a decorator above a view that reads the body before it calls the view."""

    def above(case: str) -> Any:
        read()
        return view(case)

    return above


def add_views(
    app: Flask, protect: Callable[[View], View], above: Callable[[View], View] = plain
) -> Flask:
    leave = plain if protect is not plain else idempotent.exempt
    for view in (form, stream):
        # A function of its own for each: one may not be decorated here and bare there.
        for prefix, decorate in (("/", protect), ("/bare/", leave)):
            rule, function = f"{prefix}{view.__name__}/<case>", above(decorate(partial(view)))
            app.add_url_rule(rule, rule, function, methods=["POST"])
    return app


def reading_apps(make_app: Callable[[Callable[[], None] | None], Flask]) -> dict[str, Flask]:
    """Make an application for each place to read in, and each way to protect its views.

    :param make_app: is given a ``before_request`` function or None.
    """
    apps = {
        "/before-request": add_views(make_app(read), plain),
        "/before-request/decorated": add_views(make_app(read), idempotent),
        "/above": add_views(make_app(None), idempotent, reading),
        "/key": add_views(make_app(None), plain),
        "/key/decorated": add_views(make_app(None), idempotent(key=find_key)),
    }
    Idempotent(apps["/before-request"])
    Idempotent(apps["/key"], key=find_key)
    return apps


def taking(app: WSGIApplication) -> WSGIApplication:
    """Put a middleware before an application that reads from a body and does not put it back."""

    def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        size = environ["HTTP_X_TAKE"]
        if size == "all":
            ends = "wsgi.input_terminated" in environ
            size = -1 if ends else environ["CONTENT_LENGTH"]
        environ["wsgi.input"].read(int(size))
        return app(environ, start_response)

    return middleware


def taking_apps(make_app: Callable[[None], Flask]) -> dict[str, WSGIApplication]:
    """Make an application for each way to protect its views, behind such a middleware."""
    wide, decorated = add_views(make_app(None), plain), add_views(make_app(None), idempotent)
    Idempotent(wide)
    return {"/taken": taking(wide), "/taken/decorated": taking(decorated)}
