"""The answers that the databases of an application's transactions keep."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from flask_idempotent.engine.transactions import InspectableTransaction
from flask_idempotent.policy import protected_routes
from flask_idempotent.web.state import state_of

if TYPE_CHECKING:
    from flask import Flask


def transactions_of(app: Flask) -> list[InspectableTransaction]:
    """The transactions of an application's views whose answers can be deleted, each once."""
    settings = [state_of(app).settings(), *(route.settings for route in protected_routes(app))]
    transactions = dict.fromkeys(each.transaction for each in settings)
    return [each for each in transactions if isinstance(each, InspectableTransaction)]


def has_answer(app: Flask, storage_key: str) -> bool:
    """Whether a database has an answer of a key that has not expired.

    :raises DatabaseUnavailable: when a database does not answer.
    """
    answers = (each.look_up(storage_key) for each in transactions_of(app))
    return any(answer is not None and answer.ttl_ms > 0 for answer in answers)


def delete_answers(app: Flask, storage_keys: Iterable[str]) -> None:
    """Delete the answers of keys in every database: only one of them can have any.

    :raises DatabaseUnavailable: when a database does not answer.
    """
    storage_keys = list(storage_keys)
    for transaction in transactions_of(app):
        transaction.delete(storage_keys)


def delete_all_answers(app: Flask, prefix: str, *, keep: Collection[str]) -> None:
    """Delete the answers of all keys whose names begin with a prefix, in every database.

    :param keep: the keys whose answers stay.
    :raises DatabaseUnavailable: when a database does not answer.
    """
    for transaction in transactions_of(app):
        transaction.delete_all(prefix, keep=keep)
