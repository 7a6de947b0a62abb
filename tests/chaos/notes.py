"""The history: what the served processes did, in files that no crash can take back.

Each process appends to a file of its own. A line is written by one call, so it is there as a whole
or not at all, whatever happens to the process. The clock is monotonic and the machine's own, so
the times of all processes can be compared.
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
    """Write down that something happened, now, in this process.

    :param kind: which of the process's files.
    """
    line = {"event": event, "pid": os.getpid(), "time": time.monotonic(), **facts}
    path = Path(os.environ[FOLDER]) / f"{os.getpid()}.{kind}"
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


def read_notes(folder: Path, kind: str = "history") -> list[Note]:
    """Everything that all processes noted, in the order of time."""
    lines = (line for path in folder.glob(f"*.{kind}") for line in path.read_text().splitlines())
    return sorted(map(json.loads, lines), key=lambda note: note["time"])
