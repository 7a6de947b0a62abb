"""Tallies: requests counted by what came of them."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_idempotent.tallies import Tally, hit_rate, tallies_of


class Counts(Tally):
    def requests(self) -> dict[str, int]:
        return {}


def test_found_among_extensions() -> None:
    """Whatever counts an application's requests is found among its extensions, and nothing else."""
    app = Flask("tests")
    counts = Counts()
    app.extensions |= {"other": object(), "counts": counts}
    assert list(tallies_of(app)) == [counts]


@pytest.mark.parametrize(
    ("requests", "rate"),
    [
        ({"claimed": 3, "replayed": 1, "in-progress": 9}, 0.25),
        ({"claimed": 3}, 0.0),
        ({"replayed": 1}, 1.0),
        ({"key-missing": 1}, None),
    ],
)
def test_hit_rate(requests: dict[str, int], rate: float | None) -> None:
    """The hit rate is of the requests that got a response, stored or new, and of no others."""
    assert hit_rate(requests) == rate
