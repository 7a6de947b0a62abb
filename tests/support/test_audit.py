"""The audit of dependencies: it does not report packages as sound that it knows nothing of."""

from __future__ import annotations

import json
from typing import Any

from tests.support.audit import NO_DATA, report

SOUND = {"name": "flask", "version": "3.1.3", "vulns": []}
UNKNOWN = {"name": "redis", "skip_reason": "not found"}
VULNERABLE = {
    "name": "flask",
    "version": "2.2.4",
    "vulns": [{"id": "PYSEC-2023-62", "fix_versions": ["2.2.5", "2.3.2"]}],
}


def reported(*packages: dict[str, Any]) -> tuple[list[str], int]:
    return report(json.dumps({"dependencies": packages}), "")


def test_service_out_of_reach() -> None:
    """A service that cannot be reached is reported with the reason, and is not a failure."""
    lines, code = report("", "Traceback:\nERROR: api.osv.dev: Name or service not known\n")
    assert lines[0].startswith(f"{NO_DATA}: the advisory service cannot be reached.")
    assert lines[0].endswith("Name or service not known")
    assert code == 0


def test_service_that_knows_nothing() -> None:
    """A service that knows none of the packages is reported as no data."""
    lines, code = reported(UNKNOWN, UNKNOWN)
    assert lines == [f"{NO_DATA}: the advisory service knows none of the 2 packages."]
    assert code == 0


def test_what_is_known() -> None:
    """Packages that were looked up are counted; those that were not are named."""
    assert reported(SOUND, UNKNOWN) == (
        [
            "1 of 2 packages have been looked up.",
            f"{NO_DATA} of redis",
            "No vulnerability is known.",
        ],
        0,
    )


def test_vulnerability() -> None:
    """A known vulnerability is a failure, and is reported with the versions that fix it."""
    lines, code = reported(VULNERABLE, UNKNOWN)
    assert lines[-1] == "flask 2.2.4: PYSEC-2023-62, fixed in 2.2.5, 2.3.2"
    assert code == 1
