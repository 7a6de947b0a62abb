"""What differs between Flask's versions where a test calls what only Flask itself calls."""

from __future__ import annotations

import inspect
from typing import Any

from flask import Flask


def call_in_context(app: Flask, method: str, context: object, *arguments: object) -> Any:
    """Call a method of an application that takes the request's context from Flask 3.2 on."""
    takes_context = "ctx" in inspect.signature(getattr(Flask, method)).parameters
    return getattr(app, method)(*([context] if takes_context else []), *arguments)
