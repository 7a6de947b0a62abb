"""What may be shown of a secret: a client's key and the URL of a store."""

from __future__ import annotations

from urllib.parse import urlsplit


def redacted(key: str | None) -> str:
    """Shorten a client's key for the log: a whole key lets its reader ask for the response.

    :returns: at most the first 8 characters, and never more than half of the key; ``-`` for None.
    """
    return "-" if key is None else key[: min(8, len(key) // 2)] + "…"


def without_password(url: str) -> str:
    """Show a store's URL without its user, password and options.

    :param url: one that ``check_url`` accepts. Any part of another may be the password.
    """
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    credentials = "***@" if at else ""
    options = "?***" if parts.query else ""
    return f"{parts.scheme}://{credentials}{host}{parts.path}{options}"
