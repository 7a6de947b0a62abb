"""Bells: everybody is woken, a few at a time, and somebody always leads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_idempotent.errors import RecordUnreadable, StoreUnavailable
from flask_idempotent.records import CompletedRecord
from flask_idempotent.stores import waiters as module
from flask_idempotent.stores.waiters import Bell, Bells, News
from tests.stores.harness import answer, running
from tests.support.polling import until


class TestNews:
    def test_fetched_once(self) -> None:
        """A record is read once, however many waiters ask."""
        reads: list[int] = []

        def read() -> CompletedRecord:
            reads.append(1)
            return answer()

        news = News(read)
        with ThreadPoolExecutor(8) as pool:
            records = list(pool.map(lambda _: news.record(), range(8)))
        assert records == [answer()] * 8
        assert len(reads) == 1

    def test_failing_store_means_claim_again(self) -> None:
        """Where the record cannot be read, the waiter claims again, which tells the truth."""

        def read() -> CompletedRecord:
            raise StoreUnavailable("down")

        assert News(read).record() is None

    def test_unreadable_is_read_once(self) -> None:
        """Damaged bytes are an error for each waiter, and are read once for all of them."""
        reads: list[int] = []

        def read() -> CompletedRecord:
            reads.append(1)
            raise RecordUnreadable("damaged")

        news = News(read)
        for _ in "12":
            with pytest.raises(RecordUnreadable, match="damaged"):
                news.record()
        assert len(reads) == 1


class TestBell:
    def test_record_in_progress_means_claim_again(self) -> None:
        """A record that is in progress again by the time it is read is no answer."""
        bell = Bell()
        bell.ring(News(lambda: running()))
        assert bell.wait(0) is None

    @pytest.mark.parametrize("seconds", [0, -1])
    def test_silence(self, seconds: float) -> None:
        """A bell that does not ring lets the time pass; time that is over is none."""
        assert Bell().wait(seconds) is None

    def test_rings_before_it_is_waited_for(self) -> None:
        """A ring is kept for the next wait, the record with it, and heard once."""
        bell = Bell()
        bell.ring()
        bell.ring(News(answer))
        bell.ring()
        assert bell.rung
        assert bell.wait(5) == answer()
        assert not bell.rung
        assert bell.wait(0) is None


def joined(bells: Bells, number: int) -> list[Bell]:
    return [bells.join() for _ in range(number)]


def awake(bells: list[Bell]) -> int:
    return sum(bell.rung for bell in bells)


class TestLeading:
    def test_one_without_the_time_does_not_lead(self) -> None:
        """The lead goes to the first that has the time for a look; no other is woken for it."""
        bells = Bells()
        leader, short, patient, last = joined(bells, 4)
        short.looks_until = time.monotonic() - 1
        patient.looks_until = time.monotonic() + 60
        bells.leave(leader)
        assert [bell.leads for bell in (short, patient, last)] == [False, True, False]
        assert (short.rung, patient.rung) == (False, True)

    def test_nobody_leads(self) -> None:
        """Where nobody has the time nobody leads, until somebody comes who has."""
        bells = Bells()
        leader, short = joined(bells, 2)
        short.looks_until = time.monotonic() - 1
        bells.leave(leader)
        assert not short.leads
        assert [bell.leads for bell in joined(bells, 2)] == [True, False]

    def test_doubt(self) -> None:
        """Who may have missed a message looks, unless a silent store would make it too late."""
        bells = Bells()
        short, *others = joined(bells, 3)
        short.looks_until = time.monotonic() - 1
        bells.doubt()
        assert (short.rung, awake(others)) == (False, 2)


class TestRing:
    def test_few_at_a_time(self) -> None:
        """A ring wakes a few, and each of them wakes one more, in the order of their coming."""
        bells = Bells()
        all_of_them = joined(bells, 10)
        bells.ring(News(answer))
        for number in range(10):
            assert awake(all_of_them) == min(module._AT_ONCE, 10 - number)
            assert all_of_them[number].wait(0) == answer()

    def test_who_leaves_wakes_one_more(self) -> None:
        """A waiter that leaves before it hears the ring leaves nobody asleep."""
        bells = Bells()
        all_of_them = joined(bells, 10)
        bells.ring()
        for bell in all_of_them[: module._AT_ONCE]:
            bells.leave(bell)
        assert awake(all_of_them[module._AT_ONCE :]) >= module._AT_ONCE

    def test_who_left_is_no_dead_end(self) -> None:
        """A waiter that left while it was not woken yet breaks no chain."""
        bells = Bells()
        all_of_them = joined(bells, 3 * module._AT_ONCE)
        bells.ring()
        gone = all_of_them[module._AT_ONCE : 2 * module._AT_ONCE]
        for bell in gone:
            bells.leave(bell)
        for bell in all_of_them:
            if bell not in gone:
                assert bell.rung
                bell.wait(0)

    def test_second_ring(self) -> None:
        """A ring that comes before all have heard the first is heard by all."""
        bells = Bells()
        all_of_them = joined(bells, 10)
        bells.ring()
        all_of_them[0].wait(0)
        bells.ring(News(answer))
        assert [bell.wait(0) for bell in all_of_them] == [answer()] * 10

    def test_known_record_stands(self) -> None:
        """Who is to be told of a response need not read it when a second ring comes."""
        bells = Bells()
        all_of_them = joined(bells, 10)
        bells.ring(News.of(answer()))
        bells.ring(News(lambda: pytest.fail("it was read")))
        bells.ring()
        assert [bell.wait(0) for bell in all_of_them] == [answer()] * 10

    def test_older_look_does_not_stand(self) -> None:
        """Who wakes late is not told what another saw before the key was completed."""
        bells = Bells()
        early, late = joined(bells, 2)
        bells.ring(News(running))
        assert early.wait(0) is None
        bells.ring(News(answer))
        assert [bell.wait(0) for bell in (late, early)] == [answer()] * 2

    def test_threads(self) -> None:
        """However many threads come, wait, leave and are rung for, all wake in the end."""
        bells, lock = Bells(), threading.Lock()
        heard: Counter[int] = Counter()
        turns = 50

        def wait(number: int) -> None:
            for _ in range(turns):
                with lock:
                    bell = bells.join()
                pause, late = 0.0005 * (number % 3), time.monotonic() + 20
                # Some waits end by themselves, or because this one leads.
                while bell.wait(pause) is None and time.monotonic() < late:
                    pause = 20
                heard[number] += time.monotonic() < late
                with lock:
                    bells.leave(bell)

        threads = [threading.Thread(target=wait, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()

        def ring() -> bool:
            with lock:
                bells.ring(News(answer))
            return not any(thread.is_alive() for thread in threads)

        until(ring, 30)
        assert heard == dict.fromkeys(range(24), turns)
        assert len(bells) == 0


class TestLead:
    def test_first_leads(self) -> None:
        """Who comes first leads, and nobody else."""
        bells = Bells()
        assert [bell.leads for bell in joined(bells, 3)] == [True, False, False]

    def test_next_one(self) -> None:
        """When the one that leads leaves, the next one leads, and is woken to look."""
        bells = Bells()
        first, second, third = joined(bells, 3)
        bells.leave(first)
        assert (second.leads, second.rung) == (True, True)
        assert (third.leads, third.rung) == (False, False)
        assert second.wait(0) is None

    def test_others_change_nothing(self) -> None:
        """When another leaves, the one that leads goes on."""
        bells = Bells()
        first, second, third = joined(bells, 3)
        bells.leave(second)
        assert [bell.leads for bell in (first, third)] == [True, False]
        assert awake([first, third]) == 0

    def test_news_is_not_lost(self) -> None:
        """Who leads next still reads the record that it was to be woken with."""
        bells = Bells()
        all_of_them = joined(bells, 10)
        bells.ring(News(answer))
        for bell in all_of_them:
            assert bell.wait(0) == answer()
            bells.leave(bell)

    def test_after_all_have_left(self) -> None:
        """After all have left, the next to come leads."""
        bells = Bells()
        bells.leave(bells.join())
        assert bells.join().leads
