"""What operators delete."""

from __future__ import annotations

import pytest
from sqlalchemy import event
from sqlalchemy.exc import ProgrammingError

from tests.contrib.sqlalchemy.shops import OURS, THEIRS, Shop, answer

KEYS = [f"IDEMPOTENT_{{{number}}}" for number in range(4)]


@pytest.fixture
def used(shop: Shop) -> Shop:
    """A shop with three expired answers, and one that is kept."""
    for key in KEYS[:3]:
        shop.transaction.commit(answer(key, ttl_ms=-1))
    shop.transaction.commit(answer(KEYS[3]))
    return shop


def test_prune(used: Shop) -> None:
    """Expired answers are deleted, a batch in each transaction; the others stay."""
    assert [used.transaction.prune(2) for _ in range(3)] == [2, 1, 0]
    assert used.count_answers() == 1
    assert used.transaction.look_up(KEYS[3]) is not None


def test_prune_many(used: Shop) -> None:
    """A batch may be larger than what fits into one statement."""
    with used.engine.begin() as connection:
        connection.execute(used.transaction.table.delete())
        values = [
            {
                "storage_key": str(number), "fingerprint": b"f", "owner": b"o", "attempt": 1,
                "status": "200", "headers": "[]", "method": "", "endpoint": "", "operation": b"",
                "created": 0, "expires": 0,
            }
            for number in range(1201)
        ]  # fmt: skip
        connection.execute(used.transaction.table.insert(), values)
    assert [used.transaction.prune(1200) for _ in range(3)] == [1200, 1, 0]


def test_prune_and_replace(used: Shop) -> None:
    """An answer that is replaced while it is about to be pruned stays."""
    other = used.another()

    def replace(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE"):
            other.transaction.commit(answer(KEYS[1], THEIRS), replaces=OURS)

    event.listen(used.engine, "before_cursor_execute", replace)
    assert used.transaction.prune(3) == 2
    assert used.transaction.look_up(KEYS[1]) is not None


def test_delete(used: Shop) -> None:
    """Answers of keys are deleted, whether they have expired or not."""
    assert used.transaction.delete([KEYS[0], KEYS[3], "IDEMPOTENT_{unknown}"]) == 2
    assert used.transaction.delete([]) == 0
    assert used.count_answers() == 2


def test_delete_all(used: Shop) -> None:
    """The answers of all keys that begin with a prefix are deleted, compared exactly."""
    used.transaction.commit(answer("idempotent_{0b}"))
    used.transaction.commit(answer("IDEMPOTENT-{0b}"))
    used.transaction.commit(answer("IDEMPOTENT_{0b}"))
    assert used.transaction.delete_all("IDEMPOTENT_{0", keep=[KEYS[0]]) == 1
    assert used.transaction.delete_all("IDEMPOTENT_{0", keep=[]) == 1
    assert used.transaction.delete_all("IDEMPOTENT_{0", keep=[]) == 0
    assert used.count_answers() == 5


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_other_errors(shop: Shop) -> None:
    """An error that says neither is raised as it is."""
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE idempotent_answers DROP COLUMN expires")
    with pytest.raises(ProgrammingError, match="expires"):
        shop.transaction.prune(1)
