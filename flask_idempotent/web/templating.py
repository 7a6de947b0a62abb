"""Templates: a fresh key for each form that is rendered, and pages that no cache keeps."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TypeVar

from flask import Request, after_this_request, has_request_context
from markupsafe import Markup
from werkzeug.wrappers import Response

from flask_idempotent.errors import SettingsError
from flask_idempotent.web.flask_compat import current_application, current_request
from flask_idempotent.web.request_state import request_state
from flask_idempotent.web.state import state_of

AnyResponse = TypeVar("AnyResponse", bound=Response)


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
            "name, such as '__idempotent_key', or remove idempotent_input() from the form"
        )
    return field


def hidden_input(key: str) -> Markup:
    """Write the hidden form field that carries a key."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(field_name(), key)
