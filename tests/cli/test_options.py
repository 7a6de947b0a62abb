"""What the commands share: exit codes, questions and the entry point."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup

from flask_idempotent.cli import commands
from tests.cli.harness import claim, complete, document, run
from tests.conftest import MakeApp
from tests.support.redis_servers import Server, free_port

DOCS = Path(__file__).parents[2] / "docs"


def test_entry_point(app: Flask) -> None:
    """Flask finds the commands by the name ``idempotent``, in every application."""
    (found,) = entry_points(group="flask.commands", name="idempotent")
    assert found.load() is commands
    result = CliRunner().invoke(FlaskGroup(create_app=lambda: app), ["idempotent", "list"])
    assert result.output == "No records found.\n"


@pytest.mark.parametrize("command", [["list"], ["stats"], ["show", "k"], ["purge", "--all"]])
def test_dead_store(make_app: MakeApp, command: list[str]) -> None:
    """A store that does not answer ends a command with 3 and one line, without the password."""
    app = make_app(config={"REDIS_URL": f"redis://:geheim@127.0.0.1:{free_port()}/0"})
    result = run(app, *command, "--json")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("Error: the store failed: ")
    assert "geheim" not in result.output


def test_missing_permission(clean_valkey: Server, make_app: MakeApp) -> None:
    """A user who may not list keys learns where the permissions are documented."""
    clean_valkey.client.execute_command(
        "ACL", "SETUSER", "shop", "on", ">pw", "~*", "+@all", "-scan"
    )
    url = f"redis://shop:pw@127.0.0.1:{clean_valkey.port}/0"
    result = run(make_app(config={"REDIS_URL": url}), "list")
    clean_valkey.client.execute_command("ACL", "DELUSER", "shop")
    assert result.exit_code == 3
    assert "lists the permissions that an operator needs" in result.stderr


def test_wrong_settings(make_app: MakeApp) -> None:
    """Settings that cannot be used end a command with 2 and say which."""
    app = make_app(wide=False, config={"IDEMPOTENT_EXPIRY": 5})
    result = run(app, "list")
    assert result.exit_code == 2
    assert "IDEMPOTENT_EXPIRY is not a setting. Did you mean IDEMPOTENT_EXPIRE?" in result.stderr


def test_memory(make_app: MakeApp) -> None:
    """With memory:// a note says once that records of other processes are not seen."""
    app = make_app()
    complete(app)
    for command in ["stats"], ["show", "k"], ["show", "k", "--json"]:
        result = run(app, *command)
        assert result.exit_code == 0
        assert result.stderr.count("this command sees only its own") == 1


def test_progress_on_a_terminal(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is shown on a terminal, on the standard error only."""
    for number in range(3):
        complete(app, str(number))
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
    result = run(app, "purge", "--all", "--yes", "--json")
    assert "Deleting" in result.stderr
    assert "3/3" in result.stderr
    assert result.stdout == '{\n  "deleted": 3,\n  "running": 0\n}\n'


def test_permissions_of_the_pages(clean_valkey: Server, make_app: MakeApp) -> None:
    """Every command works with the permissions of the two pages and no others."""
    stores, commands_page = ((DOCS / name).read_text() for name in ("stores.md", "command-line.md"))
    user = re.search(r"^ACL SETUSER .*?(?=^```)", stores, re.DOTALL | re.MULTILINE)
    more = re.search(r"^\+scan .*$", commands_page, re.MULTILINE)
    assert user is not None
    assert more is not None
    clean_valkey.client.execute_command(*user[0].split(), *more[0].split())
    try:
        url = f"redis://shop:password@127.0.0.1:{clean_valkey.port}/0"
        app = make_app(config={"REDIS_URL": url})
        complete(app)
        claim(app, "other")
        assert {record["waiters"] for record in document(app, "list")} == {0}
        for command in ["show k", "stats", "watch --for 0", "doctor",
                        "release other --yes --even running", "purge --all --yes"]:  # fmt: skip
            assert run(app, *command.split()).exit_code == 0, command
        levels = {f["check"]: f["level"] for f in document(app, "doctor")}
        assert [levels[c] for c in ("writing", "persistence")] == ["ok", "warning"]
    finally:
        clean_valkey.client.execute_command("ACL", "DELUSER", "shop")


def test_page_has_every_command() -> None:
    """The page of the command line lists the commands, and each its options."""
    page = (DOCS / "command-line.md").read_text()
    listed = {
        line.split("`")[1].split()[0] for line in page.splitlines() if line.startswith("| [`")
    }
    assert listed == set(commands.commands)
    for command in commands.commands.values():
        for option in command.params:
            assert option.name == "key" or option.opts[0] in page, option.opts


@pytest.mark.parametrize("command", commands.commands)
def test_help(app: Flask, command: str) -> None:
    """The help names what an option takes, such as DURATION, and no function of the code."""
    assert "PARSE" not in run(app, command, "--help").stdout
