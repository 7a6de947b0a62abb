"""What can be known of gunicorn's settings without running anything."""

from __future__ import annotations

import ast
import shlex
from argparse import ArgumentParser
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DEFAULT_FILE = "gunicorn.conf.py"
_THREADED = "gthread"


@dataclass(frozen=True, slots=True)
class Gunicorn:
    """Gunicorn's settings that matter here; its own defaults where nothing is said.

    :param sources: where they were found.
    :param timeout: seconds after which a silent worker is killed; 0 for never.
    :param workers: number of processes.
    :param worker_class: kind of worker, such as ``sync`` or ``gevent``.
    :param graceful_timeout: seconds after which a worker that is to leave is killed.
    """

    sources: tuple[str, ...]
    timeout: int = 30
    workers: int = 1
    worker_class: str = "sync"
    graceful_timeout: int = 30


def gunicorn_of(environment: Mapping[str, str], folder: Path) -> Gunicorn | None:
    """Read gunicorn's settings, or None where nothing tells of it.

    The configuration file is Python: what it assigns as a plain value is read, nothing is run.
    """
    arguments = _arguments(environment.get("GUNICORN_CMD_ARGS", ""))
    file = folder / str(arguments.pop("config", _DEFAULT_FILE)).removeprefix("file:")
    found: dict[str, Any] = {}
    sources = []
    with suppress(ValueError):
        found["workers"] = int(environment.get("WEB_CONCURRENCY", ""))
        sources.append("WEB_CONCURRENCY")
    if file.is_file():
        found |= _assigned(file)
        sources.append(file.name)
    if "GUNICORN_CMD_ARGS" in environment:
        found |= arguments
        sources.append("GUNICORN_CMD_ARGS")
    if not sources:
        return None
    if found.pop("threads", 1) > 1 and found.get("worker_class", "sync") == "sync":
        # As gunicorn itself does.
        found["worker_class"] = _THREADED
    return Gunicorn(tuple(sources), **found)


def _arguments(line: str) -> dict[str, Any]:
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config")
    parser.add_argument("-t", "--timeout", type=int)
    parser.add_argument("-w", "--workers", type=int)
    parser.add_argument("-k", "--worker-class")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--graceful-timeout", type=int)
    try:
        known, _ = parser.parse_known_args(shlex.split(line))
    except (Exception, SystemExit):
        return {}  # Gunicorn will not start with these either.
    return {name: value for name, value in vars(known).items() if value is not None}


_KINDS = {"timeout": int, "workers": int, "worker_class": str, "threads": int,
          "graceful_timeout": int}  # fmt: skip


def _assigned(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    # A file that cannot be read, and a value that must be computed, tell nothing.
    with suppress(OSError, SyntaxError, ValueError):
        for statement in ast.parse(file.read_bytes()).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value)):
                    if name in _KINDS and type(value) is _KINDS[name]:
                        found[name] = value
    return found
