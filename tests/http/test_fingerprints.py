"""Fingerprints: equal for retries, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from werkzeug.wrappers import Request

from flask_idempotent.http.bodies import Body
from flask_idempotent.http.body_tracking import track
from flask_idempotent.http.fingerprints import fingerprint
from flask_idempotent.records import FINGERPRINT_SIZE
from flask_idempotent.settings import resolve
from tests.http.fingerprint_specs import (
    KEY,
    SPECS,
    URLENCODED,
    File,
    Spec,
    neighbours,
    print_of,
    print_of_request,
)


class TestFingerprint:
    @given(neighbours())
    def test_f1_f2_f7_equal_if_and_only_if_the_same(self, pair: tuple[Spec, Spec]) -> None:
        """Two requests have one fingerprint if, and only if, F1 and F2 call them the same."""
        one, other = pair
        assert (print_of(one) == print_of(other)) is (one.identity() == other.identity())

    @given(SPECS, SPECS)
    def test_f7_strangers(self, one: Spec, other: Spec) -> None:
        """So it is with two requests that are made independently."""
        assert (print_of(one) == print_of(other)) is (one.identity() == other.identity())

    @given(SPECS)
    def test_size(self, spec: Spec) -> None:
        """A fingerprint has the size that a record has room for."""
        assert len(print_of(spec)) == FINGERPRINT_SIZE

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            pytest.param(Spec(), Spec(method="PUT"), id="F5-method"),
            pytest.param(Spec(path="/a"), Spec(path="/b"), id="F5-path"),
            pytest.param(Spec(path="/a"), Spec(path="/A"), id="F1-path-case"),
            pytest.param(Spec(path="/a"), Spec(path="/a/"), id="F1-path-slash"),
            pytest.param(Spec(root="/v1", path="/a"), Spec(root="/v2", path="/a"), id="F1-mount"),
            pytest.param(Spec(), Spec(query=(("a", "1"),)), id="F1-query"),
            pytest.param(
                Spec(query=(("a", "1"), ("b", "2"))), Spec(query=(("b", "2"), ("a", "1"))),
                id="F1-query-order",
            ),
            pytest.param(Spec(kind="text/plain"), Spec(kind="text/html"), id="F1-media-type"),
            pytest.param(Spec(body=b"a"), Spec(body=b"b"), id="F1-body"),
            pytest.param(Spec(body=b'{"a":1}'), Spec(body=b'{"a": 1}'), id="F1-bytes"),
            pytest.param(Spec(path="/a", body=b"b"), Spec(path="/", body=b"ab"), id="F7-path-body"),
            pytest.param(
                Spec(kind=URLENCODED, fields=(("a", "1"),)),
                Spec(kind="multipart/form-data", fields=(("a", "1"),)), id="F1-form-type",
            ),
            pytest.param(
                Spec(kind=URLENCODED, fields=(("a", "b"),)),
                Spec(kind=URLENCODED, fields=(("ab", ""),)), id="F7-name-and-value",
            ),
            pytest.param(
                Spec(kind="multipart/form-data", files=(File("a", content=b"1"),)),
                Spec(kind="multipart/form-data", fields=(("a", "1"),)), id="F2-file-or-field",
            ),
            pytest.param(
                Spec(kind="multipart/form-data", files=(File("a", "x"),)),
                Spec(kind="multipart/form-data", files=(File("a", "y"),)), id="F2-file-name",
            ),
            pytest.param(
                Spec(kind="multipart/form-data", files=(File("a", content_type="text/a"),)),
                Spec(kind="multipart/form-data", files=(File("a", content_type="text/b"),)),
                id="F2-file-type",
            ),
        ],
    )  # fmt: skip
    def test_differences(self, one: Spec, other: Spec) -> None:
        """Each difference that makes another request makes another fingerprint."""
        assert print_of(one) != print_of(other)

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"header": "k"}, id="F1-key-in-header"),
            pytest.param({"query": ((KEY, "k"), ("q", "1"))}, id="F1-key-before"),
            pytest.param({"query": (("q", "1"), (KEY, "k"))}, id="F1-key-behind"),
            pytest.param({"query": ((KEY, "k"), ("q", "1"), (KEY, "k"))}, id="F1-key-twice"),
            pytest.param({"fields": ((KEY, "k"), ("a", "1"))}, id="F2-key-in-form"),
            pytest.param({"fields": (("a", "1"), ("csrf_token", "t"))}, id="F2-csrf-token"),
            pytest.param({"fields": (("nonce", "1"), ("a", "1"))}, id="F2-ignored-field"),
            pytest.param({"host": "b.example"}, id="F1-host"),
        ],
    )
    @pytest.mark.parametrize("kind", [URLENCODED, "multipart/form-data"])
    def test_likeness(self, kind: str, other: dict[str, Any]) -> None:
        """What F1 and F2 leave out makes no difference."""
        spec = Spec(kind=kind, query=(("q", "1"),), fields=(("a", "1"),))
        assert print_of(spec) == print_of(replace(spec, **other))

    @pytest.mark.parametrize("name", ["Content-Encoding", "Accept", "User-Agent", "X-Request-Id"])
    def test_f1_no_other_header(self, name: str) -> None:
        """No other header counts."""
        request = Spec().request(**{"HTTP_" + name.upper().replace("-", "_"): "x"})
        assert print_of_request(request) == print_of(Spec())

    @pytest.mark.parametrize(
        "query",
        [
            pytest.param("q=1&%5F_idempotent_key=k", id="F1-encoded-name"),
            pytest.param("q=1&__idempotent_key", id="F1-no-value"),
        ],
    )
    def test_key_in_query_however_written(self, query: str) -> None:
        """The key's argument is left out in any percent-encoding."""
        request = Spec().request(QUERY_STRING=query)
        assert print_of_request(request) == print_of(Spec(query=(("q", "1"),)))

    @pytest.mark.parametrize("query", ["q=%FF", "q=\xff", "%=%zz", "&&", "=", "q=1&q=1"])
    def test_f1_query_of_any_bytes(self, query: str) -> None:
        """A query's bytes count as they are, valid or not."""
        request = Spec().request(QUERY_STRING=query)
        assert print_of_request(request) != print_of(Spec())

    def test_f1_host_where_it_matters(self) -> None:
        """The host counts where the application serves different things on different hosts."""
        one, other = Spec(host="a.example"), Spec(host="b.example")
        assert print_of(one, host=True) != print_of(other, host=True)
        assert print_of(one, host=True) == print_of(one, host=True)

    @pytest.mark.parametrize(
        ("scheme", "host"),
        [("http", "A.Example"), ("http", "a.example:80"), ("https", "a.example:443")],
    )
    def test_f9_one_host_in_any_spelling(self, scheme: str, host: str) -> None:
        """F9: the host counts in lower case, without the default port."""
        request = Spec(host=host).request(**{"wsgi.url_scheme": scheme})
        assert print_of_request(request, host=True) == print_of(Spec(host="a.example"), host=True)

    def test_the_fields_name_is_a_setting(self) -> None:
        """The field that is left out is the application's, and only that one."""
        settings = resolve({"IDEMPOTENT_FIELD": "my key"})

        def of(*names: str) -> bytes:
            fields = tuple((name, "1") for name in names)
            request = Spec(kind=URLENCODED, fields=fields).request()
            body = Body(request, request.max_content_length)
            return fingerprint(request, body, settings, host=False)

        assert of("a", "my key") == of("a")
        assert of("a", KEY) != of("a")

    @pytest.mark.parametrize("forms", [(b"a=\xff", b"b=\xfe"), (b"\xff", b"\xfe")])
    @pytest.mark.parametrize("kind", [URLENCODED, "multipart/form-data; boundary=b"])
    def test_f7_broken_forms(self, kind: str, forms: tuple[bytes, bytes]) -> None:
        """Two malformed forms differ, though Werkzeug treats both as empty."""

        def of(body: bytes) -> bytes:
            return print_of_request(Spec(body=body).request(CONTENT_TYPE=kind))

        one, other = forms
        assert of(one) == of(one)
        assert of(one) != of(other)
        assert of(one) != of(b"")

    def test_f2_form_that_is_parsed_already(self) -> None:
        """A form has the same fingerprint whether it was parsed before or not."""
        files = (File("f", content=b"x" * 600_000),)
        spec = Spec(kind="multipart/form-data", fields=(("a", "1"),), files=files)
        request = spec.request()
        track(request)
        assert request.form
        assert print_of_request(request) == print_of(spec)
        assert request.files["f"].read() == b"x" * 600_000
        request.close()

    def test_f2_large_files_are_rewound(self) -> None:
        """A large file counts to its last byte, and the view reads it from its beginning."""
        content = b"x" * 600_000
        spec = Spec(kind="multipart/form-data", files=(File("f", content=content),))
        other = replace(spec, files=(File("f", content=content[:-1] + b"y"),))
        request = spec.request()
        assert print_of_request(request) != print_of(other)
        assert request.files["f"].read() == content
        request.close()


class TestOwnFingerprint:
    def test_none(self) -> None:
        """With False every request of a key to one operation is a retry."""
        one, other = Spec(body=b"a"), Spec(body=b"b", query=(("q", "1"),), kind="text/html")
        assert print_of(one, fingerprint=False) == print_of(other, fingerprint=False)

    @pytest.mark.parametrize("value", ["text", b"text"])
    def test_function(self, value: str | bytes) -> None:
        """A function's str or bytes are all that counts besides the operation."""
        one = print_of(Spec(body=b"a"), fingerprint=lambda _: value)
        assert one == print_of(Spec(body=b"b"), fingerprint=lambda _: value)
        assert one != print_of(Spec(body=b"a"), fingerprint=lambda _: b"other")
        assert one != print_of(Spec(body=b"a"), fingerprint=False)
        assert len(one) == FINGERPRINT_SIZE

    @pytest.mark.parametrize("own", [False, lambda _: "event 1"])
    @pytest.mark.parametrize(
        "other", [{"method": "PUT"}, {"path": "/b"}, {"root": "/v2"}, {"host": "b.example"}]
    )
    def test_f9_another_operation(self, own: Any, other: dict[str, str]) -> None:
        """F9: method, root path, path and host count with an own fingerprint, and with False."""
        one = Spec()
        two = replace(one, **other)
        assert print_of(one, host=True, fingerprint=own) != print_of(
            two, host=True, fingerprint=own
        )

    def test_f9_kinds_are_apart(self) -> None:
        """F7: an own fingerprint, False and the default never give the same bytes."""
        owns = (False, lambda _: "", lambda _: b"", None)
        assert len({print_of(Spec(), fingerprint=own) for own in owns}) == len(owns)

    def test_function_sees_the_request(self) -> None:
        """A function is given the request, with its body still to be read."""
        seen = []

        def function(request: Request) -> bytes:
            seen.append(request.get_data())
            return b""

        print_of(Spec(body=b"body"), fingerprint=function)
        assert seen == [b"body"]

    @pytest.mark.parametrize("value", [None, 5, ["a"], {"a": 1}])
    def test_wrong_type(self, value: object) -> None:
        """A function that returns anything else is a TypeError."""
        with pytest.raises(TypeError, match="must return str or bytes"):
            print_of(Spec(), fingerprint=lambda _: value)

    def test_error(self) -> None:
        """A function that raises stops the request."""

        def function(_: Request) -> bytes:
            raise LookupError("the application's own")

        with pytest.raises(LookupError):
            print_of(Spec(), fingerprint=function)


class TestNameSecret:
    @pytest.mark.parametrize("own", [None, False, lambda request: "own"], ids=["all", "no", "own"])
    def test_needs_the_secret(self, own: Any) -> None:
        """Nobody without the secret for names can compute a fingerprint; with it retries match."""
        secrets = [None, "a secret for names", "another secret for names"]

        def of(secret: str | None, path: str = "/") -> bytes:
            return print_of(Spec(path=path, body=b"a"), fingerprint=own, name_secret=secret)

        assert len({of(secret) for secret in secrets}) == 3
        assert all(len(of(secret)) == FINGERPRINT_SIZE for secret in secrets)
        assert of(secrets[1]) == of(secrets[1]) != of(secrets[1], "/other")
