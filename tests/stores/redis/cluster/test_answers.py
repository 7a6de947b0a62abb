"""What follows each answer of a cluster's node, at each step that sends a command about a key."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from flask_idempotent import _timing
from flask_idempotent.errors import StoreError, StoreUnavailable, WriteRefused
from flask_idempotent.stores.redis.store import RedisStore
from tests.stores.redis.cluster.steps import STEPS, Step
from tests.stores.redis.helpers import claim
from tests.support.polling import until
from tests.support.proxy import EVER, Fault, Proxy
from tests.support.redis_fleets import SLOTS
from tests.support.shown_cluster import ShownCluster

ASKING = b"*1\r\n$6\r\nASKING\r\n*"
#: Answers of a node that the command does not belong to, or not yet.
WRONG_NODE = ("READONLY no", "MASTERDOWN no", "LOADING no", "NOAUTH no", "WRONGPASS no")


@pytest.fixture(params=STEPS)
def step(request: pytest.FixtureRequest, store: RedisStore) -> Step:
    """Each step in turn, of a key that ada has claimed."""
    step: Step = STEPS[request.param]
    claim(store)
    return step


def answers(proxy: Proxy, step: Step, reply: str, times: int = 1) -> Fault:
    """Let an address answer the step's command with an error."""
    fault = Fault(step.needle, "refuse", times=times, reply=f"-{reply}\r\n".encode())
    proxy.faults.append(fault)
    return fault


def passes_on(proxy: Proxy, needle: bytes) -> Fault:
    """Count the commands that an address receives."""
    fault = Fault(needle, "delay", times=EVER)
    proxy.faults.append(fault)
    return fault


def counted(fault: Fault) -> int:
    return EVER - fault.times


def attempt(step: Step, store: RedisStore) -> StoreError | None:
    """Take a step that fails, and return its error; a renewal returns None."""
    try:
        result = step.act(store)
    except StoreError as error:
        return error
    assert result == [None]
    return None


class TestMoved:
    def test_followed_and_noted(self, shown: ShownCluster, store: RedisStore, step: Step) -> None:
        """MOVED: the command goes to the other node at once, and so does the next one."""
        received = passes_on(shown.second, step.needle)
        moved = answers(
            shown.first, step, f"MOVED {shown.slot} 127.0.0.1:{shown.second.port}", EVER
        )
        assert step.succeeds(step.act(store))
        step.act(store)
        assert counted(received) >= 2
        assert counted(moved) == 1

    def test_same_host(self, shown: ShownCluster, store: RedisStore, step: Step) -> None:
        """A MOVED without a host means the host of the node that said it."""
        answers(shown.first, step, f"MOVED {shown.slot} :{shown.second.port}")
        assert step.succeeds(step.act(store))
        assert shown.second.connections

    def test_map_is_asked_for(
        self, shown: ShownCluster, store: RedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a MOVED the map is asked for in the background, at most once a second."""
        monkeypatch.setattr(_timing, "SLOTS_EVERY", 3600.0)
        claim(store)
        before = shown.asked_for_slots()
        self.go_to_and_fro(shown, store)
        assert shown.asked_for_slots() == before
        monkeypatch.setattr(_timing, "SLOTS_EVERY", 0.0)
        self.go_to_and_fro(shown, store)
        until(lambda: shown.asked_for_slots() > before)

    def go_to_and_fro(self, shown: ShownCluster, store: RedisStore) -> None:
        """Let a slot move to the other node and back."""
        step = STEPS["contend"]
        for here, there in [(shown.first, shown.second), (shown.second, shown.first)]:
            answers(here, step, f"MOVED {shown.slot} 127.0.0.1:{there.port}")
            assert step.succeeds(step.act(store))

    def test_around_in_a_circle(self, shown: ShownCluster, store: RedisStore, step: Step) -> None:
        """Two nodes that name each other: the step fails, and nothing was carried out."""
        answers(shown.first, step, f"MOVED {shown.slot} 127.0.0.1:{shown.second.port}", EVER)
        answers(shown.second, step, f"MOVED {shown.slot} 127.0.0.1:{shown.first.port}", EVER)
        error = attempt(step, store)
        assert error is None or not error.sent


class TestAsk:
    def test_in_one_write(self, shown: ShownCluster, store: RedisStore, step: Step) -> None:
        """ASK: ASKING and the command go to the named node in one write; the slot stays."""
        answers(shown.first, step, f"ASK {shown.slot} 127.0.0.1:{shown.second.port}")
        asked = passes_on(shown.second, ASKING)
        received = passes_on(shown.first, step.needle)
        assert step.succeeds(step.act(store))
        assert counted(asked) == 1
        assert step.act(store) is not None
        assert counted(asked) == 1
        assert counted(received) >= 1

    def test_after_moved(self, shown: ShownCluster, store: RedisStore, step: Step) -> None:
        """An old map and a slot that migrates: MOVED is followed, and then ASK."""
        answers(shown.first, step, f"MOVED {shown.slot} 127.0.0.1:{shown.second.port}")
        answers(shown.second, step, f"ASK {shown.slot} 127.0.0.1:{shown.first.port}")
        asked = passes_on(shown.first, ASKING)
        assert step.succeeds(step.act(store))
        assert counted(asked) == 1


class TestTryAgain:
    def test_once(self, shown: ShownCluster, store: RedisStore, step: Step) -> None:
        """TRYAGAIN: the command is sent once more."""
        answers(shown.first, step, "TRYAGAIN Multiple keys request during rehashing of slot")
        assert step.succeeds(step.act(store))

    def test_again(self, shown: ShownCluster, store: RedisStore, step: Step) -> None:
        """TRYAGAIN twice: the step fails, and nothing was carried out."""
        fault = answers(shown.first, step, "TRYAGAIN Multiple keys", EVER)
        error = attempt(step, store)
        assert error is None or not error.sent
        # Contending is tried without the key of the steps too.
        assert counted(fault) == (4 if step is STEPS["contend"] else 2)


class TestRefusals:
    def test_cluster_down(self, shown: ShownCluster, store: RedisStore, step: Step) -> None:
        """CLUSTERDOWN: the step fails at once, and nothing was carried out."""
        fault = answers(shown.first, step, "CLUSTERDOWN Hash slot not served", EVER)
        error = attempt(step, store)
        assert error is None or (isinstance(error, StoreUnavailable) and not error.sent)
        assert counted(fault) == 1

    @pytest.mark.parametrize("answer", WRONG_NODE)
    def test_wrong_node(
        self, shown: ShownCluster, store: RedisStore, step: Step, answer: str
    ) -> None:
        """An answer of a node that is not ready: the command is sent once more, newly connected."""
        fault = answers(shown.first, step, answer)
        assert step.succeeds(step.act(store))
        assert fault not in shown.first.faults

    @pytest.mark.parametrize("answer", WRONG_NODE)
    def test_wrong_node_again(
        self, shown: ShownCluster, store: RedisStore, step: Step, answer: str
    ) -> None:
        """The same again: the step fails, and nothing was carried out."""
        answers(shown.first, step, answer, EVER)
        error = attempt(step, store)
        kind = WriteRefused if answer.startswith("READONLY") else StoreUnavailable
        assert error is None or (isinstance(error, kind) and not error.sent)


class TestLost:
    @pytest.mark.parametrize("action", ["cut before", "lose reply", "half reply"])
    def test_connection(
        self, shown: ShownCluster, store: RedisStore, step: Step, action: str
    ) -> None:
        """A lost connection: the command is sent again, with the effect of once."""
        shown.first.faults.append(Fault(step.needle, action))  # type: ignore[arg-type]
        assert step.succeeds(step.act(store))

    def test_node_is_gone(
        self,
        shown: ShownCluster,
        store: RedisStore,
        step: Step,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A node is gone, and another one has its slots: the command goes there at once."""
        monkeypatch.setattr(_timing, "SLOTS_EVERY", 0.0)
        store.ping()
        shown.show((0, SLOTS - 1, shown.second.port))
        shown.first.close()
        assert step.succeeds(step.act(store))

    def test_answer_of_a_former_primary(
        self,
        shown: ShownCluster,
        store: RedisStore,
        step: Step,
        background: Callable[..., Future[object]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A node answers after others have its slots: it is not believed, and they are asked."""
        monkeypatch.setattr(_timing, "SLOTS_EVERY", 0.0)
        topology = store._client.topology
        (former,) = topology.nodes()
        may_arrive = threading.Event()
        shown.first.faults.append(Fault(step.needle, "delay", until=may_arrive))
        received = passes_on(shown.second, step.needle)
        answer = background(step.act, store)
        until(lambda: "delay" in shown.first.happened)
        shown.show((0, SLOTS - 1, shown.second.port))
        topology.recheck(former)
        until(lambda: former not in topology.nodes())
        may_arrive.set()
        assert step.succeeds(answer.result())
        assert counted(received) >= 1

    def test_nobody_has_taken_over(
        self, shown: ShownCluster, store: RedisStore, step: Step
    ) -> None:
        """A node is gone, and nobody has its slots: the step fails."""
        store.ping()
        shown.first.close()
        error = attempt(step, store)
        assert error is None or isinstance(error, StoreUnavailable)

    def test_lost_and_then_refused(
        self, shown: ShownCluster, store: RedisStore, step: Step
    ) -> None:
        """An error after a lost reply leaves open whether the first sending was carried out."""
        shown.first.faults.append(Fault(step.needle, "lose reply"))
        answers(shown.first, step, f"MOVED {shown.slot} 127.0.0.1:{shown.second.port}")
        answers(shown.second, step, "CLUSTERDOWN The cluster is down")
        error = attempt(step, store)
        assert error is None or error.sent
