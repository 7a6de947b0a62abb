"""A file that all processes of one run of a server share, and that is new for each run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_held: list[IO[str]] = []


def shared_file(name: str) -> Path:
    """Return where *name* is for this run; call it in the worker, after the server has forked.

    The workers of one server have one parent, so the parent's process id names the run. Each
    process holds a lock on its run until it ends, however it ends: a run without a lock is left
    over from an earlier server and is removed, even if a process id is used again.
    """
    home = _private_folder()
    with _alone(home):
        for run in home.glob("run-*"):
            _remove_if_over(run)
        run = home / f"run-{os.getppid()}"
        run.mkdir(exist_ok=True)
        _held.append(_locked(run / "lock", exclusive=False))
    return run / name


def _private_folder() -> Path:
    home = Path(tempfile.gettempdir()) / f"flask-idempotent-shop-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    found = home.lstat()
    if found.st_uid != os.getuid() or home.is_symlink() or found.st_mode & 0o077:
        raise PermissionError(f"{home} is not private; remove it, or set SHOP_DATABASE.")
    return home


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold a lock, so that only one process at a time checks the runs."""
    with _locked(home / "lock", exclusive=True):
        yield


def _remove_if_over(run: Path) -> None:
    try:
        lock = _locked(run / "lock", exclusive=True, wait=False)
    except BlockingIOError:
        return
    with lock:
        shutil.rmtree(run)


def _locked(path: Path, *, exclusive: bool, wait: bool = True) -> IO[str]:
    # Imported here: it is missing on Windows, where SHOP_DATABASE must name the file.
    import fcntl

    file = path.open("a")
    how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(file, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    return file
