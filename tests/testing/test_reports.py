"""What the report of a fault names, and what it leaves as it was."""

from __future__ import annotations

from functools import partial

import pytest

from flask_idempotent import Idempotent
from flask_idempotent.testing import NotIdempotent
from tests.testing.apps import bare
from tests.testing.faulty_apps import check, slashed


class TestReport:
    def test_names_the_view(self) -> None:
        """The message names the function and its endpoint."""
        app = bare()
        app.add_url_rule("/orders", "order", slashed, methods=["POST"])
        with pytest.raises(NotIdempotent, match=r"faulty_apps\.slashed, endpoint 'order'"):
            check(app)

    def test_names_what_has_no_name(self) -> None:
        """A view without a name of its own is named by its kind."""
        app = bare()
        app.add_url_rule("/orders", "order", partial(str, "ran"), methods=["POST"])
        with pytest.raises(NotIdempotent, match=r"functools\.partial, endpoint 'order'"):
            check(app)

    def test_gives_the_store_back(self) -> None:
        """The store comes back after a failure too."""
        app = bare()
        Idempotent(app)
        engine = app.extensions["idempotent"].engine
        with pytest.raises(NotIdempotent):
            check(app)
        assert app.extensions["idempotent"].engine is engine
