"""Where ``step()`` is called: in helpers, threads and streams, and with async functions."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, copy_current_request_context, stream_with_context

from flask_idempotent import LeaseLost, current_claim, idempotent, step
from tests.conftest import MakeApp
from tests.support.clients import post, problem
from tests.support.faulty_store import Clock, FaultyStore
from tests.support.retries import Deadlock, retrying
from tests.support.stepped import Work


class TestHelpers:
    def test_below_the_view(self, make_app: MakeApp, store: FaultyStore) -> None:
        """A decorated function that a view calls has steps, and its errors are answered."""
        app = make_app(wide=False, config={"REDIS_URL": "memory://"})
        work, mail = Work(), Work(failures=1)

        @idempotent(lease=30)
        def charge() -> Any:
            number = step("charge", work)[0]
            mail()
            return {"number": number, "attempt": current_claim.attempt}

        @idempotent
        def lost() -> Any:
            raise LeaseLost

        @app.post("/")
        def view() -> Any:
            return charge()

        app.add_url_rule("/lost", "lost", lambda: lost(), methods=["POST"])
        assert post(app).status_code == 500
        assert post(app).get_json() == {"number": 1, "attempt": 2}
        assert post(app).get_json() == {"number": 1, "attempt": 2}

    def test_error_below_the_view(self, make_app: MakeApp) -> None:
        """Where such a function has lost its key, the request is answered like a duplicate."""
        app = make_app(wide=False)

        @idempotent(timeout=0)
        def charge() -> Any:
            raise LeaseLost

        app.add_url_rule("/", "view", lambda: charge(), methods=["POST"])
        assert problem(post(app)) == (409, "in-progress")

    def test_inside_the_view(self, app: Flask, work: Work) -> None:
        """A decorated function that a protected view calls has the view's steps."""

        @idempotent
        def charge() -> Any:
            return step("charge", work)[0]

        @app.post("/")
        def view() -> Any:
            number = charge()
            with pytest.raises(ValueError, match="was called before"):
                step("charge", work)
            return {"number": number}

        assert post(app).get_json() == {"number": 1}

    def test_retried_above(self, make_app: MakeApp, store: FaultyStore) -> None:
        """Where a decorator above calls the view again, the second call goes on."""
        app = make_app(wide=False)
        work, attempts = Work(), []

        @app.post("/")
        @retrying
        @idempotent
        def view() -> Any:
            number = step("charge", work, once=True)[0]
            attempts.append(current_claim.attempt)
            if len(attempts) == 1:
                raise Deadlock
            return {"number": number}

        assert post(app).get_json() == {"number": 1}
        assert (work.calls, attempts) == (1, [1, 2])

    def test_retried_below(self, app: Flask, work: Work) -> None:
        """One below it calls it again in the same run, where no name may be used twice."""

        @app.post("/")
        @retrying
        def view() -> Any:
            step("charge", work)
            raise Deadlock

        app.config["PROPAGATE_EXCEPTIONS"] = True
        with pytest.raises(ValueError, match="was called before"):
            post(app)


class TestAsync:
    def test_awaited(self, app: Flask) -> None:
        """A step whose function is async is awaited, also where its result is recorded."""
        work, mail = Work(), Work(failures=1)

        @app.post("/")
        async def view() -> Any:
            number = (await step("charge", work.coroutine, 5, once=True))[0]
            return [number, (await step("mail", mail.coroutine))[0], step("sync", work)[0]]

        assert post(app).status_code == 500
        assert post(app).get_json() == [1, 2, 2]

    def test_at_once(self, app: Flask, work: Work) -> None:
        """Several may run at once."""

        @app.post("/")
        async def view() -> Any:
            both = await asyncio.gather(*(step(name, work.coroutine, name) for name in "ab"))
            return [one[1] for one in both]

        assert post(app).get_json() == [["a"], ["b"]]

    def test_unknown(self, app: Flask) -> None:
        """An exception inside leaves a step with ``once`` unknown."""
        work = Work(failures=1)

        @app.post("/")
        async def view() -> Any:
            return await step("charge", work.coroutine, once=True)

        assert post(app).status_code == 500
        assert problem(post(app)) == (409, "outcome-unknown")

    def test_without_a_claim(self, work: Work) -> None:
        """Where nothing is claimed the function is just awaited."""
        assert asyncio.run(step("charge", work.coroutine, 1)) == [1, [1], {}]

    @pytest.mark.parametrize("key", ["key-one", None])
    def test_plain_function(self, app: Flask, work: Work, key: str | None) -> None:
        """A plain function that returns something to await is an error that says so."""

        @app.post("/")
        def view() -> str:
            with pytest.raises(TypeError, match=r"'charge' returned something to await"):
                _ = step("charge", lambda: work.coroutine())
            return ""

        assert post(app, key).status_code == 200
        assert work.calls == 0


class TestThreads:
    def test_copied_context(self, app: Flask) -> None:
        """Threads that have the request's context have its steps, at the same time."""
        work, both = Work(), threading.Barrier(2, timeout=10)
        mail = Work(failures=1)

        def one(name: str) -> str:
            both.wait()
            work()
            return name

        @app.post("/")
        def view() -> Any:
            results: list[str] = []

            def run(name: str) -> None:
                results.append(step(name, one, name, once=True))

            threads = [
                threading.Thread(target=copy_current_request_context(run), args=(name,))
                for name in "ab"
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            mail()
            return sorted(results)

        assert post(app).status_code == 500
        assert post(app).get_json() == ["a", "b"]
        assert work.calls == 2

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_forked_child(self, app: Flask, work: Work) -> None:
        """A child that was forked in the view runs none of its parent's steps."""

        @app.post("/")
        def view() -> str:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    step("charge", work, once=True)
                except LeaseLost:
                    code = 7
                finally:
                    os._exit(code)
            return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

        assert post(app).text == "7"


class TestStreams:
    def test_recorded(self, app: Flask, store: FaultyStore) -> None:
        """A streamed response may have steps: a run that takes over has their results."""
        work = Work()

        def parts() -> Iterator[str]:
            yield str(step("charge", work, once=True)[0])
            yield f" attempt {current_claim.attempt}"

        @app.post("/")
        def view() -> Response:
            return Response(stream_with_context(parts()))

        with post(app, buffered=False) as first:
            assert next(first.iter_encoded()) == b"1"
            assert isinstance(store.clock, Clock)
            store.clock.now += 31
            assert post(app).text == "1 attempt 2"
        assert work.calls == 1

    def test_without_context(self, app: Flask, store: FaultyStore, work: Work) -> None:
        """Without ``stream_with_context`` there is no request, so the function is just called."""

        @app.post("/")
        def view() -> Response:
            return Response(str(step("charge", work)[0]) for _ in "ab")

        assert post(app).text == "12"
        assert "step" not in store.calls

    def test_lease_lost(self, app: Flask, store: FaultyStore, work: Work) -> None:
        """A step of a stream that has lost its key breaks the response off."""

        def parts() -> Iterator[str]:
            yield "begun"
            assert isinstance(store.clock, Clock)
            store.clock.now += 300
            (other,) = [post(app, path="/other")]
            assert other.status_code == 200
            step("charge", work, once=True)

        @app.post("/")
        def view() -> Response:
            return Response(stream_with_context(parts()))

        @app.post("/other")
        def other() -> str:
            return "other"

        with pytest.raises(LeaseLost):
            post(app)
        assert work.calls == 0
