"""Runs the console blocks of the README and the docs, and compares what they show.

A block has commands behind ``$``, each followed by what it prints. The shown lines must come in
their order; others may stand between them. What differs from run to run, such as a time or a
digest, need only be of the same kind. A page's commands run in a folder of its own. In it lie the
page's files: blocks whose first line is a comment with a file's name, such as ``# app.py``; where
a page has none, there is the README's. A web server goes on running in the background, on a free
port that replaces the page's, until the page starts another or ends.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sybil import Example

from tests.support.polling import until
from tests.support.redis_servers import free_port, missing

#: Commands that no test runs, by their first words, and why.
NOT_RUN = {
    "pip install": "the tests run on what is installed",
    "python3 -m venv": "the tests have their environment",
    ". .venv/bin/activate": "the tests have their environment",
    "make test": "it is what runs this",
    "make bench": "it measures for minutes, and needs a machine that does nothing else",
    ".venv-bench/bin/python": "it measures, like make bench",
    ".venv/bin/python -m pytest": "it is what runs this",
    "pytest": "one of the shown tests fails; the page's own checks run them",
    ".venv/bin/python -m tests.examples.pictures": "it needs the built pages and writes a file",
}
#: Web servers, by how their command begins, and the port that pages show for each.
SERVERS = {"flask run": 5000, "flask --app form run": 5000, "gunicorn": 8000}

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

#: What differs from run to run. Columns are as wide as what is in them.
VARYING = (
    r"IDEMPOTENT_\{[\w-]{22}\}",
    r"urn:uuid:[0-9a-f-]{36}",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00",
    r"[\d.]+ (?:ms|s|min|h|d)(?: \d+ (?:s|min|h))?\b",
    r"\d+ bytes",
    r"[\w.-]+, process \d+",
    r"valkey [\d.]+\w",
    r"unix://\S+|(?<=larger ones go to )\S+",
    r" {2,}",
)

_VARYING = re.compile("|".join(f"({pattern})" for pattern in VARYING))
_FILE = re.compile(r"^```\w*\n# ([\w.-]+\.\w+|Dockerfile)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SERVER_LOG = "server.log"
_COMMAND = re.compile(r"^\$ (.*(?:(?<=\\)\n.*)*)\n?((?:(?!\$ ).*\n?)*)", re.MULTILINE)


class Console:
    """Runs the commands of one page."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="page-"))
        self._ports: dict[int, int] = {}
        self._written: dict[str, str] = {}
        self._server: subprocess.Popen[bytes] | None = None
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # What processes share by way of the temporary folder stays on this page.
        self._environment = os.environ | {"PATH": path, "TMPDIR": str(self.folder)}

    def write(self, name: str, content: str) -> None:
        """Write one of the page's files, unless it has this content already."""
        if self._written.get(name) != content:
            # A server that an earlier block started may be importing it.
            (self.folder / name).write_text(content)
            self._written[name] = content

    def run(self, command: str, shown: str) -> None:
        """Run one command and compare what it prints with what the page shows."""
        if any(command.startswith(beginning) for beginning in NOT_RUN):
            return
        program = re.sub(r"^(\w+=\S+[\s\\]+)*", "", command)
        for beginning, port in SERVERS.items():
            if program.startswith(beginning):
                self._serve(command, port)
                return
        if command.startswith("curl") and shutil.which("curl") is None:
            missing("curl")
        printed = self._run(command)
        assert shows(shown, printed), f"$ {command}\nprinted:\n{printed}\nand not:\n{shown}"

    def _run(self, command: str) -> str:
        for shown, port in self._ports.items():
            command = command.replace(f":{shown}/", f":{port}/")
        folder = ROOT if command.startswith("make ") else self.folder
        with subprocess.Popen(
            command, shell=True, cwd=folder, env=self._environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as running:  # fmt: skip
            try:
                printed, _ = running.communicate(timeout=50)
            finally:
                if running.poll() is None:
                    os.killpg(running.pid, signal.SIGKILL)
        assert running.returncode == 0, f"$ {command}\n{printed}\n{self._server_output()}"
        return printed

    def _server_output(self) -> str:
        log = self.folder / _SERVER_LOG
        return f"the server printed:\n{log.read_text()}" if log.exists() else ""

    def _serve(self, command: str, shown: int) -> None:
        self._end_server()
        port = self._ports[shown] = free_port()
        bound = {"FLASK_RUN_PORT": str(port), "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{port}"}
        output = self.folder / _SERVER_LOG
        with output.open("wb") as log:
            server = self._server = subprocess.Popen(
                command, shell=True, cwd=self.folder, env=self._environment | bound,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

        def listens() -> bool:
            assert server.poll() is None, f"$ {command}\n{output.read_text()}"
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0

        until(listens, 30)

    def _end_server(self) -> None:
        if self._server is not None and self._server.poll() is None:
            os.killpg(self._server.pid, signal.SIGINT)
            try:
                self._server.wait(5)
            except subprocess.TimeoutExpired:
                # A worker of gunicorn misses the signal to end between its fork and its
                # handlers; gunicorn would give it 30 seconds.
                os.killpg(self._server.pid, signal.SIGKILL)
                self._server.wait()

    def close(self) -> None:
        self._end_server()
        shutil.rmtree(self.folder, ignore_errors=True)


def shows(shown: str, printed: str) -> bool:
    """Say whether the shown lines were printed, in their order."""
    lines = iter(_without_varying(printed).splitlines())
    wanted = (line for line in _without_varying(shown).splitlines() if line)
    return all(line in lines for line in wanted)


def _without_varying(text: str) -> str:
    """Join wrapped lines, and replace what differs from run to run by its pattern's number."""
    text = re.sub(r"\n {9,}", " ", text)
    return _VARYING.sub(lambda match: f"<{match.lastindex}>", text)


def run_block(example: Example) -> None:
    """Run one block, in the page's folder with the page's files."""
    if "_console" not in example.namespace:
        example.namespace["_console"] = Console()
    console: Console = example.namespace["_console"]
    # The last content of each file counts.
    files = dict(_FILE.findall(README + example.document.text[: example.start]))
    for name, content in files.items():
        console.write(name, content)
    for command, shown in _COMMAND.findall(example.parsed):
        console.run(command, shown)


def close(namespace: dict[str, Any]) -> None:
    """End what a page has started."""
    if "_console" in namespace:
        namespace["_console"].close()
