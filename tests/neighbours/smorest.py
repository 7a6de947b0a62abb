"""A shop of flask-smorest."""

from __future__ import annotations

from itertools import count
from typing import Any

import marshmallow as ma
from flask import Flask
from flask_smorest import Api, Blueprint, abort

DOCUMENT = {"API_TITLE": "Shop", "API_VERSION": "1", "OPENAPI_VERSION": "3.0.3"}


class OrderIn(ma.Schema):
    """What a client sends."""

    product = ma.fields.String(required=True)


class OrderOut(ma.Schema):
    """What a client may see."""

    run = ma.fields.Integer()
    product = ma.fields.String()


def served(app: Flask, blueprint: Blueprint) -> Api:
    api = Api(app)
    api.register_blueprint(blueprint)
    return api


def order(runs: count[int], product: str) -> dict[str, Any]:
    if product == "gone":
        abort(410, message=f"run {next(runs)}")
    return {"run": next(runs), "product": product, "secret": "cost price"}
