"""The command watch: a line for each change, on a store that may go away and come back."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask

from flask_idempotent.cli.poller import RecordPoller
from flask_idempotent.cli.watch import follow
from flask_idempotent.stores.memory import MemoryStore
from tests.cli.harness import claim, complete, damage, name, printed, run, store_of
from tests.conftest import MakeApp
from tests.stores.harness import HOUR, answer, lapse
from tests.support.proxy import Fault, Proxy
from tests.support.redis_servers import Server, free_port

APP = """
from flask import Flask
from flask_idempotent import Idempotent

app = Flask("tests")
app.config["REDIS_URL"] = {url!r}
Idempotent(app)
"""


class TestLines:
    def test_run(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run is shown from its claim to its response, with what is known of it."""
        store, storage_key = store_of(app), name("a")
        lines = printed(
            app,
            monkeypatch,
            lambda: claim(app, "a"),
            lambda: store.complete(storage_key, answer(), ttl_ms=HOUR),
        )
        shown = [
            rf"claimed      {storage_key}  POST orders, here, process 7",
            rf"completed    {storage_key}  POST orders, status 201, here, process 7, after 1\.0 s",
        ]
        assert all(map(re.fullmatch, shown, lines)), lines
        assert len(lines) == len(shown)

    def test_run_between_two_polls(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a run that no poll has seen the response is shown."""
        lines = printed(app, monkeypatch, lambda: complete(app))
        assert lines == [f"completed    {name()}  POST orders, status 201"]

    def test_waiting(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """The processes that wait are counted."""
        storage_key = claim(app)
        with store_of(app).listen(storage_key, 5):
            (line,) = printed(app, monkeypatch)
        assert line.endswith(" ago, 1 process waiting")

    def test_first_look(self, app: Flask) -> None:
        """At first what is in progress is shown, and what is over is not."""
        claim(app)
        complete(app, "other")
        (line,) = run(app, "watch", "--for", "0").stdout.splitlines()
        shown = rf"\S+  in progress  {name()}  POST orders, here, process 7, started .* ago"
        assert re.fullmatch(shown, line)

    def test_attempt(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run after a crash says which it is."""
        lapse(store_of(app), claim(app, owner="ada"))
        *_, line = printed(app, monkeypatch, lambda: claim(app, owner="bob"))
        assert re.fullmatch(r"taken over .*process 7, attempt 2", line)

    def test_json(self, app: Flask) -> None:
        """For programs each line is a JSON document."""
        damage(app)
        (line,) = run(app, "watch", "--for", "0", "--json").stdout.splitlines()
        data = json.loads(line)
        assert (data["event"], data["storage_key"]) == ("unreadable", name())
        assert (data["status"], data["waiters"], data["age"]) == (None, None, None)


class TestFollow:
    def test_store_that_comes_back(
        self, proxy: Proxy, make_app: MakeApp, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A store that fails is reported once, and what happened meanwhile when it is back."""
        app = make_app(config={"REDIS_URL": proxy.url})
        claim(app, "a")
        changes = follow(RecordPoller(store_of(app), "IDEMPOTENT_"), 0.01, math.inf)
        assert next(changes).event == "in progress"
        claim(app, "b")
        proxy.faults.append(Fault(b"SCAN", "refuse", times=2, reply=b"-ERR away.\r\n"))
        change = next(changes)
        assert (change.event, change.storage_key) == ("claimed", name("b"))
        assert capsys.readouterr().err == (
            "The store failed: away. Trying again until it is back.\nThe store is back.\n"
        )

    def test_end(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """--for ends it, with a last poll, however long the pauses are."""
        now = [0.0]
        monkeypatch.setattr("time.monotonic", lambda: now[0])
        pauses = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            now[0] += seconds

        monkeypatch.setattr("time.sleep", pause)
        poller = RecordPoller(MemoryStore(), "IDEMPOTENT_")
        assert list(follow(poller, every=2, seconds=5)) == []
        assert pauses == [2, 2, 1]

    def test_no_store(self, make_app: MakeApp) -> None:
        """A store that is away from the start ends the command with 3, as it does any other."""
        app = make_app(config={"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"})
        result = run(app, "watch")
        assert (result.exit_code, result.stdout) == (3, "")

    def test_missing_permission(self, clean_valkey: Server, make_app: MakeApp) -> None:
        """A user who may not list records learns where the permissions are set."""
        user = ("on", ">pw", "~*", "+@all", "-scan")
        clean_valkey.client.execute_command("ACL", "SETUSER", "few", *user)
        try:
            url = f"redis://few:pw@127.0.0.1:{clean_valkey.port}/0"
            result = run(make_app(config={"REDIS_URL": url}), "watch")
        finally:
            clean_valkey.client.execute_command("ACL", "DELUSER", "few")
        assert result.exit_code == 3
        assert "lists the permissions that an operator needs" in result.stderr


class TestProcess:
    def test_interrupt(self, clean_valkey: Server, tmp_path: Path, app: Flask) -> None:
        """Each line is written at once, and Ctrl-C is a good end."""
        (tmp_path / "app.py").write_text(APP.format(url=clean_valkey.url))
        claim(app, "a")
        with subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "app", "idempotent", "watch"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as watching:  # fmt: skip
            assert watching.stdout is not None
            assert "in progress" in watching.stdout.readline()
            claim(app, "b")
            assert f"claimed      {name('b')}" in watching.stdout.readline()
            watching.send_signal(signal.SIGINT)
            assert watching.wait(10) == 0
            assert watching.stderr is not None
            assert watching.stderr.read() == ""
