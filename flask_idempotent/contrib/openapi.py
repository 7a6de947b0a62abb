"""OpenAPI: adds the key, the replay header and the problems to an API's document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from flask_idempotent import problems
from flask_idempotent._quantities import duration
from flask_idempotent.errors import SettingsError
from flask_idempotent.policy import Policy, RoutePolicy, policy_of, problems_with
from flask_idempotent.web.flask_compat import current_application

if TYPE_CHECKING:
    from flask import Flask

_MEDIA_TYPE = "application/problem+json"

_REPLAYED = {
    "description": "Marks the stored response of an earlier request with the same key.",
    "schema": {"type": "string", "enum": ["true"]},
}
_RETRY_AFTER = {
    "description": "Seconds after which to try again.",
    "schema": {"type": "integer", "minimum": 1},
}


def describe(document: Mapping[str, Any], app: Flask | None = None) -> dict[str, Any]:
    """Add keys, replays and problems to the protected operations of an OpenAPI document.

    Each operation gets a header parameter for the key, the replay header in its successful
    responses, and the problems that it can answer with. Existing entries are not changed.

    :param document: an OpenAPI 3 document. It is not modified.
    :param app: the application that it describes. None for the current one.
    :returns: the new document.
    :raises SettingsError: when the document is of another version.
    """
    if not str(document.get("openapi", "")).startswith("3."):
        version = document.get("openapi", document.get("swagger", "none"))
        raise SettingsError(f"describe() takes an OpenAPI 3 document, not version {version}")
    app = app or current_application()
    described: dict[str, Any] = _copy(document)
    policy = policy_of(app)
    for route in policy.routes:
        for path, method, operation in _operations(described, route):
            parameters = [*path.get("parameters", ()), *operation.get("parameters", ())]
            if route.key != "custom" and not _has_header(parameters, policy.headers[0], described):
                _add_parameter(operation, route, policy)
            _add_replay_header(operation, described, policy)
            _add_problems(operation, described, list(_problems_of(route, method)), policy)
    return described


def _copy(value: Any) -> Any:
    # Not deepcopy, which keeps objects shared by two operations, of which one may be unprotected.
    # Keys become strings, because some tools write a status as a number.
    if isinstance(value, Mapping):
        return {str(name): _copy(part) for name, part in value.items()}
    return [_copy(part) for part in value] if isinstance(value, list) else value


def _operations(
    document: dict[str, Any], route: RoutePolicy
) -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    # <int:number> is {number} in OpenAPI.
    path = re.sub(r"<(?:[^<>]*:)?([^<>:]+)>", r"{\1}", route.path)
    path_item = document.get("paths", {}).get(path, {})
    for method in route.methods:
        if method.lower() in path_item:
            yield path_item, method, path_item[method.lower()]


def _has_header(parameters: list[dict[str, Any]], name: str, document: dict[str, Any]) -> bool:
    resolved = (_resolved_copy(parameter, document, "parameters") for parameter in parameters)
    return any(parameter.get("name", "").lower() == name.lower() for parameter in resolved)


def _add_parameter(operation: dict[str, Any], route: RoutePolicy, policy: Policy) -> None:
    form = "a quoted string (RFC 9651, 3.3.3)" if policy.strict_keys else "unquoted or quoted"
    operation.setdefault("parameters", []).append(
        {
            "name": policy.headers[0],
            "in": "header",
            "required": route.required,
            "description": "A new random key for each operation, the same with every retry: "
            f"1 to {policy.key_max_length} characters, {form}. Its response is kept for "
            f"{duration(route.expire)}.",
            "schema": {"type": "string", "minLength": 1},
        }
    )


def _add_replay_header(operation: dict[str, Any], document: dict[str, Any], policy: Policy) -> None:
    responses = operation.setdefault("responses", {})
    for status, response in responses.items():
        if status.startswith(("2", "3")):
            responses[status] = updated = _resolved_copy(response, document, "responses")
            header = _component(document, "headers", "IdempotentReplayed", _REPLAYED)
            updated.setdefault("headers", {}).setdefault(policy.replay_header, header)


def _add_problems(
    operation: dict[str, Any],
    document: dict[str, Any],
    kinds_of_route: Iterable[type[problems.Problem]],
    policy: Policy,
) -> None:
    base = policy.problem_base
    for code, kinds in groupby(kinds_of_route, lambda kind: kind.code):
        response = _resolved_copy(operation["responses"].get(str(code), {}), document, "responses")
        operation["responses"][str(code)] = response
        content = response.setdefault("content", {})
        if _MEDIA_TYPE not in content:
            schema = _component(document, "schemas", "IdempotencyProblem", _schema(document, base))
            content[_MEDIA_TYPE] = {"schema": schema}
            _add_meanings(response, list(kinds), base)


def _problems_of(route: RoutePolicy, method: str) -> Iterator[type[problems.Problem]]:
    for kind in problems_with([route.busy_status]):
        if kind is problems.KeyMissing and not route.required:
            continue
        # A GET is not refused for a key that a redirect carried over from another request.
        if method == "GET" and kind is problems.KeyReused:
            continue
        if method == "GET" and kind is problems.KeyInvalid and not route.required:
            continue
        yield kind


def _add_meanings(
    response: dict[str, Any], kinds: Iterable[type[problems.Problem]], base: str
) -> None:
    meanings = " ".join(f"`{base}{kind.slug}`: {kind.__doc__}" for kind in kinds)
    description = response.get("description", "").rstrip(".")
    response["description"] = f"{description}. Or: {meanings}" if description else meanings
    if any(kind.retryable for kind in kinds):
        response.setdefault("headers", {}).setdefault("Retry-After", _copy(_RETRY_AFTER))


def _resolved_copy(part: dict[str, Any], document: dict[str, Any], kind: str) -> dict[str, Any]:
    # A shared component must not be changed for all operations that refer to it.
    prefix, _, name = part.get("$ref", "").rpartition("/")
    if prefix != f"#/components/{kind}":
        return part
    shared: dict[str, Any] = _copy(document.get("components", {}).get(kind, {}).get(name, part))
    return shared


def _component(
    document: dict[str, Any], kind: str, name: str, value: dict[str, Any]
) -> dict[str, str]:
    document.setdefault("components", {}).setdefault(kind, {}).setdefault(name, _copy(value))
    return {"$ref": f"#/components/{kind}/{name}"}


def _schema(document: dict[str, Any], base: str) -> dict[str, Any]:
    text = {"type": "string"}
    # OpenAPI 3.1 adopted JSON Schema, where null is a type; 3.0 has "nullable".
    old = document["openapi"].startswith("3.0")
    nullable = {**text, "nullable": True} if old else {"type": ["string", "null"]}
    properties: dict[str, dict[str, Any]] = {
        "type": {**text, "enum": [base + kind.slug for kind in problems.ALL]},
        "title": text,
        "status": {"type": "integer"},
        "detail": text,
        "instance": {**text, "format": "uri"},
        "retryable": {
            "type": "boolean",
            "description": "Whether the same request may succeed after Retry-After.",
        },
        "idempotency_key": {**nullable, "description": "The key that was sent, if readable."},
    }
    return {
        "type": "object",
        "description": "Why a request with an idempotency key was not served (RFC 9457).",
        "required": list(properties),
        "properties": properties,
    }
