"""The demo of Flask-Idempotent: a small shop that orders once, however often the form is sent.

    python docs/examples/shop/app.py [--port N] [--host H]
    gunicorn --chdir docs/examples/shop app:app --workers 2 --threads 4

Both need ``flask-idempotent[embedded,sqlalchemy]``, and neither needs a server: the library starts
a private store, and the orders are in a file of SQLite. Settings come from `create_app` or the
environment, with ``FLASK_`` in front: ``SHOP_ORDER_SECONDS`` is how long an order takes,
``SHOP_DATABASE`` is the path of the database.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    flash,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue

from flask_idempotent import Idempotent, current_claim, idempotent

# This file is run as a script, imported from its own folder, or imported from a package.
if TYPE_CHECKING or __package__:
    from .catalogue import MOST, PRODUCTS, SHELF, Unfit, check
    from .crash import CrashingTransaction, crash_after_commit
    from .ledger import Base, Ledger, Order
    from .problems import problem, problem_page, refusal
    from .reporter import report_signals
    from .serve import main
    from .shared_file import shared_file
else:
    from catalogue import MOST, PRODUCTS, SHELF, Unfit, check
    from crash import CrashingTransaction, crash_after_commit
    from ledger import Base, Ledger, Order
    from problems import problem, problem_page, refusal
    from reporter import report_signals
    from serve import main
    from shared_file import shared_file

shop = Blueprint("shop", __name__)


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Create the shop's application."""
    app = Flask(__name__)
    app.config.from_mapping(REDIS_URL="embedded://", SHOP_ORDER_SECONDS=2, SHOP_DATABASE=None)
    # Signs the session, which has nothing but the message of an order.
    app.config["SECRET_KEY"] = "not a secret, because the whole world can read it here"
    # Short, because the activity page kills workers: their claims end with their leases.
    app.config["IDEMPOTENT_LEASE"] = 5
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})
    books = Ledger(app.config["SHOP_DATABASE"] or shared_file("orders.sqlite3"))
    app.extensions["shop"] = books
    # Orders and responses are committed together, even if the worker is killed right after it.
    Idempotent(app, transaction=CrashingTransaction(books.session, metadata=Base.metadata))
    books.create_tables()
    report_signals(app, books.note)
    app.teardown_appcontext(lambda _: books.session.remove())
    app.register_blueprint(shop)
    for status in (404, 409, 422):
        app.register_error_handler(status, problem)
    app.add_template_filter(clock)
    return app


def ledger(app: Flask = current_app) -> Ledger:
    """Return the ledger of the application's shop."""
    shop_ledger: Ledger = app.extensions["shop"]
    return shop_ledger


@shop.before_request
def count_request() -> None:
    if request.endpoint in ("shop.order", "shop.api_order"):
        sender = "the order form" if request.endpoint == "shop.order" else "an API client"
        ledger().note("received", f"Request received from {sender}")


@shop.get("/")
def index() -> Response:
    """Show the product page; the query selects the product and the quantity."""
    page = render_template(
        "shop.html",
        products=SHELF,
        most=MOST,
        chosen=request.args.get("product", SHELF[0].slug),
        quantity=request.args.get("quantity", 1, type=int),
        # The form always sends "off", and "on" as well where the box is ticked.
        protected=request.args.getlist("protection") != ["off"],
        counts=ledger().counts(),
    )
    answer = make_response(page)
    # Not the library's "no-store": "back" should show this form again, with the same key.
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer


@shop.post("/orders")
@idempotent
def order() -> ResponseReturnValue:
    """Place the order that the form describes."""
    try:
        form = request.form
        placed = place(form.get("product"), form.get("quantity", type=int), form.get("crash"))
    except Unfit as error:
        return problem_page("This order cannot be placed", str(error)), 422
    flash("Order placed")
    return redirect(url_for(".confirmation", number=placed.number), 303)


@shop.post("/api/orders")
@idempotent
def api_order() -> ResponseReturnValue:
    """Place the order that a JSON document describes."""
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        return refusal(400, 'Send a JSON object: {"product": "teapot", "quantity": 2}.')
    try:
        placed = place(body.get("product"), body.get("quantity"), body.get("crash"))
    except Unfit as error:
        return refusal(422, str(error))
    return describe(placed), 201, {"Location": url_for(".api_confirmation", number=placed.number)}


def place(product: object, quantity: object, crash: object) -> Order:
    """Check and place an order, which takes as long as a payment might.

    :param crash: whether to kill the worker once the order is committed.
    """
    chosen, count = check(product, quantity)
    time.sleep(float(current_app.config["SHOP_ORDER_SECONDS"]))
    key = current_claim.key if current_claim else None
    placed = ledger().place(chosen.slug, count, key)
    if crash:
        crash_after_commit()
        ledger().write("crashed", "Committed, and the worker is killed: nobody has an answer", key)
    return placed


@shop.get("/orders/<int:number>")
def confirmation(number: int) -> str:
    placed = ledger().order(number) or abort(404, f"There is no order no. {number}.")
    product = PRODUCTS[placed.product]
    return render_template("order.html", order=placed, product=product, counts=ledger().counts())


@shop.get("/api/orders/<int:number>")
def api_confirmation(number: int) -> ResponseReturnValue:
    placed = ledger().order(number)
    return describe(placed) if placed else refusal(404, f"There is no order no. {number}.")


def describe(order: Order) -> dict[str, Any]:
    """Return an order as the API represents it."""
    page = url_for(".confirmation", number=order.number, _external=True)
    return {**{n: getattr(order, n) for n in ("number", "product", "quantity")}, "page": page}


@shop.get("/activity")
def activity() -> str:
    return render_template("activity.html", counts=ledger().counts(), events=ledger().events())


@shop.get("/activity.json")
def activity_feed() -> ResponseReturnValue:
    """Return what the activity page shows, for the script that updates it."""
    events = [{**asdict(event), "at": clock(event.at)} for event in ledger().events()]
    return jsonify(counts=ledger().counts(), events=events), {"Cache-Control": "no-store"}


def clock(at: float) -> str:
    """Format a time of day to the tenth of a second, so that duplicates can be told apart."""
    return datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-5]


if __name__ == "__main__":
    main(create_app)
else:
    app = create_app()
