"""A rolling deployment: the build before this one and this one serve side by side.

``PREVIOUS`` in the environment is a folder that has the package ``flask_idempotent`` of the build
before, such as an unpacked wheel. Without it that is the newest release of this repository; where
there is none yet, this build takes both parts.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.chaos.history import History
from tests.chaos.notes import read_notes
from tests.chaos.promises import one_answer, ran_once, stored
from tests.chaos.serving import ROOT, ServedApp, serve, sized
from tests.chaos.storms import Storm
from tests.support.polling import until
from tests.support.redis_servers import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

#: Long, so that a busy machine makes no owner look dead.
LEASE = 10.0
WORKERS = sized(4, 1)
PACKAGE = "flask_idempotent"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """A tree with the package of the build before, and these tests."""
    tree = tmp_path / "previous"
    shutil.copytree(ROOT / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    release = _git("describe", "--tags", "--abbrev=0", "--match", "v*")
    if given := os.environ.get("PREVIOUS"):
        shutil.copytree(Path(given) / PACKAGE, tree / PACKAGE)
    elif release:
        archive = tree / "release.tar"
        _git("archive", "--output", str(archive), release, PACKAGE)
        with tarfile.open(archive) as files:
            files.extractall(tree, filter="data")
    else:
        shutil.copytree(ROOT / PACKAGE, tree / PACKAGE)
    return tree


def deploy(served: ServedApp, stack: ExitStack, tree: Path, url: str) -> ServedApp:
    """Start a build beside another, and end the other one in good order."""
    successor = stack.enter_context(
        serve(
            served.folder, url, "--reuse-port", workers=WORKERS, tree=tree, beside=served,
            IDEMPOTENT_LEASE=LEASE,
        )
    )  # fmt: skip
    runs = History(served.folder).count
    until(lambda: History(served.folder).count > runs + 10, 30)
    served.process.send_signal(signal.SIGTERM)
    until(lambda: served.process.poll() is not None, 60)
    return successor


def test_each_build_serves(clean_valkey: Server, tmp_path: Path, previous: Path) -> None:
    """While one build replaces the other, and back, each key runs once and has one answer."""
    url, folder = clean_valkey.url, tmp_path / "history"
    folder.mkdir()
    with (
        ExitStack() as stack,
        serve(
            folder, url, "--reuse-port", workers=WORKERS, tree=previous, IDEMPOTENT_LEASE=LEASE
        ) as served,
    ):
        storm = Storm(served, sized(24, 8), "deployed")

        def happens() -> None:
            current = served
            for tree in islice(cycle([ROOT, previous]), sized(10, 1)):
                current = deploy(current, stack, tree, url)

        storm.during(happens)
        history = History(folder, LEASE)
        row = storm.row("rolling deployment", history, sized(10, 1))
        one_answer(row, history, storm.clients.answers + storm.later)
        ran_once(row, history, storm.keys)
        stored(row, url, storm.keys)
        row.conclude()
    assert trees_that_ran(history, folder) == {str(ROOT), str(previous)}


def trees_that_ran(history: History, folder: Path) -> set[str]:
    """The builds whose workers ran views."""
    notes = read_notes(folder, "workers")
    trees = {note["worker"]: note["tree"] for note in notes if note["event"] == "boot"}
    return {str(trees[run.pid]) for runs in history.runs.values() for run in runs}
