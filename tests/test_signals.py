"""Signals: which receivers get them, and that one that fails harms nobody."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from blinker import NamedSignal

from flask_idempotent import signals

NAMES = [
    "claimed", "before_wait", "completed", "released", "replayed", "waited", "rejected",
    "lease_lost", "resolved", "store_failed",
]  # fmt: skip


@pytest.fixture(name="sender")
def _sender() -> object:
    return object()


@pytest.fixture(name="heard")
def _heard(sender: object) -> Iterator[list[dict[str, object]]]:
    heard: list[dict[str, object]] = []

    def receive(_: object, **data: object) -> None:
        heard.append(data)

    with signals.claimed.connected_to(receive, sender):
        yield heard


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    def test_each(self, name: str) -> None:
        """Each signal has the name under which it is imported."""
        signal = getattr(signals, name)
        assert isinstance(signal, NamedSignal)
        assert signal.name == name

    def test_all(self) -> None:
        """There are no signals but these."""
        found = [name for name, value in vars(signals).items() if isinstance(value, NamedSignal)]
        assert found == NAMES
        assert [signal.name for signal in signals.ALL] == NAMES


class TestSend:
    def test_data(self, sender: object, heard: list[dict[str, object]]) -> None:
        """A receiver gets the data that was sent."""
        signals.send(signals.claimed, sender, key="k", attempt=1)
        assert heard == [{"key": "k", "attempt": 1}]

    def test_sender(self, heard: list[dict[str, object]]) -> None:
        """A receiver of one application's signals does not get another's."""
        signals.send(signals.claimed, object(), key="k")
        assert heard == []

    def test_muted(self, sender: object, heard: list[dict[str, object]]) -> None:
        """A signal that was muted, as blinker allows, is not sent."""
        with signals.claimed.muted():
            signals.send(signals.claimed, sender, key="k")
        assert heard == []

    def test_no_receivers(self, sender: object, monkeypatch: pytest.MonkeyPatch) -> None:
        """A signal without receivers does not look for any."""
        signal = NamedSignal("unheard")
        monkeypatch.setattr(signal, "receivers_for", lambda _: pytest.fail("looked for receivers"))
        signals.send(signal, sender, key="k")

    def test_failing_receiver_among_others(self, sender: object) -> None:
        """Every receiver is called, whichever of them fails."""
        heard = []

        def failing(name: str) -> Callable[..., None]:
            def receive(_: object, **__: object) -> None:
                heard.append(name)
                raise LookupError

            return receive

        one, two = failing("one"), failing("two")
        with (
            signals.replayed.connected_to(one, sender),
            signals.replayed.connected_to(two, sender),
        ):
            signals.send(signals.replayed, sender)
        assert sorted(heard) == ["one", "two"]

    def test_failing_receiver(self, sender: object, caplog: pytest.LogCaptureFixture) -> None:
        """A receiver that raises is logged with its traceback, and the caller goes on."""

        def fail(_: object, **__: object) -> None:
            raise LookupError("the receiver's own fault")

        with (
            signals.completed.connected_to(fail, sender),
            caplog.at_level(logging.ERROR, "flask_idempotent"),
        ):
            signals.send(signals.completed, sender, key="k")
        (record,) = caplog.records
        assert record.message == "a receiver of the signal completed failed"
        assert record.exc_info is not None
        assert record.exc_info[0] is LookupError

    def test_async_receiver_is_refused(
        self, sender: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An async receiver would never be awaited: it is not called, and the log says why."""

        async def receive(_: object, **data: object) -> None:
            raise AssertionError("it is never called")

        with signals.claimed.connected_to(receive, sender):
            signals.send(signals.claimed, sender, key="k")
        assert "must be a plain function" in caplog.text

    def test_exit(self, sender: object) -> None:
        """SystemExit in a receiver is not swallowed."""

        def leave(_: object, **__: object) -> None:
            raise SystemExit(3)

        with signals.waited.connected_to(leave, sender), pytest.raises(SystemExit):
            signals.send(signals.waited, sender)
