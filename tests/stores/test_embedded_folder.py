"""The folder of an embedded server: one that somebody else made is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_idempotent.errors import StoreUnavailable
from flask_idempotent.stores import embedded as module
from flask_idempotent.stores.embedded import SharedServer
from tests.conftest import MakeApp


def squat_with_file(folder: Path) -> None:
    folder.write_text("")


def squat_with_link(folder: Path) -> None:
    folder.with_name("elsewhere").mkdir(0o700)
    folder.symlink_to(folder.with_name("elsewhere"))


def squat_with_dangling_link(folder: Path) -> None:
    folder.symlink_to(folder.with_name("nowhere"))


def squat_as_another(folder: Path) -> None:
    folder.mkdir(0o700)
    if os.getuid():
        pytest.skip("only root can give a folder away")
    os.chown(folder, 12345, 12345)


def squat_open(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)


class TestSquatters:
    """A folder that somebody else made in advance is refused with its name."""

    @pytest.mark.parametrize(
        ("squat", "why"),
        [
            (squat_with_file, "is not a folder"),
            (squat_with_link, "is not a folder"),
            (squat_with_dangling_link, "is not a folder"),
            (squat_as_another, "belongs to another user"),
            (squat_open, "is open to others"),
        ],
    )
    @pytest.mark.parametrize("place", [".", "inner"])
    def test_place(
        self, tmp_path: Path, squat: Callable[[Path], None], why: str, place: str
    ) -> None:
        """Neither the user's folder nor the one in it may have been made by somebody else."""
        tmp_path.chmod(0o700)
        users = tmp_path / "users"
        squatted = users
        if place == "inner":
            users.mkdir(0o700)
            squatted = users / "inner"
        squat(squatted)
        with pytest.raises(StoreUnavailable, match=f"{squatted}: it {why}") as caught:
            SharedServer(users / "inner").join()
        assert not caught.value.sent

    def test_folder_that_anybody_can_replace(self, tmp_path: Path) -> None:
        """A temporary folder that everybody may write to is refused without the sticky bit."""
        tmp_path.chmod(0o777)
        with pytest.raises(StoreUnavailable, match=f"{tmp_path} has no sticky bit"):
            SharedServer(tmp_path / "users" / "inner").join()
        assert not (tmp_path / "users").exists()

    def test_no_temporary_folder(self, tmp_path: Path) -> None:
        """A temporary folder that is not there is an error that names it too."""
        with pytest.raises(StoreUnavailable, match=f"cannot use {tmp_path}/none/users/inner: "):
            SharedServer(tmp_path / "none" / "users" / "inner").join()

    def test_requests(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_app: MakeApp,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        """Requests get the promised 503, and the log names the folder."""
        monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
        squatted = tmp_path / f"flask-idempotent-{os.getuid()}"
        monkeypatch.setattr(module, "_folder", lambda _: squatted / "inner")
        squat_with_link(squatted)
        app = make_app(config={"REDIS_URL": "embedded://"})
        app.add_url_rule("/", view_func=lambda: "ran", methods=["POST"])
        answer = app.test_client().post("/", headers={"Idempotency-Key": "k"})
        assert answer.status_code == 503
        assert (
            f"failed to claim: embedded:// cannot use {squatted}: it is not a folder" in caplog.text
        )
