"""Keys, values that are not keys, and requests with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_idempotent.http.keys import UnusableKey, find_key
from flask_idempotent.problems import KeyInvalid
from flask_idempotent.settings import resolve

UUID = "8e03978e-40d5-43dd-bc93-6894a57f9324"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
BARE = "".join(c for c in VISIBLE if c not in '",;\\')
KEYS = st.text(BARE, min_size=1, max_size=255)

EMPTY = [
    pytest.param("", id="K5-empty"),
    pytest.param(" ", id="K5-space"),
    pytest.param("   ", id="K5-spaces"),
]
#: Not a bare key in any place.
WRONG_BARE = [
    *EMPTY,
    pytest.param("a,b", id="K5-comma"),
    pytest.param("a, a", id="K5-sent-twice-the-same"),
    pytest.param("a;b", id="K3-semicolon"),
    pytest.param('a"b', id="K3-quote"),
    pytest.param('a"', id="K3-quote-at-the-end"),
    pytest.param("a\\b", id="K3-backslash"),
    pytest.param("a b", id="K3-space-inside"),
    pytest.param("a\tb", id="K5-tab-inside"),
    pytest.param("a\x00b", id="K5-nul"),
    pytest.param("a\x7f", id="K5-delete"),
    pytest.param("a\n", id="K5-newline-at-the-end"),
    pytest.param("a\x1f", id="K5-control"),
    pytest.param("schl\xfcssel", id="K5-latin-1"),
    pytest.param("schl\xc3\xbcssel", id="K5-utf-8-as-latin-1"),
    pytest.param("\xa0", id="K5-no-break-space"),
    pytest.param("a" * 256, id="K5-too-long"),
]
ANY_HEADER = (
    st.text(st.characters(max_codepoint=0xFF), max_size=300)
    | st.text('"\\,; aB1?:@%()=.-', max_size=12)
    | st.builds('"{}"'.format, st.text('"\\,; aB1', max_size=8))
)


def ask(path: str = "/", **environ: str) -> Request:
    """A request with exactly these environment variables."""
    return Request({**EnvironBuilder(path, method="POST").get_environ(), **environ})


def find(
    config: dict[str, Any] | None = None, path: str = "/", form: tuple[str, ...] = (), **env: str
) -> str | None:
    return find_key(ask(path, **env), resolve(config or {}), form)


def key_or_none(function: Callable[..., str | None], *arguments: Any, **options: Any) -> str | None:
    """The key, or None where it is unusable."""
    try:
        return function(*arguments, **options)
    except (UnusableKey, KeyInvalid):
        return None
