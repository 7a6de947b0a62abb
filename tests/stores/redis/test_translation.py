"""redis-py's errors, and the errors of this package that they become."""

from __future__ import annotations

import pytest
import redis.exceptions

from flask_idempotent.errors import RecordUnreadable, StoreError, StoreUnavailable, WriteRefused
from flask_idempotent.stores.redis.translation import ERRORS, translated


def translate(message: str) -> object:
    """What an error reply becomes."""
    (error,) = translated([redis.exceptions.ResponseError(message)])
    return error


class TestTranslation:
    @pytest.mark.parametrize(
        ("message", "kind"),
        [
            ("OOM command not allowed when used memory > 'maxmemory'.", WriteRefused),
            ("READONLY You can't write against a read only replica.", WriteRefused),
            ("MISCONF Redis is configured to save RDB snapshots", WriteRefused),
            ("NOREPLICAS Not enough good replicas to write.", WriteRefused),
            ("@user_script: 40: -READONLY You can't write against a replica.", WriteRefused),
            ("ERR unknown key NO-OOM", StoreUnavailable),
            ("ERR unknown command", StoreUnavailable),
        ],
    )
    def test_error_replies(self, message: str, kind: type[StoreError]) -> None:
        """A server that refuses writes has another error than one that fails."""
        error = translate(message)
        assert isinstance(error, StoreError)
        assert type(error) is kind
        assert error.sent is False
        assert str(error) == message

    @pytest.mark.parametrize("before", ["", "ERR Error running script (call to f_1): @user: 7: "])
    def test_another_kind_of_value(self, before: str) -> None:
        """Where the key holds a list, for example, the record is unreadable."""
        message = f"{before}WRONGTYPE Operation against a key holding the wrong kind of value"
        error = translate(message)
        assert type(error) is RecordUnreadable

    def test_every_error_of_redis_is_translated(self) -> None:
        """Everything that redis-py raises for a single server is translated."""
        errors = [
            value
            for value in vars(redis.exceptions).values()
            if isinstance(value, type) and issubclass(value, Exception)
        ]
        assert len(errors) > 10
        strays = {e.__name__ for e in errors if not issubclass(e, ERRORS)}
        of_clusters = {
            "CrossSlotTransactionError",
            "IncorrectPolicyType",
            "InvalidPipelineStack",
            "RedisClusterException",
            "SlotNotCoveredError",
        }
        assert strays <= of_clusters
