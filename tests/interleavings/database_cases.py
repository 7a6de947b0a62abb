"""The cases of views whose database keeps the answers, in the same transaction as their rows."""

from __future__ import annotations

from tests.interleavings.case import INVALID, Case, Request
from tests.interleavings.cases import (
    FAILING_A,
    HOLDING_A,
    HOLDING_B,
    INVALID_A,
    INVALID_RETRYING_A,
    INVALID_TWO_B,
    RETRYING_A,
    RETRYING_B,
    THREE_C,
    TWO_B,
    TWO_RETRYING_B,
    UNREAD_A,
    A,
    B,
    C,
)

ANYWAY_A, ANYWAY_B = Request("A", runs_anyway=True), Request("B", runs_anyway=True)
#: Their error handlers answer when a commit fails, and these answers are kept.
HANDLED_A, HANDLED_B = Request("A", error_status=400), Request("B", error_status=INVALID)


def _case(*requests: Request, **accidents: int) -> Case:
    return Case(requests, transaction=True, **accidents)


DATABASE_CASES = {
    "rows": _case(A, B),
    "rows, owner fails": _case(FAILING_A, B, losses=1, lapses=1),
    "rows, one crash": _case(A, B, lapses=1, crashes=1),
    "rows, two crashes": _case(A, B, C, lapses=2, crashes=2),
    "rows, late owner": _case(A, B, lapses=1),
    "rows, late owners": _case(A, B, C, lapses=2),
    "rows, lost record": _case(A, B, losses=1),
    "rows, lost record, late owner": _case(A, B, losses=1, lapses=1, renewals=1),
    "rows, lost record, one crash": _case(A, B, C, losses=1, lapses=1, crashes=1),
    "rows, lost record, two payloads": _case(A, TWO_B, C, losses=1),
    "rows, lost record twice": _case(A, TWO_B, C, losses=2),
    "rows, one fault": _case(RETRYING_A, RETRYING_B, faults=1),
    "rows, store fails": _case(ANYWAY_A, ANYWAY_B, faults=1),
    "rows, store fails twice, late owner": _case(ANYWAY_A, ANYWAY_B, C, faults=2, lapses=1),
    "rows, database fails": _case(RETRYING_A, RETRYING_B, database_faults=1),
    "rows, database fails, late owner": _case(RETRYING_A, RETRYING_B, database_faults=1, lapses=1),
    "rows, database fails, one crash": _case(
        RETRYING_A, B, C, database_faults=1, lapses=1, crashes=1
    ),
    "rows, database fails twice": _case(RETRYING_A, RETRYING_B, database_faults=2),
    "rows, database fails, lost record": _case(
        RETRYING_A, TWO_RETRYING_B, C, database_faults=1, losses=1
    ),
    "rows, both fail": _case(RETRYING_A, RETRYING_B, faults=1, database_faults=1),
    "rows, commit fails, handled": _case(HANDLED_A, B, database_faults=1, losses=1),
    "rows, commits fail, handled": _case(HANDLED_A, HANDLED_B, database_faults=2, lapses=1),
    "rows, one process": _case(RETRYING_A, A, losses=1, database_faults=1, lapses=1),
    "rows, hold, one crash": _case(HOLDING_A, HOLDING_B, lapses=1, crashes=1),
    "rows, hold, late owner": _case(HOLDING_A, HOLDING_B, C, lapses=1, losses=1),
    "rows, unread": _case(UNREAD_A, B, losses=1, lapses=1),
    "rows, corrected": _case(INVALID_A, TWO_B, THREE_C, losses=1),
    "rows, corrected and back": _case(INVALID_A, INVALID_TWO_B, C, losses=1, lapses=1),
    "rows, corrected, database fails": _case(
        INVALID_RETRYING_A, TWO_RETRYING_B, losses=1, database_faults=1
    ),
    "rows, expired": _case(A, B, C, losses=1, expiries=1),
    "rows, expired, late owner": _case(A, B, C, losses=1, expiries=1, lapses=1),
}

#: How many schedules a case has, where they can all be run.
DATABASE_SCHEDULES = {
    "rows": 8,
    "rows, one crash": 3114,
    "rows, late owner": 538,
    "rows, lost record": 124,
    "rows, one fault": 5226,
    "rows, store fails": 7132,
    "rows, database fails": 748,
    "rows, commit fails, handled": 2321,
    "rows, hold, one crash": 1922,
    "rows, corrected": 2334,
}
