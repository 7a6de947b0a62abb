"""Checking a server's address before redis-py reads it.

redis-py accepts many wrong addresses: in ``redis://host&password=x`` it takes everything after the
slashes as the host, which every later error then shows. No error here quotes any part of an
address, because any part of a wrong address may be the password.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from urllib.parse import SplitResult, parse_qsl, urlsplit

from flask_idempotent._checks import closest
from flask_idempotent.errors import SettingsError

#: A name, an IPv4 address, or an IPv6 address with its zone.
HOST = re.compile(r"[\w.-]+|[\da-f:.]+(%\w+)?", re.IGNORECASE)
#: The fault of a host that is not one.
BAD_HOST = 'its host has characters that a host name cannot have (options follow a "?")'
_DATABASE = re.compile(r"/?\d*/?", re.ASCII)
#: Without the characters that separate options and users, which a path contains as %XX.
_SOCKET = re.compile(r"(?!.*@/)/[^:&=]+")


def check_address(url: str, options: Collection[str]) -> None:
    """Check the parts of an address without connecting.

    :param url: an address whose scheme is known.
    :param options: names of the options that its connections accept.
    :raises SettingsError: saying what is wrong with it.
    """
    try:
        parts = urlsplit(url)
        faults = [*_faults(parts, parse_qsl(parts.query, keep_blank_values=True), options)]
    except ValueError:
        # The message of this error quotes the supposed port.
        faults = ["its host or port is not valid"]
    if faults:
        raise unusable_address(faults[0])


def unusable_address(fault: str) -> SettingsError:
    """Make the error of an address that cannot be used.

    :param fault: what is wrong, without any part of the address.
    """
    return SettingsError(
        f"the store's address cannot be used: {fault}. It must look like "
        "redis://user:password@host:6379/0, unix://user:password@/path/of/socket?db=0, "
        "redis+sentinel://user:password@host-1,host-2/name-of-the-primary/0 or "
        "redis+cluster://user:password@host-1,host-2, with special characters of the password as "
        "%XX"
    )


def _faults(
    parts: SplitResult, pairs: list[tuple[str, str]], options: Collection[str]
) -> Iterator[str]:
    if parts.fragment:
        yield 'it has a "#", which an address cannot have'
    yield from _faulty_socket(parts, pairs) if parts.scheme == "unix" else _faulty_place(parts)
    yield from faulty_options(pairs, options)
    for name, value in pairs:
        if name == "host" and not HOST.fullmatch(value):
            yield BAD_HOST


def faulty_options(pairs: list[tuple[str, str]], options: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with each option that connections do not accept."""
    for number, (name, _) in enumerate(pairs, 1):
        if name not in options:
            yield f'option {number} after the "?" is unknown{_nearest(name, options)}'


def _faulty_socket(parts: SplitResult, pairs: list[tuple[str, str]]) -> Iterator[str]:
    if parts.hostname is not None:
        yield "it has a host, but unix:// takes only a path, which begins with a third slash"
    if not (_SOCKET.fullmatch(parts.path) or (not parts.path and "path" in dict(pairs))):
        yield "its path cannot be the path of a socket"


def _faulty_place(parts: SplitResult) -> Iterator[str]:
    if parts.port == 0:  # This raises ValueError if it is not a number.
        yield "its port is 0"
    if parts.hostname is not None and not HOST.fullmatch(parts.hostname):
        yield BAD_HOST
    if not _DATABASE.fullmatch(parts.path):
        yield "what follows the host is not a database number"


def _nearest(name: str, options: Collection[str]) -> str:
    close = closest(name.lower(), options)
    return f", perhaps {close}= was meant" if close else ""
