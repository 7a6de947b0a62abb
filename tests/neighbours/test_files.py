"""send_file and send_from_directory, with conditional and range requests."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from flask import Blueprint, Flask, Response, send_file, send_from_directory
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_idempotent import Idempotent
from flask_idempotent.policy import policy_of
from tests.conftest import MakeApp
from tests.neighbours.client import replayed, send, summary
from tests.support.clients import WayIn, problem

CONTENT = bytes(range(256)) * 300


@pytest.fixture
def app(way: WayIn, tmp_path: Path) -> Flask:
    """Sends a file, and counts how often."""
    app, runs = way.app(methods=("GET", "POST")), count(1)
    file = tmp_path / "report.bin"
    file.write_bytes(CONTENT)

    def counted(response: Response) -> Response:
        response.headers["X-Run"] = str(next(runs))
        return response

    @app.route("/file", methods=["GET", "POST"])
    @way
    def whole() -> Response:
        return counted(send_file(file, as_attachment=True, conditional=True))

    @app.route("/folder", methods=["GET", "POST"])
    @way
    def from_folder() -> Response:
        return counted(send_from_directory(tmp_path, "report.bin"))

    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.mark.parametrize("size", [0, 5, 2 * 1024 * 1024])
def test_r1_sent_by_the_front_server(way: WayIn, tmp_path: Path, size: int) -> None:
    """R1: with X-Sendfile a replay names the file again, however large that is."""
    file = tmp_path / "report.bin"
    file.write_bytes(b"x" * size)
    app, runs = way.app(config={"USE_X_SENDFILE": True}), count(1)

    @app.post("/")
    @way
    def view() -> Response:
        response = send_file(file)
        response.headers["X-Run"] = str(next(runs))
        return response

    first, retry = (send(app.test_client()) for _ in range(2))
    for answer in (first, retry):
        assert (answer.status_code, answer.headers["X-Sendfile"]) == (200, str(file))
        assert (answer.data, run(answer)) == (b"", "1")
    assert replayed(retry)
    assert retry.headers["ETag"] == first.headers["ETag"]


def test_r1_accelerated_redirect(way: WayIn) -> None:
    """R1: nginx's header is repeated likewise."""
    app = way.app()

    @app.post("/")
    @way
    def view() -> Response:
        return Response(headers={"X-Accel-Redirect": "/files/report.bin"})

    answers = [send(app.test_client()) for _ in range(2)]
    assert [answer.headers["X-Accel-Redirect"] for answer in answers] == ["/files/report.bin"] * 2
    assert [replayed(answer) for answer in answers] == [False, True]


def run(answer: TestResponse) -> str:
    return answer.headers["X-Run"]


PATHS = pytest.mark.parametrize("path", ["/file", "/folder"])


@PATHS
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_r3_whole_file(client: FlaskClient, path: str, method: str) -> None:
    """R3, R5: a file is sent as it is, and its replay has the same bytes, name and tag."""
    first, retry = (send(client, path, method=method) for _ in range(2))
    assert first.data == retry.data == CONTENT
    assert (replayed(first), replayed(retry)) == (False, True)
    for name in ("Content-Type", "Content-Length", "Content-Disposition", "ETag", "Last-Modified"):
        assert retry.headers.get(name) == first.headers.get(name)


@PATHS
def test_r6_range_first(client: FlaskClient, path: str) -> None:
    """R6: a part is never stored: the next request with the key runs and is stored whole."""
    part = send(client, path, method="GET", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.data) == (206, CONTENT[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(CONTENT)}"
    whole = send(client, path, method="GET")
    assert (whole.status_code, whole.data, run(whole)) == (200, CONTENT, "2")


@PATHS
def test_r6_range_of_a_replay(client: FlaskClient, path: str) -> None:
    """A retry that asks for a part gets the whole first answer, which any client must take."""
    send(client, path, method="GET")
    retry = send(client, path, method="GET", headers={"Range": "bytes=10-19"})
    assert (retry.status_code, retry.data, replayed(retry)) == (200, CONTENT, True)


@PATHS
def test_r6_not_modified_first(client: FlaskClient, path: str) -> None:
    """R6, E4: a 304 is never stored and has no body; the next request runs."""
    tag = send(client, path, key=None, method="GET").headers["ETag"]
    for _ in range(2):
        answer = send(client, path, method="GET", headers={"If-None-Match": tag})
        assert (answer.status_code, answer.data, replayed(answer)) == (304, b"", False)
    assert send(client, path, method="GET").data == CONTENT


@PATHS
def test_c6_condition_on_a_replay(client: FlaskClient, path: str) -> None:
    """C6: a retry with If-None-Match gets the stored 200."""
    first = send(client, path, method="GET")
    headers = {"If-None-Match": first.headers["ETag"]}
    retry = send(client, path, method="GET", headers=headers)
    assert (retry.status_code, retry.data, replayed(retry)) == (200, CONTENT, True)


def test_range_that_cannot_be_sent(client: FlaskClient) -> None:
    """C2: a 416 is an answer like any other: it is stored for its key."""
    headers = {"Range": f"bytes={len(CONTENT)}-"}
    answers = [send(client, "/file", method="GET", headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [416, 416]
    assert replayed(answers[1])


def test_file_over_max_body(way: WayIn, tmp_path: Path) -> None:
    """A file larger than ``max_body`` arrives whole, and its retry gets "response-not-kept"."""
    app = way.app(max_body=1000)
    (tmp_path / "report.bin").write_bytes(CONTENT)
    app.post("/")(way(lambda: send_from_directory(tmp_path, "report.bin")))
    client = app.test_client()
    assert send(client).data == CONTENT
    assert problem(send(client)) == (409, "response-not-kept")


def test_w1_static_files(make_app: MakeApp, tmp_path: Path) -> None:
    """W1: static files, a blueprint's too, are never tracked: they fill no store."""
    app = make_app(methods=("GET", "POST"), required=True)
    (tmp_path / "a.txt").write_text("static")
    app.static_folder = str(tmp_path)
    outer = Blueprint("outer", __name__)
    inner = Blueprint("inner", __name__, static_folder=tmp_path)
    outer.register_blueprint(inner, url_prefix="/inner")
    app.register_blueprint(outer, url_prefix="/outer")
    client = app.test_client()
    for path in ("/static/a.txt", f"/outer/inner/{tmp_path.name}/a.txt"):
        answers = [summary(send(client, path, key, method="GET")) for key in ("k", "k", None, ",")]
        assert answers == [(200, "static", False)] * 4
    assert policy_of(app).routes == ()


def test_w1_a_view_named_static() -> None:
    """A view that only shares the name of Flask's is a view like any other."""
    app = Flask("tests", static_folder=None)
    app.config["REDIS_URL"] = "memory://"
    Idempotent(app)
    app.add_url_rule("/pages", "static", lambda: "page", methods=["POST"])
    app.add_url_rule("/other", "no_blueprint.static", lambda: "page", methods=["POST"])
    for path in ("/pages", "/other"):
        assert replayed([send(app.test_client(), path, path[1:]) for _ in range(2)][1])
    app.extensions["idempotent"].engine.close()
