"""What several tests of this folder need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.request_bodies import as_file, chunked, ending, with_length


@pytest.fixture(params=[with_length, as_file, ending, chunked], ids=lambda param: param.__name__)
def framing(request: pytest.FixtureRequest) -> Callable[[bytes], dict[str, Any]]:
    """Each way in which a server passes a body on."""
    framing: Callable[[bytes], dict[str, Any]] = request.param
    return framing
