"""Retries an operation until it is answered, with httpx."""

from __future__ import annotations

import random
import time
import uuid
from contextlib import suppress
from typing import Any

import httpx

#: Seconds to connect, and to wait for an answer: longer than a duplicate waits.
TIMEOUT = httpx.Timeout(65, connect=3)


def send_once(
    client: httpx.Client,
    method: str,
    url: str,
    *,
    key: str | None = None,
    tries: int = 6,
    **content: Any,
) -> httpx.Response:
    """Send one operation.

    :param key: the key of an operation that an earlier call began; a new one by default.
    :param content: what ``httpx`` takes, such as ``json=``.
    :raises httpx.TransportError: when the last try got no answer.
    """
    headers = {**content.pop("headers", {})}
    headers["Idempotency-Key"] = f'"{key or uuid.uuid4()}"'
    options = {"headers": headers, "timeout": TIMEOUT, **content}
    # Built once: every try sends the same bytes.
    request = client.build_request(method, url, **options)
    for number in range(1, tries):
        pause = 0.2 * 2**number
        # A broken connection leaves open what happened; the key makes it safe to
        # try again.
        with suppress(httpx.TransportError):
            response = client.send(request)
            if not may_succeed_later(response):
                return response
            after = response.headers.get("Retry-After", "")
            pause = int(after) if after.isdecimal() else pause
        # The random part keeps clients that failed together from retrying together.
        time.sleep(pause + random.uniform(0, 0.2))
    return client.send(request)


def may_succeed_later(response: httpx.Response) -> bool:
    """Tell whether to send the same request again."""
    if response.status_code in (502, 504):  # A proxy got no answer.
        return True
    # Without Retry-After these are final.
    named = "Retry-After" in response.headers
    return named and response.status_code in (409, 425, 429, 503)
