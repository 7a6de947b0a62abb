"""Marks: what a view says of itself."""

from __future__ import annotations

from flask.views import MethodView

from flask_idempotent import idempotent
from flask_idempotent.marks import EXEMPT, layers_of, own_overrides


@idempotent(expire=7)
def decorated() -> str:
    return "ran"


class Orders(MethodView):
    @idempotent
    def post(self) -> str:
        return "ran"

    def get(self) -> str:
        return "ran"


class TestOwnOverrides:
    def test_decorated(self) -> None:
        """A decorated view has its keywords, for every method."""
        assert own_overrides(decorated, "POST") == own_overrides(decorated, "GET") == {"expire": 7}

    def test_exempt(self) -> None:
        """An exempt view is told from one that says nothing."""

        def log() -> str:
            return "ran"

        assert own_overrides(log, "POST") is None
        assert own_overrides(idempotent.exempt(log), "POST") is EXEMPT

    def test_one_method_of_a_class(self) -> None:
        """Of a class-based view one method may be decorated and another not."""
        view = Orders.as_view("orders")
        assert own_overrides(view, "POST") == {}
        assert own_overrides(view, "GET") is None
        assert own_overrides(view, "DELETE") is None

    def test_no_view(self) -> None:
        """What is no view says nothing."""
        assert own_overrides(None, "POST") is None


class TestLayersOf:
    def test_function(self) -> None:
        """A decorated function has two layers."""
        assert list(layers_of(decorated)) == [decorated, decorated.__wrapped__]  # type: ignore[attr-defined]

    def test_class(self) -> None:
        """A class-based view has those of its methods."""
        view = Orders.as_view("orders")
        assert set(layers_of(view)) == {
            view, Orders.get, Orders.post, Orders.post.__wrapped__  # type: ignore[attr-defined]
        }  # fmt: skip

    def test_other_objects(self) -> None:
        """What is no function has none."""
        assert list(layers_of(object())) == []
