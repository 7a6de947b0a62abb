"""Celery: a task that is published by two runs of a view has one id."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, Task
from flask import request

from flask_idempotent import OutsideRequest, current_claim, idempotent
from tests.neighbours.client import send
from tests.support.clients import WayIn


@pytest.fixture
def celery() -> Celery:
    """Its tasks run when they are published, in this process."""
    celery = Celery("shop", broker="memory://", backend="cache+memory://")
    celery.conf.update(task_always_eager=True, task_eager_propagates=True)
    return celery


def test_id_of_a_second_run(way: WayIn, celery: Celery) -> None:
    """A view that published a task and failed publishes it under the same id when it runs again."""
    published: list[str] = []
    failures = [ConnectionError("the database is away")]

    @celery.task(bind=True)
    def send_receipt(self: Task[Any, Any], product: str) -> None:
        published.append(f"{self.request.id} {product}")

    app = way.app()
    app.testing = False

    @app.post("/")
    @way
    def create_order() -> str:
        product = request.form["product"]
        send_receipt.apply_async([product], task_id=current_claim.key_for("send_receipt"))
        if failures:
            raise failures.pop()
        return "ordered"

    client = app.test_client()
    for data, key, status in (
        ({"product": "mug"}, "a", 500), ({"product": "mug"}, "a", 200),
        ({"product": "mug"}, "a", 200), ({"product": "mug"}, "b", 200),
    ):  # fmt: skip
        assert send(client, key=key, data=data).status_code == status
    first, second, other = published
    assert first == second != other


def test_decorated_function_in_a_task(celery: Celery) -> None:
    """A task has no request: a decorated function says so, and ``__wrapped__`` is what to call."""

    @idempotent
    def order(product: str) -> str:
        return f"ordered {product}"

    called = celery.task(order, name="called")
    with pytest.raises(OutsideRequest):
        called.delay("mug")
    wrapped = celery.task(order.__wrapped__, name="wrapped")
    assert wrapped.delay("mug").get() == "ordered mug"
