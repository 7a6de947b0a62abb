"""The table of times: how they add up."""

from __future__ import annotations

import pytest

from flask_idempotent import _timing


class TestStoreFailsWithin:
    @pytest.mark.parametrize(
        "times",
        [
            pytest.param(("POOL_TIMEOUT", "CONNECT_TIMEOUT"), id="dead"),
            pytest.param(("POOL_TIMEOUT", "REPLY_TIMEOUT"), id="silent"),
            pytest.param(("RESEND_WITHIN", "CONNECT_TIMEOUT", "REPLY_TIMEOUT"), id="broken"),
            pytest.param(("MOVE_WITHIN", "CONNECT_TIMEOUT", "REPLY_TIMEOUT"), id="wrong server"),
            pytest.param(("POOL_TIMEOUT", "SENTINEL_AT_LEAST", "REPLY_TIMEOUT"), id="Sentinels"),
        ],
    )
    def test_sum(self, times: tuple[str, ...]) -> None:
        """Each way to learn that the store fails takes two seconds at most."""
        assert sum(getattr(_timing, name) for name in times) <= _timing.STORE_FAILS_WITHIN + 1e-9

    def test_late_sentinels(self) -> None:
        """The same holds if the Sentinels answer as late as a request waits for them."""
        connect = _timing.CONNECT_TIMEOUT - _timing.SENTINEL_AT_LEAST
        total = _timing.SENTINEL_WITHIN + connect + _timing.REPLY_TIMEOUT
        assert total <= _timing.STORE_FAILS_WITHIN + 1e-9


class TestRestoring:
    def test_ends_before_the_reply_timeout(self) -> None:
        """No renewal restores a record after its reply is no longer waited for."""
        assert _timing.RESTORE_WITHIN_MS / 1000 < _timing.REPLY_TIMEOUT


class TestRenewing:
    def test_three_tries(self) -> None:
        """A renewal that fails is tried twice more before the lease is over."""
        first = _timing.RENEW_AFTER + _timing.WORKER_ROUND
        assert first + 2 * _timing.WORKER_ROUND < 1
