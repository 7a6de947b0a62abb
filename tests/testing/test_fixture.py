"""The fixture: its store, its clock, its crashes, and the applications it gives back."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flask import Flask

from flask_idempotent import idempotent
from flask_idempotent.testing import Idempotency, assert_idempotent
from flask_idempotent.web.state import EXTENSION_KEY, state_of
from tests.testing.apps import app_with, wide

pytest_plugins = ["pytester"]

SUITE = """
    import pytest
    from flask import Flask

    from flask_idempotent import idempotent

    @pytest.fixture(scope="session")
    def app():
        app = Flask("shop")
        app.add_url_rule("/good", "good", idempotent(lambda: "good"), methods=["POST"])
        app.add_url_rule("/bad", "bad", lambda: "bad", methods=["POST"])
        return app

    def test_good(app, idempotency):
        idempotency.assert_idempotent(app.test_client(), "POST", "/good")

    def test_bad(app, idempotency):
        idempotency.assert_idempotent(app.test_client(), "POST", "/bad")

    def test_given_back(app):
        assert not app.extensions["idempotent"].has_engine
"""


@pytest.fixture(name="app")
def _app() -> Flask:
    return app_with()


def post(app: Flask, key: str = "a") -> tuple[int, object]:
    answer = app.test_client().post("/orders", headers={"Idempotency-Key": key})
    return answer.status_code, answer.get_json()


class TestPlugin:
    def test_in_a_suite_of_its_own(self, pytester: pytest.Pytester) -> None:
        """The fixture is there by itself; a failure shows the user's line and the reason."""
        pytester.makepyfile(SUITE)
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
        result.assert_outcomes(passed=2, failed=1)
        result.stdout.fnmatch_lines(
            [
                '>*idempotency.assert_idempotent(app.test_client(), "POST", "/bad")',
                "E*flask_idempotent.testing.NotIdempotent: POST /bad: the view is not protected*",
            ]
        )
        result.stdout.no_fnmatch_line("*trials.py*")

    def test_is_light(self) -> None:
        """Loading the plugin, as every run of pytest does, imports neither Flask nor the package.

        Else what a suite imports itself would come too late for its coverage.
        """
        code = (
            "import sys, _flask_idempotent_pytest; "
            "sys.exit(not {'flask', 'flask_idempotent'}.isdisjoint(sys.modules))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_another_kind_of_app(self, pytester: pytest.Pytester) -> None:
        """Where the fixture ``app`` is not a Flask application, the client's is used."""
        suite = SUITE.replace("return app\n", "return [app]\n")
        suite = suite.replace("(app.", "(app[0].").replace(" app.ext", " app[0].ext")
        pytester.makepyfile(suite)
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
        result.assert_outcomes(passed=2, failed=1)

    def test_uses_the_app_fixture(self, app: Flask, idempotency: Idempotency) -> None:
        """The application of the fixture ``app`` works without a server at once."""
        assert [post(app) for _ in "12"] == [(201, {"run": 1})] * 2


class TestUse:
    def test_several_applications(self) -> None:
        """Each application has a store of its own, even under one name, and one clock."""
        apps = [app_with(expire=60), app_with(expire=60)]
        with Idempotency() as found:
            for app in apps:
                found.use(app)
                assert post(app) == (201, {"run": 1})
            found.clock.advance(60)
            assert [post(app)[1] for app in apps] == [{"run": 2}] * 2

    def test_gives_the_former_store_back(self, idempotency: Idempotency) -> None:
        """A session's application gets the store back that it had, with its records."""
        app = wide(lambda: "ran")
        app.config["REDIS_URL"] = "memory://"
        before = state_of(app).engine
        for _ in "12":
            with Idempotency() as found:
                found.use(app)
                assert post(app)[0] == 200
                assert state_of(app).engine is not before
        assert state_of(app).engine is before
        before.close()

    def test_something_else(self) -> None:
        """Anything but an application is an error that says what was expected."""
        with Idempotency() as found, pytest.raises(TypeError, match="a Flask application, not on"):
            found.use("shop")  # type: ignore[arg-type]


class TestCrash:
    def test_its_owner_is_dead(self, app: Flask, idempotency: Idempotency) -> None:
        """What ran in the block is in progress until its lease ends, then the view runs again."""
        with idempotency.crash():
            assert post(app) == (201, {"run": 1})
        (key,) = state_of(app).engine.store.scan("")
        record = state_of(app).engine.store.read(key)
        assert record is not None
        assert not hasattr(record, "body")
        idempotency.clock.advance(30)
        assert [post(app) for _ in "12"] == [(201, {"run": 2})] * 2

    def test_of_nobody(self) -> None:
        """Where no application is in use the block would do nothing: a clear error."""
        with Idempotency() as found, pytest.raises(ValueError, match="name it first"):
            found.crash().__enter__()

    def test_a_failing_view_too(self, idempotency: Idempotency) -> None:
        """A dead owner releases nothing."""
        app = app_with(lambda: ("no", 500))
        idempotency.use(app)
        with idempotency.crash():
            post(app)
        assert len(list(state_of(app).engine.store.scan(""))) == 1


class TestFunction:
    def test_without_pytest(self) -> None:
        """The function does the same on a store of its own, and returns the first answer."""
        app = app_with()
        answer = assert_idempotent(app.test_client(), "post", "/orders", json={"a": 1})
        assert (answer.status_code, answer.json) == (201, {"run": 1})
        assert not app.extensions[EXTENSION_KEY].has_engine

    def test_another_client(self) -> None:
        """A client of another kind is an error that says which is meant."""
        with pytest.raises(TypeError, match=r"must come from app\.test_client\(\)"):
            assert_idempotent("client", "POST", "/")  # type: ignore[arg-type]

    def test_an_error_of_the_view_rises(self) -> None:
        """With ``app.testing`` what the view raises is what the test shows."""

        @idempotent
        def view() -> str:
            raise LookupError("the view's own")

        with pytest.raises(LookupError, match="the view's own"):
            assert_idempotent(app_with(view).test_client(), "POST", "/orders")
