"""A server whose pages have forms, with ``idempotent_script()``, for a browser."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask, Response, after_this_request, render_template_string, request, send_file
from markupsafe import Markup
from werkzeug.serving import make_server

from flask_idempotent import Idempotent, idempotent
from tests.support.clients import Gate
from tests.support.redis_servers import missing

HTMX = Path(__file__).parents[2] / ".htmx" / "django_htmx" / "static" / "django_htmx"

#: ``htmx`` is 2 or 4, or None for a page without it; ``body`` is a template itself.
LAYOUT = """<!doctype html>
<title>{{ title }}</title>
{{ idempotent_script(nonce=nonce) }}
{% if htmx %}<script src="/htmx/{{ htmx }}"></script>{% endif %}
<body>{{ body }}</body>
"""

STRICT = (
    "default-src 'none'; script-src {}; connect-src 'self'; form-action 'self'; base-uri 'none'"
)


class FormServer:
    """Serves pages and takes orders: ``page()`` adds a page, ``faults`` says what goes wrong.

    An order is answered with ``answer``, a template, unless there is a fault: the status of a
    refusal, with ``Retry-After`` as ``"403 later"``; ``"half"``: the view runs, and only half of
    the answer arrives; ``"held"``: the request waits for ``gate``.
    """

    def __init__(self) -> None:
        self.faults: deque[int | str] = deque()
        #: The keys of all requests to ``/orders``, and the products of those that ran.
        self.keys: list[str | None] = []
        self.orders: list[str] = []
        self.answer = "ordered"
        self.gate = Gate()
        self.port = 0
        self._pages: dict[str, tuple[str, int | None, str | None, str]] = {}
        self.app = self._make_app()

    def clear(self) -> None:
        """Forget what happened so far."""
        self.faults.clear()
        self.keys.clear()
        self.orders.clear()
        self.answer = "ordered"
        self.gate = Gate()

    def page(
        self,
        body: str,
        *,
        htmx: int | None = None,
        policy: str | None = None,
        layout: str = LAYOUT,
    ) -> str:
        """Add a page.

        :param body: a template.
        :param htmx: which version the page loads.
        :param policy: the sources of scripts in its Content-Security-Policy.
        :param layout: the template around it.
        :returns: its address.
        """
        if htmx is not None and not HTMX.is_dir():
            missing("htmx (make .htmx/stamp)")
        path = f"/pages/{len(self._pages)}"
        self._pages[path] = (body, htmx, policy, layout)
        return f"http://127.0.0.1:{self.port}{path}"

    def _make_app(self) -> Flask:
        app = Flask("form_pages")
        app.config["REDIS_URL"] = "memory://"
        Idempotent(app)
        app.add_url_rule("/pages/<number>", view_func=self._show_page)
        app.add_url_rule("/htmx/<int:version>", view_func=self._send_htmx)
        app.add_url_rule("/check", view_func=idempotent.exempt(lambda: "good"), methods=["POST"])
        app.add_url_rule("/orders", view_func=self._order, methods=["POST", "DELETE"])
        app.before_request(self._refuse)
        return app

    def _show_page(self, number: str) -> Response:
        body, htmx, policy, layout = self._pages[request.path]
        nonce = "of-this-page" if policy and "nonce" in policy else None
        content = Markup(render_template_string(body))
        page = render_template_string(layout, title=number, body=content, htmx=htmx, nonce=nonce)
        response = Response(page)
        response.headers["Cache-Control"] = "private, no-cache"
        if policy is not None:
            response.headers["Content-Security-Policy"] = STRICT.format(policy)
        return response

    def _send_htmx(self, version: int) -> Response:
        return send_file(HTMX / f"htmx-{version}.js", max_age=3600)

    def _refuse(self) -> Response | None:
        if request.path != "/orders":
            return None
        header = request.headers.get("Idempotency-Key")
        self.keys.append(header or request.values.get("__idempotent_key"))
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, int):
            return Response("no order", fault)
        if fault == "403 later":
            return Response("no order", 403, {"Retry-After": "1"})
        if fault == "held":
            self.gate()
        if fault == "half":
            after_this_request(halve)
        return None

    def _order(self) -> str:
        self.orders.append(request.values.get("product", ""))
        return render_template_string(self.answer)


def halve(response: Response) -> Response:
    response.set_data(response.get_data()[:4])
    response.headers["Content-Length"] = "8"
    response.automatically_set_content_length = False
    return response


@contextmanager
def form_server() -> Iterator[FormServer]:
    """Run a server with pages in this process."""
    forms = FormServer()
    # The library's own thread starts with the first key.
    forms.app.test_client().post("/orders", data={"__idempotent_key": "first"})
    server = make_server("127.0.0.1", 0, forms.app, threaded=True)
    forms.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield forms
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        forms.app.extensions["idempotent"].engine.close()
