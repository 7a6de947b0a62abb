"""Claims: a key that is ours while its view runs."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from flask_idempotent.engine.claims import Claim
from flask_idempotent.records import RunningRecord
from tests.support.engines import request


class TestClaim:
    def test_lock_is_of_the_present_kind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A claim's lock is gevent's, even where gevent patched threading after our import."""
        monkeypatch.setattr(threading, "Lock", threading.RLock)
        claim = Claim(request(), RunningRecord(b"o" * 16, b"f" * 16), 0.0)
        assert isinstance(claim.lock, type(threading.RLock()))


class TestKeyFor:
    """Keys for the services that a view calls."""

    def key_for(self, *arguments: Any, attempt: int = 1, **changes: Any) -> str:
        asked = request(**changes)
        record = RunningRecord(bytes(15) + bytes([attempt]), asked.fingerprint, attempt)
        return Claim(asked, record, 0.0).key_for(*arguments)

    def test_is_the_same_in_every_attempt(self) -> None:
        """Each run of a request has the same key, in every release: 22 URL-safe characters."""
        keys = {self.key_for("stripe", attempt=attempt) for attempt in (0, 1, 2)}
        assert keys == {"f4r3UDLq5eacnuD7RZgnug"}
        assert re.fullmatch(r"[A-Za-z0-9_-]{22}", *keys)

    def test_differs(self) -> None:
        """Another storage key, which is caller and key, another payload, name or number differs."""
        keys = [
            self.key_for("stripe"),
            self.key_for("stripe", storage_key="IDEMPOTENT_{other}"),
            self.key_for("stripe", payload="two"),
            self.key_for("mail"),
            self.key_for("stripe", 2),
        ]
        assert len(set(keys)) == len(keys)

    def test_first_number(self) -> None:
        """Without a number it is the first try."""
        assert self.key_for("stripe") == self.key_for("stripe", 1)

    @pytest.mark.parametrize("arguments", [("",), (None,), (b"x",), ("x", 0), ("x", True)])
    def test_wrong_arguments(self, arguments: tuple[Any, ...]) -> None:
        """What names nothing, or is not a number of a try, is refused with an example."""
        with pytest.raises(ValueError, match="such as key_for"):
            self.key_for(*arguments)
