"""Claims: a key that is ours while its view runs."""

from __future__ import annotations

import threading

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
