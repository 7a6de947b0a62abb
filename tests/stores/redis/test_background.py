"""Something that runs in the background: one run at a time, in a thread that ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from flask_idempotent.stores.redis.background import Background
from tests.support.polling import until


class Task:
    """Counts its runs, and can be held up."""

    def __init__(self) -> None:
        self.runs = 0
        self.pause: float | None = None
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self) -> float | None:
        self.runs += 1
        self.may_end.wait(10)
        return self.pause


@pytest.fixture
def task() -> Task:
    return Task()


@pytest.fixture
def background(task: Task) -> Iterator[Background]:
    background = Background(task, "tests-background")
    yield background
    task.may_end.set()
    background.close()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tests-background"]


class TestBackground:
    def test_no_thread_before_it_is_asked(self, background: Background, task: Task) -> None:
        """No thread starts before the first run is wanted, and it ends after the last one."""
        assert threads() == []
        assert background.run_and_wait(10)
        assert task.runs == 1
        until(lambda: not threads())

    def test_repeats(self, background: Background, task: Task) -> None:
        """A function that returns seconds runs again after these, until it returns None."""
        task.pause = 0.001
        background.start()
        until(lambda: task.runs >= 3)
        task.pause = None
        until(lambda: not threads())

    def test_asked_during_a_pause(self, background: Background, task: Task) -> None:
        """A run that is wanted does not wait for the pause to end."""
        task.pause = 60.0
        assert [background.run_and_wait(10) for _ in range(2)] == [True, True]
        assert task.runs == 2

    def test_a_run_in_progress_does_not_count(self, background: Background, task: Task) -> None:
        """What is asked during a run is answered by the next one, which all share."""
        task.may_end.clear()
        background.start()
        until(lambda: task.runs == 1)
        assert not background.run_and_wait(0.01)
        waiting = [threading.Thread(target=background.run_and_wait, args=(10,)) for _ in range(5)]
        for thread in waiting:
            thread.start()
        task.may_end.set()
        for thread in waiting:
            thread.join()
        assert task.runs <= 3

    def test_goes_on_after_an_error(
        self, background: Background, task: Task, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An unexpected error is logged, and does not end the thread for good."""
        task.may_end = None  # type: ignore[assignment]
        assert background.run_and_wait(10)
        assert "AttributeError" in caplog.text
        task.may_end = threading.Event()
        task.may_end.set()
        assert background.run_and_wait(10)
        assert task.runs == 2

    def test_close(self, background: Background, task: Task) -> None:
        """Closing ends the thread and its pause; it can be used again."""
        task.pause = 60.0
        background.run_and_wait(10)
        background.close()
        assert threads() == []
        assert background.run_and_wait(10)

    def test_after_a_fork(self, background: Background, task: Task) -> None:
        """A forked process starts a thread of its own, whatever its parent's is doing."""
        task.may_end.clear()
        background.start()
        until(lambda: task.runs == 1)
        background.reset()
        background.start()
        until(lambda: task.runs == 2)
        task.may_end.set()
        until(lambda: not threads())
