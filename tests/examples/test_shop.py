"""The demo shop: one order for each form, on real web servers."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from flask_idempotent.web.state import EXTENSION_KEY
from tests.examples.servers import SHOP, Answer, Shop, send, shop
from tests.support.polling import until

FORM = {"product": "teapot", "quantity": "2"}
CRASHING_FORM = {**FORM, "__idempotent_key": "a-key", "crash": "after-commit"}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    """The shop in this process, on a store in memory."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.syspath_prepend(str(SHOP))
    app = importlib.import_module("app").create_app(
        {
            "REDIS_URL": "memory://",
            "SHOP_DATABASE": str(tmp_path / "books.sqlite3"),
            "SHOP_ORDER_SECONDS": 0,
        }
    )
    yield app.test_client()
    app.extensions[EXTENSION_KEY].engine.close()
    for path in SHOP.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture(scope="module", params=["dev", "gunicorn"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    folder.chmod(0o700)
    with shop(request.param, folder) as running:
        yield running


class TestPages:
    def test_form_places_one_order(self, client: FlaskClient) -> None:
        """A form sent again gets the first answer and orders nothing."""
        form = {**FORM, "__idempotent_key": "a-key"}
        first, again = (client.post("/orders", data=form) for _ in range(2))
        assert first.status_code == again.status_code == 303
        assert first.location == again.location == "/orders/1"
        assert again.headers["Idempotent-Replayed"] == "true"
        assert "Order no.&nbsp;1 is placed" in client.get("/orders/1").text

    def test_protection_off_leaves_the_key_out(self, client: FlaskClient) -> None:
        """The page without protection has no key in its form."""
        assert "__idempotent_key" in client.get("/").text
        assert "__idempotent_key" not in client.get("/?protection=off").text

    def test_changed_form_is_explained(self, client: FlaskClient) -> None:
        """Another order under the first one's key gets a page that says so, not an order."""
        accept = {"Accept": "text/html"}
        client.post("/orders", data={**FORM, "__idempotent_key": "a-key"})
        other = {**FORM, "quantity": "3", "__idempotent_key": "a-key"}
        page = client.post("/orders", data=other, headers=accept)
        assert page.status_code == 422
        assert "Start with a new form" in page.text
        assert client.get("/orders/2").status_code == 404

    def test_api_answers_json(self, client: FlaskClient) -> None:
        """The API places the same order, and refuses bad ones in JSON."""
        placed = client.post("/api/orders", json={"product": "teapot", "quantity": 2})
        assert placed.status_code == 201
        assert placed.location == "/api/orders/1"
        bad = client.post("/api/orders", json={"product": "moon", "quantity": 2})
        assert bad.status_code == 422
        assert bad.is_json

    def test_activity_tells_what_happened(self, client: FlaskClient) -> None:
        """The activity page counts requests, orders and duplicates."""
        for _ in range(3):
            client.post("/orders", data={**FORM, "__idempotent_key": "a-key"})
        counts = client.get("/activity.json").json["counts"]
        assert counts == {"received": 3, "placed": 1, "replayed": 2}


class TestCrash:
    """The button of the activity page: a worker that dies after its commit."""

    def test_killed_after_the_commit(
        self, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The process is killed when the order is committed; the retry gets it, with no second."""
        kills = []

        class Killed(BaseException):
            pass

        def kill(process: int, number: int) -> None:
            kills.append((process, number))
            raise Killed

        monkeypatch.setattr("os.kill", kill)
        with pytest.raises(Killed):
            client.post("/orders", data=CRASHING_FORM)
        assert kills == [(os.getpid(), signal.SIGKILL)]
        again = client.post("/orders", data=CRASHING_FORM)
        assert (again.status_code, again.location) == (303, "/orders/1")
        assert client.get("/activity.json").json["counts"] == {
            "received": 2, "placed": 1, "replayed": 1,
        }  # fmt: skip

    def test_button(self, client: FlaskClient) -> None:
        """The activity page has the form, with a key, and says what its button does."""
        page = client.get("/activity").text
        assert "kills the worker with SIGKILL" in page
        form = page.partition('id="crash"')[2].partition("</form>")[0]
        fields = dict(re.findall(r'name="(\w+)" value="([^"]+)"', form))
        assert fields.pop("__idempotent_key")
        assert fields == {"product": "mug", "quantity": "1", "crash": "after-commit"}

    # The browser's test kills the worker of the development server.
    @pytest.mark.parametrize("running", ["gunicorn"], indirect=True)
    def test_real_crash(self, running: Shop) -> None:
        """The worker dies without an answer, another one starts, and there is one order."""
        form = urllib.parse.urlencode(CRASHING_FORM).encode()
        with pytest.raises(OSError, match=r"closed|reset"):
            send(f"{running.base}/orders", form)
        answers = []

        def is_answered() -> bool:
            with suppress(OSError):
                answers.append(send(f"{running.base}/orders", form))
            return bool(answers) and answers[-1].status != 503

        until(is_answered, 30)
        again = answers[-1]
        assert (again.status, again.headers["Location"]) == (303, "/orders/1")
        assert again.headers["Idempotent-Replayed"] == "true"
        assert running.counts()["placed"] == 1


class TestServers:
    def test_twenty_at_once(self, running: Shop) -> None:
        """Twenty parallel orders with one key: one order and twenty equal answers."""
        headers = {"Idempotency-Key": '"twenty"', "Content-Type": "application/json"}
        body = json.dumps({"product": "teapot", "quantity": 2}).encode()
        before = running.counts()

        def place(_: int) -> Answer:
            return send(f"{running.base}/api/orders", body, **headers)

        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(place, range(20)))
        assert {answer.status for answer in answers} == {201}
        assert {answer.body for answer in answers} == {answers[0].body}
        assert len({answer.headers["Location"] for answer in answers}) == 1
        assert sum(a.headers["Idempotent-Replayed"] == "true" for a in answers) == 19
        assert since(before, running) == {"received": 20, "placed": 1, "replayed": 19}

    def test_form_sent_twice_at_once(self, running: Shop) -> None:
        """A double-clicked form is one order, and both clicks lead to it."""
        form = urllib.parse.urlencode({**FORM, "__idempotent_key": running.form_key()}).encode()
        before = running.counts()
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda _: send(f"{running.base}/orders", form), range(2)))
        assert {answer.status for answer in answers} == {303}
        assert len({answer.headers["Location"] for answer in answers}) == 1
        assert since(before, running)["placed"] == 1

    def test_without_a_key_each_request_orders(self, running: Shop) -> None:
        """Without a key two clicks are two orders: the library adds nothing unasked."""
        form = urllib.parse.urlencode(FORM).encode()
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda _: send(f"{running.base}/orders", form), range(2)))
        assert len({answer.headers["Location"] for answer in answers}) == 2

    @pytest.mark.parametrize("kind", ["dev", "gunicorn"])
    def test_interrupt_ends_all_of_it(self, kind: str, tmp_path: Path) -> None:
        """Ctrl-C ends the shop quietly and in good order."""
        tmp_path.chmod(0o700)
        with shop(kind, tmp_path) as running:
            assert running.counts()["placed"] == 0
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(20) == 0


def since(before: dict[str, int], running: Shop) -> Counter[str]:
    """What a shop has counted since an earlier look."""
    return Counter(running.counts()) - Counter(before)
