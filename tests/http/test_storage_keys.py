"""Storage keys: the name of a key's record."""

from __future__ import annotations

import base64
import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from flask_idempotent.http.keys import part_key, scope_prefix, storage_key

NAMED = st.tuples(st.text(max_size=4), st.none() | st.text(max_size=4), st.text(max_size=4))


class TestStorageKey:
    def test_form(self) -> None:
        """The name is the prefix and, in braces, a digest in letters, digits, ``-`` and ``_``."""
        name = storage_key("IDEMPOTENT_", "app", "user", "key")
        assert name.startswith("IDEMPOTENT_{")
        assert name.endswith("}")
        inside = name[len("IDEMPOTENT_{") : -1]
        assert len(base64.urlsafe_b64decode(inside + "==")) == 16

    def test_never_changes(self) -> None:
        """The name is the same in every release, so that an update loses no record."""
        expected = hashlib.blake2b(b"\x93\xa3app\xc4\x04user\xa3key", digest_size=16).digest()
        inside = base64.urlsafe_b64encode(expected).decode().rstrip("=")
        assert storage_key("P_", "app", "user", "key") == f"P_{{{inside}}}"

    @given(NAMED, NAMED)
    def test_f7_no_collision(
        self, one: tuple[str, str | None, str], other: tuple[str, str | None, str]
    ) -> None:
        """F7: different namespaces, scopes or keys have different names."""
        assert (storage_key("", *one) == storage_key("", *other)) is (one == other)

    def test_text_scope(self) -> None:
        """A scope that is text names the same record as its UTF-8, with lone surrogates too."""
        expected = storage_key("", "app", b"\xc3\xbc\xed\xa0\x80", "key")
        assert storage_key("", "app", "ü\ud800", "key") == expected

    @given(st.text(max_size=50))
    def test_k8_nothing_of_the_clients(self, key: str) -> None:
        """K8: nothing that the client sent is in the name."""
        name = storage_key("", "app", key, key)
        assert name.isascii()
        assert len(name) == 24
        assert name.strip("{}").replace("-", "").replace("_", "").isalnum()

    def test_case_matters(self) -> None:
        """Keys that differ in case are two keys."""
        assert storage_key("", "app", None, "K") != storage_key("", "app", None, "k")

    def test_bytes_scope(self) -> None:
        """A scope may be bytes."""
        assert storage_key("", "app", b"\xff", "k") != storage_key("", "app", b"\xfe", "k")


NAME_KEY, OTHER_KEY = b"k" * 32, b"o" * 32


class TestNameSecret:
    def test_form(self) -> None:
        """With a secret the name begins with eleven digits of the scope; all of it is in the hash
        tag of a cluster."""
        name = storage_key("P_", "app", "user", "key", NAME_KEY)
        assert re.fullmatch(r"P_\{[\w-]{33}\}", name)
        assert name.startswith(scope_prefix("P_", "app", "user", NAME_KEY))

    @given(NAMED, NAMED)
    def test_no_collision(
        self, one: tuple[str, str | None, str], other: tuple[str, str | None, str]
    ) -> None:
        """Different namespaces, scopes or keys have different names with a secret too."""
        names = [storage_key("", *named, NAME_KEY) for named in (one, other)]
        assert (names[0] == names[1]) is (one == other)

    def test_needs_the_secret(self) -> None:
        """Nobody without the secret can compute any part of a name that another secret makes."""
        names = [storage_key("", "app", "user", "key", key) for key in (NAME_KEY, OTHER_KEY, b"")]
        assert len({name[:6] for name in names}) == 3
        assert len({name[-8:] for name in names}) == 3

    def test_scope(self) -> None:
        """The records of one caller, and no others, begin with the same digits, and so do those of
        the parts of its requests."""
        prefix = scope_prefix("", "app", b"user", NAME_KEY)
        names = [storage_key("", "app", "user", key, NAME_KEY) for key in ("one", "two")]
        names.append(part_key("", names[0], "helper", NAME_KEY))
        assert all(name.startswith(prefix) for name in names)
        assert len(set(names)) == 3
        for scope in ("other", None):
            assert not storage_key("", "app", scope, "one", NAME_KEY).startswith(prefix)
        assert not storage_key("", "other", "user", "one", NAME_KEY).startswith(prefix)

    def test_part_without_a_secret(self) -> None:
        """Without a secret the name of a part has nothing of its caller."""
        name = storage_key("", "app", "user", "one")
        assert len(part_key("", name, "helper")) == len(name) == 24
