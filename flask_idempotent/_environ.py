"""The names of the library's entries in a request's WSGI environment."""

from __future__ import annotations

from typing import Final

#: The stream that tracks what is read of the body; other streams may wrap it in ``wsgi.input``.
TRACKED_INPUT: Final = "flask_idempotent.input"
#: The claims of this request and of those that made it from a copy of their environments.
CLAIMS: Final = "flask_idempotent.claims"
#: Set while a decorated function runs.
IN_DECORATED: Final = "flask_idempotent.inside"
#: The error that the application's error handlers have already received, or have raised.
HANDLED_ERROR: Final = "flask_idempotent.handled_error"
