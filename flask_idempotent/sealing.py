"""Sealed contents of a store: encrypted and authenticated with the application's secrets.

The cipher is AES-256-GCM (NIST SP 800-38D). Its key is derived from a secret and the owner token of
the run that wrote the contents, so no two runs share a key, and random nonces of 96 bits cannot
collide in practice. What the contents belong to, such as the name of their record, is
authenticated with them: bytes that are moved to another place cannot be opened there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from flask_idempotent._digests import derive_key
from flask_idempotent._msgpack import pack
from flask_idempotent.errors import RecordUnreadable, SettingsError

#: What sealed contents begin with. No msgpack value begins with this byte.
MARK = b"\xc1"
_NONCE_SIZE, _TAG_SIZE, _OWNER_SIZE = 12, 16, 16
#: How many bytes encryption adds.
OVERHEAD = _NONCE_SIZE + _TAG_SIZE

#: The error about sealed contents where the application has no secrets.
NOT_OPENED = "record is sealed, and IDEMPOTENT_SECRETS is not set"

#: A part of what contents belong to.
Context = str | bytes


class Sealer:
    """Seals what a store keeps, and opens it again.

    :param secrets: the first one seals, and all of them open. None among them stands for contents
        without a seal: as the first one it writes them, in any place it accepts them.
    :raises SettingsError: when the package ``cryptography`` is missing.
    """

    def __init__(self, secrets: Sequence[bytes | None]) -> None:
        check_installed("IDEMPOTENT_SECRETS")
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher, self._invalid = AESGCM, InvalidTag
        self._roots = [_root(secret) for secret in secrets if secret is not None]
        #: Whether it seals what is written, and not only opens.
        self.seals = secrets[0] is not None
        #: Whether contents without a seal are accepted.
        self.accepts_unsealed = None in secrets

    def __repr__(self) -> str:
        return f"<Sealer of {len(self._roots)} secrets>"

    def encrypt(self, contents: bytes, owner: bytes, *context: Context) -> bytes:
        """Encrypt contents with the first secret.

        :param owner: owner token of the run that writes them.
        :param context: what they belong to; ``decrypt`` needs the same.
        :returns: ``OVERHEAD`` bytes more.
        """
        nonce = os.urandom(_NONCE_SIZE)
        return nonce + self._cipher(_key(self._roots[0], owner)).encrypt(
            nonce, contents, pack(context)
        )

    def decrypt(self, data: bytes, owner: bytes, *context: Context) -> bytes:
        """Decrypt what ``encrypt`` has returned.

        :raises RecordUnreadable: when no secret fits, or a byte of it or of its context differs.
        """
        nonce, sealed, about = data[:_NONCE_SIZE], data[_NONCE_SIZE:], pack(context)
        if len(data) >= OVERHEAD:
            for root in self._roots:
                try:
                    return self._cipher(_key(root, owner)).decrypt(nonce, sealed, about)
                except self._invalid:
                    continue
        raise RecordUnreadable(
            "record is sealed, and no secret in IDEMPOTENT_SECRETS opens it: its secret is not "
            "listed any more, or its bytes were changed"
        )

    def seal(self, contents: bytes, owner: bytes, *context: Context) -> bytes:
        """Seal contents that a later run opens, and name the run that has sealed them.

        :param owner: owner token of the run that seals them.
        :param context: what they belong to.
        :returns: the contents as they are, where the first secret is None.
        """
        return MARK + owner + self.encrypt(contents, owner, *context) if self.seals else contents

    def open(self, data: bytes, *context: Context) -> tuple[bytes, bytes | None]:
        """Open what ``seal`` has returned.

        :returns: the contents, and the owner token of the run that has sealed them; None where
            they have no seal.
        :raises RecordUnreadable: as ``decrypt`` and ``is_sealed`` do.
        """
        if not self.is_sealed(data):
            return data, None
        start = len(MARK) + _OWNER_SIZE
        owner = data[len(MARK) : start]
        return self.decrypt(data[start:], owner, *context), owner

    def is_sealed(self, data: bytes) -> bool:
        """Return whether contents are sealed.

        :raises RecordUnreadable: when they are not, and must be.
        """
        if data[:1] == MARK:
            return True
        self.check_accepts_unsealed()
        return False

    def check_accepts_unsealed(self) -> None:
        """Check that contents without a seal are accepted.

        :raises RecordUnreadable: when they are not.
        """
        if not self.accepts_unsealed:
            raise RecordUnreadable(
                "record is not sealed, and IDEMPOTENT_SECRETS accepts only sealed ones: it was "
                "written without the secrets"
            )


@lru_cache(maxsize=8)
def sealer_of(secrets: tuple[bytes | None, ...]) -> Sealer | None:
    """Return the sealer of these secrets, always the same one; None where there are none."""
    return Sealer(secrets) if secrets else None


class StepPlace(NamedTuple):
    """What the value of a step belongs to.

    :param storage_key: the name of the record of the step's key.
    :param fingerprint: digest of the request that the record is for.
    :param step: the step's name.
    :param owner: owner token of the run that has carried it out.
    """

    storage_key: str
    fingerprint: bytes
    step: str
    owner: bytes


def seal_step(sealer: Sealer | None, place: StepPlace, value: bytes) -> bytes:
    """Seal the packed value of a step.

    :param sealer: None where the application has no secrets; the value stays as it is then.
    """
    if sealer is None or not sealer.seals:
        return value
    return MARK + sealer.encrypt(value, place.owner, "step", *place)


def open_step(sealer: Sealer | None, place: StepPlace, value: bytes) -> bytes:
    """Open the packed value of a step.

    :raises RecordUnreadable: when no secret opens it, or it lacks a seal and must have one.
    """
    if sealer is None:
        if value[:1] == MARK:
            raise RecordUnreadable(NOT_OPENED)
        return value
    if not sealer.is_sealed(value):
        return value
    return sealer.decrypt(value[len(MARK) :], place.owner, "step", *place)


def check_installed(setting: str) -> None:
    """Check that the package that seals is there.

    :raises SettingsError: when it is missing.
    """
    if importlib.util.find_spec("cryptography") is None:
        raise SettingsError(
            f"{setting} needs the package cryptography: pip install 'flask-idempotent[sealing]'"
        )


def secret_fingerprint(secret: bytes) -> str:
    """Return eight hexadecimal digits that tell secrets apart and may be shown."""
    return derive_key(secret, b"idempotent show").hex()[:8]


def _root(secret: bytes) -> bytes:
    return derive_key(secret, b"idempotent seal")


def _key(root: bytes, owner: bytes) -> bytes:
    """Derive the key of one run: BLAKE2b with a key is a pseudorandom function (RFC 7693)."""
    return hashlib.blake2b(owner, key=root, digest_size=32).digest()
