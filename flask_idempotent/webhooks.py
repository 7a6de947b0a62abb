"""Webhooks: settings for endpoints that other services send events to.

Each preset is a dict of keywords, for a view that stands below the check of the signature::

    from flask_idempotent import idempotent, webhooks

    @app.post("/webhooks/stripe")
    @signed_by_stripe
    @idempotent(**webhooks.stripe)
    def stripe_event(): ...

A view that needs another value overrides it: ``@idempotent(**webhooks.stripe | {"timeout": 2})``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flask_idempotent._checks import header_names, seconds
from flask_idempotent._json_pointer import JSONPointer
from flask_idempotent.errors import SettingsError
from flask_idempotent.http.webhooks import (
    EndpointScope,
    IdInHeader,
    IdInJSON,
    is_acknowledgement,
)
from flask_idempotent.options import Overrides

if TYPE_CHECKING:
    from flask_idempotent.options import Seconds

#: How much longer than its sender's retries a response is kept, in seconds. The sender counts from
#: the event, the record from its delivery; and people send an event again by hand the next day.
_MARGIN = 24 * 3600.0


def preset(
    sender: str,
    *,
    header: str | Sequence[str] | None = None,
    json: str | Sequence[str] | None = None,
    within: Seconds,
    patience: Seconds,
) -> Overrides:
    """Make the keywords of ``@idempotent`` for the webhooks of one sender.

    The event's id is the key, and belongs to the sender and to the request's path. The bodies of
    two attempts are not compared, because some senders change them. Only a response with a status
    of 2xx is kept, because after any other the sender tries again::

        acme = webhooks.preset(
            "acme", header="X-Acme-Delivery", within=timedelta(days=2), patience=10
        )

        @app.post("/webhooks/acme")
        @signed_by_acme
        @idempotent(**acme)
        def acme_event(): ...

    :param sender: the sender's name, without spaces. It is part of the scope: a new name makes
        every event new.
    :param header: the name of the header that has the event's id. Of several names, those that a
        request has must agree.
    :param json: where a JSON body has the id instead, as a JSON pointer (RFC 6901) such as
        ``"/event/id"``; or several, as with ``header``.
    :param within: for how long after the event the sender may try to deliver it, in seconds or as a
        timedelta. A response is kept for a day longer (``expire``).
    :param patience: for how long the sender waits for an answer, in seconds or as a timedelta. A
        duplicate waits for half of it (``timeout``) and then gets 503.
    :returns: the keywords.
    :raises SettingsError: on a wrong type or range, and unless there is one of ``header`` and
        ``json``.
    """
    _check_sender(sender)
    tries_for = seconds(above_zero=False)("within=", within)
    waits_for = seconds(above_zero=True)("patience=", patience)
    return Overrides(
        key=_key(sender, header, json),
        scope=EndpointScope(sender),
        fingerprint=False,
        expire=tries_for + _MARGIN,
        timeout=waits_for / 2,
        busy_status=503,
        required=True,
        store_if=is_acknowledgement,
    )


def _key(sender: str, header: Any, json: Any) -> IdInHeader | IdInJSON:
    if (header is None) == (json is None):
        raise SettingsError(
            f"preset({sender!r}, ...) takes one of header= and json=, which say where the event's "
            "id is. For example: header='X-Event-Id', or json='/event/id'"
        )
    if json is not None:
        return IdInJSON(sender, _pointers(json))
    names = (header,) if isinstance(header, str) else header
    return IdInHeader(sender, header_names("header=", names))


def _pointers(json: Any) -> tuple[JSONPointer, ...]:
    texts = (json,) if isinstance(json, str) else json
    try:
        pointers = tuple(map(JSONPointer, texts))
    except (TypeError, ValueError):
        pointers = ()
    # The empty pointer is valid, and means the whole document.
    if not pointers or "" in pointers:
        raise SettingsError(
            f"json= must be a JSON pointer (RFC 6901) or a tuple of them, not {json!r}. "
            "For example: '/event/id'"
        )
    return pointers


def _check_sender(sender: Any) -> None:
    if not isinstance(sender, str) or not sender or any(map(str.isspace, sender)):
        raise SettingsError(
            f"the sender's name must be a string without spaces, not {sender!r}. "
            "For example: 'acme'"
        )


#: Stripe: snapshot and thin events. It tries for up to three days
#: (docs.stripe.com/webhooks, "Retry behavior"). Its pages ask for a response "quickly" and name no
#: time: 10 s is on the safe side.
stripe = preset("stripe", json="/id", within=timedelta(days=3), patience=10)

#: GitHub: it waits 10 s, Enterprise Server 30 s, and never tries again by itself; people redeliver
#: with the same id for 3 days, on Enterprise Server for 7
#: (docs.github.com/webhooks: "Best practices for using webhooks", "Redelivering webhooks").
github = preset("github", header="X-GitHub-Delivery", within=timedelta(days=7), patience=10)

#: GitLab 17.4 or later: the header is the same in each attempt; with a signing token the signed
#: ``webhook-id`` has the same value. GitLab.com waits 10 s, and people retry by hand
#: (docs.gitlab.com/user/project/integrations/webhooks, "Delivery headers", and
#: /user/gitlab_com, "Webhooks"). For how long they can is not documented: 7 days is on the safe
#: side. Four responses with 4xx disable a webhook until somebody enables it again; after 5xx it is
#: enabled again after a time.
gitlab = preset(
    "gitlab", header=("Idempotency-Key", "webhook-id"), within=timedelta(days=7), patience=10
)

#: Shopify: it waits 5 s and tries again 8 times in 4 hours (shopify.dev/docs/apps/build/webhooks:
#: "Verify webhook deliveries", "HTTPS delivery"). ``X-Shopify-Event-Id`` is not the key: several
#: subscriptions of one endpoint share it.
shopify = preset("shopify", header="X-Shopify-Webhook-Id", within=timedelta(hours=4), patience=5)

#: Slack's Events API: it waits 3 s and tries again at once, after 1 minute and after 5 minutes
#: (docs.slack.dev/apis/events-api, "Retries"). The request that verifies a new address has no
#: ``event_id`` but a ``challenge``, a random string.
slack = preset("slack", json=("/event_id", "/challenge"), within=timedelta(minutes=6), patience=3)

#: Twilio: it waits 15 s in sum, and tries again once unless the address asks for more
#: (twilio.com/docs/usage/webhooks/webhooks-connection-overrides). The header is the same in each
#: attempt (Twilio's own Agent Connect SDK recognises duplicates by it).
twilio = preset(
    "twilio", header="I-Twilio-Idempotency-Token", within=timedelta(seconds=15), patience=15
)

#: Square: it waits 10 s and tries for 24 hours, or for 72 as an older text of the same page says
#: (developer.squareup.com/docs/webhooks: "Troubleshoot Webhooks").
square = preset("square", json="/event_id", within=timedelta(hours=72), patience=10)

#: Senders that follow Standard Webhooks (github.com/standard-webhooks/standard-webhooks, 1.0.0):
#: they should wait 15 to 30 s, and the schedule that it proposes ends after 75.6 hours. Svix waits
#: 15 s, tries for 28 hours (docs.svix.com/retries), and may name the header ``svix-id``.
standard = preset(
    "standard", header=("webhook-id", "svix-id"), within=timedelta(hours=76), patience=15
)

#: Mux: it waits 5 s and tries for 24 hours (mux.com/docs/core/listen-for-webhooks).
mux = preset("mux", json="/id", within=timedelta(hours=24), patience=5)
