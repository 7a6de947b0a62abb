"""The scripts, and what they include."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from flask_idempotent import _record_header
from flask_idempotent.records import FINGERPRINT_SIZE, OWNER_SIZE
from flask_idempotent.stores.redis.commands import Script

SCRIPTS = resources.files("flask_idempotent.stores.redis") / "scripts"
NAMES = sorted(
    path.name.removesuffix(".lua") for path in SCRIPTS.iterdir() if path.name.endswith(".lua")
)
PARTS = ["GRACE", "ATTEMPT", "OFFER", "OWNER", "FINGERPRINT", "FIRST_ATTEMPT", "DIED"]


def assignments() -> dict[str, str]:
    """What ``record.lua`` assigns."""
    names: dict[str, str] = {}
    text = (SCRIPTS / "includes" / "record.lua").read_text()
    for left, right in re.findall(r"^local (.+) = (.+)$", text, re.MULTILINE):
        names |= zip(left.split(", "), right.split(", "), strict=True)
    return names


@pytest.mark.parametrize("name", NAMES)
def test_included_files_are_put_in(name: str) -> None:
    """What a server is sent is one text."""
    text = (SCRIPTS / f"{name}.lua").read_text()
    source = Script(name).source.decode()
    for included in re.findall(r'"(includes/\w+)"', text):
        assert (SCRIPTS / f"{included}.lua").read_text() in source
    assert "@include" not in source


def test_layout_of_a_record() -> None:
    """The scripts read a record where this package writes its parts; Lua counts from 1."""
    expected = {"HEADER_SIZE": _record_header.HEADER_SIZE}
    expected |= {"OWNER_SIZE": OWNER_SIZE, "FINGERPRINT_SIZE": FINGERPRINT_SIZE}
    for part in PARTS:
        place = getattr(_record_header, part)
        expected |= {f"{part}_FIRST": place.start + 1, f"{part}_LAST": place.stop}
    states = {"RUNNING": "p", "HELD": "h", "COMPLETED": "c", "RELEASED": "r"}
    assert assignments() == {
        **{name: str(number) for name, number in expected.items()},
        **{name: rf"'\{_record_header.VERSION}{state}'" for name, state in states.items()},
    }
