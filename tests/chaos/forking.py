"""An application and programs for processes that fork; ``REDIS_URL`` is the store.

``python -m tests.chaos.forking fork_in_view exit`` runs a program, which checks itself.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import redis
from flask import Flask, Response, request

from flask_idempotent import Idempotent

CONNECTION = os.environ.get("REDIS_URL", "redis://127.0.0.1:1")
LEASE = 1.2
#: The exit status of a program during which the machine paused.
MACHINE_PAUSED = 75
#: A view that takes this many milliseconds is renewed, or else overtaken.
LONG = int(LEASE * 1300)

app = Flask("forking")
app.config.update(REDIS_URL=CONNECTION, IDEMPOTENT_LEASE=LEASE, IDEMPOTENT_TIMEOUT=10)
Idempotent(app)


def runs(key: str) -> int:
    """How often a key's view has run, in all processes."""
    with redis.Redis.from_url(CONNECTION) as notes:
        return int(notes.get(f"runs-{key}") or 0)


def _count(key: str) -> int:
    with redis.Redis.from_url(CONNECTION) as notes:
        return int(notes.incr(f"runs-{key}"))


@app.before_request
def _asked() -> None:
    with redis.Redis.from_url(CONNECTION) as notes:
        notes.incr("requests")


@app.post("/run/<int:milliseconds>")
def run(milliseconds: int) -> Response:
    """Takes a while, and returns the process id and the number of the run."""
    number = _count(request.headers["Idempotency-Key"])
    time.sleep(milliseconds / 1000)
    return Response(f"{os.getpid()} {number}")


@app.get("/pid")
def pid() -> str:
    return str(os.getpid())


def ask(key: str, milliseconds: int = 0) -> tuple[int, str]:
    """Send a request to this process's own application."""
    headers = {"Idempotency-Key": key}
    response = app.test_client().post(f"/run/{milliseconds}", headers=headers)
    return response.status_code, response.text


def use(name: str) -> None:
    """Use the application in every way: a first run, a replay, waiters, a renewed lease."""
    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(lambda _: ask(f"{name}-quick", 50), range(4)))
        answers |= set(pool.map(lambda _: ask(f"{name}-slow", LONG), range(4)))
    expected = {(200, f"{os.getpid()} 1")}
    assert answers == expected, (name, answers)
    assert runs(f"{name}-quick") == runs(f"{name}-slow") == 1


def in_child(work: Callable[[], object], fork: Callable[[], int] = os.fork) -> int:
    """Do something in a forked child, which exits at once."""
    child = fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:
        print("child:", repr(error), file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def join(child: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def fork_after_use() -> None:
    """Parent and child wait for each other's views, after the parent has used everything."""
    use("before")

    def child() -> None:
        with ThreadPoolExecutor(2) as pool:
            own = pool.submit(ask, "of-the-child", 600)
            until_it_runs("of-the-parent")
            assert ask("of-the-parent", 600)[1] == f"{os.getppid()} 1"
            assert own.result()[1] == f"{os.getpid()} 1"
        use("child")
        grandchild = in_child(lambda: use("grandchild"))
        join(grandchild)

    number = in_child(child)
    with ThreadPoolExecutor(2) as pool:
        own = pool.submit(ask, "of-the-parent", 600)
        until_it_runs("of-the-child")
        assert ask("of-the-child", 600)[1] == f"{number} 1"
        assert own.result()[1] == f"{os.getpid()} 1"
    use("parent")
    join(number)


def untold_fork() -> None:
    """A fork that Python does not know of, as uWSGI's: the child serves, and it ends.

    The child cannot take the interpreter's lock again if another thread of its parent was about to
    take it at that moment, so there are only the library's own threads, and they sleep.
    """
    use("before")
    fork = ctypes.PyDLL(None).fork
    close = app.extensions["idempotent"].engine.close
    join(in_child(close, fork))

    def serve() -> None:
        use("child")
        close()

    join(in_child(serve, fork))
    use("parent")


def until_it_runs(key: str) -> None:
    deadline = time.monotonic() + 10
    while not runs(key):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def fork_in_view(end: str) -> None:
    """A view forks; its child owns nothing and settles nothing, however it ends."""

    @app.post("/fork")
    def fork() -> str:
        _count("forked")
        child = os.fork()
        if not child:
            if end == "exit":
                sys.exit(0)
            if end == "fail":
                raise ZeroDivisionError
            if end == "_exit":
                os._exit(0)
            # The child's answer reaches no record.
            return "the child's"
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        states = [store.get(name)[1:2] for name in store.scan_iter("IDEMPOTENT_*")]
        assert states.count(b"p") == 1, "the parent's claim stands"
        time.sleep(LONG / 1000)
        return "the parent's"

    store = redis.Redis.from_url(CONNECTION)
    parent = os.getpid()

    def send() -> Any:
        return app.test_client().post("/fork", headers={"Idempotency-Key": "forked"})

    with ThreadPoolExecutor(2) as pool:
        # A waiter in the parent, so that the child is forked from a process with all its threads.
        waiter = pool.submit(lambda: (until_it_runs("forked"), send())[1])
        response = send()
        if os.getpid() != parent:
            _check_child(response, fails=end == "fail")
        assert (response.status_code, response.text) == (200, "the parent's")
        assert waiter.result().text == "the parent's"
    assert send().text == "the parent's"
    assert runs("forked") == 1


def _check_child(response: Any, *, fails: bool) -> None:
    """Check a child's own answer, and that the child can serve, with connections of its own."""
    if fails:
        assert response.status_code == 500
    else:
        assert (response.status_code, response.text) == (200, "the child's")
    use("of-the-child")
    os._exit(0)


def pool_of_processes(method: str) -> None:
    """Workers of multiprocessing share keys with each other and with their parent."""
    use("before")
    with get_context(method).Pool(3) as pool:
        answers = set(pool.map(_ask_slowly, ["shared"] * 8, chunksize=1))
        answers.add(_ask_slowly("shared"))
        pool.map(use, [f"worker-{number}" for number in range(3)], chunksize=1)
    assert len(answers) == 1, answers
    assert runs("shared") == 1


def _ask_slowly(key: str) -> tuple[int, str]:
    return ask(key, 300)


def gevent_patched() -> None:
    """Two hundred duplicates in greenlets of one process: one run, and nobody hangs."""
    import gevent

    greenlets = [gevent.spawn(ask, "one", 200) for _ in range(200)]
    gevent.joinall(greenlets, timeout=10)
    answers = {greenlet.value for greenlet in greenlets}
    assert answers == {(200, f"{os.getpid()} 1")}, answers
    use("all")


if os.environ.get("USED"):
    # As a warm-up would: before the server forks.
    use(f"preload-{os.getpid()}")

if __name__ == "__main__":
    from tests.chaos import forking
    from tests.chaos.pauses import MachinePaused, fail_unless_paused, ticks
    from tests.support.pauses import PauseMonitor

    program = getattr(forking, sys.argv[1])
    try:
        if program is forking.untold_fork:
            # No thread may be busy while it forks; the tests' own process measures pauses too.
            program()
        else:
            PauseMonitor(ticks.append)
            with fail_unless_paused(LEASE, spare=LEASE / 2):
                program(*sys.argv[2:])
    except MachinePaused as disturbed:
        print(disturbed, file=sys.stderr)
        sys.exit(MACHINE_PAUSED)
    names = [t.name for t in threading.enumerate() if "subscriber" in t.name]
    assert len(names) <= 1, names
