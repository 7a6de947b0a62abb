"""``python -m tests.golden`` writes the golden files of this release."""

from __future__ import annotations

import json
from pathlib import Path

from flask_idempotent._record_header import VERSION
from tests.golden.contents import written
from tests.golden.requests import REQUESTS, identity

FOLDER = Path(__file__).parent


def write(name: str, value: object) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(f"layout-{VERSION}.json", written())
    write("requests.json", {name: identity(golden) for name, golden in REQUESTS.items()})
