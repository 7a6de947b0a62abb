"""``python -m tests.golden`` writes the golden files of this release.

It leaves the file of a layout alone that is there: other releases have written such records.
"""

from __future__ import annotations

import json
from pathlib import Path

from flask_idempotent._record_header import VERSION
from tests.golden.contents import written
from tests.golden.requests import REQUESTS, identity
from tests.golden.surface import surface

FOLDER = Path(__file__).parent


def write(name: str, value: object) -> None:
    write_text(name, json.dumps(value, indent=1, ensure_ascii=False))


def write_text(name: str, text: str) -> None:
    (FOLDER / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    if not (FOLDER / f"layout-{VERSION}.json").exists():
        write(f"layout-{VERSION}.json", written())
    write("requests.json", {name: identity(golden) for name, golden in REQUESTS.items()})
    write_text("surface.txt", "\n".join(surface()))
