"""A view that refuses some orders, and clients that correct them."""

from __future__ import annotations

from itertools import count
from typing import Any

from flask import Flask, request

from flask_idempotent import current_claim
from tests.support.clients import WayIn, post


def validating(app: Flask, way: WayIn) -> None:
    """Add a view that takes an amount, and refuses what is not one with the form's ``status``."""
    runs = count(1)

    @app.route("/orders/<int:customer>", methods=["POST", "PUT"])
    @way
    def view(customer: int) -> tuple[str, int]:
        run, amount = next(runs), request.form["amount"]
        if amount.isdecimal():
            return f"run {run}: {amount}, attempt {current_claim.attempt}", 201
        return f"run {run}: no amount", int(request.form.get("status", 422))


def order(app: Flask, amount: str, *, path: str = "/orders/1", **options: Any) -> Any:
    status = options.pop("status", "422")
    return post(app, path=path, data={"amount": amount, "status": status}, **options)
