"""The public types: checked by ``make types``, never run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any, assert_type

from flask import Blueprint, Flask, Request, Response
from flask.views import MethodView

from flask_idempotent import Crash, Idempotent, current_claim, idempotent, step, webhooks

app = Flask(__name__)


# The decorator keeps a view's type: bare, with options, async, generators, exempt.


@idempotent
def bare(number: int, *, name: str = "") -> tuple[str, int]:
    return name, number


@idempotent(timeout=5, expire=timedelta(hours=1), lease=2.5, on_crash="hold", required=True)
def with_options(number: int) -> Response:
    return Response(str(number))


# Presets are keywords, and may be changed.


@idempotent(**webhooks.stripe)
def event() -> str:
    return ""


@idempotent(**webhooks.stripe | {"timeout": 2})
def patient_event() -> str:
    return ""


@idempotent(**webhooks.preset("acme", json=("/id", "/event/id"), within=60, patience=5))
def other_event() -> str:
    return ""


@idempotent()
def empty_call() -> Iterator[bytes]:
    yield b""


@idempotent
async def bare_async(number: int) -> str:
    return str(number)


@idempotent(methods=("POST",), ignore_fields={"nonce"}, max_body=0)
async def async_with_options(number: int) -> str:
    return str(number)


@idempotent.exempt
def exempt(number: int) -> str:
    return str(number)


@idempotent.exempt
class ExemptView(MethodView):
    def post(self) -> str:
        return ""


class OwnBlueprint(Blueprint):
    def own(self) -> str:
        return self.name


shop = idempotent.protect(OwnBlueprint("shop", __name__), expire=60, required=True)
shop.own().upper()
idempotent.exempt(shop).own().upper()
ExemptView().post().upper()
idempotent.protect(app)  # type: ignore[type-var]
idempotent.protect(shop, expires=60)  # type: ignore[call-arg]


one: Callable[[int], tuple[str, int]] = bare
two: Callable[[int], Response] = with_options
three: Callable[[], Iterator[bytes]] = empty_call
four: Callable[[int], Awaitable[str]] = bare_async
five: Callable[[int], Awaitable[str]] = async_with_options
six: Callable[[int], str] = exempt

bare(1, name="a")[1].bit_length()
bare("1")  # type: ignore[arg-type]
bare(1, title="a")  # type: ignore[call-arg]
with_options(1).status_code.bit_length()
with_options("1")  # type: ignore[arg-type]
exempt(b"1")  # type: ignore[arg-type]
seven: Callable[[str], str] = exempt  # type: ignore[assignment]


async def awaited() -> str:
    await bare_async("1")  # type: ignore[arg-type]
    return await bare_async(1) + await async_with_options(2)


app.post("/bare/<int:number>")(bare)
app.post("/async/<int:number>")(bare_async)


class Orders(MethodView):
    decorators = [idempotent, idempotent(expire=60)]  # noqa: RUF012

    @idempotent
    def post(self, number: int) -> str:
        return str(number)


Orders().post(1).upper()
Orders().post("1")  # type: ignore[arg-type]


# A wrong keyword or value is an error where it is written.

idempotent(expires=5)  # type: ignore[call-overload]
idempotent(timeout="5")  # type: ignore[call-overload]
idempotent(on_crash="again")  # type: ignore[call-overload]
idempotent(240)  # type: ignore[call-overload]
Idempotent(app, expires=5)  # type: ignore[call-arg]
Idempotent(app, on_store_error="ignore")  # type: ignore[arg-type]
idempotent(transaction="orders.db")  # type: ignore[call-overload]
Idempotent("app")  # type: ignore[arg-type]


# The hooks keep the type of their function.

extension = Idempotent(expire=60, on_store_error="run", store_if=lambda r: r.status_code < 400)
extension.init_app(app)


@extension.key_finder
def find(request: Request) -> str | None:
    return request.headers.get("X-Token")


@extension.scope
def account(request: Request) -> bytes | None:
    return request.get_data() or None


@extension.fingerprint
def digest(request: Request) -> str:
    return request.path


@extension.key_finder
def number(request: Request) -> int:
    return 1


@extension.key_finder  # type: ignore[type-var]
def wrong(request: Request) -> bytes:
    return b"1"


found: str | None = find(Request({}))
whose: bytes | None = account(Request({}))
what: str = digest(Request({}))
key: str = extension.generate_idempotent_key()
markup: str = extension.make_idempotent_input()
tag: str = extension.make_idempotent_script(nonce="nonce")

# The current claim is typed, and nobody can change it.


def decide(crash: Crash) -> tuple[dict[str, int], int]:
    assert_type(crash.attempt, int)
    assert_type(crash.started, float)
    return {"attempt": crash.attempt}, 201


idempotent(on_crash=decide)
idempotent(on_crash=lambda crash: "rerun" if crash.host else "hold")
Idempotent(on_crash=decide)
idempotent(on_crash=lambda: "rerun")  # type: ignore[arg-type, misc]
if current_claim:
    assert_type(current_claim.key, str)
    assert_type(current_claim.attempt, int)
    assert_type(current_claim.owner, str)
    assert_type(current_claim.held, bool)
    assert_type(current_claim.key_for("stripe"), str)
    assert_type(current_claim.key_for("stripe", 2), str)
    current_claim.release()

# A step has the type of what its function returns; an async one is awaited.


def charge(amount: int, currency: str = "EUR") -> dict[str, int]:
    return {currency: amount}


async def charge_later(amount: int) -> dict[str, int]:
    return {"EUR": amount}


def untyped(amount):  # type: ignore[no-untyped-def]
    return amount


async def steps() -> None:
    assert_type(step("charge", charge, 5, currency="USD"), dict[str, int])
    assert_type(step("charge", charge, 5, once=True), dict[str, int])
    assert_type(await step("later", charge_later, 5, once=True), dict[str, int])
    assert_type(step("count", lambda: 5), int)
    assert_type(step("untyped", untyped, 5), Any)
    step("charge")  # type: ignore[call-arg]
    step(charge, 5)  # type: ignore[arg-type]
    step("charge", charge(5))  # type: ignore[arg-type]
    step("charge", charge, once="yes")  # type: ignore[arg-type]
    step("later", charge_later)["EUR"]  # type: ignore[index]


unknown: object = current_claim.attempts  # type: ignore[attr-defined]
current_claim.attempt = 1  # type: ignore[misc]
