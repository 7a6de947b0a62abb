"""Credentials in ``Authorization``: what of them says who is asking."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Authorization

from flask_idempotent.web.scopes import credentials

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
        """A caller's retry has the same scope, also where each request is signed again."""
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

    @pytest.mark.parametrize("spelt", [str, str.upper, lambda name: f"%{ord(name[0]):x}{name[1:]}"])
    @pytest.mark.parametrize(
        ("scheme", "name"),
        [("Signature", "keyId"), ("Hawk", "id"), ("Digest", "username"), ("OAuth", "oauth_token")],
    )
    def test_f10_name_given_twice(
        self, scheme: str, name: str, spelt: Callable[[str], str]
    ) -> None:
        """F10: where a name is given twice, in whatever spelling, the whole header counts."""
        alice = f'{scheme} {name}="alice", signature="1"'
        assert credentials(alice) == f'{scheme.lower()} {name}="alice"'
        for second in (
            "{}={}", "{}*=UTF-8''{}", "{} = {}", "{}*={}", "{}*0={}", "\"{}={}\"", "x=\"1, {}={}\"",
            "x=\"1\" {}={}", "x=\"1,{}*={}\"",
        ):  # fmt: skip
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
