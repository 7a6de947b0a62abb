"""HTTP semantics: what methods, headers and status codes mean for a request that is repeated."""

from __future__ import annotations

#: Methods that are never tracked: a replay of their responses would be of no use.
UNTRACKED_METHODS = frozenset({"HEAD", "OPTIONS", "TRACE"})
#: Methods without an effect that must not be repeated (RFC 9110, 9.2.1). Of these, ``methods`` may
#: name GET to have it tracked.
SAFE_METHODS = UNTRACKED_METHODS | {"GET"}
#: The methods for which ``required`` asks for a key where ``methods`` names none.
REQUIRING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
#: What ``methods`` may name: the IANA registry of HTTP methods (RFC 9110, 16.1.1) without
#: ``UNTRACKED_METHODS`` and those that never reach an application, and PURGE, which caches use.
TRACKABLE_METHODS = frozenset(
    {
        "ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "COPY", "DELETE", "GET", "LABEL",
        "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF",
        "MKWORKSPACE", "MOVE", "ORDERPATCH", "PATCH", "POST", "PROPFIND", "PROPPATCH", "PURGE",
        "PUT", "QUERY", "REBIND", "REPORT", "SEARCH", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK",
        "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL",
    }
)  # fmt: skip

#: Headers of one connection or one message (RFC 9110, 7.6.1), in lower case. They are written
#: again for each answer, so ``keep_headers`` may not name them.
NEVER_KEPT_HEADERS = frozenset(
    {
        "connection", "content-length", "date", "keep-alive", "proxy-authenticate",
        "proxy-authentication-info", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
#: Headers of one answer, one caller or one connection, not of the operation's result.
DROPPED_HEADERS = NEVER_KEPT_HEADERS | {
    "age", "alt-svc", "server", "server-timing", "set-cookie", "traceparent", "www-authenticate",
    "x-request-id",
}  # fmt: skip
#: Prefixes of further names of such headers.
DROPPED_PREFIXES = ("access-control-", "proxy-", "ratelimit", "x-ratelimit")
#: Headers that tell a front server which file to send instead of the body, which is empty.
FILE_HEADERS = frozenset({"x-accel-redirect", "x-lighttpd-send-file", "x-sendfile"})

#: Statuses of responses that no replay may repeat. A 206 and a 304 depend on headers of their own
#: request; a 307 and a 308 ask for the same request at another URL, with the same key.
NEVER_STORED_STATUSES = frozenset({206, 304, 307, 308})
#: Statuses that ask for another try: with other credentials, or later.
TRY_AGAIN_STATUSES = frozenset({401, 403, 407, 408, 425, 429})
#: Statuses that a duplicate may get while the first request runs.
BUSY_STATUSES = (409, 425, 429, 503)
#: Statuses that say that the request was not valid.
INVALID_REQUEST_STATUSES = frozenset({400, 413, 415, 422})


def environ_name(header: str) -> str:
    """Return the name that a request header has in a WSGI environment (RFC 3875, 4.1.18)."""
    return "HTTP_" + header.upper().replace("-", "_")
