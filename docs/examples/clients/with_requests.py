"""Retries an operation until it is answered, with requests and urllib3."""

from __future__ import annotations

import uuid
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

#: Seconds to connect, and to wait for an answer: longer than a duplicate waits.
TIMEOUT = (3, 65)


class Again(Retry):
    """Retries what may succeed later: no answer, and answers that name a time."""

    # Without Retry-After these are final.
    RETRY_AFTER_STATUS_CODES = frozenset({409, 425, 429, 503})


def keyed_session(tries: int = 6) -> requests.Session:
    """Return a session for requests that carry a key; it may repeat each of them."""
    again = Again(
        total=tries - 1,
        status_forcelist={502, 504},  # A proxy got no answer.
        allowed_methods=None,  # Any method: with a key a POST may be sent again.
        backoff_factor=0.2,
        backoff_jitter=0.2,
        raise_on_status=False,  # The last answer is returned, whatever it is.
    )
    session = requests.Session()
    session.mount("https://", HTTPAdapter(max_retries=again))
    session.mount("http://", HTTPAdapter(max_retries=again))
    return session


def send_once(
    session: requests.Session,
    method: str,
    url: str,
    *,
    key: str | None = None,
    **content: Any,
) -> requests.Response:
    """Send one operation.

    :param key: the key of an operation that an earlier call began; a new one by default.
    :param content: what ``requests`` takes, such as ``json=``.
    """
    headers = {**content.pop("headers", {})}
    headers["Idempotency-Key"] = f'"{key or uuid.uuid4()}"'
    return session.request(method, url, headers=headers, timeout=TIMEOUT, **content)
