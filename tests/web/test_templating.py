"""Templates: a fresh key for each form, and nothing that breaks out of its field."""

from __future__ import annotations

import random
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask, Response, make_response, render_template_string
from markupsafe import Markup
from wtforms import Form

from flask_idempotent import Idempotent, SettingsError, idempotent
from flask_idempotent.forms import IdempotentForm
from flask_idempotent.http.keys import parse_bare
from flask_idempotent.web.templating import field_name, hidden_input, new_key
from tests.conftest import MakeApp
from tests.support.clients import post

MACRO = '{% from "idempotent/macros.html" import idempotent_input %}{{ idempotent_input() }}'
MACRO_WITH = MACRO.replace("input %}", "input with context %}")
SCRIPT = "{{ idempotent_script(nonce=nonce) }}"
SCRIPT_MACRO = '{% from "idempotent/macros.html" import idempotent_script %}' + SCRIPT


class OrderForm(IdempotentForm, Form):
    """A form with a key."""


class Inputs(HTMLParser):
    """Collects the input fields of a page, the attributes of its script, and all other tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: list[dict[str, str | None]] = []
        self.script: dict[str, str | None] = {}
        self.others: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "input":
            self.fields.append(dict(attrs))
        elif tag == "script":
            self.script = dict(attrs)
        else:
            self.others.append(tag)


def make(**config: Any) -> Flask:
    app = Flask("templates")
    app.config.update(REDIS_URL="memory://", **config)
    Idempotent(app)
    return app


class TestNewKey:
    def test_can_be_sent_anywhere(self) -> None:
        """A fresh key is a valid key in header, form and query."""
        key = new_key()
        assert parse_bare(key, 32) == key

    def test_never_twice(self) -> None:
        """No two keys are the same."""
        assert len({new_key() for _ in range(1000)}) == 1000

    def test_nobody_can_guess_it(self) -> None:
        """A key has 128 random bits, and not those of a generator that can be computed."""
        keys = []
        for _ in range(2):
            random.seed(7)
            keys.append(new_key())
        assert [len(bytes.fromhex(key)) for key in keys] == [16, 16]
        assert keys[0] != keys[1]


class TestFieldName:
    def test_of_the_extension(self) -> None:
        """The field has the application's name."""
        with make(IDEMPOTENT_FIELD="once").app_context():
            assert field_name() == "once"

    def test_without_the_extension(self) -> None:
        """It is there for an application with decorated views alone."""
        app = Flask("decorated")
        app.config["REDIS_URL"] = "memory://"
        app.add_url_rule("/", view_func=idempotent(lambda: ""))
        with app.app_context():
            assert field_name() == "__idempotent_key"


class TestHiddenInput:
    def test_field(self) -> None:
        """The field is hidden and carries name and key."""
        with make().app_context():
            field = hidden_input("k")
        assert field == '<input type="hidden" name="__idempotent_key" value="k">'
        assert isinstance(field, Markup)

    @pytest.mark.parametrize("evil", ['"><script>', "'><b>", "&quot;", '" onload="x', "{}{0}"])
    def test_e5_escaping(self, evil: str) -> None:
        """Neither a key nor a name can break out of its attribute."""
        with make(IDEMPOTENT_FIELD=evil).app_context():
            page = Inputs(hidden_input(evil))
        assert page.fields == [{"type": "hidden", "name": evil, "value": evil}]
        assert page.others == []


class TestTemplates:
    @pytest.mark.parametrize(
        "template",
        [
            pytest.param("{{ idempotent_input() }}", id="function"),
            pytest.param(MACRO, id="macro"),
            pytest.param(MACRO_WITH, id="macro-with-context"),
        ],
    )
    def test_input(self, template: str) -> None:
        """A template writes the field, unescaped, with a key of its own at each rendering."""
        app = make(IDEMPOTENT_FIELD="once")
        with app.test_request_context():
            pages = [Inputs(render_template_string(template)) for _ in range(2)]
        (one,), (other,) = (page.fields for page in pages)
        assert one["type"] == other["type"] == "hidden"
        assert one["name"] == other["name"] == "once"
        assert one["value"] != other["value"]
        assert len(str(one["value"])) == 32

    def test_key(self) -> None:
        """A template may write the key alone, say for a script."""
        with make().test_request_context():
            one, other = (render_template_string("{{ idempotent_key() }}") for _ in range(2))
        assert one != other
        assert len(one) == 32

    def test_two_forms_of_one_page(self) -> None:
        """Two forms of one page have two keys."""
        with make().test_request_context():
            page = Inputs(render_template_string("{{ idempotent_input() }}" * 2))
        assert len({field["value"] for field in page.fields}) == 2


class TestScript:
    """The script that replaces keys: what a page has of it. Its own tests run it in a browser."""

    @pytest.mark.parametrize("template", [SCRIPT, SCRIPT_MACRO])
    def test_tag(self, template: str) -> None:
        """The tag names a file, which anybody may fetch, and the form's field."""
        app = make(IDEMPOTENT_FIELD='a"b', APPLICATION_ROOT="/shop")
        with app.test_request_context():
            tag = Inputs(render_template_string(template))
        assert tag.script == {
            "src": "/shop/_idempotent/idempotent.js", "data-field": 'a"b', "defer": None
        }  # fmt: skip
        file = app.test_client().get("/_idempotent/idempotent.js", buffered=True)
        assert (file.status_code, file.mimetype) == (200, "text/javascript")
        assert "data-field" not in file.text

    @pytest.mark.parametrize("template", [SCRIPT, SCRIPT_MACRO])
    def test_e5_nonce(self, template: str) -> None:
        """The nonce of a policy stands in the tag, and cannot break out of it."""
        with make().test_request_context():
            tag = Inputs(render_template_string(template, nonce='n"><b>'))
        assert tag.script["nonce"] == 'n"><b>'
        assert tag.others == []

    def test_any_host(self) -> None:
        """An application that matches hosts has no address for all of them: the text is inline."""
        app = Flask("hosts", host_matching=True, static_folder=None)
        app.config["REDIS_URL"] = "memory://"
        Idempotent(app)
        with app.test_request_context(base_url="http://shop.example"):
            page = render_template_string(SCRIPT, nonce="n")
        assert Inputs(page).script == {"data-field": "__idempotent_key", "nonce": "n"}
        assert "replaceKey(input)" in page
        assert page.count("</script>") == 1

    def test_without_a_field(self) -> None:
        """Without a field there is no key to replace, and the error says so."""
        app = make(IDEMPOTENT_FIELD=None)
        with app.test_request_context(), pytest.raises(SettingsError, match="idempotent_script"):
            render_template_string(SCRIPT)

    def test_protects_nothing(self) -> None:
        """A page with the script alone may be kept by caches, and its file is never tracked."""
        app = make(IDEMPOTENT_METHODS=("GET", "POST"), IDEMPOTENT_REQUIRED=True)
        app.add_url_rule("/", view_func=idempotent.exempt(lambda: render_template_string(SCRIPT)))
        client = app.test_client()
        assert "Cache-Control" not in client.get("/").headers
        assert client.get("/_idempotent/idempotent.js", buffered=True).status_code == 200


class TestCaches:
    """A page with a key is kept by no cache."""

    @pytest.fixture(params=["app-wide", "decorated"])
    def app(self, request: pytest.FixtureRequest, make_app: MakeApp) -> Flask:
        """Its pages have a key, in a template or in a form, or none."""
        wide = request.param == "app-wide"
        app = make_app(wide=wide)
        protect = (lambda view: view) if wide else idempotent

        @app.route("/form", methods=["GET", "POST"])
        @protect
        def form() -> str:
            return str(OrderForm().idempotent_key())

        @app.get("/script")
        def script() -> str:
            return f"send({new_key()!r})"

        @app.route("/own", methods=["GET", "POST"])
        @protect
        def own() -> Response:
            response = make_response(str(OrderForm().idempotent_key()))
            response.cache_control.max_age = 60
            return response

        @app.route("/none", methods=["GET", "POST"])
        @protect
        def none() -> str:
            OrderForm()
            return "no form"

        @app.get("/fails")
        def fails() -> str:
            raise ValueError("no order")

        @app.errorhandler(ValueError)
        def again(_: ValueError) -> str:
            return str(OrderForm().idempotent_key())

        return app

    @pytest.mark.parametrize("path", ["/form", "/script", "/fails"])
    def test_page_with_a_key(self, app: Flask, path: str) -> None:
        """It asks not to be kept, and does not touch the session."""
        page = app.test_client().get(path)
        assert page.headers.getlist("Cache-Control") == ["private, no-store"]
        assert not {"Vary", "Set-Cookie"} & set(page.headers)

    @pytest.mark.parametrize(("path", "header"), [("/own", "max-age=60"), ("/none", None)])
    def test_other_pages(self, app: Flask, path: str, header: str | None) -> None:
        """A view's own word counts, and a page without a key is left alone."""
        client = app.test_client()
        assert client.get("/form").headers["Cache-Control"]
        assert client.get(path).headers.get("Cache-Control") == header

    @pytest.mark.parametrize(
        ("path", "header"),
        [("/form", "private, no-store"), ("/own", "max-age=60"), ("/none", None)],
    )
    def test_replay(self, app: Flask, path: str, header: str | None) -> None:
        """A replay asks for what the first response asked for."""
        answers = [post(app, "k", path) for _ in "12"]
        assert answers[1].headers["Idempotent-Replayed"] == "true"
        assert [answer.headers.get("Cache-Control") for answer in answers] == [header, header]

    def test_functions_of_templates(self, make_app: MakeApp) -> None:
        """Both functions and the macro count, however often a page has them."""
        app = make_app()
        app.add_url_rule("/<path:page>", view_func=lambda page: render_template_string(page))
        for template in ("{{ idempotent_input() }}" * 2, "{{ idempotent_key() }}", MACRO):
            page = app.test_client().get(f"/{quote(template)}")
            assert page.headers.getlist("Cache-Control") == ["private, no-store"], template

    def test_outside_a_request(self, make_app: MakeApp) -> None:
        """A key that is made elsewhere, such as for a mail, is a key all the same."""
        with make_app().app_context():
            assert len(render_template_string("{{ idempotent_key() }}")) == 32
