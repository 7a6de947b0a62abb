"""The connection to one node: which answer is which, when they come one after the other."""

from __future__ import annotations

from typing import cast

import pytest

from flask_idempotent.errors import StoreError
from flask_idempotent.stores.redis.client import Client
from flask_idempotent.stores.redis.link import Link
from flask_idempotent.stores.redis.pubsub import SHARDED, PubSubConnection

NAME, OTHER = "IDEMPOTENT_{one}@0", "IDEMPOTENT_{two}@0"


class Recorder:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, ...]] = []

    def send(self, *command: str) -> None:
        self.sent.append(command)


@pytest.fixture
def link() -> Link:
    """A link whose connection is open."""
    (node,) = Client.from_url("redis://localhost").nodes()
    link = Link(node, SHARDED, lambda: None)
    link.connection = cast("PubSubConnection", Recorder())
    return link


class TestAnswers:
    def test_left_and_joined_again(self, link: Link) -> None:
        """A waiter that joins a channel that was just left waits for its own confirmation."""
        link.subscribe(NAME)
        link.unsubscribe(NAME)
        link.subscribe(NAME)
        assert not link.confirms(NAME)
        assert link.was_asked_to_leave(NAME)
        assert link.confirms(NAME)

    def test_ended_by_the_server(self, link: Link) -> None:
        """The server ends a subscription without being asked to: that answers no command."""
        link.subscribe(NAME)
        assert link.confirms(NAME)
        assert not link.was_asked_to_leave(NAME)
        link.subscribe(OTHER)
        assert not link.was_asked_to_leave(NAME)
        assert link.confirms(OTHER)

    def test_refused(self, link: Link) -> None:
        """An error answers the oldest command without an answer, which may be one to leave."""
        link.subscribe(NAME)
        link.subscribe(OTHER)
        link.unsubscribe(NAME)
        assert [link.refused(), link.refused(), link.refused()] == [NAME, OTHER, None]

    def test_one_too_many(self, link: Link) -> None:
        """An answer that nothing was asked for makes the connection start again."""
        with pytest.raises(StoreError, match="nothing was asked for"):
            link.refused()
