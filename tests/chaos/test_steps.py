"""A view of three steps: whatever dies, no service does twice what it must do once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.history import History
from tests.chaos.notes import FOLDER
from tests.chaos.serving import FULL, ROOT, Row, kill_workers, serve, sized
from tests.chaos.step_cases import key_of
from tests.chaos.step_promises import Calls, calls_by_key, keeps_its_steps
from tests.chaos.storms import Storm
from tests.support.redis_servers import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

#: The commands of a run in their order, and those with which the next one begins.
COMMANDS = ["claim", "end-reserve", "end-charge", "begin-pay", "end-pay", "complete"]
POINTS = [f"{when}-{command}" for command in COMMANDS for when in ("before", "after")]
LATER = [f"{when}-{what}" for what in ("contend", "read_steps") for when in ("before", "after")]
#: Each alone, and each after a first death that leaves something to go on with.
AGAIN = sized([*LATER, *POINTS[6:]], LATER)
CASES = POINTS + [f"after-end-charge,{point}" for point in AGAIN]
#: Where it is unknown whether the payment was made.
UNKNOWN = [case for case in CASES if case.endswith(("after-begin-pay", "before-end-pay"))]
LEASE = 1.0


@pytest.fixture
def calls(clean_valkey: Server, tmp_path: Path) -> dict[str, Calls]:
    """What the services have noted, after a request to each path was sent until it was answered."""
    paths = [f"/asked/{case}" for case in CASES]
    paths += [f"/unknown/{case}" for case in sized(CASES, UNKNOWN)]
    # A killed process leaves half a coverage file.
    environment = {name: value for name, value in os.environ.items() if "COV" not in name}
    config = {"REDIS_URL": clean_valkey.url, "IDEMPOTENT_EXPIRE": 900}
    environment |= {FOLDER: str(tmp_path), "CHAOS_CONFIG": json.dumps(config)}
    command = [sys.executable, "-m", "tests.chaos.step_cases", *paths]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    noted = calls_by_key(tmp_path)
    return {path: noted[key_of(path)] for path in paths}


def test_killed_at_each_point(calls: dict[str, Calls]) -> None:
    """A process that dies before or after any command leaves steps to go on with.

    What was recorded is not called again. With ``key_for`` there is one charge in all runs. A
    payment with ``once`` and no key is never made twice: the function is asked, or the client
    learns that it is unknown.
    """
    row = Row("steps: killed before and after each command")
    for path, of_path in calls.items():
        kills, responses = of_path.of("kill"), of_path.of("response")
        row.requests += len(responses) + len(kills)
        row.kills += len(kills)
        row.runs += len(of_path.of("run"))
        row.require(len(kills) == path.count(",") + 1, f"{path}: not killed at each point")
        keeps_its_steps(row, of_path)
        is_unknown = path.startswith("/unknown/") and path.endswith(tuple(UNKNOWN))
        expected = (409, "outcome-unknown") if is_unknown else (201, "")
        answers = [(note["status"], note["problem"]) for note in responses]
        row.require(answers == [expected], f"{path}: answered {answers}, not {expected}")
    asked = {path for path, of_path in calls.items() if of_path.was_asked_about("pay")}
    row.require(asked == {f"/asked/{case}" for case in UNKNOWN}, f"asked about {asked}")
    row.conclude()


@pytest.mark.skipif(not FULL, reason="the short form is above")
@pytest.mark.parametrize("view", ["asked", "unknown"])
def test_killed_at_random(clean_valkey: Server, tmp_path: Path, view: str) -> None:
    """The same while clients retry and workers are killed at random."""

    def path(dice: random.Random) -> str:
        return f"/{view}/{dice.randint(0, 100)}"

    with serve(
        tmp_path, clean_valkey.url, "--preload", workers=4, app="tests.chaos.step_app:app",
        IDEMPOTENT_LEASE=LEASE,
    ) as served:  # fmt: skip
        storm = Storm(served, 24, f"steps-{view}")
        storm.during(
            lambda: kill_workers(served, signal.SIGKILL, count=80, pause=0.5, seed=view), path
        )
        history, requests = History(tmp_path, LEASE), storm.clients.sent + len(storm.later)
        row = Row(f"steps: SIGKILL at random, {view}", requests, history.count,
                  len(served.strikes), storm.clients.faults.total())  # fmt: skip
        row.require(not storm.unanswered, f"never answered: {storm.unanswered}")
        noted = calls_by_key(tmp_path)
        for of_key in noted.values():
            # A function that was asked about an owner that only paused may have paid meanwhile.
            if of_key.key not in history.late:
                keeps_its_steps(row, of_key)
        for answer in storm.clients.answers + storm.later:
            is_right = answer.status == 201 or answer.problem == "outcome-unknown"
            row.require(is_right, f"{answer.key}: {answer.status} {answer.body[:200]!r}")
        row.conclude()
    unknown = [answer for answer in storm.later if answer.problem == "outcome-unknown"]
    asked = [of_key for of_key in noted.values() if of_key.was_asked_about("pay")]
    assert asked if view == "asked" else unknown, "no kill hit a payment"
