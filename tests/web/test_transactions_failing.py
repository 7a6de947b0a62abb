"""Transactions that are rolled back: failing views, error handlers, and a database that fails."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, NoReturn

import pytest
from flask import Response, abort

from flask_idempotent import SettingsError, current_claim
from flask_idempotent.errors import DatabaseUnavailable, RecordUnreadable
from tests.conftest import MakeApp
from tests.support.clients import problem, recorded
from tests.support.shop import Shop
from tests.support.transactions import ConnectionLost, raising


def fail() -> NoReturn:
    raise ValueError("no such product")


class TestErrorAnswers:
    """An answer with 400 and above: what the view wrote is rolled back."""

    @pytest.mark.parametrize("answer", [lambda: ("no", 404), lambda: abort(404)])
    def test_kept(self, shop: Shop, answer: Callable[[], Any]) -> None:
        """An answer that is kept gets a transaction of its own."""
        shop.answer = answer
        first = shop.post()
        assert shop.db.rows == []
        assert shop.the_answer.record.status == 404
        assert shop.db.calls.index("roll_back") < shop.db.calls.index("commit")
        shop.forget()
        again = shop.post()
        assert (again.status_code, again.data) == (404, first.data)
        assert shop.runs == 1

    def test_not_kept(self, shop: Shop) -> None:
        """An answer that is not kept is none: the key is released and the next request runs."""
        shop.answer = lambda: ("later", 503)
        with recorded(shop.app) as events:
            assert shop.post().status_code == 503
        assert (shop.db.rows, shop.db.answers) == ([], {})
        assert shop.db.calls == ["look_up", "begin", "roll_back"]
        assert [name for name, _ in events] == ["claimed", "released"]
        shop.answer = lambda: "now"
        assert shop.post().text == "now"
        assert shop.db.rows == ["row 2"]

    def test_unhandled(self, shop: Shop) -> None:
        """An exception that nothing handles is rolled back, and goes on rising."""
        shop.answer = fail
        shop.app.config["PROPAGATE_EXCEPTIONS"] = True
        with recorded(shop.app) as events, pytest.raises(ValueError, match="no such product"):
            shop.post()
        assert (shop.db.rows, shop.db.answers) == ([], {})
        assert [(name, data.get("reason")) for name, data in events] == [
            ("claimed", None),
            ("released", "failed"),
        ]

    @pytest.mark.parametrize("key", ["key", None])
    def test_no_response(self, shop: Shop, key: str | None) -> None:
        """A view that returns nothing valid is rolled back, with a key and without one."""
        shop.answer = lambda: None
        assert shop.post(key).status_code == 500
        assert (shop.db.rows, shop.db.answers) == ([], {})
        shop.answer = lambda: "now"
        assert shop.post(key).text == "now"

    def test_released_by_the_view(self, shop: Shop) -> None:
        """C8: an answer that the view gives up is not kept."""
        shop.answer = lambda: (current_claim.release(), ("no", 404))[1]
        shop.post()
        assert (shop.db.rows, shop.db.answers) == ([], {})


class TestErrorHandlers:
    def test_after_the_roll_back(self, shop: Shop) -> None:
        """A handler that commits saves nothing of what the view wrote."""
        shop.answer = fail

        @shop.app.errorhandler(ValueError)
        def handle(error: ValueError) -> tuple[str, int]:
            shop.db.write("audit")
            shop.db.commit_by_itself()
            return f"refused: {error}", 422

        assert [shop.post().text for _ in range(2)] == ["refused: no such product"] * 2
        assert shop.db.rows == ["audit"]
        assert shop.the_answer.record.status == 422

    def test_their_rows(self, shop: Shop) -> None:
        """What a handler writes and does not commit is rolled back."""
        shop.answer = fail

        @shop.app.errorhandler(ValueError)
        def handle(error: ValueError) -> tuple[str, int]:
            shop.db.write("half")
            return "refused", 422

        assert shop.post().text == "refused"
        assert shop.db.rows == []

    def test_answer_below_400(self, shop: Shop) -> None:
        """Their answer below 400 is kept, but the rows of the view that failed are not."""
        shop.answer = fail
        shop.app.register_error_handler(ValueError, lambda error: "nothing to do")
        assert shop.post().text == "nothing to do"
        shop.forget()
        assert shop.post().text == "nothing to do"
        assert (shop.db.rows, shop.the_answer.record.status) == ([], 200)

    def test_that_raise(self, shop: Shop) -> None:
        """What they raise is rolled back and released."""
        shop.answer = fail

        @shop.app.errorhandler(ValueError)
        def handle(error: ValueError) -> NoReturn:
            shop.db.write("half")
            raise KeyError("in the handler")

        assert shop.post().status_code == 500
        assert (shop.db.rows, shop.db.answers) == ([], {})
        shop.answer = lambda: "now"
        assert shop.post().text == "now"
        assert shop.db.rows == ["row 2"]


class TestCommitFails:
    def test_error_of_the_view(self, shop: Shop) -> None:
        """An error at the commit is the view's own: the application's error handlers answer, with
        nothing of the view left."""
        shop.db.before["commit"].append(lambda: 1 / 0)
        shop.app.register_error_handler(
            ZeroDivisionError, lambda error: (shop.db.commit_by_itself(), ("conflict", 409))[1]
        )
        with recorded(shop.app) as events:
            assert [shop.post().text for _ in range(2)] == ["conflict"] * 2
        assert shop.db.rows == []
        assert shop.the_answer.record.status == 409
        assert [name for name, _ in events] == ["claimed", "completed", "replayed"]

    def test_unhandled(self, shop: Shop) -> None:
        """Without a handler it is rolled back and released, and the next request runs."""
        shop.db.before["commit"].append(lambda: 1 / 0)
        with recorded(shop.app) as events:
            assert shop.post().status_code == 500
        assert (shop.db.rows, shop.db.answers) == ([], {})
        assert [name for name, _ in events] == ["claimed", "released"]
        assert shop.post().text == "run 2"
        assert shop.db.rows == ["row 2"]

    def test_without_answer(self, make_app: MakeApp) -> None:
        """The same is true of an answer that is not kept."""
        shop = Shop(make_app, dont_keep=[201])
        shop.db.before["commit without answer"].append(lambda: 1 / 0)
        assert shop.post().status_code == 500
        assert shop.db.rows == []
        assert shop.post().text == "run 2"

    def test_of_an_error_answer(self, shop: Shop) -> None:
        """An error answer that cannot be committed is not given out: the next request runs."""
        shop.answer = lambda: ("no", 404)
        shop.db.before["commit"].append(lambda: 1 / 0)
        assert shop.post().status_code == 500
        assert shop.post().text == "no"
        assert (shop.runs, shop.db.rows) == (2, [])

    def test_response_is_closed(self, shop: Shop) -> None:
        """A response that goes nowhere is closed, and so are its files: the view's, and that of an
        error handler whose commit fails as well."""
        made, closed = count(1), []

        def answer(*_: object) -> Response:
            number = next(made)
            response = Response(f"response {number}")
            response.call_on_close(lambda: closed.append(number))
            return response

        shop.answer = answer
        shop.app.register_error_handler(ZeroDivisionError, answer)
        shop.db.before["commit"] += [lambda: 1 / 0] * 2
        assert shop.post().text == "response 3"
        assert closed == [1, 2, 3]


class TestDatabaseUnavailable:
    def test_look_up(self, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
        """A database that does not answer before the view is a 503, and the view does not run."""
        shop.db.before["look_up"].append(raising(DatabaseUnavailable("it is away")))
        with recorded(shop.app) as events:
            answer = shop.post()
        assert problem(answer) == (503, "store-unavailable")
        assert answer.headers["Retry-After"] == "1"
        assert (shop.runs, [name for name, _ in events]) == (0, ["rejected"])
        assert "the database of order does not answer: it is away" in caplog.text
        assert shop.post().text == "run 1"

    def test_lost_after_the_commit(self, shop: Shop) -> None:
        """Where it is unknown whether a commit was carried out, the answer is a 503 and the key is
        released: the next request looks it up."""
        shop.db.after["commit"].append(raising(ConnectionLost()))
        shop.db.before["look_up"] += [lambda: None, raising(ConnectionLost())]
        with recorded(shop.app) as events:
            answer = shop.post()
        assert problem(answer) == (503, "store-unavailable")
        assert answer.json is not None
        assert "whether this request was carried out" in answer.json["detail"]
        assert [name for name, _ in events] == ["claimed", "rejected", "released"]
        assert shop.post().text == "run 1"
        assert shop.db.rows == ["row 1"]

    def test_lost_before_the_commit(self, shop: Shop) -> None:
        """The same where it was not carried out: then the next request runs."""
        shop.db.before["commit"].append(raising(ConnectionLost()))
        shop.db.before["look_up"] += [lambda: None, raising(ConnectionLost())]
        assert problem(shop.post()) == (503, "store-unavailable")
        assert shop.post().text == "run 2"
        assert shop.db.rows == ["row 2"]

    def test_locked(self, shop: Shop) -> None:
        """A key that another transaction keeps locked is a 503 too."""
        shop.db.before["commit"].append(raising(DatabaseUnavailable("the key is locked")))
        assert problem(shop.post()) == (503, "store-unavailable")
        assert shop.db.rows == []
        assert shop.post().text == "run 2"

    def test_of_an_error_answer(self, shop: Shop) -> None:
        """An error answer whose commit is unknown is a 503 and released."""
        shop.answer = lambda: ("no", 404)
        shop.db.after["commit"].append(raising(ConnectionLost()))
        shop.db.before["look_up"] += [lambda: None, raising(ConnectionLost())]
        assert problem(shop.post()) == (503, "store-unavailable")
        assert shop.post().text == "no"
        assert shop.runs == 1

    def test_page(self, shop: Shop) -> None:
        """A person who sent a form is not told that nothing was done."""
        shop.db.before["commit"].append(raising(DatabaseUnavailable("the key is locked")))
        answer = shop.post(None, data={"__idempotent_key": "k"}, headers={"Accept": "text/html"})
        assert "It is not known yet whether it was processed" in answer.text

    @pytest.mark.parametrize("error", [SettingsError("no table"), ValueError("wrong")])
    def test_other_error(self, shop: Shop, error: Exception) -> None:
        """Another error of the look-up, such as a missing table, goes up; the key is released."""
        shop.db.before["look_up"].append(raising(error))
        shop.app.config["PROPAGATE_EXCEPTIONS"] = True
        with pytest.raises(type(error), match=str(error)):
            shop.post()
        assert shop.runs == 0
        assert shop.post().text == "run 1"

    def test_r12_unreadable(self, shop: Shop) -> None:
        """R12: an answer that cannot be read is a 503 without Retry-After, never a second run."""
        shop.db.before["look_up"].append(raising(RecordUnreadable("damaged")))
        answer = shop.post()
        assert problem(answer) == (503, "record-unreadable")
        assert "Retry-After" not in answer.headers
        assert shop.runs == 0
