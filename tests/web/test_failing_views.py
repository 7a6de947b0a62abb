"""Views that fail, responses that are not stored, and runs that died."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import count
from typing import Any

import pytest
from flask import (
    Blueprint,
    Response,
    abort,
)

from flask_idempotent.records import CompletedRecord
from tests.support.clients import WayIn, post, problem
from tests.support.faulty_store import FaultyStore, fail
from tests.support.polling import until
from tests.support.views import counting, failing_once


class TestFailingView:
    @pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
    @pytest.mark.parametrize("config", [{}, {"TESTING": True}, {"PROPAGATE_EXCEPTIONS": True}])
    def test_unhandled_exception_releases(
        self, way: WayIn, config: dict[str, Any], error: type[BaseException]
    ) -> None:
        """An exception that leaves the view goes on rising, and the next request runs."""
        app = way.app(config=config)
        failing_once(app, way, error)

        if config or not issubclass(error, Exception):
            with pytest.raises(error):
                post(app)
        else:
            assert post(app).status_code == 500
        assert [post(app).text for _ in range(2)] == ["second run"] * 2

    def test_no_answer_releases(self, way: WayIn) -> None:
        """A view that answers with nothing has failed: the next request runs."""
        app, runs = way.app(), count(1)

        @app.post("/")
        @way
        def view() -> Any:
            return None if next(runs) == 1 else "second run"

        assert post(app).status_code == 500
        assert post(app).text == "second run"

    def test_c4_handled_exception_is_stored(self, way: WayIn) -> None:
        """C4: what an error handler makes of an exception is the view's answer, and is replayed."""
        app, runs = way.app(), count(1)

        @app.errorhandler(ValueError)
        def no_stock(error: ValueError) -> tuple[str, int]:
            return f"no stock, run {next(runs)}", 422

        @app.post("/")
        @way
        def view() -> str:
            raise ValueError

        answers = [post(app) for _ in range(2)]
        assert [(a.status_code, a.text) for a in answers] == [(422, "no stock, run 1")] * 2

    def test_c4_blueprints_handler(self, way: WayIn) -> None:
        """C4: the handler of the view's own blueprint comes first, as without the library."""
        app = way.app()
        blueprint = Blueprint("shop", "shop")
        app.register_error_handler(ValueError, lambda error: ("the app's", 400))
        blueprint.register_error_handler(ValueError, lambda error: ("the blueprint's", 400))

        @blueprint.post("/")
        @way
        def view() -> str:
            raise ValueError

        app.register_blueprint(blueprint)
        assert [post(app).text for _ in range(2)] == ["the blueprint's"] * 2

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
    def test_c4_handled_exception_is_released(self, way: WayIn, status: int) -> None:
        """C4: an error handler's answer that ``store_if`` refuses is released; the next runs."""
        app, runs = way.app(), count(1)
        app.register_error_handler(ValueError, lambda error: (f"run {next(runs)}", status))

        @app.post("/")
        @way
        def view() -> str:
            raise ValueError

        assert [post(app).text for _ in range(2)] == ["run 1", "run 2"]

    @pytest.mark.parametrize(
        ("status", "runs"), [(400, 1), (404, 1), (409, 1), (422, 1), (429, 2), (500, 2), (503, 2)]
    )
    def test_c4_abort(self, way: WayIn, status: int, runs: int) -> None:
        """C4: an error that the view aborts with is its answer, stored or released by status."""
        app, ran = way.app(), count(1)

        @app.post("/")
        @way
        def view() -> str:
            abort(status, f"run {next(ran)}")

        answers = [post(app) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [status] * 2
        assert f"run {runs}" in answers[1].text

    def test_c4_abort_with_a_response(self, way: WayIn) -> None:
        """C4: a whole response to abort with is an answer like any."""
        app, ran = way.app(), count(1)

        @app.post("/")
        @way
        def view() -> str:
            abort(Response(f"run {next(ran)}", 402))

        assert [(post(app).status_code, post(app).text) for _ in range(2)] == [(402, "run 1")] * 2

    def test_handler_of_500_does_not_store(self, way: WayIn) -> None:
        """An exception that only the handler of 500 sees is unhandled: the next request runs."""
        app = way.app()
        app.register_error_handler(500, lambda error: ("sorry", 200))
        failing_once(app, way)

        assert [post(app).text for _ in range(2)] == ["sorry", "second run"]

    def test_failing_error_handler_releases(self, way: WayIn) -> None:
        """An error handler that fails itself leaves nothing behind."""
        app = way.app()
        failing_once(app, way)

        @app.errorhandler(ValueError)
        def handler(error: ValueError) -> str:
            raise KeyError from error

        assert post(app).status_code == 500
        assert post(app).text == "second run"


class TestStoreIf:
    def test_c4_decides(self, way: WayIn) -> None:
        """C4: ``store_if`` decides by the response; what it refuses runs again."""
        app, runs = way.app(store_if=lambda response: response.status_code == 201), count(200)

        @app.post("/")
        @way
        def view() -> tuple[str, int]:
            return "", next(runs)

        assert [post(app).status_code for _ in range(3)] == [200, 201, 201]

    def test_fails(self, way: WayIn, caplog: pytest.LogCaptureFixture) -> None:
        """A ``store_if`` that raises costs neither the response nor a second run."""
        app = way.app(store_if=lambda response: 1 / 0 > 0)
        counting(app, way)
        assert [post(app).text for _ in range(2)] == ["run 1"] * 2
        assert "store_if failed" in caplog.text

    @pytest.mark.parametrize("status", [206, 304])
    def test_r6_never_stored(self, way: WayIn, status: int) -> None:
        """R6: a view's 206 or 304 passes and is never stored, whatever ``store_if`` says."""
        app, runs = way.app(store_if=lambda response: True), count(1)

        @app.post("/")
        @way
        def view() -> Response:
            return Response(status=status, headers={"X-Run": str(next(runs))})

        answers = [post(app) for _ in range(2)]
        assert [(a.status_code, a.headers["X-Run"]) for a in answers] == [
            (status, "1"),
            (status, "2"),
        ]

    @pytest.mark.parametrize("streamed", [False, True])
    def test_unstorable_response(
        self, way: WayIn, streamed: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A response that cannot be turned into a record goes out; its view never runs again."""
        store, runs = FaultyStore(), count(1)
        app = way.app(store=store, timeout=0)

        @app.post("/")
        @way
        def view() -> Response:
            chunks = [f"run {next(runs)}"]
            return Response(iter(chunks) if streamed else chunks)

        store.before["complete"] = [fail(ValueError("no record has such a text"))]
        assert post(app).text == "run 1"
        assert problem(post(app)) == (409, "response-not-kept")
        assert "the response cannot be stored" in caplog.text

    def test_r12_response_that_cannot_be_sent(
        self, way: WayIn, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What no server may send goes out as without us, is logged, and its view runs once."""
        app, runs = way.app(timeout=0), count(1)

        @app.post("/")
        @way
        def view() -> Response:
            return Response(f"run {next(runs)}", 201, {"X-Name": "secret \u9375"})

        first = post(app)
        assert (first.text, first.headers["X-Name"]) == ("run 1", "secret \u9375")
        assert problem(post(app)) == (409, "response-not-kept")
        assert "the response of view is not kept, as it could not be sent again" in caplog.text
        assert "the header 'X-Name' cannot be sent" in caplog.text
        assert "secret" not in caplog.text

    @pytest.mark.parametrize("interrupted", [False, True])
    def test_broken_response(self, way: WayIn, interrupted: bool) -> None:
        """A response that fails before it is captured keeps no key stuck; its view runs once."""
        store, runs = FaultyStore(), count(1)

        def decide(response: Response) -> bool:
            if interrupted:
                raise SystemExit
            return True

        app = way.app(store=store, timeout=0, store_if=decide)

        @app.post("/")
        @way
        def view() -> Response:
            next(runs)
            return Response(["\ud800"])  # No UTF-8 says this.

        with pytest.raises(SystemExit) if interrupted else nullcontext():
            assert post(app).status_code == 500
        until(lambda: isinstance(store.read(*store.scan("")), CompletedRecord))
        assert problem(post(app)) == (409, "response-not-kept")
        assert next(runs) == 2
