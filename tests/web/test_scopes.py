"""Scopes: two callers never share a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask, request, session
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Authorization

from flask_idempotent.settings import resolve
from flask_idempotent.web.scopes import credentials, default_scope, scope_of
from tests.conftest import MakeApp
from tests.support.flask_versions import call_in_context

BASIC_ADA, BASIC_BOB = "Basic YWRhOjE=", "Basic Ym9iOjE="
DIGEST = 'Digest username="{}", realm="r", nonce="{}", uri="/", nc={}, cnonce="{}", response="{}"'
AWS = (
    "AWS4-HMAC-SHA256 Credential={}/{}/us-east-1/s3/aws4_request, "
    "SignedHeaders=host;x-amz-date, Signature={}"
)
OAUTH = 'OAuth oauth_consumer_key="{}", oauth_nonce="{}", oauth_signature="{}", oauth_token="{}"'
HAWK = 'Hawk id="{}", ts="{}", nonce="{}", mac="{}"'
SIGNATURE = 'Signature keyId="{}",algorithm="rsa-sha256",signature="{}"'


class TestCredentials:
    @pytest.mark.parametrize(
        ("first", "retry"),
        [
            pytest.param("Bearer abc", "Bearer abc", id="F6-bearer"),
            pytest.param(BASIC_ADA, BASIC_ADA, id="F6-basic"),
            pytest.param("DPoP abc", "DPoP abc", id="F6-dpop"),
            pytest.param("abc", "abc", id="F6-without-scheme"),
            pytest.param("", "", id="F6-empty"),
            pytest.param(
                DIGEST.format("ada", "n1", "1", "c1", "r1"),
                DIGEST.format("ada", "n2", "2", "c2", "r2"), id="F6-digest",
            ),
            pytest.param(
                DIGEST.format("Doe, Ada", "n1", "1", "c1", "r1").replace("Digest", "DIGEST"),
                DIGEST.format("Doe, Ada", "n2", "2", "c2", "r2"), id="F6-digest-scheme-case",
            ),
            pytest.param(
                "Digest username*=UTF-8''J%C3%BCrgen, nonce=\"1\"",
                "Digest nonce=\"2\", username*=UTF-8''J%C3%BCrgen", id="F6-digest-extended",
            ),
            pytest.param(
                AWS.format("AKIA1", "20260101", "s1"), AWS.format("AKIA1", "20260102", "s2"),
                id="F6-aws",
            ),
            pytest.param(
                AWS.format("AKIA1", "20260101", "s1").replace("HMAC-SHA256", "ECDSA-P256-SHA256"),
                AWS.format("AKIA1", "20260102", "s2").replace("HMAC-SHA256", "ECDSA-P256-SHA256"),
                id="F6-aws-asymmetric",
            ),
            pytest.param(
                OAUTH.format("c", "1", "s1", "t"), OAUTH.format("c", "2", "s2", "t"),
                id="F6-oauth-1",
            ),
            pytest.param(
                HAWK.format("ada", 1, "n1", "m1"), HAWK.format("ada", 2, "n2", "m2"), id="F6-hawk"
            ),
            pytest.param(
                SIGNATURE.format("ada", "s1"), SIGNATURE.format("ada", "s2"), id="F6-signature"
            ),
        ],
    )  # fmt: skip
    def test_one_caller(self, first: str, retry: str) -> None:
        """A caller's retry has the same scope, also where each request is signed anew."""
        assert credentials(first) == credentials(retry)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            pytest.param("Bearer abc", "Bearer abd", id="F6-bearer"),
            pytest.param("Bearer abc", "DPoP abc", id="F6-scheme"),
            pytest.param(BASIC_ADA, BASIC_BOB, id="F6-basic"),
            pytest.param("DPoP abc", "DPoP abd", id="F6-dpop"),
            pytest.param(
                DIGEST.format("ada", "n", "1", "c", "r"), DIGEST.format("bob", "n", "1", "c", "r"),
                id="F6-digest",
            ),
            pytest.param(
                DIGEST.format("Doe, Ada", "n", "1", "c", "r"),
                DIGEST.format("Doe, Bob", "n", "1", "c", "r"), id="F6-digest-comma",
            ),
            pytest.param(
                DIGEST.format('a\\"b', "n", "1", "c", "r"),
                DIGEST.format('a\\"c', "n", "1", "c", "r"), id="F6-digest-quote",
            ),
            pytest.param(
                DIGEST.format("ada", "n", "1", "username=bob", "r"),
                DIGEST.format("bob", "n", "1", "c", "r"), id="F6-digest-name-in-another-part",
            ),
            pytest.param(
                'Digest username="ada", username="bob"', 'Digest username="bob"',
                id="F6-digest-two-names",
            ),
            pytest.param(
                'Digest username="ada", username="bob"', 'Digest username="ada bob"',
                id="F6-digest-names-joined",
            ),
            pytest.param('Digest username=""', 'Digest username="a"', id="F6-digest-empty-name"),
            pytest.param('Digest nonce="1"', 'Digest nonce="2"', id="F6-digest-no-name"),
            pytest.param(
                AWS.format("AKIA1", "20260101", "s"), AWS.format("AKIA2", "20260101", "s"),
                id="F6-aws",
            ),
            pytest.param(
                "AWS4-HMAC-SHA256 SignedHeaders=host, Signature=1",
                "AWS4-HMAC-SHA256 SignedHeaders=host, Signature=2", id="F6-aws-no-credential",
            ),
            pytest.param(
                OAUTH.format("c", "1", "s", "t1"), OAUTH.format("c", "1", "s", "t2"),
                id="F6-oauth-token",
            ),
            pytest.param(
                OAUTH.format("c1", "1", "s", "t"), OAUTH.format("c2", "1", "s", "t"),
                id="F6-oauth-consumer",
            ),
            pytest.param(
                HAWK.format("ada", 1, "n", "m"), HAWK.format("bob", 1, "n", "m"), id="F6-hawk"
            ),
            pytest.param(
                SIGNATURE.format("ada", "s"), SIGNATURE.format("bob", "s"), id="F6-signature"
            ),
        ],
    )  # fmt: skip
    def test_two_callers(self, one: str, other: str) -> None:
        """Two callers have two scopes, whatever stands beside their names."""
        assert credentials(one) != credentials(other)

    @pytest.mark.parametrize(
        "second",
        [
            "{}={}", "{}*=UTF-8''{}", "{} = {}", "{}*={}", "{}*0={}", "\"{}={}\"", "x=\"1, {}={}\"",
            "x=\"1\" {}={}", "x=\"1,{}*={}\"",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("spelt", [str, str.upper, lambda name: f"%{ord(name[0]):x}{name[1:]}"])
    @pytest.mark.parametrize(
        ("scheme", "name"),
        [("Signature", "keyId"), ("Hawk", "id"), ("Digest", "username"), ("OAuth", "oauth_token")],
    )
    def test_f10_name_given_twice(
        self, scheme: str, name: str, second: str, spelt: Callable[[str], str]
    ) -> None:
        """F10: where a name is given twice, in whatever spelling, the whole header counts."""
        alice = f'{scheme} {name}="alice", signature="1"'
        assert credentials(alice) == f'{scheme.lower()} {name}="alice"'
        bob = second.format(spelt(name), "bob")
        for header in (f"{alice}, {bob}", f'{scheme} {bob}, {name}="alice", signature="1"'):
            assert credentials(header) == header

    @given(
        st.sampled_from(["Signature keyId", "Hawk id", "Digest username", "OAuth oauth_token"]),
        st.lists(
            st.sampled_from(
                ["{}*=UTF-8''bob", "{}=bob", 'x="{}=bob"', '"{}=bob"', 'x="', "x", '{}="alice"']
            ),
            min_size=1,
            max_size=2,
        ),
        st.booleans(),
        st.sampled_from([",", ", ", " , "]),
    )
    def test_f10_whoever_werkzeug_reads(
        self, which: str, parts: list[str], first: bool, between: str
    ) -> None:
        """F10: what has alice's scope names alice to who reads the header with Werkzeug."""
        scheme, name = which.split()
        alice = f'{name}="alice"'
        others = [part.format(name) for part in parts]
        header = f"{scheme} {between.join([alice, *others] if first else [*others, alice])}"
        if credentials(header) == credentials(f"{scheme} {alice}"):
            read = Authorization.from_header(header)
            assert read is not None
            assert read.get(name) == "alice"

    @pytest.mark.parametrize("rest", ["id" + " " * 60_000, "id " * 20_000, 'id*="' * 15_000])
    def test_f10_takes_linear_time(self, rest: str) -> None:
        """A header of many thousand characters takes no time that anybody would notice."""
        assert credentials(f"Hawk {rest}") == f"Hawk {rest}"

    def test_f6_signature_is_left_out(self) -> None:
        """Nothing of a signature is in a scope."""
        assert credentials(AWS.format("AKIA1", "20260101", "s1")) == (
            "aws4-hmac-sha256 Credential=AKIA1"
        )
        assert credentials(DIGEST.format("ada", "n", "1", "c", "r")) == 'digest username="ada"'

    @given(st.sampled_from(["", "Digest ", "AWS4-HMAC-SHA256 ", "hawk "]), st.text(max_size=30))
    def test_whatever_comes(self, scheme: str, rest: str) -> None:
        """Whatever the header says, it is a scope and no error."""
        assert isinstance(credentials(scheme + rest), str)

    @given(st.text('ab",\\ =', max_size=6), st.text('ab",\\ =', max_size=6))
    def test_f6_quoted_names(self, one: str, other: str) -> None:
        """Two names, quoted as they must be, are two scopes."""

        def quoted(name: str) -> str:
            escaped = name.replace("\\", "\\\\").replace('"', '\\"')
            return f'Digest username="{escaped}", nonce="1"'

        assert (credentials(quoted(one)) == credentials(quoted(other))) is (one == other)


@pytest.fixture(name="app")
def _app() -> Flask:
    app = Flask("scopes")
    app.secret_key = "only for tests"
    return app


SETTINGS = resolve({})


def scope_with(
    app: Flask,
    header: str | None = None,
    user: object = None,
    api_key: str | None = None,
    user_id: object = None,
) -> str | None:
    headers = {"Authorization": header, "X-API-Key": api_key}
    entries = {"_user_id": user, "user_id": user_id}
    given = {name: value for name, value in headers.items() if value is not None}
    with app.test_request_context(headers=given):
        for name, value in entries.items():
            if value is not None:
                session[name] = value
        return default_scope(request, SETTINGS)


class TestDefaultScope:
    def test_f6_anonymous(self, app: Flask) -> None:
        """Without credentials and user there is the one shared scope."""
        assert scope_with(app) is None

    def test_f6_each_combination_is_its_own(self, app: Flask) -> None:
        """Header and user both count, and neither can look like the other."""
        combinations = [
            (None, None), (BASIC_ADA, None), (None, "1"), (BASIC_ADA, "1"), (BASIC_ADA, "2"),
            (BASIC_BOB, "1"), ("", None), (None, ""), ("", ""), ("1", None), ("-", None),
            (None, "-"), ("a-", None), ("a", "-"), ("1:a", None), ("", "1:a"),
        ]  # fmt: skip
        scopes = [scope_with(app, header, user) for header, user in combinations]
        assert len(set(scopes)) == len(combinations)

    @given(*[st.tuples(*[st.none() | st.text("a1:", max_size=3)] * 4)] * 2)
    def test_f7_no_collision(
        self, one: tuple[str | None, ...], other: tuple[str | None, ...]
    ) -> None:
        """Two callers have one scope only if headers and users are equal."""
        app = Flask("scopes")
        app.secret_key = "only for tests"
        assert (scope_with(app, *one) == scope_with(app, *other)) is (one == other)

    def test_user_of_another_type(self, app: Flask) -> None:
        """A user's id need not be text."""
        assert scope_with(app, user=5) == scope_with(app, user="5")
        assert scope_with(app, user_id=5) == scope_with(app, user_id="5")

    def test_f11_each_input_is_its_own(self, app: Flask) -> None:
        """F11: headers and the two users are told apart, though their values are the same."""
        names = ("header", "user", "api_key", "user_id")
        assert len({scope_with(app, **{name: "1"}) for name in names}) == len(names)

    def test_f11_headers_are_a_setting(self, app: Flask) -> None:
        """F11: the headers are those of IDEMPOTENT_SCOPE_HEADERS, in any case and order; one
        more changes no scope that lacks it."""

        def of(names: list[str], **headers: str) -> str | None:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            settings = resolve({"IDEMPOTENT_SCOPE_HEADERS": names})
            with app.test_request_context(headers=sent):
                return default_scope(request, settings)

        both = {"X_Tenant": "acme", "Authorization": BASIC_ADA}
        assert of([], **both) is None
        assert of(["X-Tenant"], **both) != of(["X-Tenant"], X_Tenant="other")
        assert of(["x-tenant"], **both) == of(["X-TENANT"], X_Tenant="acme")
        assert of(["X-Tenant", "Authorization"], **both) == of(
            ["Authorization", "X-Tenant"], **both
        )
        assert of(["Authorization"], Authorization="a") == of(
            ["X-Tenant", "Authorization"], Authorization="a"
        )

    def test_f6_without_sessions(self) -> None:
        """An application without a secret key has no users, and no error comes of it."""
        assert scope_with(Flask("scopes")) is None

    def test_f6_session_of_another_kind(self) -> None:
        """Any session that keeps Flask's contract will do."""

        class Plain(dict[str, Any], SessionMixin):
            accessed = False

        class Interface(SecureCookieSessionInterface):
            def open_session(self, app: Any, request: Any) -> Any:
                return plain

        app, plain = Flask("scopes"), Plain(_user_id="7")
        app.session_interface = Interface()
        with app.test_request_context():
            assert default_scope(request, SETTINGS) == "16:session _user_id1:7"
            assert not plain.accessed

    @pytest.mark.parametrize("accessed", [False, True])
    def test_f6_reading_leaves_no_trace(self, app: Flask, accessed: bool) -> None:
        """Looking at the session does not mark it as accessed; one that was, stays so."""
        with app.test_request_context() as context:
            if accessed:
                session.get("anything")
            assert default_scope(request, SETTINGS) is None
            answer = call_in_context(app, "process_response", context, app.response_class())
            assert answer.headers.get("Vary") == ("Cookie" if accessed else None)


class TestScopeOf:
    @pytest.mark.parametrize("value", ["", "account 7", b"\xff", None])
    def test_f6_function_replaces_the_default(self, app: Flask, value: object) -> None:
        """The application's function alone says who a key belongs to."""
        with app.test_request_context(headers={"Authorization": BASIC_ADA}):
            assert scope_of(request, resolve({}, {"scope": lambda _: value})) == value

    @pytest.mark.parametrize("value", [0, 7, UUID("8e03978e-40d5-43dd-bc93-6894a57f9324")])
    def test_k9_numbers_and_uuids(self, app: Flask, value: object) -> None:
        """K9: an int or a UUID, as databases have them, stands for its text."""
        with app.test_request_context():
            assert scope_of(request, resolve({}, {"scope": lambda _: value})) == str(value)

    @pytest.mark.parametrize("value", [5.0, True, ["a"], ("a",), {"a": 1}, object()])
    def test_f6_wrong_type(self, app: Flask, value: object) -> None:
        """A function that returns anything else stops the request."""
        settings = resolve({}, {"scope": lambda _: value})
        with (
            app.test_request_context(),
            pytest.raises(TypeError, match=f"int, UUID or None, not {type(value).__name__}"),
        ):
            scope_of(request, settings)

    def test_f6_error(self, app: Flask) -> None:
        """A function that raises stops the request; there is no other scope to fall back to."""

        def fail(_: Any) -> str:
            raise LookupError("no such account")

        with app.test_request_context(), pytest.raises(LookupError):
            scope_of(request, resolve({}, {"scope": fail}))


class TestOnFlask:
    def counting(self, app: Flask) -> list[str]:
        runs: list[str] = []

        @app.post("/")
        def view() -> str:
            runs.append(request.headers.get("Authorization", ""))
            return f"for {runs[-1]} ({len(runs)})"

        return runs

    def test_f6_two_callers(self, make_app: MakeApp) -> None:
        """Two callers with one key and body are two operations; each gets its own response."""
        app = make_app()
        runs = self.counting(app)
        client = app.test_client()
        answers = {
            caller: [
                client.post("/", headers={"Idempotency-Key": "k", "Authorization": caller}).text
                for _ in range(2)
            ]
            for caller in (BASIC_ADA, BASIC_BOB)
        }
        assert runs == [BASIC_ADA, BASIC_BOB]
        assert answers == {
            BASIC_ADA: [f"for {BASIC_ADA} (1)"] * 2,
            BASIC_BOB: [f"for {BASIC_BOB} (2)"] * 2,
        }

    @pytest.mark.parametrize("entry", ["_user_id", "user_id"])
    def test_f6_f11_users_of_the_session(self, make_app: MakeApp, entry: str) -> None:
        """So are two users who are logged in, with Flask-Login or as in Flask's tutorial."""
        app = make_app()
        runs = self.counting(app)
        for user in ("1", "2", "1"):
            client = app.test_client()
            with client.session_transaction() as stored:
                stored[entry] = user
            client.post("/", headers={"Idempotency-Key": "k"})
        assert len(runs) == 2

    @pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
    def test_f11_headers(self, make_app: MakeApp, name: str) -> None:
        """F11: so are two callers whom a header tells apart."""
        app = make_app()
        runs = self.counting(app)
        for caller in ("ada", "bob", "ada"):
            app.test_client().post("/", headers={"Idempotency-Key": "k", name: caller})
        assert len(runs) == 2

    @pytest.mark.parametrize("keys", [1, 2])
    def test_f6_no_vary_cookie(self, make_app: MakeApp, keys: int) -> None:
        """Neither a first answer nor a replay gains ``Vary: Cookie``."""
        app = make_app()
        self.counting(app)
        client = app.test_client()
        with client.session_transaction() as stored:
            stored["_user_id"] = "1"
        for number in range(2):
            answer = client.post("/", headers={"Idempotency-Key": f"k{number % keys}"})
            assert answer.status_code == 200
            assert "Vary" not in answer.headers
            assert "Set-Cookie" not in answer.headers

    @pytest.mark.parametrize(
        "scope",
        [
            pytest.param(lambda _: 1 / 0, id="F6-raises"),
            pytest.param(lambda _: 5.0, id="F6-wrong-type"),
        ],
    )
    def test_f6_failing_scope_stops_the_request(self, make_app: MakeApp, scope: Any) -> None:
        """A scope function that raises or returns a wrong type is a 500; the view does not run."""
        app = make_app(scope=scope)
        runs = self.counting(app)
        assert app.test_client().post("/", headers={"Idempotency-Key": "k"}).status_code == 500
        assert runs == []
        assert app.test_client().post("/").status_code == 200
