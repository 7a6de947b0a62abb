"""The policy: what an application promises its clients, route by route."""

from __future__ import annotations

from collections.abc import Iterator
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
class Route:
    """What is promised for one route.

    :param path: the route's rule.
    :param methods: the methods that are protected.
    :param required: whether a request without a key is refused.
    :param window: seconds that a response is kept.
    :param wait: seconds that a duplicate waits for the first request.
    :param after_crash: ``"rerun"`` or ``"hold"``.
    :param max_body: octets of the largest response that is kept.
    :param scope: ``"default"`` or ``"custom"``.
    :param field: the form field and query argument that may carry the key; None where neither may.
    :param key: ``"default"``, or ``"custom"`` where a function of the view finds the key.
    :param correctable: the statuses after which a corrected request may use the key.
    """

    path: str
    methods: tuple[str, ...]
    required: bool
    window: float
    wait: float
    after_crash: str
    max_body: int
    scope: str
    field: str | None
    key: str = "default"
    correctable: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """What an application promises.

    :param headers: the headers that may carry the key.
    :param field: the form field and query argument that may carry it; None where neither may.
    :param max_length: characters of the longest key.
    :param strict: whether ``Idempotency-Key`` must be a quoted string.
    :param replay_header: marks a replay.
    :param routes: the routes that are protected.
    :param problem_base: what the type of a problem begins with.
    """

    headers: tuple[str, ...]
    field: str | None
    max_length: int
    strict: bool
    replay_header: str
    problem_base: str
    routes: tuple[Route, ...]

    def as_dict(self) -> dict[str, Any]:
        """The policy for programs, with the table of problems."""
        described = [
            {
                "type": self.problem_base + kind.slug,
                "title": kind.title,
                "status": kind.code,
                "retryable": kind.retryable,
                "meaning": kind.__doc__,
            }
            for kind in problems.ALL
        ]
        return asdict(self) | {"problems": described}

    def as_markdown(self) -> str:
        """The policy for people, to publish as it is or to build upon."""
        bare = (
            ""
            if self.strict
            else ', or as it is, of visible ASCII characters without `"`, `,`, `;` and `\\`'
        )
        return _MARKDOWN.format(
            headers=" or ".join(f"`{name}`" for name in self.headers),
            field="" if self.field is None else _FIELD.format(self.field),
            bare=bare,
            max_length=self.max_length,
            replay_header=self.replay_header,
            routes="\n".join(self._route_row(route) for route in self.routes),
            problems="\n".join(map(self._problem_row, problems.ALL)),
        )

    def _route_row(self, route: Route) -> str:
        needed = "required" if route.required else "optional"
        if route.field != self.field:
            needed += ", headers only" if route.field is None else f", or in `{route.field}`"
        after = "runs again" if route.after_crash == "rerun" else "never runs again"
        return (
            f"| {', '.join(route.methods)} | `{route.path}` | {needed} | {duration(route.window)} "
            f"| {duration(route.wait)} | {after} | {size(route.max_body)} |"
        )

    def _problem_row(self, kind: type[problems.Problem]) -> str:
        again = "yes" if kind.retryable else "no"
        return f"| {kind.code} | `{self.problem_base}{kind.slug}` | {again} | {kind.__doc__} |"


def policy_of(app: Flask) -> Policy:
    """Read what an application promises from its routes and settings."""
    general = state_of(app).settings()
    return Policy(
        general.headers,
        general.field,
        general.key_max_length,
        general.strict_keys,
        general.replay_header,
        general.problem_base,
        tuple(map(_route, protected_routes(app))),
    )


class Protected(NamedTuple):
    """A protected route, with its settings, the methods that these are for, and what they ask.

    ``required`` says whether a request of these methods is refused where it has no key.
    """

    rule: Rule
    settings: Settings
    methods: tuple[str, ...]
    required: bool


def protected_routes(app: Flask) -> Iterator[Protected]:
    """Name the protected routes; one appears twice where its methods have settings of their own."""
    for rule, methods, protection in routes_of(app, state_of(app).protections):
        if rule.websocket or not protection.claims:
            continue
        settings = protection.settings
        asking = groupby(sorted(methods, key=settings.requires_key), settings.requires_key)
        for required, alike in asking:
            yield Protected(rule, settings, tuple(alike), required)


def _route(found: Protected) -> Route:
    settings = found.settings
    return Route(
        found.rule.rule,
        found.methods,
        found.required,
        settings.expire,
        settings.timeout,
        settings.on_crash,
        settings.max_body,
        "default" if settings.scope is None else "custom",
        settings.field,
        "default" if settings.key is None else "custom",
        tuple(sorted(settings.correctable)),
    )


_FIELD = """ Forms may send it in the field `{}`, and any
  request but a GET in the query argument of that name."""
_MARKDOWN = """\
# Repeating requests safely

Some operations of this API carry an idempotency key. An operation with a key runs once: every
other request with the same key, at the same moment or later, gets the first one's response.

## The key

- Make a new random key for each operation, such as a UUID, and send the same key with every retry.
- Send it in the header {headers}: as a quoted string (RFC 9651, 3.3.3){bare}. It has 1 to
  {max_length} characters.{field}
- A key belongs to its caller: two callers who send the same key are two operations.
- A retry must be the same request: method, path, query, media type and body. The same key with
  another request gets 422.
- After an answer with the status 400, 413, 415 or 422 the corrected request to the same path may
  use the key, unless the operation says otherwise; then the key is its.

## Operations

| Methods | Path | Key | Response kept | Duplicate waits | If the server dies meanwhile | Largest response kept |
| --- | --- | --- | --- | --- | --- | --- |
{routes}

A response that was sent before has the header `{replay_header}: true`. After the time in
"Response kept" a key is new again. Answers with the status 206, 304, 307 or 308 are not kept, nor,
unless the operation says otherwise, those with 401, 403, 407, 408, 425, 429 or 500 and above: the
next request runs.

## Problems

They come as `application/problem+json` (RFC 9457). Where "again" is yes, the same request may
succeed after the seconds in `Retry-After`.

| Status | Type | Again | Meaning |
| --- | --- | --- | --- |
{problems}
"""  # noqa: E501
