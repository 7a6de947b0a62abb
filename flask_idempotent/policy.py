"""What an application promises its clients, route by route."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from flask_idempotent import problems
from flask_idempotent._quantities import duration, size
from flask_idempotent.settings import Settings
from flask_idempotent.web.routes import routes_of
from flask_idempotent.web.state import state_of

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.routing import Rule


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """The promise for one route and the methods that share it.

    :param path: the route's rule.
    :param methods: the methods that are protected.
    :param required: whether a request without a key is refused.
    :param expire: how long a response is kept, in seconds.
    :param timeout: how long a duplicate waits for the first request, in seconds.
    :param on_crash: ``"rerun"``, ``"hold"``, or ``"custom"`` where a function decides.
    :param max_body: the largest response body that is kept, in bytes.
    :param scope: ``"default"``, or ``"custom"`` where a function says who a key belongs to.
    :param field: the form field and query argument that may carry the key; None for headers alone.
    :param key: ``"default"``, or ``"custom"`` where a function of the view finds the key.
    :param correctable: the statuses after which a corrected request may use the key.
    :param busy_status: the status that a duplicate gets when ``timeout`` is over.
    :param hold_for: how long a request is not run again under ``"hold"``, in seconds.
    """

    path: str
    methods: tuple[str, ...]
    required: bool
    expire: float
    timeout: float
    on_crash: str
    max_body: int
    scope: str
    field: str | None
    key: str = "default"
    correctable: tuple[int, ...] = ()
    busy_status: int = 409
    hold_for: float = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Policy:
    """The promises of an application.

    :param headers: the headers that may carry the key.
    :param field: the form field and query argument that may carry it; None for headers alone.
    :param key_max_length: length of the longest key, in characters.
    :param strict_keys: whether ``Idempotency-Key`` must be a quoted string.
    :param replay_header: the header that marks a replay.
    :param problem_base: what the type of a problem begins with.
    :param routes: the routes that are protected.
    """

    headers: tuple[str, ...]
    field: str | None
    key_max_length: int
    strict_keys: bool
    replay_header: str
    problem_base: str
    routes: tuple[RoutePolicy, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the policy for programs, with the table of problems."""
        described = [
            {
                "type": self.problem_base + kind.slug,
                "title": kind.title,
                "status": kind.code,
                "retryable": kind.retryable,
                "meaning": kind.__doc__,
            }
            for kind in self._problems()
        ]
        return asdict(self) | {"problems": described}

    def as_markdown(self) -> str:
        """Return the policy for people: a page to publish, or to add to your own documentation."""
        bare = (
            ""
            if self.strict_keys
            else ',\n  or unquoted, in visible ASCII characters without `"`, `,`, `;` and `\\`'
        )
        return _MARKDOWN.format(
            headers=" or ".join(f"`{name}`" for name in self.headers),
            field="" if self.field is None else _FIELD.format(self.field),
            bare=bare,
            max_length=self.key_max_length,
            replay_header=self.replay_header,
            routes="\n".join(self._route_row(route) for route in self.routes),
            problems="\n".join(map(self._problem_row, self._problems())),
        )

    def _problems(self) -> list[type[problems.Problem]]:
        return problems_with(sorted({route.busy_status for route in self.routes}) or [409])

    def _route_row(self, route: RoutePolicy) -> str:
        key = "required" if route.required else "optional"
        if route.field != self.field:
            key += ", headers only" if route.field is None else f", or in `{route.field}`"
        after_crash = _AFTER_CRASH[route.on_crash].format(duration(route.hold_for))
        return (
            f"| {', '.join(route.methods)} | `{route.path}` | {key} | {duration(route.expire)} "
            f"| {duration(route.timeout)} | {after_crash} | {size(route.max_body)} |"
        )

    def _problem_row(self, kind: type[problems.Problem]) -> str:
        again = "yes" if kind.retryable else "no"
        return f"| {kind.code} | `{self.problem_base}{kind.slug}` | {again} | {kind.__doc__} |"


def problems_with(busy_statuses: Iterable[int]) -> list[type[problems.Problem]]:
    """Return every problem in the order of statuses, ``in-progress`` with each of these."""
    in_progress = [problems.IN_PROGRESS[status] for status in busy_statuses]
    others = (kind for kind in problems.ALL if not issubclass(kind, problems.InProgress))
    return sorted([*in_progress, *others], key=lambda kind: kind.code or 0)


def policy_of(app: Flask) -> Policy:
    """Return what an application promises, from its routes and settings."""
    settings = state_of(app).settings()
    return Policy(
        headers=settings.headers,
        field=settings.field,
        key_max_length=settings.key_max_length,
        strict_keys=settings.strict_keys,
        replay_header=settings.replay_header,
        problem_base=settings.problem_base,
        routes=tuple(map(_route, protected_routes(app))),
    )


class ProtectedRoute(NamedTuple):
    """A protected route with settings and the methods that they are for.

    :param required: whether a request of these methods is refused where it has no key.
    """

    rule: Rule
    settings: Settings
    methods: tuple[str, ...]
    required: bool


def protected_routes(app: Flask) -> Iterator[ProtectedRoute]:
    """Yield the protected routes; one appears several times where its methods differ."""
    for rule, methods, protection in routes_of(app, state_of(app).protections):
        if rule.websocket or not protection.claims:
            continue
        settings = protection.settings
        by_requirement = sorted(methods, key=settings.requires_key)
        for required, group in groupby(by_requirement, settings.requires_key):
            yield ProtectedRoute(rule, settings, tuple(group), required)


def _route(protected: ProtectedRoute) -> RoutePolicy:
    settings = protected.settings
    return RoutePolicy(
        path=protected.rule.rule,
        methods=protected.methods,
        required=protected.required,
        expire=settings.expire,
        timeout=settings.timeout,
        on_crash="custom" if callable(settings.on_crash) else settings.on_crash,
        max_body=settings.max_body,
        scope="default" if settings.scope is None else "custom",
        field=settings.field,
        key="default" if settings.key is None else "custom",
        correctable=tuple(sorted(settings.correctable)),
        busy_status=settings.busy_status,
        hold_for=settings.hold_for,
    )


_FIELD = """ Forms may send it in the field `{}`, and any
  request except GET in the query argument of that name."""
_AFTER_CRASH = {
    "rerun": "runs again",
    "hold": "does not run again for {}",
    "custom": "is looked up before anything runs again",
}
_MARKDOWN = """\
# Repeating requests safely

Some operations of this API carry an idempotency key. An operation with a key runs once: every
other request with the same key, at the same moment or later, gets the first one's response.

## The key

- Make a new random key for each operation, such as a UUID, and send the same key with every retry.
- Send it in the header {headers}: as a quoted string (RFC 9651, 3.3.3){bare}.
  It has 1 to {max_length} characters.{field}
- A key belongs to its caller: two callers who send the same key are two operations.
- A retry must be the same request: method, path, query, media type and body. The same key with
  another request gets 422.
- After a response with the status 400, 413, 415 or 422, unless the operation says otherwise, a
  corrected request to the same path may use the key. The key then belongs to that request.

## Operations

| Methods | Path | Key | Response kept | Duplicate waits | If the server dies before its response | Largest response kept |
| --- | --- | --- | --- | --- | --- | --- |
{routes}

A repeated response has the header `{replay_header}: true`. After the time in "Response kept" a key
is new again. Responses with the status 206, 304, 307 or 308 are not kept. Unless the operation says
otherwise, responses with 401, 403, 407, 408, 425, 429 or 500 and above are not kept either. Then
the next request with the key runs.

## Problems

A problem is sent as `application/problem+json` (RFC 9457). Where "Again" is yes, the same request may
succeed after the seconds in `Retry-After`.

| Status | Type | Again | Meaning |
| --- | --- | --- | --- |
{problems}
"""  # noqa: E501
