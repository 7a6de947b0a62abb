"""The pytest plugin of Flask-Idempotent: the fixture ``idempotency``.

It is not part of the package: pytest loads it in every run, before coverage is measured, and
loading it must neither import Flask nor take time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flask_idempotent.testing import Idempotency

# So that a failure shows the values that were compared.
pytest.register_assert_rewrite("flask_idempotent.testing.contract")


@pytest.fixture
def idempotency(request: pytest.FixtureRequest) -> Iterator[Idempotency]:
    """Idempotency keys under test: a fresh store, a clock to advance, ``assert_idempotent``.

    The application is the value of the fixture ``app``, or else that of the client.
    """
    from flask import Flask

    from flask_idempotent.testing import Idempotency

    with Idempotency() as under_test:
        try:
            app = request.getfixturevalue("app")
        except pytest.FixtureLookupError as error:
            if error.argname != "app":
                raise
        else:
            # Other frameworks use that name too.
            if isinstance(app, Flask):
                under_test.use(app)
        yield under_test
