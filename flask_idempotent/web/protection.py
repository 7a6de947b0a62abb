"""Protection: which views are protected, by what, and with which settings.

The answer follows from the marks along a request's route and from the extension. Only
``Protections`` works it out; every other module asks it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from flask_idempotent._logging import logger
from flask_idempotent.errors import OutsideRequest, SettingsError
from flask_idempotent.settings import Settings, resolve
from flask_idempotent.web.frameworks import Framework, framework_above
from flask_idempotent.web.marks import EXEMPT, belongs_to, is_protecting, mark_of, marks_of
from flask_idempotent.web.routes import qualified_name
from flask_idempotent.web.sockets import is_event

if TYPE_CHECKING:
    from flask import Flask, Request

#: The source of the exemption of Flask's own views for static files.
STATIC_FILES = "static files"
#: The settings that decide who gets a response, and for which request.
IDENTIFYING_SETTINGS = ("key", "scope", "fingerprint", "ignore_fields")


class Kind(enum.StrEnum):
    """Whether a view is protected."""

    PROTECTED = "protected"
    EXEMPT = "exempt"
    UNPROTECTED = "unprotected"


class Layer(NamedTuple):
    """Keywords and where they come from: ``view``, ``blueprint NAME`` or ``extension``."""

    source: str
    overrides: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Protection:
    """How the requests of one method to one view are protected.

    :param view: the view.
    :param kind: whether they are protected.
    :param source: what decides that: ``view``, ``blueprint NAME``, ``extension`` or ``static
        files``; empty where nothing does.
    :param settings: the settings that apply to them, or would apply if they were protected.
    :param layers: the keywords that the settings come from, the most important first.
    :param claims: whether a request with a key claims it, because its method is tracked too.
    :param decorated: whether a decorated function claims the key when it is called.
    :param dispatched: whether the application's dispatching claims the key before it calls the
        view.
    """

    view: object
    kind: Kind
    source: str
    settings: Settings
    layers: tuple[Layer, ...]
    claims: bool
    decorated: bool
    dispatched: bool


class Call(NamedTuple):
    """What a decorated function does when it is called in requests of one method to one view.

    :param view: the view, as the application has it registered.
    :param settings: the settings that apply to the call; None where no key is looked for.
    :param makes_response: whether the function makes a response of what it returns, because
        another decorator or a framework stands above it, which must get the same from requests
        with a key and without one.
    :param framework: what a framework above the function expects of that response.
    """

    view: object
    settings: Settings | None
    makes_response: bool
    framework: Framework | None = None


class Protections:
    """What protects the views of one application.

    :param app: the application.
    :param extension: the keywords of its extension and the functions given to the extension's
        decorators, the most important first.
    :param app_wide: whether the extension protects every view.
    """

    def __init__(
        self,
        app: Flask,
        extension: Sequence[Mapping[str, Any]] = (),
        *,
        app_wide: bool = False,
    ) -> None:
        self._app = app
        #: The keywords that apply to every view.
        self.extension = tuple(Layer("extension", overrides) for overrides in extension)
        self._app_wide = app_wide
        self._warned: set[str] = set()
        #: Settings by the identities of the keywords, which are kept as long as the settings.
        self._settings: dict[tuple[int, ...], tuple[Settings, tuple[Layer, ...]]] = {}
        #: The answers of ``of``, by endpoint and method.
        self._protections: dict[tuple[str, str], Protection] = {}
        #: The answers of ``of_call``, by the identity of the keywords, endpoint and method.
        self.calls: dict[tuple[int, str, str], Call] = {}
        _instances.add(self)

    def clear(self) -> None:
        """Drop every answer, because a mark or a hook has changed."""
        self._settings.clear()
        self._protections.clear()
        self.calls.clear()

    def settings(self, *layers: Layer) -> Settings:
        """Resolve settings, once for the same keywords.

        :param layers: keywords of a view and its blueprints, the most important first.
        """
        all_layers = (*layers, *self.extension)
        identity = tuple(id(layer.overrides) for layer in all_layers)
        cached = self._settings.get(identity)
        if cached is None:
            resolved = resolve(self._app.config, *(layer.overrides for layer in all_layers))
            cached = self._settings.setdefault(identity, (resolved, all_layers))
        return cached[0]

    def of_request(self, request: Request) -> Protection | None:
        """How a request is protected; None where no route matched."""
        rule = request.url_rule
        return None if rule is None else self.of(rule.endpoint, request.method)

    def of(self, endpoint: str, method: str) -> Protection:
        """How requests of this method to this endpoint are protected.

        :raises KeyError: when the application has no such endpoint.
        """
        view = self._app.view_functions[endpoint]
        protection = self._protections.get((endpoint, method))
        if protection is None or protection.view is not view:
            protection = self._work_out(view, endpoint, method)
            self._protections[endpoint, method] = protection
        return protection

    def _work_out(self, view: object, endpoint: str, method: str) -> Protection:
        kind, source, layers = Kind.UNPROTECTED, "", []
        for layer in self._marks(view, endpoint, method):
            if layer.overrides is EXEMPT:
                kind, source = Kind.EXEMPT, layer.source
                break
            layers.append(layer)
        if layers:
            kind, source = Kind.PROTECTED, layers[0].source
        elif self._app_wide and kind is Kind.UNPROTECTED:
            kind, source = Kind.PROTECTED, "extension"
        settings = self.settings(*layers)
        claims = kind is Kind.PROTECTED and settings.tracks(method)
        decorated = any(layer.source == "view" for layer in layers)
        return Protection(
            view=view,
            kind=kind,
            source=source,
            settings=settings,
            layers=(*layers, *self.extension),
            claims=claims,
            decorated=decorated,
            dispatched=claims and not decorated,
        )

    def _marks(self, view: object, endpoint: str, method: str) -> Iterator[Layer]:
        # The nearest to the function that answers comes first: it wins.
        for overrides in marks_of(view, method):
            yield Layer("view", overrides)
        if self._serves_static_files(endpoint):
            yield Layer(STATIC_FILES, EXEMPT)
        name = endpoint
        while "." in name:
            name = name.rpartition(".")[0]
            overrides_of_blueprint = mark_of(self._app.blueprints.get(name))
            if overrides_of_blueprint is not None:
                yield Layer(f"blueprint {name}", overrides_of_blueprint)

    def _serves_static_files(self, endpoint: str) -> bool:
        name, _, last = endpoint.rpartition(".")
        if last != "static":
            return False
        owner = self._app.blueprints.get(name) if name else self._app
        return owner is not None and owner.has_static_folder

    def of_call(
        self, function: Callable[..., Any], overrides: Mapping[str, Any], request: Request
    ) -> Call:
        """What a decorated function does when it is called in a request.

        :param overrides: the function's keywords.
        :raises OutsideRequest: when it requires a key and is called for no routed request.
        """
        rule, method = request.url_rule, request.method
        if rule is None:
            return self._unrouted(function, overrides)
        endpoint = rule.endpoint
        view = self._app.view_functions.get(endpoint)
        # The view itself is never called for an event.
        if view is not function and is_event(function, view, request):
            return self._unrouted(function, overrides)
        call = self.calls.get((id(overrides), endpoint, method))
        if call is None or call.view is not view:
            call = self._work_out_call(function, overrides, endpoint, method)
            self.calls[id(overrides), endpoint, method] = call
        return call

    def _work_out_call(
        self, function: Callable[..., Any], overrides: Mapping[str, Any], endpoint: str, method: str
    ) -> Call:
        protection = self.of(endpoint, method)
        view = protection.view
        blueprint = self._app.blueprints.get(endpoint.rpartition(".")[0])
        framework = framework_above(view, method, blueprint, overrides)
        if any(mark is overrides for mark in marks_of(view, method)):
            settings, is_nested = protection.settings, False
            claims = protection.claims
        else:
            # A function that the view calls, or a view that another decorator hides.
            shared = (layer for layer in protection.layers if layer.source not in _NOT_SHARED)
            settings = self.settings(Layer("view", overrides), *shared)
            if protection.dispatched and settings != protection.settings:
                _report_hidden(function, protection, settings, f"{method} {endpoint!r}")
            is_nested = protection.kind is Kind.PROTECTED and not protection.decorated
            claims = settings.tracks(method)
        makes_response = not (is_nested or is_protecting(view))
        return Call(view, settings if claims else None, makes_response, framework)

    def _unrouted(self, function: Callable[..., Any], overrides: Mapping[str, Any]) -> Call:
        name = qualified_name(function)
        if self.settings(Layer("view", overrides)).required:
            raise OutsideRequest(_REQUIRED_WITHOUT_ROUTE.format(name))
        if name not in self._warned:
            self._warned.add(name)
            logger.warning(_WITHOUT_ROUTE, name)
        return Call(None, None, makes_response=False)

    def part_name(self, function: Callable[..., Any], request: Request) -> str | None:
        """The name of a decorated function that the view calls; None for the view itself.

        Such a function has a record of its own, so that two of them never get each other's
        answers, in whichever order they are called.
        """
        view = self._app.view_functions.get(request.endpoint or "")
        return None if belongs_to(function, view, request.method) else qualified_name(function)


def clear_all() -> None:
    """Drop the answers of every application, because a mark or a hook has changed."""
    for protections in list(_instances):
        protections.clear()


_instances: WeakSet[Protections] = WeakSet()
#: Sources of keywords that a function does not share with the view that calls it.
_NOT_SHARED = ("view", "extension")


def _report_hidden(
    function: Callable[..., Any], protection: Protection, settings: Settings, requests: str
) -> None:
    """Report keywords that do not apply, because the dispatching claims before the function runs.

    :raises SettingsError: when they would decide who gets a response, or for which request.
    """
    text = _HIDDEN.format(qualified_name(function), requests, protection.source)
    for setting in IDENTIFYING_SETTINGS:
        if getattr(settings, setting) != getattr(protection.settings, setting):
            raise SettingsError(text)
    logger.warning("%s", text)


_HIDDEN = (
    "the keywords of @idempotent on {0} do not apply to requests to {1}: the {2} protects them "
    "before {0} is called. If that is the view, a decorator above it hides it: give that decorator "
    "functools.wraps. If the view calls it, give the keywords to an @idempotent on the view"
)
_WITHOUT_ROUTE = (
    "%s was called for an event of a WebSocket, or in a request that no route matched: the call is "
    "not protected"
)
_REQUIRED_WITHOUT_ROUTE = (
    "{} requires a key, and was called for an event of a WebSocket, or in a request that no route "
    "matched: no key is looked for there. Call the undecorated function, its __wrapped__."
)
