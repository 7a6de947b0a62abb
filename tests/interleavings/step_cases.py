"""The cases of views with steps. A step whose name ends with "!" runs once."""

from __future__ import annotations

from dataclasses import replace

from tests.interleavings.case import Case, Request
from tests.interleavings.cases import (
    ANSWERING_B,
    ASKED_A,
    ASKED_B,
    ASKED_C,
    FAILING_A,
    FAILING_B,
    FAILING_RETRYING_A,
    FAILING_TWO_B,
    HOLDING_A,
    HOLDING_B,
    INVALID_A,
    RETRYING_A,
    TWO_B,
    UNREAD_A,
    UNSURE_B,
    A,
    B,
    C,
)


def _taking(steps: str, *requests: Request, **accidents: int) -> Case:
    names = tuple(steps.split())
    return Case(tuple(replace(request, steps=names) for request in requests), **accidents)


def _steps(*requests: Request, **accidents: int) -> Case:
    return _taking("reserve mail", *requests, **accidents)


def _once(*requests: Request, **accidents: int) -> Case:
    return _taking("charge!", *requests, **accidents)


def _both(*requests: Request, **accidents: int) -> Case:
    return _taking("reserve charge! mail", *requests, **accidents)


BREAKING_A = Request("A", fails_in="charge!")
ASKED_BREAKING_A = replace(ASKED_A, fails_in="charge!")

STEP_CASES = {
    "steps": _steps(A, B),
    "steps, owner fails": _steps(FAILING_A, B),
    "steps, two fail": _steps(FAILING_A, FAILING_B, C),
    "steps, late owner": _steps(A, B, lapses=1),
    "steps, late owner, successor fails": _steps(A, FAILING_B, C, lapses=1),
    "steps, one crash": _steps(A, B, lapses=1, crashes=1),
    "steps, two crashes": _steps(A, B, C, lapses=2, crashes=2),
    "steps, one fault": _steps(RETRYING_A, B, faults=1),
    "steps, one fault, owner fails": _steps(FAILING_RETRYING_A, B, faults=1),
    "steps, one fault, one crash": _steps(A, B, faults=1, lapses=1, crashes=1),
    "steps, two payloads": _steps(FAILING_A, TWO_B, lapses=1),
    "steps, two payloads and back": _steps(FAILING_A, FAILING_TWO_B, C),
    "steps, corrected": _steps(INVALID_A, TWO_B, lapses=1),
    "steps, renewal": _steps(A, B, renewals=1, lapses=1),
    "steps, unread": _steps(UNREAD_A, B, lapses=1),
    "steps, lost record": _steps(A, B, losses=1, renewals=1),
    "steps of the successor alone": Case((A, replace(FAILING_B, steps=("reserve",)), C), lapses=1),
    "once": _once(A, B),
    "once, owner fails": _once(FAILING_A, B),
    "once, fails in it": _once(BREAKING_A, B, C),
    "once, late owner": _once(A, B, lapses=1),
    "once, one crash": _once(A, B, lapses=1, crashes=1),
    "once, one fault": _once(RETRYING_A, B, faults=1),
    "once, one fault, one crash": _once(A, B, faults=1, lapses=1, crashes=1),
    "once, two faults": _once(RETRYING_A, B, faults=2),
    "once, two payloads": _once(BREAKING_A, TWO_B, A),
    "once, two payloads, one fails": _once(A, FAILING_TWO_B, C, lapses=1, crashes=1),
    "once, renewal": _once(A, B, renewals=1, lapses=1, faults=1),
    "once, lost record": _once(A, B, losses=1, renewals=1),
    "once, hold": _once(HOLDING_A, HOLDING_B, lapses=1, crashes=1),
    "once, asked, rerun": _once(ASKED_A, ASKED_B, lapses=1, crashes=1),
    "once, asked, rerun, late owner": _once(ASKED_A, ASKED_B, ASKED_C, lapses=2),
    "once, asked, hold": _once(ASKED_A, UNSURE_B, ASKED_C, lapses=2, crashes=1),
    "once, asked, answer": _once(ASKED_A, ANSWERING_B, lapses=1, crashes=1, faults=1),
    "once, asked, fails in it": _once(ASKED_BREAKING_A, ASKED_B, UNSURE_B, lapses=1),
    "once, asked, one fault": _once(ASKED_A, ASKED_B, faults=1, lapses=1, crashes=1),
    "once among others, one crash": _both(A, B, lapses=1, crashes=1),
    "once among others, one fault": _both(FAILING_RETRYING_A, B, faults=1),
    "once among others, asked": _both(ASKED_A, ASKED_B, lapses=2, crashes=1, faults=1),
}

#: How many schedules a case has; None where there are too many to run them all.
STEP_SCHEDULES: dict[str, int | None] = dict.fromkeys(STEP_CASES) | {
    "steps": 40,
    "steps, one crash": 8764,
    "steps, one fault": 12_429,
    "once, one crash": 7252,
    "once, one fault": 16_452,
    "once, hold": 3798,
    "once, asked, rerun": 19_512,
    "steps, owner fails": 55,
    "steps, late owner": 2768,
    "steps, two payloads": 141,
    "steps, two payloads and back": 1828,
    "steps, corrected": 114,
    "steps, unread": 2904,
    "once": 40,
    "once, owner fails": 55,
    "once, late owner": 2276,
}
