"""What several tests of this folder need."""

from __future__ import annotations

import pytest

from tests.support.request_bodies import FRAMINGS, Framing


@pytest.fixture(params=FRAMINGS, ids=lambda param: param.__name__)
def framing(request: pytest.FixtureRequest) -> Framing:
    """Each way in which a server passes a body on."""
    framing: Framing = request.param
    return framing
