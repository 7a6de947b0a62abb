"""Two releases share one store during a deployment: what each reads of the other.

``layout-1.json`` has records and steps as releases with layout 1 have written them. Every later
release must read them, so files of earlier layouts stay when ``python -m tests.golden`` writes that
of a new one. ``requests.json`` has the storage keys, scopes and fingerprints of requests. A release
that changes one of these is a major one, and its notes say how to deploy it: until all processes
are replaced, a retry that reaches another release than its first request runs the view again, or
gets 422.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flask_idempotent._record_header import VERSION
from flask_idempotent.http.keys import storage_key
from tests.golden.contents import expected, read, written
from tests.golden.requests import REQUESTS, identity

FOLDER = Path(__file__).parent
LAYOUTS = sorted(FOLDER.glob("layout-*.json"))
IDENTITIES = json.loads((FOLDER / "requests.json").read_text(encoding="utf-8"))


class TestLayout:
    @pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.stem)
    def test_is_read(self, path: Path) -> None:
        """What any release has written is read, records and steps, in the clear and sealed."""
        for kind, contents in json.loads(path.read_text()).items():
            for name, digits in contents.items():
                assert read(kind, bytes.fromhex(digits)) == expected(kind, name), (kind, name)

    def test_each_layout_has_a_file(self) -> None:
        """There is a file for this release's layout, and for each before it."""
        assert [path.stem for path in LAYOUTS] == [f"layout-{n}" for n in range(1, VERSION + 1)]

    def test_is_written(self) -> None:
        """This release writes the same bytes: a change of the layout is a new version of it."""
        golden = json.loads((FOLDER / f"layout-{VERSION}.json").read_text())
        now = written()
        for contents in (golden["records"], now["records"]):
            # What compresses it depends on the machine.
            del contents["completed, compressed"]
        for kind in ("records", "offers", "steps"):
            assert now[kind] == golden[kind]
        # A nonce is random, so of what is sealed the sizes are compared.
        for name, digits in golden["sealed records"].items():
            assert name == "completed, compressed" or len(digits) == len(
                now["sealed records"][name]
            )


class TestRequests:
    def test_table_is_complete(self) -> None:
        """The file has every request of the table."""
        assert list(IDENTITIES) == list(REQUESTS)

    @pytest.mark.parametrize("name", REQUESTS)
    def test_is_known_by(self, name: str) -> None:
        """Storage key, scope and fingerprint of a request are those of every release before."""
        assert identity(REQUESTS[name]) == IDENTITIES[name]

    def test_on_the_command_line(self) -> None:
        """An operator who knows caller and key finds the record by the same name."""
        bearer = IDENTITIES["bearer"]
        assert bearer["storage_key"] == storage_key(
            "IDEMPOTENT_", "golden", bearer["scope"], "5d3b6a1e"
        )
