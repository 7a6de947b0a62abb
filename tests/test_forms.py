"""Forms: Flask-WTF's hidden tag carries a key."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask_wtf import FlaskForm
from wtforms import Form, StringField
from wtforms.validators import DataRequired

from flask_idempotent.forms import IdempotentForm
from flask_idempotent.http.keys import parse_bare
from tests.conftest import MakeApp


class OrderForm(IdempotentForm, FlaskForm):  # type: ignore[misc]
    item = StringField(validators=[DataRequired()])


class PlainForm(IdempotentForm, Form):
    item = StringField()


class Inputs(HTMLParser):
    """Collects the values of a page's input fields by name."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = dict(attrs)
        self.fields[given["name"]] = given["value"]
        self.ids[given["name"]] = given["id"]


@pytest.fixture(name="app")
def _app(make_app: MakeApp) -> Flask:
    return make_app(config={"WTF_CSRF_ENABLED": True})


def key_of(form: Any, name: str = "__idempotent_key") -> str:
    return Inputs(str(form.hidden_tag())).fields[name]


class TestIdempotentForm:
    def test_hidden_tag(self, app: Flask) -> None:
        """The hidden tag carries a valid key beside the CSRF token."""
        with app.test_request_context():
            page = Inputs(str(OrderForm().hidden_tag()))
        assert set(page.fields) == {"__idempotent_key", "csrf_token"}
        assert page.ids["__idempotent_key"] == "__idempotent_key"
        assert len(parse_bare(page.fields["__idempotent_key"], 32)) == 32

    def test_fresh_key_at_each_rendering(self, app: Flask) -> None:
        """Each rendering has a key of its own, of the same form too."""
        with app.test_request_context():
            form = OrderForm()
            keys = {key_of(form), key_of(form), key_of(OrderForm())}
        assert len(keys) == 3

    def test_fresh_key_when_shown_again(self, app: Flask) -> None:
        """A form that is shown again, such as with errors, does not carry the key that was sent."""
        data = {"__idempotent_key": "sent", "item": ""}
        with app.test_request_context(method="POST", data=data):
            form = OrderForm()
            assert not form.validate_on_submit()
            assert key_of(form) != "sent"

    def test_name_is_the_settings(self, make_app: MakeApp) -> None:
        """The field's name in the page is ``IDEMPOTENT_FIELD``."""
        app = make_app(config={"IDEMPOTENT_FIELD": "once"})
        with app.test_request_context():
            page = Inputs(str(OrderForm().hidden_tag()))
        assert "once" in page.fields
        assert "__idempotent_key" not in page.fields

    def test_prefix_is_ignored(self, app: Flask) -> None:
        """A form's prefix does not change the name of the field."""
        with app.test_request_context():
            form = OrderForm(prefix="billing")
            assert form.item.name == "billing-item"
            assert key_of(form)

    def test_populate_obj_leaves_the_object_alone(self, app: Flask) -> None:
        """``populate_obj`` does not put the key on the object."""
        order = SimpleNamespace()
        with app.test_request_context(
            method="POST", data={"__idempotent_key": "sent", "item": "tea"}
        ):
            OrderForm().populate_obj(order)
        # The CSRF token is Flask-WTF's own affair.
        assert vars(order) == {"item": "tea"}

    def test_type_is_hidden(self, app: Flask) -> None:
        """Templates that skip fields of the type HiddenField skip the key, which has its tag."""
        with app.test_request_context():
            assert OrderForm().idempotent_key.type == "HiddenField"

    def test_deleted_by_either_name(self, app: Flask) -> None:
        """The field can be deleted by its name in the form, and by its name in the page."""
        with app.test_request_context():
            for name in "idempotent_key", "__idempotent_key", "item":
                form = PlainForm()
                del form[name]
                assert set(form.data) == {"idempotent_key", "item"} - {name.strip("_")}
            with pytest.raises(KeyError):
                del form["item"]

    def test_plain_wtforms(self, app: Flask) -> None:
        """A plain WTForms form may have the field too."""
        with app.test_request_context():
            form = PlainForm()
            page = Inputs(str(form.idempotent_key()))
        assert set(page.fields) == {"__idempotent_key"}

    def test_form_is_run_once(self, app: Flask) -> None:
        """A form sent twice runs its view once, though its CSRF token differs."""
        runs = []

        @app.route("/", methods=["GET", "POST"])
        def view() -> str:
            form = OrderForm()
            if form.validate_on_submit():
                runs.append(form.item.data)
                return f"order {len(runs)}"
            return str(form.hidden_tag())

        client = app.test_client()
        data = {**Inputs(client.get("/").text).fields, "item": "tea"}
        other = Inputs(client.get("/").text).fields
        assert client.post("/", data=data).text == "order 1"
        again = client.post("/", data={**data, "csrf_token": other["csrf_token"]})
        assert (again.text, again.headers["Idempotent-Replayed"]) == ("order 1", "true")
        assert client.post("/", data={**data, **other}).text == "order 2"
        assert runs == ["tea", "tea"]


class TestMissingWTForms:
    def test_error_names_the_extra(self) -> None:
        """Without WTForms the import fails with the extra to install; the rest works."""
        program = """
            import sys

            sys.modules["wtforms"] = None
            import flask_idempotent

            try:
                import flask_idempotent.forms
            except ImportError as error:
                print(error)
        """
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
            timeout=30,
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout == (
            "flask_idempotent.forms needs WTForms: pip install 'flask-idempotent[forms]'\n"
        )
