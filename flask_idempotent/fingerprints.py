"""Fingerprints: telling a retry from another request under the same key."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from flask_idempotent.bodies import Body, is_form, read_pieces
from flask_idempotent.keys import update_framed
from flask_idempotent.records import FINGERPRINT_SIZE

if TYPE_CHECKING:
    from werkzeug.datastructures import FileStorage
    from werkzeug.wrappers import Request

    from flask_idempotent.settings import Settings

#: Form fields that change between retries of one form.
IGNORED_FIELDS = frozenset({"csrf_token"})


def fingerprint(request: Request, body: Body, settings: Settings, *, host: bool) -> bytes:
    """Digest what makes a request this request and no other.

    :param body: the request's body, read.
    :param host: whether the application serves different things on different hosts.
    """
    digest = _digest()
    if settings.fingerprint is False:
        return digest.digest()
    if settings.fingerprint is not None:
        update_framed(digest, _custom(settings.fingerprint(request)))
        return digest.digest()
    update_framed(digest, request.method)
    update_framed(digest, request.root_path)
    update_framed(digest, request.path)
    update_framed(digest, _query(request, settings.field))
    update_framed(digest, request.mimetype)
    update_framed(digest, request.host if host else None)
    if is_form(request):
        _update_form(digest, body, settings)
    if not is_form(request) or body.malformed:
        # The body comes last and alone has no length before it: nothing can follow it.
        for piece in body.pieces():
            digest.update(piece)
    return digest.digest()


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=FINGERPRINT_SIZE)


def _custom(value: object) -> str | bytes:
    if not isinstance(value, str | bytes):
        raise TypeError(
            f"a fingerprint function must return str or bytes, not {type(value).__name__}"
        )
    return value


def _query(request: Request, field: str) -> bytes:
    arguments = request.query_string.split(b"&")
    return b"&".join(argument for argument in arguments if _name(argument) != field)


def _name(argument: bytes) -> str:
    return unquote_plus(argument.partition(b"=")[0].decode("latin-1"), errors="replace")


def _update_form(digest: hashlib.blake2b, body: Body, settings: Settings) -> None:
    ignored = IGNORED_FIELDS | settings.ignore_fields | {settings.field}
    with body.form() as (fields, files):
        for name, value in fields.items(multi=True):
            if name not in ignored:
                update_framed(digest, "field")
                update_framed(digest, name)
                update_framed(digest, value)
        for name, file in files.items(multi=True):
            if name not in ignored:
                update_framed(digest, "file")
                update_framed(digest, name)
                _update_file(digest, file)


def _update_file(digest: hashlib.blake2b, file: FileStorage) -> None:
    update_framed(digest, file.filename)
    update_framed(digest, file.content_type)
    content = _digest()
    for piece in read_pieces(file.stream):
        content.update(piece)
    file.stream.seek(0)
    update_framed(digest, content.digest())
