"""The command watch: lines as things happen, on a store that may go away and come back."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_idempotent.cli.poller import Line, Lookout
from flask_idempotent.cli.watch import Watcher
from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.stores.redis.store import RedisStore
from tests.cli.harness import claim, complete, damage, name, run, store_of
from tests.conftest import MakeApp
from tests.stores.harness import ENDS, HOUR, answer, lapse, owner, running
from tests.support.clients import post
from tests.support.proxy import Proxy
from tests.support.redis_servers import Server, free_port

APP = """
from flask import Flask
from flask_idempotent import Idempotent

app = Flask("tests")
app.config["REDIS_URL"] = {url!r}
Idempotent(app)
"""


def printed(app: Flask, monkeypatch: pytest.MonkeyPatch, *steps: object) -> list[str]:
    """What ``watch`` prints while these calls are made; each is made when nothing more is heard."""
    calls = iter(steps)

    def look(lookout: Lookout) -> Iterator[Line]:
        call = next(calls, None)
        if call is None:
            raise KeyboardInterrupt
        call()  # type: ignore[operator]
        return iter(())

    monkeypatch.setattr(Lookout, "look", look)
    result = run(app, "watch", "--every", "10ms")
    assert result.exit_code == 0, result.output
    return [line.split("  ", 1)[1] for line in result.stdout.splitlines()]


class TestLines:
    def test_requests(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run, its replay and a reuse are told, each with what there is to know."""
        found = name("a")
        lines = printed(
            app,
            monkeypatch,
            lambda: post(app, "a", "/orders"),
            lambda: post(app, "a", "/orders"),
            lambda: post(app, "a", "/orders", data=b"other"),
        )
        shown = [
            rf"claimed      {found}  POST orders, \S+, process \d+",
            rf"completed    {found}  POST orders, status 201, \S+, process \d+, after 0\.\d s",
            rf"replayed     {found}  status 201, stored 0\.\d s ago",
            rf"reused       {found}  POST orders, .* has another request .* it gets 422",
        ]
        assert all(map(re.fullmatch, shown, lines)), lines
        assert len(lines) == len(shown)

    def test_operators(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """What an operator releases and purges is told too."""
        lapse(store_of(app), claim(app, "a"))
        complete(app, "b")
        lines = printed(
            app,
            monkeypatch,
            lambda: store_of(app).release(name("a"), owner("ada"), **ENDS),
            lambda: store_of(app).delete([name("b")]),
        )
        assert [line.split("  ")[0] for line in lines] == [
            "in progress", "lapsed", "released", "deleted",
        ]  # fmt: skip

    def test_woken(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """Waiters that are woken ask no more, so their number is told with the response."""
        found = claim(app)
        with store_of(app).listen(found, 5):
            first, last = printed(
                app, monkeypatch, lambda: store_of(app).complete(found, answer(), expire=HOUR)
            )
        assert first.endswith(" ago, 1 process waiting")
        assert last.endswith(", 1 process woken")

    def test_first_look(self, app: Flask) -> None:
        """At first what is in progress is told, and what is over is not."""
        claim(app)
        complete(app, "other")
        (line,) = run(app, "watch", "--for", "0").stdout.splitlines()
        shown = rf"\S+  in progress  {name()}  POST orders, here, process 7, began .* ago"
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
        found = json.loads(line)
        assert (found["event"], found["storage_key"]) == ("unreadable", name())
        assert (found["status"], found["woken"], found["age"]) == (None, None, None)


class TestFollowing:
    def test_store_that_comes_back(
        self, proxy: Proxy, make_app: MakeApp, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A store that dies is told once, waited for, and what is in progress then is told."""
        app = make_app(config={"REDIS_URL": proxy.url})
        claim(app, "a")
        lines = Watcher(Lookout(store_of(app), "IDEMPOTENT_"), 0.01, float("inf")).lines()
        assert next(lines).event == "in progress"
        proxy.cut_all()
        record = running("bob")
        store_of(app).claim(name("b"), record, expire=2 * HOUR, takeover=True)
        line = next(lines)
        assert (line.event, line.key) == ("in progress", name("b"))
        claim(app, "c")
        assert next(lines).event == "claimed"
        told = capsys.readouterr().err
        assert re.fullmatch(r"The store failed: .*[^.]\. Until .*\nThe store is back\.\n", told)

    def test_store_that_stays_away(
        self, app: Flask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """However often a store fails, it is told once; --for ends the waiting too."""
        watcher = Watcher(Lookout(store_of(app), "IDEMPOTENT_"), 0.01, 0.0)
        assert list(watcher.lines()) == []

        def events(*_: object) -> object:
            raise StoreUnavailable("away")

        monkeypatch.setattr(RedisStore, "events", events)
        monkeypatch.setattr("time.sleep", lambda _: next(pauses))
        pauses = iter([None, None])
        watcher.until = float("inf")
        with pytest.raises(RuntimeError):  # The pauses are used up.
            list(watcher.lines())
        assert capsys.readouterr().err.count("The store failed: away") == 1
        watcher.until = 0.0
        assert list(watcher.lines()) == []

    def test_no_store(self, make_app: MakeApp) -> None:
        """A store that is away from the start ends the command with 3, as it does any other."""
        app = make_app(config={"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"})
        result = run(app, "watch")
        assert (result.exit_code, result.stdout) == (3, "")

    def test_missing_permission(self, clean_valkey: Server, make_app: MakeApp) -> None:
        """A user who may not listen is told where the permissions are."""
        clean_valkey.client.execute_command("ACL", "SETUSER", "deaf", "on", ">pw", "~*", "+@all")
        try:
            url = f"redis://deaf:pw@127.0.0.1:{clean_valkey.port}/0"
            result = run(make_app(config={"REDIS_URL": url}), "watch")
        finally:
            clean_valkey.client.execute_command("ACL", "DELUSER", "deaf")
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
