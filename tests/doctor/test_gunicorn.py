"""What can be known of gunicorn's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_idempotent.doctor.gunicorn import Gunicorn, gunicorn_of


class TestGunicorn:
    def test_nothing_known(self, tmp_path: Path) -> None:
        """Where nothing tells of gunicorn, nothing is claimed of it."""
        assert gunicorn_of({}, tmp_path) is None
        assert gunicorn_of({"WEB_CONCURRENCY": "many"}, tmp_path) is None

    def test_configuration_file(self, tmp_path: Path) -> None:
        """Plain values are read; what must be computed is not, and nothing is run."""
        (tmp_path / "gunicorn.conf.py").write_text(
            "import os\ntimeout = 90\nworkers = os.cpu_count()\nworker_class = 'gevent'\n"
            "bind = ':80'\nthreads: int = 4\ngraceful_timeout = 20\nraise SystemExit\n"
        )
        assert gunicorn_of({}, tmp_path) == Gunicorn(("gunicorn.conf.py",), 90, 1, "gevent", 20)

    def test_precedence(self, tmp_path: Path) -> None:
        """Arguments win over the file, the file over WEB_CONCURRENCY."""
        (tmp_path / "other.py").write_text("workers = 3\ntimeout = 90\n")
        environment = {
            "WEB_CONCURRENCY": "2",
            "GUNICORN_CMD_ARGS": "-c file:other.py --timeout=20 --preload -b :80 -k gthread",
        }
        sources = ("WEB_CONCURRENCY", "other.py", "GUNICORN_CMD_ARGS")
        assert gunicorn_of(environment, tmp_path) == Gunicorn(sources, 20, 3, "gthread")

    def test_threads_make_gthread(self, tmp_path: Path) -> None:
        """More than one thread turns the sync worker into gthread, as in gunicorn."""
        found = gunicorn_of({"GUNICORN_CMD_ARGS": "--threads 4"}, tmp_path)
        assert found is not None
        assert found.worker_class == "gthread"

    @pytest.mark.parametrize("line", ["--timeout soon", "--timeout", "'open"])
    def test_unusable_arguments(self, tmp_path: Path, line: str) -> None:
        """Arguments that gunicorn itself would refuse tell nothing."""
        assert gunicorn_of({"GUNICORN_CMD_ARGS": line}, tmp_path) == Gunicorn(
            ("GUNICORN_CMD_ARGS",)
        )

    def test_damaged_file(self, tmp_path: Path) -> None:
        """A file that is no Python tells nothing."""
        (tmp_path / "gunicorn.conf.py").write_text("timeout = = 3")
        assert gunicorn_of({}, tmp_path) == Gunicorn(("gunicorn.conf.py",))
