"""Flask-Admin: its forms carry a key with ``form_base_class``."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_admin import Admin
from flask_admin.contrib.sqla import ModelView
from flask_admin.form import BaseForm, SecureForm
from flask_babel import Babel
from flask_sqlalchemy import SQLAlchemy

from flask_idempotent.forms import IdempotentForm
from tests.conftest import MakeApp
from tests.neighbours.client import send, summary


class KeyedForm(IdempotentForm, BaseForm):
    """A form of Flask-Admin with a key."""


class SecureKeyedForm(IdempotentForm, SecureForm):
    """A form of Flask-Admin with a key and a CSRF token."""


def admin(app: Flask, form: type, products: list[str]) -> FlaskClient:
    """A client of an application whose admin page has one table; ``products`` is what was saved."""
    app.config.update(SECRET_KEY="k", SQLALCHEMY_DATABASE_URI="sqlite:///:memory:")
    db = SQLAlchemy(app)
    # Flask-Admin asks for it where the package is installed.
    Babel(app)

    class Product(db.Model):
        id = db.Column(db.Integer, primary_key=True)
        name = db.Column(db.String(50))

    class ProductView(ModelView):
        form_base_class = form
        column_editable_list = ("name",)

        def after_model_change(self, form: object, model: Product, is_created: bool) -> None:
            products.append(model.name)

    Admin(app).add_view(ProductView(Product, db))
    with app.app_context():
        db.create_all()
    return app.test_client()


def hidden_fields(page: str) -> dict[str, str]:
    return dict(re.findall(r'name="([^"]*)" type="hidden" value="([^"]*)"', page))


def sent_twice(client: FlaskClient, path: str, name: str) -> list[tuple[int, str, bool]]:
    """Open a form and send it twice, as a double click does."""
    data = {**hidden_fields(client.get(path).text), "name": name}
    return [summary(send(client, path, key=None, data=data)) for _ in range(2)]


@pytest.mark.parametrize("form", [KeyedForm, SecureKeyedForm])
def test_double_click(make_app: MakeApp, form: type) -> None:
    """A form for a new record, or for one that is edited, is saved once for each key."""
    products: list[str] = []
    client = admin(make_app(), form, products)
    for path, name in ("new/", "mug"), ("new/", "mug"), ("edit/?id=1", "cup"):
        answers = sent_twice(client, f"/admin/product/{path}", name)
        assert [(status, again) for status, _, again in answers] == [(302, False), (302, True)]
    assert products == ["mug", "mug", "cup"]


def test_shown_again(make_app: MakeApp) -> None:
    """A form that did not validate is shown again with a new key, for the next try."""
    products: list[str] = []
    client = admin(make_app(), KeyedForm, products)
    path = "/admin/product/new/"
    first = hidden_fields(client.get(path).text)
    again = send(client, path, key=None, data={**first, "name": "x" * 51})
    assert again.status_code == 200
    fields = hidden_fields(again.text)
    assert fields["__idempotent_key"] != first["__idempotent_key"]
    assert send(client, path, key=None, data={**fields, "name": "mug"}).status_code == 302
    assert products == ["mug"]


def test_editable_list(make_app: MakeApp) -> None:
    """A field that is edited in the list is sent without a key, and saved each time."""
    products: list[str] = []
    client = admin(make_app(), KeyedForm, products)
    sent_twice(client, "/admin/product/new/", "mug")
    for _ in range(2):
        data = {"list_form_pk": "1", "name": "cup"}
        assert send(client, "/admin/product/ajax/update/", key=None, data=data).status_code == 200
    assert products == ["mug", "cup", "cup"]
