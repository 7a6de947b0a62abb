"""Notes of what the served processes did, in files that a crash cannot take back.

Each process appends to a file of its own. A line is written by one call, so a crash leaves it there
as a whole or not at all; who reads meanwhile may see only its beginning. The clock is monotonic and
shared by all processes of the machine, so their times can be compared.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

#: Names the folder of the files, in the environment of the served processes.
FOLDER = "CHAOS_NOTES"

Note = dict[str, Any]


def note(event: str, kind: str = "history", **facts: object) -> None:
    """Write down that something happened now in this process.

    :param kind: which of the process's files.
    """
    line = {"event": event, "pid": os.getpid(), "time": time.monotonic(), **facts}
    path = Path(os.environ[FOLDER]) / f"{os.getpid()}.{kind}"
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


def read_notes(folder: Path, kind: str = "history") -> list[Note]:
    """The notes of all processes, in the order of time."""
    texts = (path.read_text() for path in folder.glob(f"*.{kind}"))
    lines = (line for text in texts for line in text.splitlines(keepends=True))
    whole = (json.loads(line) for line in lines if line.endswith("\n"))
    return sorted(whole, key=lambda note: note["time"])


def gate_of(folder: Path, key: str) -> Path:
    """The file that a test makes to end the gated run of a key."""
    return folder / f"open-{key}"
