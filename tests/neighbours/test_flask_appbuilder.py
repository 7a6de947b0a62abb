"""Flask-AppBuilder: its forms carry a key as an extra field."""

from __future__ import annotations

import re
import warnings

import pytest
from flask import Flask
from sqlalchemy import Column, Integer, String

from flask_idempotent.forms import IdempotentKeyField
from tests.conftest import MakeApp
from tests.neighbours.client import send, summary

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from flask_appbuilder import AppBuilder, Model, ModelView
    from flask_appbuilder.models.sqla.base import SQLA
    from flask_appbuilder.models.sqla.interface import SQLAInterface

# Flask-AppBuilder 5.3 uses what Python 3.12 and SQLAlchemy 2 have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Product(Model):
    """A table of an application."""

    __tablename__ = "product"
    id = Column(Integer, primary_key=True)
    name = Column(String(50))


class ProductView(ModelView):
    """Its pages."""

    datamodel = SQLAInterface(Product)
    add_form_extra_fields = edit_form_extra_fields = {"idempotent_key": IdempotentKeyField()}  # noqa: RUF012
    add_columns = edit_columns = ["name", "idempotent_key"]  # noqa: RUF012


class Admin:
    """An application with Flask-AppBuilder, and a client that is logged in."""

    def __init__(self, app: Flask) -> None:
        app.config.update(SECRET_KEY="k", SQLALCHEMY_DATABASE_URI="sqlite:///:memory:")
        app.config.update(FAB_PASSWORD_HASH_METHOD="pbkdf2:sha1:1", WTF_CSRF_ENABLED=True)
        self.db = SQLA(app)
        with app.app_context():
            builder = AppBuilder(app, self.db.session)
            builder.add_view(ProductView, "Products")
            role = builder.sm.find_role("Admin")
            builder.sm.add_user("ada", "Ada", "L", "ada@shop.example", role, "password")
        self._app, self.client = app, app.test_client()
        data = {"username": "ada", "password": "password"}
        self.client.post("/login/", data={**self.hidden_fields("/login/"), **data})

    def hidden_fields(self, path: str) -> dict[str, str]:
        page = self.client.get(path).text
        fields = re.findall(r'name="([^"]*)" type="hidden" value="([^"]*)"', page)
        assert len(fields) == len(dict(fields)), "each field is there once"
        return dict(fields)

    def products(self) -> list[str]:
        with self._app.app_context():
            return [name for (name,) in self.db.session.query(Product.name)]


def test_double_click(make_app: MakeApp) -> None:
    """A form for a new record, or for one that is edited, is saved once for each key."""
    admin = Admin(make_app())
    for path, name, saved in (
        ("add", "mug", ["mug"]), ("add", "mug", ["mug", "mug"]), ("edit/1", "cup", ["cup", "mug"])
    ):  # fmt: skip
        path = f"/productview/{path}"
        data = {**admin.hidden_fields(path), "name": name}
        assert "__idempotent_key" in data
        answers = [summary(send(admin.client, path, key=None, data=data)) for _ in range(2)]
        assert [(status, again) for status, _, again in answers] == [(302, False), (302, True)]
        assert admin.products() == saved
