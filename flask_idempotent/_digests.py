"""Digests as text, and keys made of secrets: both are BLAKE2b (RFC 7693)."""

from __future__ import annotations

import base64
import hashlib

from flask_idempotent._msgpack import pack


def url_safe_digest(*parts: str | bytes | int | None, key: bytes = b"") -> str:
    """Digest parts, each with its length, so that no two lists of parts look alike.

    :param key: a secret without which nobody can compute the digest; empty for none.
    :returns: 128 bits as 22 characters that need no quoting in a URL.
    """
    digest = hashlib.blake2b(pack(parts), key=key, digest_size=16).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def derive_key(secret: bytes, purpose: bytes) -> bytes:
    """Make a key of 32 bytes for one purpose from a secret of any length.

    :param purpose: at most 16 bytes; keys for different purposes have nothing in common.
    """
    return hashlib.blake2b(secret, person=purpose, digest_size=32).digest()
