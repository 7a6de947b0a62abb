"""The promises of a view with ``transaction=``: rows per key and answers per key.

They hold whatever happens to processes, Redis and connections, and however long a process pauses.
So nothing is excused here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tests.chaos.clients import Answer
from tests.chaos.serving import Row

#: What the views of ``order_app.py`` answer: an order that was written, or refused.
WRITTEN, REFUSED = 201, 422

#: The runs that wrote the orders of each key.
Orders = dict[str, list[str]]


def one_row_for_each_key(row: Row, orders: Orders, answers: Iterable[Answer]) -> int:
    """Each key whose order was written has one row, and a refused one has none.

    :returns: how many keys have several rows.
    """
    several = {key: runs for key, runs in orders.items() if len(runs) > 1}
    for key, runs in several.items():
        row.require(False, f"{key} has {len(runs)} rows, of the runs {runs}")
    for key, status in {(answer.key, answer.status) for answer in answers}:
        count, expected = len(orders.get(key, ())), int(status == WRITTEN)
        row.require(
            count == expected or key in several, f"{key} was answered {status} and has {count} rows"
        )
    return len(several)


def one_answer_for_each_key(row: Row, orders: Orders, answers: Iterable[Answer]) -> int:
    """All clients of a key get the same answer, which is that of the run that wrote its row.

    :returns: how many keys have several answers.
    """
    contents: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    for answer in answers:
        contents[answer.key].add(answer.content)
        if answer.status == WRITTEN:
            named = answer.headers.get("x-run") in orders.get(answer.key, ())
            row.require(named, f"{answer.key}: no row is of the run that was answered")
    several = {key: different for key, different in contents.items() if len(different) > 1}
    for key, different in several.items():
        row.require(False, f"{key} has {len(different)} answers: {different}")
    return len(several)


def all_answered_by_view(row: Row, answers: Iterable[Answer], unanswered: Iterable[object]) -> None:
    """Every client got an answer of the view in the end."""
    for request in unanswered:
        row.require(False, f"{request} was never answered")
    for answer in answers:
        row.require(
            answer.status in (WRITTEN, REFUSED) and not answer.problem,
            f"{answer.key}: {answer.status} {answer.body[:200]!r}",
        )
