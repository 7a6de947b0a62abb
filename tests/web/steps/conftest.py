"""Fixtures of the tests of ``step()``: applications whose store fails as a test says."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_idempotent import LeaseLost, StepUnknown
from flask_idempotent.errors import RecordUnreadable, StoreUnavailable
from tests.conftest import MakeApp
from tests.support.clients import WayIn
from tests.support.faulty_store import FaultyStore
from tests.support.stepped import SteppedOrders, Work, never


@pytest.fixture(params=["decorated", "app-wide", "both"])
def orders(request: pytest.FixtureRequest, make_app: MakeApp) -> SteppedOrders:
    """A view of three steps, whose application handles every error."""
    orders = SteppedOrders(WayIn(request.param, make_app))
    for error in (LeaseLost, StepUnknown, StoreUnavailable, RecordUnreadable):
        orders.app.register_error_handler(error, never)
    return orders


@pytest.fixture
def app(make_app: MakeApp, store: FaultyStore) -> Flask:
    """An application that is protected as a whole."""
    return make_app(store=store, timeout=0, lease=30)


@pytest.fixture
def work() -> Work:
    return Work()
