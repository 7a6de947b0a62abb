"""Senders of webhooks: deliveries signed as each sender signs them, and the check of the signature.

The schemes are those of the senders' documentation; two packages sign and check themselves.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any, NamedTuple
from urllib.parse import urlencode

import standardwebhooks
import stripe
from flask import Request, abort, request

from flask_idempotent import webhooks
from flask_idempotent.options import Overrides

SECRET = "whsec_" + base64.b64encode(b"a secret of at least 24 bytes").decode()
JSON = {"Content-Type": "application/json"}


class Delivery(NamedTuple):
    """One attempt to deliver an event."""

    data: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Sender:
    """A service that sends webhooks.

    :param name: the name of its preset.
    :param deliver: makes a signed delivery of an event's id, to a URL, with some content.
    :param verify: whether a request is a delivery of this sender.
    :param signature: the header that has the signature.
    :param id_header: the header that has the event's id; None where the body has it.
    """

    name: str
    deliver: Callable[[Any, str, str], Delivery]
    verify: Callable[[Request], bool]
    signature: str
    id_header: str | None = None

    @property
    def preset(self) -> Overrides:
        preset: Overrides = getattr(webhooks, self.name)
        return preset

    def signed(self, view: Callable[..., Any]) -> Callable[..., Any]:
        """The check of the signature, as an application has it above ``@idempotent``."""

        @wraps(view)
        def checked(*args: Any, **kwargs: Any) -> Any:
            if not self.verify(request):
                abort(401)
            return view(*args, **kwargs)

        return checked


def _hmac(data: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(SECRET.encode(), data, algorithm).digest()


def _base64(data: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(_hmac(data, algorithm)).decode()


def _body(content: str, **members: Any) -> bytes:
    return json.dumps({**members, "content": content}).encode()


def _stripe(event_id: Any, url: str, content: str) -> Delivery:
    data = _body(content, id=event_id, object="event")
    signature = stripe.WebhookSignature.generate_signature_header(data.decode(), SECRET)
    return Delivery(data, JSON | {"Stripe-Signature": signature})


def _verify_stripe(request: Request) -> bool:
    header = request.headers.get("Stripe-Signature", "")
    try:
        return stripe.WebhookSignature.verify_header(request.get_data(), header, SECRET, 300)
    except stripe.SignatureVerificationError:
        return False


def _github(event_id: Any, url: str, content: str) -> Delivery:
    data = _body(content)
    signature = f"sha256={_hmac(data).hex()}"
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": event_id}
    return Delivery(data, JSON | headers | {"X-Hub-Signature-256": signature})


def _gitlab(event_id: Any, url: str, content: str) -> Delivery:
    headers = {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": SECRET}
    return Delivery(_body(content), JSON | headers | {"Idempotency-Key": event_id})


def _shopify(event_id: Any, url: str, content: str) -> Delivery:
    data = _body(content)
    headers = {"X-Shopify-Webhook-Id": event_id, "X-Shopify-Event-Id": "shared"}
    return Delivery(data, JSON | headers | {"X-Shopify-Hmac-Sha256": _base64(data)})


def _slack_signature(seconds: str, data: bytes) -> str:
    return f"v0={_hmac(f'v0:{seconds}:'.encode() + data).hex()}"


def slack_request(data: bytes) -> Delivery:
    """A signed request of Slack."""
    seconds = str(int(time.time()))
    headers = {"X-Slack-Request-Timestamp": seconds}
    return Delivery(data, JSON | headers | {"X-Slack-Signature": _slack_signature(seconds, data)})


def _slack(event_id: Any, url: str, content: str) -> Delivery:
    return slack_request(_body(content, type="event_callback", event_id=event_id))


def _verify_slack(request: Request) -> bool:
    seconds = request.headers.get("X-Slack-Request-Timestamp", "")
    return _has(request, "X-Slack-Signature", _slack_signature(seconds, request.get_data()))


def _twilio_signature(url: str, fields: dict[str, str]) -> str:
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return _base64(text.encode(), "sha1")


def _twilio(event_id: Any, url: str, content: str) -> Delivery:
    fields = {"MessageSid": "SM1", "Body": content}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    headers["X-Twilio-Signature"] = _twilio_signature(url, fields)
    headers["I-Twilio-Idempotency-Token"] = event_id
    return Delivery(urlencode(fields).encode(), headers)


def _verify_twilio(request: Request) -> bool:
    signature = _twilio_signature(request.url, request.form.to_dict())
    return _has(request, "X-Twilio-Signature", signature)


def _square(event_id: Any, url: str, content: str) -> Delivery:
    data = _body(content, event_id=event_id)
    return Delivery(data, JSON | {"X-Square-Hmacsha256-Signature": _base64(url.encode() + data)})


def _verify_square(request: Request) -> bool:
    signed = request.url.encode() + request.get_data()
    return _has(request, "X-Square-Hmacsha256-Signature", _base64(signed))


def standard_headers(event_id: str, data: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks."""
    now = datetime.now(UTC)
    signature = standardwebhooks.Webhook(SECRET).sign(event_id, now, data.decode())
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }


def _standard(event_id: Any, url: str, content: str) -> Delivery:
    data = _body(content)
    return Delivery(data, JSON | standard_headers(event_id, data))


def _svix(event_id: Any, url: str, content: str) -> Delivery:
    data, headers = _standard(event_id, url, content)
    named = {name.replace("webhook-", "svix-"): value for name, value in headers.items()}
    return Delivery(data, named)


def _verify_standard(request: Request) -> bool:
    headers = dict(request.headers)
    if "webhook-id" not in request.headers:
        headers = {name.lower().replace("svix-", "webhook-"): headers[name] for name in headers}
    try:
        standardwebhooks.Webhook(SECRET).verify(request.get_data(), headers)
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


def _mux_signature(seconds: str, data: bytes) -> str:
    return f"t={seconds},v1={_hmac(f'{seconds}.'.encode() + data).hex()}"


def _mux(event_id: Any, url: str, content: str) -> Delivery:
    data = _body(content, id=event_id)
    return Delivery(data, JSON | {"Mux-Signature": _mux_signature(str(int(time.time())), data)})


def _verify_mux(request: Request) -> bool:
    seconds = request.headers.get("Mux-Signature", "").partition(",")[0].removeprefix("t=")
    return _has(request, "Mux-Signature", _mux_signature(seconds, request.get_data()))


def _has(request: Request, header: str, signature: str) -> bool:
    return hmac.compare_digest(request.headers.get(header, ""), signature)


def _verify_github(request: Request) -> bool:
    return _has(request, "X-Hub-Signature-256", f"sha256={_hmac(request.get_data()).hex()}")


def _verify_gitlab(request: Request) -> bool:
    return _has(request, "X-Gitlab-Token", SECRET)


def _verify_shopify(request: Request) -> bool:
    return _has(request, "X-Shopify-Hmac-Sha256", _base64(request.get_data()))


SENDERS = (
    Sender("stripe", _stripe, _verify_stripe, "Stripe-Signature"),
    Sender("github", _github, _verify_github, "X-Hub-Signature-256", "X-GitHub-Delivery"),
    Sender("gitlab", _gitlab, _verify_gitlab, "X-Gitlab-Token", "Idempotency-Key"),
    Sender("shopify", _shopify, _verify_shopify, "X-Shopify-Hmac-Sha256", "X-Shopify-Webhook-Id"),
    Sender("slack", _slack, _verify_slack, "X-Slack-Signature"),
    Sender("twilio", _twilio, _verify_twilio, "X-Twilio-Signature", "I-Twilio-Idempotency-Token"),
    Sender("square", _square, _verify_square, "X-Square-Hmacsha256-Signature"),
    Sender("standard", _standard, _verify_standard, "webhook-signature", "webhook-id"),
    Sender("standard", _svix, _verify_standard, "svix-signature", "svix-id"),
    Sender("mux", _mux, _verify_mux, "Mux-Signature"),
)
#: The senders whose signature covers the header with the id.
SIGN_THEIR_ID_HEADER = ("webhook-id", "svix-id")
