"""A file that all processes of one run of a server share, and that is new for each run."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def shared_file(name: str) -> Path:
    """Return where *name* is for this run; call it in a worker of the server.

    The workers of one server have one parent, so the parent's process id names the run. A worker
    that was killed leaves its files to the next one; those of a server that has ended are removed.
    """
    home = _private_folder()
    for run in home.glob("run-*"):
        if not _is_running(int(run.name.removeprefix("run-"))):
            shutil.rmtree(run, ignore_errors=True)
    run = home / f"run-{os.getppid()}"
    run.mkdir(exist_ok=True)
    return run / name


def _private_folder() -> Path:
    home = Path(tempfile.gettempdir()) / f"flask-idempotent-shop-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    state = home.lstat()
    if state.st_uid != os.getuid() or home.is_symlink() or state.st_mode & 0o077:
        raise PermissionError(f"{home} is not private; remove it, or set SHOP_DATABASE.")
    return home


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # It is another user's.
    return True
