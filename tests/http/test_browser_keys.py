"""Keys that a browser adds to a request by itself."""

from __future__ import annotations

from typing import Any

import pytest

from flask_idempotent.http.keys import find_key
from flask_idempotent.problems import KeyInvalid
from flask_idempotent.settings import resolve
from tests.support.keys import ask, find

#: As Firefox and Waterfox write it: an unsigned number of 64 bits, quoted.
BROWSER = '"12345678901234567890"'
NAVIGATION = {"HTTP_IDEMPOTENCY_KEY": BROWSER, "HTTP_SEC_FETCH_MODE": "navigate"}


class TestBrowserKeys:
    """K11: a browser's own key is new for each request, so it does not count."""

    @pytest.mark.parametrize("value", [BROWSER, "k", '"k"', "", "a,b"])
    def test_k11_navigation(self, value: str) -> None:
        """The header does not count on a navigation, on which no script can set it."""
        navigation = {**NAVIGATION, "HTTP_IDEMPOTENCY_KEY": value}
        assert find(**navigation) is None
        assert find(form=("k",), **navigation) == "k"

    def test_k11_setting(self) -> None:
        """With ``IDEMPOTENT_BROWSER_KEYS`` it counts there too, unless there is another key."""
        config = {"IDEMPOTENT_BROWSER_KEYS": True}
        assert find(config, **NAVIGATION) == BROWSER.strip('"')
        assert find(config, form=("k",), **NAVIGATION) == "k"
        with pytest.raises(KeyInvalid, match="is empty"):
            find(config, **{**NAVIGATION, "HTTP_IDEMPOTENCY_KEY": ""})

    @pytest.mark.parametrize("mode", [None, "cors", "same-origin", "no-cors"])
    @pytest.mark.parametrize("value", [BROWSER, '"0"', ' "1"\t'])
    @pytest.mark.parametrize(
        "place",
        [
            {"form": ("k",)},
            {"path": "/?__idempotent_key=k"},
            {"HTTP_X_IDEMPOTENT_KEY": "k"},
        ],
    )
    def test_k11_another_key_wins(
        self, place: dict[str, Any], value: str, mode: str | None
    ) -> None:
        """Digits in quotes count only where there is no other key, on every kind of request."""
        environ = {"HTTP_IDEMPOTENCY_KEY": value}
        if mode is not None:
            environ["HTTP_SEC_FETCH_MODE"] = mode
        assert find(**environ, **place) == "k"
        assert find(**environ) == value.strip('" \t')

    @pytest.mark.parametrize("value", ["12", '"12a"', '"-1"', '"1.5"', '"12";p', '"1", "2"'])
    def test_k11_a_clients_own_key(self, value: str) -> None:
        """Any other header is the client's own, and must agree with its other keys."""
        with pytest.raises(KeyInvalid):
            find(form=("k",), HTTP_IDEMPOTENCY_KEY=value)

    def test_k11_other_keys_must_agree(self) -> None:
        """The other keys must be usable and agree."""
        with pytest.raises(KeyInvalid, match="the header X-Idempotent-Key and the form"):
            find(form=("b",), HTTP_X_IDEMPOTENT_KEY="a", HTTP_IDEMPOTENCY_KEY=BROWSER)
        with pytest.raises(KeyInvalid, match="is empty"):
            find(form=("",), HTTP_IDEMPOTENCY_KEY=BROWSER)

    @pytest.mark.parametrize("found", [None, "", "k"])
    def test_k11_finders_win(self, found: str | None) -> None:
        """The application's own functions are called before digits in quotes count."""
        request = ask(HTTP_IDEMPOTENCY_KEY='"1"')
        assert find_key(request, resolve({}), (), [lambda _: found]) == (found or "1")

    def test_k11_only_the_standard_header(self) -> None:
        """No browser sets another header that the application reads."""
        config = {"IDEMPOTENT_HEADERS": ["X-Once"]}
        assert find(config, HTTP_X_ONCE='"1"', **NAVIGATION) == "1"
        assert find(config, HTTP_IDEMPOTENCY_KEY=BROWSER) is None
