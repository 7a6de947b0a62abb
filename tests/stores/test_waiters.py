"""Waiters: all are woken, a few at a time, and one is always the leader."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_idempotent.errors import RecordUnreadable, StoreUnavailable
from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores import waiters as module
from flask_idempotent.stores.waiters import Notification, Waiter, WaiterQueue
from tests.stores.harness import answer, running
from tests.support.polling import until


class TestNews:
    def test_fetched_once(self) -> None:
        """A record is read once, however many waiters ask."""
        reads: list[int] = []

        def read() -> CompletedRecord:
            reads.append(1)
            return answer()

        notification = Notification(read)
        with ThreadPoolExecutor(8) as pool:
            records = list(pool.map(lambda _: notification.record(), range(8)))
        assert records == [answer()] * 8
        assert len(reads) == 1

    def test_failing_store_means_claim_again(self) -> None:
        """If the record cannot be read, the waiter has to contend, which gives the true answer."""

        def read() -> CompletedRecord:
            raise StoreUnavailable("down")

        assert Notification(read).record() is None

    def test_unreadable_is_read_once(self) -> None:
        """Damaged bytes are an error for each waiter, and are read once for all of them."""
        reads: list[int] = []

        def read() -> CompletedRecord:
            reads.append(1)
            raise RecordUnreadable("damaged")

        notification = Notification(read)
        for _ in "12":
            with pytest.raises(RecordUnreadable, match="damaged"):
                notification.record()
        assert len(reads) == 1


class TestBell:
    def test_record_in_progress_means_claim_again(self) -> None:
        """A record that is in progress again by the time it is read is not a response."""
        waiter = Waiter()
        waiter.notify(Notification(lambda: running()))
        assert waiter.wait(0) is None

    @pytest.mark.parametrize("seconds", [0, -1])
    def test_silence(self, seconds: float) -> None:
        """Without a notification the time passes; a negative time is none."""
        assert Waiter().wait(seconds) is None

    def test_rings_before_it_is_waited_for(self) -> None:
        """A notification is kept for the next wait, with its record, and returned once."""
        waiter = Waiter()
        waiter.notify()
        waiter.notify(Notification(answer))
        waiter.notify()
        assert waiter.notified
        assert waiter.wait(5) == answer()
        assert not waiter.notified
        assert waiter.wait(0) is None


def joined(waiters: WaiterQueue, number: int) -> list[Waiter]:
    return [waiters.join() for _ in range(number)]


def awake(waiters: list[Waiter]) -> int:
    return sum(waiter.notified for waiter in waiters)


class TestLeading:
    def test_one_without_the_time_is_not_leader(self) -> None:
        """The first that has the time to poll becomes the leader; no other is woken for it."""
        waiters = WaiterQueue()
        leader, short, patient, last = joined(waiters, 4)
        short.polls_until = time.monotonic() - 1
        patient.polls_until = time.monotonic() + 60
        waiters.leave(leader)
        assert [waiter.is_leader for waiter in (short, patient, last)] == [False, True, False]
        assert (short.notified, patient.notified) == (False, True)

    def test_no_leader(self) -> None:
        """If none has the time there is no leader, until one comes that has."""
        waiters = WaiterQueue()
        leader, short = joined(waiters, 2)
        short.polls_until = time.monotonic() - 1
        waiters.leave(leader)
        assert not short.is_leader
        assert [waiter.is_leader for waiter in joined(waiters, 2)] == [True, False]

    def test_doubt(self) -> None:
        """Waiters that may have missed a message poll, if they have the time for a silent store."""
        waiters = WaiterQueue()
        short, *others = joined(waiters, 3)
        short.polls_until = time.monotonic() - 1
        waiters.wake_to_poll()
        assert (short.notified, awake(others)) == (False, 2)


class TestNotify:
    def test_few_at_a_time(self) -> None:
        """A notification wakes a few, and each of them one more, in the order they came in."""
        waiters = WaiterQueue()
        all_of_them = joined(waiters, 10)
        waiters.notify(Notification(answer))
        for number in range(10):
            assert awake(all_of_them) == min(module._WOKEN_AT_ONCE, 10 - number)
            assert all_of_them[number].wait(0) == answer()

    def test_who_leaves_wakes_one_more(self) -> None:
        """A waiter that leaves before it wakes up leaves none asleep."""
        waiters = WaiterQueue()
        all_of_them = joined(waiters, 10)
        waiters.notify()
        for waiter in all_of_them[: module._WOKEN_AT_ONCE]:
            waiters.leave(waiter)
        assert awake(all_of_them[module._WOKEN_AT_ONCE :]) >= module._WOKEN_AT_ONCE

    def test_who_left_is_no_dead_end(self) -> None:
        """Waiters that leave before they are woken do not keep the others asleep."""
        waiters = WaiterQueue()
        all_of_them = joined(waiters, 3 * module._WOKEN_AT_ONCE)
        waiters.notify()
        gone = all_of_them[module._WOKEN_AT_ONCE : 2 * module._WOKEN_AT_ONCE]
        for waiter in gone:
            waiters.leave(waiter)
        for waiter in all_of_them:
            if waiter not in gone:
                assert waiter.notified
                waiter.wait(0)

    def test_second_notification(self) -> None:
        """A notification that comes before all have the first reaches all."""
        waiters = WaiterQueue()
        all_of_them = joined(waiters, 10)
        waiters.notify()
        all_of_them[0].wait(0)
        waiters.notify(Notification(answer))
        assert [waiter.wait(0) for waiter in all_of_them] == [answer()] * 10

    def test_known_record_stands(self) -> None:
        """A waiter that gets a response need not read it when a second notification comes."""
        waiters = WaiterQueue()
        all_of_them = joined(waiters, 10)
        waiters.notify(Notification.of(answer()))
        waiters.notify(Notification(lambda: pytest.fail("it was read")))
        waiters.notify()
        assert [waiter.wait(0) for waiter in all_of_them] == [answer()] * 10

    def test_older_look_does_not_stand(self) -> None:
        """A waiter that wakes late does not get what another read before the completion."""
        waiters = WaiterQueue()
        early, late = joined(waiters, 2)
        waiters.notify(Notification(running))
        assert early.wait(0) is None
        waiters.notify(Notification(answer))
        assert [waiter.wait(0) for waiter in (late, early)] == [answer()] * 2

    def test_threads(self) -> None:
        """However many threads come, wait, leave and are notified, all wake in the end."""
        waiters, lock = WaiterQueue(), threading.Lock()
        notified: Counter[int] = Counter()
        turns = 50

        def wait(number: int) -> None:
            for _ in range(turns):
                with lock:
                    waiter = waiters.join()
                pause, late = 0.0005 * (number % 3), time.monotonic() + 20
                # Some waits end by themselves, or because this one became the leader.
                while waiter.wait(pause) is None and time.monotonic() < late:
                    pause = 20
                notified[number] += time.monotonic() < late
                with lock:
                    waiters.leave(waiter)

        threads = [threading.Thread(target=wait, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()

        def notify() -> bool:
            with lock:
                waiters.notify(Notification(answer))
            return not any(thread.is_alive() for thread in threads)

        until(notify, 30)
        assert notified == dict.fromkeys(range(24), turns)
        assert len(waiters) == 0


class TestLead:
    def test_first_is_leader(self) -> None:
        """The one that comes first is the leader, and no other."""
        waiters = WaiterQueue()
        assert [waiter.is_leader for waiter in joined(waiters, 3)] == [True, False, False]

    def test_next_one(self) -> None:
        """When the leader leaves, the next one is the leader, and is woken to poll."""
        waiters = WaiterQueue()
        first, second, third = joined(waiters, 3)
        waiters.leave(first)
        assert (second.is_leader, second.notified) == (True, True)
        assert (third.is_leader, third.notified) == (False, False)
        assert second.wait(0) is None

    def test_others_change_nothing(self) -> None:
        """When another leaves, the leader stays the leader."""
        waiters = WaiterQueue()
        first, second, third = joined(waiters, 3)
        waiters.leave(second)
        assert [waiter.is_leader for waiter in (first, third)] == [True, False]
        assert awake([first, third]) == 0

    def test_notification_is_not_lost(self) -> None:
        """The next leader still reads the record that it was to be woken with."""
        waiters = WaiterQueue()
        all_of_them = joined(waiters, 10)
        waiters.notify(Notification(answer))
        for waiter in all_of_them:
            assert waiter.wait(0) == answer()
            waiters.leave(waiter)

    def test_after_all_have_left(self) -> None:
        """After all have left, the next to come is the leader."""
        waiters = WaiterQueue()
        waiters.leave(waiters.join())
        assert waiters.join().is_leader
