"""Problems: their documents, and error handlers that answer instead."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from flask import request
from werkzeug.exceptions import (
    BadRequest,
    Conflict,
    HTTPException,
    InternalServerError,
    ServiceUnavailable,
    TooManyRequests,
    UnprocessableEntity,
)
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_idempotent import problems
from flask_idempotent._problem_base import PROBLEM_BASE
from flask_idempotent.problems import Problem
from tests.support.problems import ALL, BROWSER, app_with, client_of

# Class, last part of its type, status, retryable, werkzeug's class.
TABLE = [
    pytest.param(problems.KeyMissing, "key-missing", 400, False, BadRequest, id="E1-key-missing"),
    pytest.param(problems.KeyInvalid, "key-invalid", 400, False, BadRequest, id="E1-key-invalid"),
    pytest.param(
        problems.BodyIncomplete, "body-incomplete", 400, False, BadRequest, id="E1-body-incomplete"
    ),
    pytest.param(
        problems.RequestInProgress, "in-progress", 409, True, Conflict, id="E1-in-progress"
    ),
    pytest.param(
        problems.ResponseNotKept, "response-not-kept", 409, False, Conflict, id="E1-not-kept"
    ),
    pytest.param(problems.OutcomeUnknown, "outcome-unknown", 409, False, Conflict, id="E1-unknown"),
    pytest.param(
        problems.KeyReused, "key-reused", 422, False, UnprocessableEntity, id="E1-key-reused"
    ),
    pytest.param(
        problems.BodyUnavailable, "body-unavailable", 500, False, InternalServerError,
        id="E1-body-unavailable",
    ),
    pytest.param(
        problems.TemporarilyUnavailable, "store-unavailable", 503, True, ServiceUnavailable,
        id="E1-store-unavailable",
    ),
    pytest.param(
        problems.StoredResponseUnreadable, "record-unreadable", 503, False, ServiceUnavailable,
        id="E1-record-unreadable",
    ),
]  # fmt: skip


class TestProblem:
    @pytest.mark.parametrize(("kind", "slug", "status", "retryable", "above"), TABLE)
    def test_document(
        self, kind: type[Problem], slug: str, status: int, retryable: bool, above: type
    ) -> None:
        """Each problem has its own type, status and ``retryable``, and all members of E1."""
        problem = kind("What happened.", key="k-1")
        answer = client_of(problem).post("/")
        assert answer.status_code == status
        assert answer.content_type == "application/problem+json"
        assert answer.get_json(force=True) == {
            "type": f"urn:flask-idempotent:problem:{slug}",
            "title": kind.title,
            "status": status,
            "detail": "What happened.",
            "instance": problem.instance,
            "retryable": retryable,
            "idempotency_key": "k-1",
        }

    @pytest.mark.parametrize(("kind", "slug", "status", "retryable", "above"), TABLE)
    def test_e3_class(
        self, kind: type[Problem], slug: str, status: int, retryable: bool, above: type
    ) -> None:
        """Each problem is a subclass of werkzeug's class and has its code on the class."""
        assert issubclass(kind, above)
        assert kind.code == status

    def test_e1_list_is_complete(self) -> None:
        """Each problem is in ``ALL`` and in this table, with a type of its own."""
        defined = {
            value for value in vars(problems).values()
            if isinstance(value, type) and issubclass(value, Problem)
        }  # fmt: skip
        bases = {Problem, problems.InProgress}
        assert {*problems.ALL, *problems.IN_PROGRESS.values()} == defined - bases
        assert [row.values[0] for row in TABLE] == list(problems.ALL)
        assert len({kind.slug for kind in problems.ALL}) == len(TABLE)

    @pytest.mark.parametrize("kind", ALL)
    def test_e1_instance(self, kind: type[Problem]) -> None:
        """Each occurrence has a ``urn:uuid`` of its own, the same wherever it is shown."""
        problem = kind()
        assert uuid.UUID(problem.instance).urn == problem.instance
        assert problem.as_dict()["instance"] == problem.as_dict()["instance"]
        assert kind().instance != problem.instance

    @pytest.mark.parametrize("kind", ALL)
    def test_e1_key_is_always_there(self, kind: type[Problem]) -> None:
        """``idempotency_key`` is null where no key was sent or none could be read."""
        document = client_of(kind("x")).get("/").get_json(force=True)
        assert document["idempotency_key"] is None

    @pytest.mark.parametrize("kind", ALL)
    def test_e1_base(self, kind: type[Problem]) -> None:
        """``type`` begins with the base that the application chose."""
        assert kind(base="https://docs.example/problems#").type == (
            f"https://docs.example/problems#{kind.slug}"
        )
        assert kind().type == PROBLEM_BASE + kind.slug

    @pytest.mark.parametrize("kind", ALL)
    def test_e2_headers(self, kind: type[Problem]) -> None:
        """E2: no problem may be cached, and Retry-After is sent only where it was given."""
        bare = client_of(kind("x")).get("/")
        assert bare.headers.getlist("Cache-Control") == ["no-store"]
        assert "Retry-After" not in bare.headers
        later = client_of(kind("x", retry_after=7)).get("/")
        assert later.headers.getlist("Retry-After") == ["7"]

    def test_bare_problem_has_a_detail(self) -> None:
        """A problem without a detail has Werkzeug's description."""
        assert problems.KeyMissing().as_dict()["detail"] == BadRequest.description

    def test_text_beyond_ascii(self) -> None:
        """Text beyond ASCII arrives unchanged in both formats."""
        client = client_of(problems.KeyReused("schlüssel – 鍵", key="ключ"))
        document = client.get("/").get_json(force=True)
        assert (document["detail"], document["idempotency_key"]) == ("schlüssel – 鍵", "ключ")
        page = client.get("/", headers={"Accept": "text/html"}).text
        assert "schlüssel – 鍵" in page
        assert "ключ" in page

    def test_can_be_raised_without_a_request(self) -> None:
        """A problem is a WSGI application and an exception; it needs no Flask."""
        problem = problems.RequestInProgress("x", retry_after=3)
        body, status, headers = run_wsgi_app(problem, EnvironBuilder().get_environ())
        assert json.loads(b"".join(body))["type"].endswith("in-progress")
        assert status == "409 CONFLICT"
        assert headers["Retry-After"] == "3"
        assert "409 Conflict" not in problem.name
        assert json.loads(problem.get_body())["status"] == 409


class TestInProgress:
    @pytest.mark.parametrize("status", problems.IN_PROGRESS)
    def test_e3_each_status_is_a_class(self, status: int) -> None:
        """``busy_status``: each status is a class with its code, and Retry-After is sent."""
        kind = problems.IN_PROGRESS[status]
        answer = client_of(kind("x", retry_after=3)).get("/")
        assert (kind.code, answer.status_code, answer.json["status"]) == (status,) * 3
        assert (kind.slug, kind.retryable) == ("in-progress", True)
        assert answer.headers.getlist("Retry-After") == ["3"]

    def test_e3_werkzeug_classes(self) -> None:
        """Each derives from Werkzeug's class for its status, which has none for 425."""
        above = {409: Conflict, 429: TooManyRequests, 503: ServiceUnavailable}
        for status, kind in problems.IN_PROGRESS.items():
            assert {base for base in above.values() if issubclass(kind, base)} == (
                {above[status]} if status in above else set()
            )

    @pytest.mark.parametrize("status", problems.IN_PROGRESS)
    @pytest.mark.parametrize("by", ["class", "base", "number"])
    def test_e3_application_wins(self, status: int, by: str) -> None:
        """A handler for the class, for ``InProgress`` or for the status answers instead."""
        kind = problems.IN_PROGRESS[status]
        app = app_with(kind("x"))
        handled: Any = {"class": kind, "base": problems.InProgress, "number": status}[by]
        if (status, by) == (425, "number"):
            # Flask knows the statuses that Werkzeug has a class for.
            with pytest.raises(ValueError, match="not a recognized HTTP error code"):
                app.register_error_handler(handled, lambda error: (error.slug, 418))
            return
        app.register_error_handler(handled, lambda error: (error.slug, 418))
        answer = app.test_client().get("/")
        assert (answer.status_code, answer.text) == (418, "in-progress")


class TestErrorHandlers:
    @pytest.mark.parametrize(("kind", "slug", "status", "retryable", "above"), TABLE)
    @pytest.mark.parametrize("by", ["class", "base", "werkzeug", "number", "http"])
    def test_e3_application_wins(
        self, kind: type[Problem], slug: str, status: int, retryable: bool, above: type, by: str
    ) -> None:
        """E3: an error handler wins: for our class, our base, Werkzeug's class or the status."""
        app = app_with(kind("x", key="k"))
        handled: Any = {
            "class": kind, "base": Problem, "werkzeug": above, "number": status,
            "http": HTTPException,
        }[by]  # fmt: skip

        @app.errorhandler(handled)
        def handler(error: Problem) -> tuple[dict[str, object], int]:
            return {"own": error.slug, "key": error.key}, 418

        answer = app.test_client().get("/", headers={"Accept": BROWSER})
        assert answer.status_code == 418
        assert answer.get_json() == {"own": slug, "key": "k"}

    def test_e3_after_request(self) -> None:
        """Problems pass ``after_request`` like any answer."""
        app = app_with(problems.RequestInProgress("x", retry_after=1))

        @app.after_request
        def add(response: Any) -> Any:
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            return response

        answer = app.test_client().get("/", headers={"Origin": "https://a.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
        assert answer.headers["Retry-After"] == "1"
