"""Faults that the search found in the past, each with its schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from flask_idempotent.stores.memory import MemoryStore
from tests.interleavings.case import Case, Request
from tests.interleavings.explore import follow
from tests.interleavings.simulation import Simulation
from tests.interleavings.stopped_time import stopped_time

A, B, FAILING_A = Request("A"), Request("B"), Request("A", fails=True)

Follow = Callable[[Case, str], None]


@pytest.fixture(name="follow")
def _follow() -> Iterator[Follow]:
    with stopped_time() as time:
        yield lambda case, schedule: follow(
            Simulation(case, MemoryStore(time.monotonic), time), schedule
        )


def test_renewal_whose_reply_is_late(follow: Follow) -> None:
    """A view does not begin on a renewal whose reply came after the lease, no more than a claim's.

    The claim was renewed once, and the reply was trusted however long it took. Meanwhile another
    request took the key over and answered, and the view ran a second time.
    """
    follow(
        Case((A, B), lapses=2),
        """
        request 1: claim
        time: a lease passes
        request 1: reply
        request 1: renew
        time: a lease passes
        request 2: claim
        request 2: listen
        request 2: contend
        request 2: complete
        request 1: reply
        """,
    )


def test_renewal_that_says_nothing(follow: Follow) -> None:
    """A view does not begin on a renewal whose outcome is unknown: it claims again.

    It was taken for a success.
    """
    follow(
        Case((A,), lapses=1, faults=1),
        """
        request 1: claim
        time: a lease passes
        request 1: reply
        request 1: renew unknown
        """,
    )


def test_renewal_after_a_completion_without_reply(follow: Follow) -> None:
    """A claim whose response is stored, though the reply was lost, is not called a lost lease.

    The renewal found a completed record, took it for another's, sent ``lease_lost`` and made
    ``held`` false.
    """
    follow(
        Case((A,), renewals=1, faults=1),
        """
        request 1: arrives
        request 1: claim
        request 1: reply
        request 1: complete lost
        request 1: reply
        worker of A: round
        worker of A: renew
        """,
    )


def test_claim_without_reply_and_an_answer_from_a_notification(follow: Follow) -> None:
    """A waiter that is woken with the response releases a claim that it does not know of.

    The record was lost after the message was sent; the claim stayed for its lease.
    """
    follow(
        Case((A, B), losses=1, faults=1),
        """
        request 1: claim
        request 2: claim
        request 2: listen
        request 1: complete
        server: loses the record
        request 2: contend lost
        request 2: notified
        """,
    )


def test_mismatch_by_a_request_that_has_not_looked_up(follow: Follow) -> None:
    """A client is not refused its own answer while another request has the key for a moment.

    The store had lost the record, and a request with another payload had claimed the key but not
    looked the answer up yet. The refusal took the store's word.
    """
    follow(
        Case((A, Request("B", payload="two"), Request("C")), losses=1, transaction=True),
        """
        request 1: claim
        request 1: look up
        request 1: insert
        request 1: commit
        request 1: complete
        server: loses the record
        request 2: claim
        request 3: claim
        request 3: look up
        """,
    )


def test_commit_that_is_carried_out_after_it_failed(follow: Follow) -> None:
    """An error handler's answer to a failed commit is not the key's when the commit lands later.

    Both had the same owner token, which was taken for the same response: the client and the store
    had the error, the database had the rows and their answer.
    """
    follow(
        Case((Request("A", error_status=400), B), database_faults=1, transaction=True),
        """
        request 1: claim
        request 1: look up
        request 1: insert
        request 1: commit late
        request 1: look up
        server: late commit
        request 1: insert
        request 1: look up
        request 1: complete
        """,
    )


def test_release_that_is_sent_twice(follow: Follow) -> None:
    """A release that is sent twice leaves a key without steps free.

    The second one found no record, and so the claim was restored, as if the store had lost it.
    """
    follow(
        Case((replace(B, steps=("charge!",)),), faults=2),
        """
        request 1: claim
        request 1: step dropped
        request 1: release resent
        request 1: release
        """,
    )
