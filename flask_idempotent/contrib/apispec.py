"""apispec and flask-smorest: a plugin that describes protected operations (extra ``apispec``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from apispec import BasePlugin
except ImportError as error:  # pragma: no cover - proved by a test in a process of its own
    raise ImportError(
        "flask_idempotent.contrib.apispec needs apispec: pip install 'flask-idempotent[apispec]'"
    ) from error

from flask_idempotent.contrib.openapi import describe

if TYPE_CHECKING:
    from apispec import APISpec
    from flask import Flask


class IdempotentPlugin(BasePlugin):
    """Adds keys, replays and problems to what a specification writes.

    :param app: the application that is described; None for the current one.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._app = app

    def init_spec(self, spec: APISpec) -> None:
        """Describe the operations when the document is written, once every route is known."""
        write = spec.to_dict

        def to_dict() -> dict[str, Any]:
            return describe(write(), self._app)

        spec.to_dict = to_dict  # type: ignore[method-assign]
