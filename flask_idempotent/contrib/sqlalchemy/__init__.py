"""SQLAlchemy: answers are committed together with the view's rows (extra ``sqlalchemy``)."""

from __future__ import annotations

try:
    import sqlalchemy  # noqa: F401 - only to say which extra is missing
except ImportError as error:  # pragma: no cover - proved by a test in a process of its own
    raise ImportError(
        "flask_idempotent.contrib.sqlalchemy needs SQLAlchemy: "
        "pip install 'flask-idempotent[sqlalchemy]'"
    ) from error

from flask_idempotent.contrib.sqlalchemy.transaction import SQLAlchemyTransaction

__all__ = ["SQLAlchemyTransaction"]
