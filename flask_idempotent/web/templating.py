"""Templates: keys for forms, the script that replaces them, and pages that no cache keeps."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path
from typing import TypeVar

from flask import Request, after_this_request, has_request_context
from markupsafe import Markup
from werkzeug.wrappers import Response

from flask_idempotent.errors import SettingsError
from flask_idempotent.web.flask_compat import current_application, current_request
from flask_idempotent.web.request_state import request_state
from flask_idempotent.web.state import state_of

AnyResponse = TypeVar("AnyResponse", bound=Response)

#: The name of the extension's blueprint, which has its templates and its script.
BLUEPRINT = "flask_idempotent"
#: Where the script is served, below the application's root.
STATIC_URL_PATH = "/_idempotent"
_SCRIPT = "idempotent.js"


def new_key() -> str:
    """Make a key of 128 random bits, as 32 hexadecimal digits.

    In a request, caches are asked not to keep the response: all who get the same page from a cache
    would send the same key.
    """
    if has_request_context():
        request = current_request()
        state = request_state(request)
        if not state.renders_key:
            state.renders_key = True
            after_this_request(partial(keep_out_of_caches, request))
    return secrets.token_hex(16)


def keep_out_of_caches(request: Request, response: AnyResponse) -> AnyResponse:
    """Ask caches not to keep a page with a key (RFC 9111, 5.2.2), unless its view asked otherwise.

    :param request: the request that the page answers.
    """
    if request_state(request).renders_key:
        response.headers.setdefault("Cache-Control", "private, no-store")
    return response


def field_name() -> str:
    """The name of the form field that carries the key (``IDEMPOTENT_FIELD``).

    :raises SettingsError: when the setting is None.
    """
    field = state_of(current_application()).settings().field
    if field is None:
        raise SettingsError(
            "a form cannot carry an idempotency key, because IDEMPOTENT_FIELD is None: set it to a "
            "name, such as '__idempotent_key', or remove idempotent_input() and "
            "idempotent_script() from the page"
        )
    return field


def hidden_input(key: str) -> Markup:
    """Write the hidden form field that carries a key."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(field_name(), key)


def script_tag(nonce: str | None) -> Markup:
    """Write the tag of the script that gives forms that stay on their page new keys.

    :param nonce: the nonce of the page's Content-Security-Policy, if it has one.
    """
    attributes = Markup(' data-field="{}"').format(field_name())
    if nonce:
        attributes += Markup(' nonce="{}"').format(nonce)
    app = current_application()
    if app.url_map.host_matching:
        # No rule matches every host, so there is no address that the script could have.
        source = (Path(__file__).with_name("static") / _SCRIPT).read_text()
        # The script is a file of this package.
        script = Markup(source)  # nosec B704
        return Markup("<script{}>{}</script>").format(attributes, script)
    address = app.url_for(f"{BLUEPRINT}.static", filename=_SCRIPT)
    return Markup('<script src="{}"{} defer></script>').format(address, attributes)
