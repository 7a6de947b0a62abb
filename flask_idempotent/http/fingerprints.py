"""Fingerprints: digests that distinguish a retry from another request with the same key."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from flask_idempotent._msgpack import pack
from flask_idempotent.records import FINGERPRINT_SIZE

if TYPE_CHECKING:
    from hashlib import _Hash

    from werkzeug.wrappers import Request

    from flask_idempotent.http.bodies import Body
    from flask_idempotent.settings import Settings

#: Form fields that change between retries of one form.
IGNORED_FIELDS = frozenset({"csrf_token"})


def fingerprint(request: Request, body: Body, settings: Settings, *, host: bool) -> bytes:
    """Digest what distinguishes a request from another one with the same key.

    Method and path are always part of it, so that no key gets another operation's response.

    :param body: the request's body.
    :param host: whether the application serves different things on different hosts.
    :returns: as many bytes as a record stores.
    :raises TypeError: when the application's own function returns neither str nor bytes.
    """
    # Without the endpoint: a deployment may rename it between a request and its retry.
    operation = (
        request.method, request.root_path, request.path, request.host.lower() if host else None,
    )  # fmt: skip
    key = settings.name_key
    if settings.fingerprint is False:
        return _truncated(_sha256(pack(operation)), key)
    if settings.fingerprint is not None:
        value = _check_custom(body.call(settings.fingerprint))
        return _truncated(_sha256(pack((*operation, value))), key)
    digest = _sha256(pack((*operation, _query(request, settings.field), body.mimetype)))
    if body.is_form:
        digest.update(body.form_digest or digest_form(body, settings)[0])
    else:
        # The only part without its length before it is the last one.
        for chunk in body.chunks():
            digest.update(chunk)
    return _truncated(digest, key)


def digest_form(body: Body, settings: Settings) -> tuple[bytes, list[str]]:
    """Digest a form without the fields that change between its retries.

    :returns: the digest, and the values of the field that carries the key.
    """
    digest = _sha256()
    ignored = IGNORED_FIELDS | settings.ignore_fields
    if settings.field is not None:
        ignored |= {settings.field}
    values = body.update_digest(digest.update, ignored, settings.field)
    return digest.digest(), values


def _sha256(content: bytes = b"") -> _Hash:
    # Most processors have instructions for it: 20 MiB take 10 ms less than with BLAKE2.
    return hashlib.sha256(content)


def _truncated(digest: _Hash, key: bytes) -> bytes:
    """Shorten a digest, with a key so that nobody without it can compute the result."""
    if key:
        return hashlib.blake2b(digest.digest(), key=key, digest_size=FINGERPRINT_SIZE).digest()
    return digest.digest()[:FINGERPRINT_SIZE]


def _check_custom(value: object) -> str | bytes:
    if not isinstance(value, str | bytes):
        raise TypeError(
            f"a fingerprint function must return str or bytes, not {type(value).__name__}"
        )
    return value


def _query(request: Request, field: str | None) -> bytes:
    if field is None or not request.query_string:
        return request.query_string
    arguments = request.query_string.split(b"&")
    return b"&".join(argument for argument in arguments if _name(argument) != field)


def _name(argument: bytes) -> str:
    return unquote_plus(argument.partition(b"=")[0].decode("latin-1"), errors="replace")
