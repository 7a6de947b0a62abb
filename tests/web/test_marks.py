"""Marks: what views, classes of views and blueprints say of themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ClassVar

import pytest
from flask.views import MethodView, View

from flask_idempotent import idempotent
from flask_idempotent.web.marks import (
    EXEMPT,
    layers_of,
    mark_of,
    mark_placed,
    marks_of,
    methods_of,
)
from tests.support.views import LazyView


@idempotent(expire=7)
def decorated() -> str:
    return "ran"


class Orders(MethodView):
    @idempotent
    def post(self) -> str:
        return "ran"

    def get(self) -> str:
        return "ran"


def logged(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def wrapper(*args: Any) -> Any:
        return view(*args)

    return wrapper


class TestMarksOf:
    def test_decorated(self) -> None:
        """A decorated view has its keywords, for every method."""
        assert marks_of(decorated, "POST") == marks_of(decorated, "GET") == [{"expire": 7}]

    def test_exempt(self) -> None:
        """An exempt view differs from one without a mark."""

        def log() -> str:
            return "ran"

        assert marks_of(log, "POST") == []
        assert marks_of(idempotent.exempt(log), "POST") == [EXEMPT]
        assert mark_of(log) is EXEMPT

    def test_one_method_of_a_class(self) -> None:
        """Of a class-based view one method may be decorated and another not."""
        view = Orders.as_view("orders")
        assert marks_of(view, "POST") == [{}]
        assert marks_of(view, "GET") == marks_of(view, "DELETE") == []

    def test_nearest_first(self) -> None:
        """A method counts for more than its class, and that for more than what is around it."""

        @idempotent.exempt
        class Refunds(MethodView):
            decorators: ClassVar = [idempotent(expire=1), logged]

            @idempotent(expire=2)
            def post(self) -> str:
                return "ran"

        view = Refunds.as_view("refunds")
        assert marks_of(view, "POST") == [{"expire": 2}, EXEMPT, {"expire": 1}]

    @pytest.mark.parametrize(
        ("decorators", "of_post", "of_put"),
        [
            pytest.param([idempotent], [{}], [{}], id="bare"),
            pytest.param([logged, idempotent(lease=5)], [{"lease": 5}], [{"lease": 5}], id="outer"),
            pytest.param([idempotent(lease=5), logged], [{"lease": 5}], [{"lease": 5}], id="inner"),
            pytest.param({"post": [idempotent(lease=5)]}, [{"lease": 5}], [], id="mapping"),
        ],
    )
    def test_method_decorators(self, decorators: Any, of_post: Any, of_put: Any) -> None:
        """Resources of REST frameworks decorate their methods at each request, from a list."""

        class Resource(MethodView):
            method_decorators: ClassVar = decorators

            def post(self) -> str:
                return "ran"

            put = post

        view = Resource.as_view("resource")
        assert marks_of(view, "POST") == of_post
        assert marks_of(view, "PUT") == of_put

    def test_dispatching_of_a_class(self) -> None:
        """A ``View`` may have its ``dispatch_request`` decorated."""

        class Order(View):
            @idempotent(expire=3)
            def dispatch_request(self) -> str:
                return "ran"

        assert marks_of(Order.as_view("order"), "POST") == [{"expire": 3}]

    @pytest.mark.parametrize(
        "wrap",
        [
            pytest.param(logged, id="functools.wraps"),
            pytest.param(lambda view: partial(view, 1), id="functools.partial"),
            pytest.param(lambda view: LazyView(lambda: view), id="lazy view"),
            pytest.param(lambda view: logged(partial(logged(view), 1)), id="all of them"),
        ],
    )
    def test_below_something(self, wrap: Callable[[object], object]) -> None:
        """A mark is seen through whatever says what it wraps, and counts once."""
        assert marks_of(wrap(decorated), "POST") == [{"expire": 7}]

    def test_bound_method(self) -> None:
        """A mark is seen on a method of an object."""

        class Shop:
            @idempotent(expire=4)
            def order(self) -> str:
                return "ran"

        assert marks_of(Shop().order, "POST") == [{"expire": 4}]

    def test_no_view(self) -> None:
        """Objects that are not views have no marks."""
        assert marks_of(None, "POST") == marks_of(object(), "POST") == []


class TestLayersOf:
    def test_function(self) -> None:
        """A decorated function has two layers."""
        inside = decorated.__wrapped__  # type: ignore[attr-defined]
        assert list(layers_of(decorated, "")) == [decorated, inside]

    def test_class(self) -> None:
        """A class-based view has its class, the class's dispatching, and one method."""
        view = Orders.as_view("orders")
        outer = [view, Orders, Orders.dispatch_request]
        assert list(layers_of(view, "GET")) == [*outer, Orders.get]
        inside = Orders.post.__wrapped__  # type: ignore[attr-defined]
        assert list(layers_of(view, "POST")) == [*outer, Orders.post, inside]
        assert set(methods_of(view)) == {"GET", "POST"}
        assert list(methods_of(decorated)) == [""]

    def test_lazy_view(self) -> None:
        """A lazy view is imported only when that is asked for."""
        lazy = LazyView(lambda: decorated)
        assert list(layers_of(lazy, "")) == [lazy]
        assert decorated in list(layers_of(lazy, "", load=True))
        assert decorated in list(layers_of(lazy, ""))


class PlacedByAnotherThread:
    """A decorated function whose note is taken off after it was read."""

    def __getattr__(self, name: str) -> int:
        return id(self)


def test_placed_by_two_threads() -> None:
    """The first requests of two threads may note at the same time where a function is placed."""
    layer = PlacedByAnotherThread()
    mark_placed(layer)
    assert not vars(layer)
