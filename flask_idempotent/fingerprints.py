"""Fingerprints: telling a retry from another request under the same key."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from flask_idempotent.bodies import Body, read_pieces
from flask_idempotent.packing import pack
from flask_idempotent.records import FINGERPRINT_SIZE

if TYPE_CHECKING:
    from werkzeug.datastructures import FileStorage
    from werkzeug.wrappers import Request

    from flask_idempotent.settings import Settings

#: Form fields that change between retries of one form.
IGNORED_FIELDS = frozenset({"csrf_token"})


def fingerprint(request: Request, body: Body, settings: Settings, *, host: bool) -> bytes:
    """Digest what makes a request this request and no other.

    Method and path belong to it always, so that no key gets the answer of another operation.

    :param body: the request's body, read.
    :param host: whether the application serves different things on different hosts.
    """
    # Not the endpoint: its name may change with a deployment, between a request and its retry.
    operation = (
        request.method, request.root_path, request.path, request.host.lower() if host else None,
    )  # fmt: skip
    if settings.fingerprint is False:
        return _digest(pack(operation)).digest()
    if settings.fingerprint is not None:
        return _digest(pack((*operation, _custom(settings.fingerprint(request))))).digest()
    digest = _digest(pack((*operation, _query(request, settings.field), body.mimetype)))
    if body.is_form:
        _update_form(digest, body, settings)
    if not body.is_form or body.malformed:
        # The body comes last and alone has no length before it: nothing can follow it.
        for piece in body.pieces():
            digest.update(piece)
    return digest.digest()


def _digest(octets: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(octets, digest_size=FINGERPRINT_SIZE)


def _custom(value: object) -> str | bytes:
    if not isinstance(value, str | bytes):
        raise TypeError(
            f"a fingerprint function must return str or bytes, not {type(value).__name__}"
        )
    return value


def _query(request: Request, field: str) -> bytes:
    if not request.query_string:
        return b""
    arguments = request.query_string.split(b"&")
    return b"&".join(argument for argument in arguments if _name(argument) != field)


def _name(argument: bytes) -> str:
    return unquote_plus(argument.partition(b"=")[0].decode("latin-1"), errors="replace")


def _update_form(digest: hashlib.blake2b, body: Body, settings: Settings) -> None:
    ignored = IGNORED_FIELDS | settings.ignore_fields | {settings.field}
    with body.form() as (fields, files):
        for name, value in fields.items(multi=True):
            if name not in ignored:
                digest.update(pack(("field", name, value)))
        for name, file in files.items(multi=True):
            if name not in ignored:
                parts = (file.filename, file.content_type, _content(file))
                digest.update(pack(("file", name, *parts)))


def _content(file: FileStorage) -> bytes:
    digest = _digest()
    for piece in read_pieces(file.stream):
        digest.update(piece)
    file.stream.seek(0)
    return digest.digest()
