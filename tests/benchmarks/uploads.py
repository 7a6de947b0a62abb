"""What a large form costs behind gunicorn: time, and the memory that the server needs for it."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.bench import Bench, Findings, Size, Target
from tests.benchmarks.contestants import BARE, OURS, fresh_key
from tests.benchmarks.load import served
from tests.benchmarks.series import Series, in_turns
from tests.support.web_servers import connected

_MIB = 1024 * 1024
_BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"

#: How many times the time of bare Flask an upload may take. With a key every byte is digested,
#: which takes about as long as to receive it.
_TIME_LIMITS = {"ours, no key": 2.0, "ours, key": 4.0}
#: How many times the memory of bare Flask it may need.
_MEMORY_LIMIT = 1.2


@dataclass(frozen=True)
class _Form:
    """A form that is uploaded.

    :param title: what the tables call it.
    """

    title: str
    content_type: str
    body: bytes


def _forms(size: Size) -> list[_Form]:
    fields = _Form(
        f"{size.fields / _MIB:.3g} MiB of short fields",
        "application/x-www-form-urlencoded",
        b"a&" * (size.fields // 2),
    )
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="film.mp4"\r\n'
        "Content-Type: video/mp4\r\n\r\n"
    ).encode()
    file = _Form(
        f"a file of {size.file / 1e6:.3g} MB",
        f"multipart/form-data; boundary={_BOUNDARY}",
        head + random.Random(1).randbytes(size.file) + f"\r\n--{_BOUNDARY}--\r\n".encode(),
    )
    return [fields, file]


class _Server:
    """A server that is sent one form only, so that its memory is that form's.

    :param port: where it listens.
    :param keyed: whether each upload has a key, a fresh one.
    """

    def __init__(self, port: int, form: _Form, *, keyed: bool) -> None:
        self._port = port
        self._form = form
        self._keyed = keyed
        self._upload(b"")
        self._before = self._peak()

    def upload(self) -> float:
        """Milliseconds of an upload, from the first byte sent to the whole answer."""
        began = time.perf_counter()
        self._upload(self._form.body)
        return 1000 * (time.perf_counter() - began)

    def memory(self) -> float:
        """MiB that uploads needed at most, beyond what the server held before the first one."""
        # A small form may fit in what the process has already.
        return max(self._peak() - self._before, 0.1)

    def _upload(self, body: bytes) -> None:
        headers = {"Content-Type": self._form.content_type}
        if self._keyed:
            headers["Idempotency-Key"] = fresh_key()
        with connected(self._port) as connection:
            connection.request("POST", "/upload", body, headers)
            answer = json.loads(connection.getresponse().read())
        assert answer == {"size": len(body)}, answer

    def _peak(self) -> float:
        with connected(self._port) as connection:
            connection.request("GET", "/peak")
            return int(connection.getresponse().read()) / 1024


#: Who serves, and whether the uploads have a key, by what the tables call it.
_KINDS = {"bare": (BARE, False), "ours, no key": (OURS, False), "ours, key": (OURS, True)}


def measure(bench: Bench) -> Findings:
    """Each form to bare Flask, and to ours without a key and with one."""
    findings = Findings("Large forms, to a view that reads their bytes, behind gunicorn", [])
    for form in _forms(bench.size):
        times, memory = _uploads(bench, form)
        for kind, time_series in times.items():
            findings.series.extend([time_series, memory[kind]])
            if kind != "bare":
                findings.targets.extend(_targets(kind, form, times, memory))
    return findings


def _uploads(bench: Bench, form: _Form) -> tuple[dict[str, Series], dict[str, Series]]:
    """The time of the uploads of a form, and the memory that they needed, by kind.

    A server has one heap for all its threads: else its memory depends on which of them serves.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {}
        for kind, (name, keyed) in _KINDS.items():
            server = served(bench, name, folder, workers=1, MALLOC_ARENA_MAX="1")
            port = stack.enter_context(server)
            servers[kind] = _Server(port, form, keyed=keyed)
        turns = {kind: server.upload for kind, server in servers.items()}
        measured = in_turns(turns, bench.size.uploads)
        peaks = {kind: server.memory() for kind, server in servers.items()}
    times = {
        kind: Series(f"{kind}, {form.title}: time", "ms", tuple(values))
        for kind, values in measured.items()
    }
    memory = {
        kind: Series(f"{kind}, {form.title}: memory", "MiB", (peak,))
        for kind, peak in peaks.items()
    }
    return times, memory


def _targets(
    kind: str, form: _Form, times: Mapping[str, Series], memory: Mapping[str, Series]
) -> list[Target]:
    name = f"{kind}, {form.title}"
    time_over, memory_over = (of[kind].over(of["bare"]) for of in (times, memory))
    return [
        Target(f"{name}: time over bare Flask's", time_over, _TIME_LIMITS[kind]),
        Target(f"{name}: memory over bare Flask's", memory_over, _MEMORY_LIMIT),
    ]
