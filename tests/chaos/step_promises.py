"""The promises of a view with steps, checked against what the called services have noted."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from tests.chaos.notes import Note, read_notes
from tests.chaos.serving import Row


class Calls:
    """What the services have noted for one key."""

    def __init__(self, key: str, notes: list[Note]) -> None:
        self.key = key
        self.notes = notes

    def of(self, event: str, step: str | None = None) -> list[Note]:
        """The notes of an event, in the order of time; those of one step where it is named."""
        return [
            note
            for note in self.notes
            if note["event"] == event and (step is None or note["step"] == step)
        ]

    def was_asked_about(self, step: str) -> bool:
        """Whether a function was asked while this step was open."""
        return any(note["steps"].get(step) == "started" for note in self.of("asked"))


def calls_by_key(folder: Path) -> dict[str, Calls]:
    """What the services have noted for each key."""
    notes: dict[str, list[Note]] = defaultdict(list)
    for note in read_notes(folder, "services"):
        notes[note["key"]].append(note)
    return {key: Calls(key, of_key) for key, of_key in notes.items()}


def keeps_its_steps(row: Row, calls: Calls) -> None:
    """Check one key: whatever happened, nothing was charged or paid twice, or done again."""
    references = {note["reference"] for note in calls.of("call", "charge")}
    row.require(len(references) < 2, f"{calls.key}: {len(references)} charges, under {references}")
    payments = calls.of("call", "pay")
    row.require(len(payments) < 2, f"{calls.key}: paid {len(payments)} times")
    for recorded in calls.of("recorded"):
        later = [
            note for note in calls.of("call", recorded["step"]) if note["time"] > recorded["time"]
        ]
        row.require(not later, f"{calls.key}: {recorded['step']} was recorded and called again")
