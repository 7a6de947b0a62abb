"""Protection: which views are protected, by whom, and with which settings.

It follows from the marks along a request's route and from the extension. This is the one place that
knows; whoever wants to know asks ``Protections``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from flask_idempotent._lines import logger
from flask_idempotent.errors import OutsideRequest, SettingsError
from flask_idempotent.settings import UNTRACKED_METHODS, Settings, resolve
from flask_idempotent.web.frameworks import Framework, framework_above
from flask_idempotent.web.marks import EXEMPT, mark_of, marks_of

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.routing import Rule


#: Who says that Flask's own views for static files are exempt.
STATIC_FILES = "static files"


class Kind(enum.StrEnum):
    """Whether a view is protected."""

    PROTECTED = "protected"
    EXEMPT = "exempt"
    UNPROTECTED = "unprotected"


class Layer(NamedTuple):
    """Keywords and who gave them: ``view``, ``blueprint NAME`` or ``extension``."""

    source: str
    overrides: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Protection:
    """How the requests of one method to one view are protected.

    :param view: the view.
    :param kind: whether they are protected.
    :param source: who says so: ``view``, ``blueprint NAME``, ``extension`` or ``static files``;
        empty where nobody does.
    :param settings: what counts for them, or would count if they were protected.
    :param layers: whose keywords the settings come from, the most important first.
    :param claims: whether a request with a key claims it, as its method is tracked too.
    :param decorated: whether a decorated function claims it, when it is called.
    :param dispatched: whether the application's dispatching claims it, before it calls the view.
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

    :param view: the view.
    :param settings: what counts for the call; None where nothing is looked at.
    :param nested: whether another call, or the application's dispatching, came before it.
    :param framework: what a framework above expects of its response.
    """

    view: object
    settings: Settings | None
    nested: bool
    framework: Framework | None = None


class Protections:
    """What protects the views of an application.

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
        #: What counts for every view.
        self.extension = tuple(Layer("extension", overrides) for overrides in extension)
        self._app_wide = app_wide
        self._told: set[str] = set()
        #: Settings by the identity of the keywords, which are kept as long.
        self._settings: dict[tuple[int, ...], tuple[Settings, tuple[Layer, ...]]] = {}
        #: What ``of`` has found, by endpoint and method.
        self.known: dict[tuple[str, str], Protection] = {}
        #: What ``of_call`` has found, by the keywords' identity, endpoint and method.
        self.calls: dict[tuple[int, str | None, str], Call] = {}
        _every.add(self)

    def forget(self) -> None:
        """Find everything out again, because a mark or a hook has changed."""
        self._settings.clear()
        self.known.clear()
        self.calls.clear()

    def settings(self, *layers: Layer) -> Settings:
        """Resolve settings, once for the same keywords.

        :param layers: keywords of a view and its blueprints, the most important first.
        """
        every = (*layers, *self.extension)
        key = tuple(id(layer.overrides) for layer in every)
        known = self._settings.get(key)
        if known is None:
            found = resolve(self._app.config, *(layer.overrides for layer in every))
            known = self._settings.setdefault(key, (found, every))
        return known[0]

    def of(self, endpoint: str, method: str) -> Protection:
        """How requests of this method to this endpoint are protected.

        :raises KeyError: when the application has no such endpoint.
        """
        view = self._app.view_functions[endpoint]
        found = self.known.get((endpoint, method))
        if found is None or found.view is not view:
            found = self.known[endpoint, method] = self._find(view, endpoint, method)
        return found

    def _find(self, view: object, endpoint: str, method: str) -> Protection:
        kind, source, given = Kind.UNPROTECTED, "", []
        for layer in self._marks(view, endpoint, method):
            if layer.overrides is EXEMPT:
                kind, source = Kind.EXEMPT, layer.source
                break
            given.append(layer)
        if given:
            kind, source = Kind.PROTECTED, given[0].source
        elif self._app_wide and kind is Kind.UNPROTECTED:
            kind, source = Kind.PROTECTED, "extension"
        settings = self.settings(*given)
        claims = kind is Kind.PROTECTED and settings.tracks(method)
        decorated = any(layer.source == "view" for layer in given)
        return Protection(
            view=view,
            kind=kind,
            source=source,
            settings=settings,
            layers=(*given, *self.extension),
            claims=claims,
            decorated=decorated,
            dispatched=claims and not decorated,
        )

    def _marks(self, view: object, endpoint: str, method: str) -> Iterator[Layer]:
        # What is nearer to the function that answers counts for more.
        for overrides in marks_of(view, method):
            yield Layer("view", overrides)
        if self._serves_static_files(endpoint):
            yield Layer(STATIC_FILES, EXEMPT)
        name = endpoint
        while "." in name:
            name = name.rpartition(".")[0]
            of_blueprint = mark_of(self._app.blueprints.get(name))
            if of_blueprint is not None:
                yield Layer(f"blueprint {name}", of_blueprint)

    def _serves_static_files(self, endpoint: str) -> bool:
        name, _, last = endpoint.rpartition(".")
        if last != "static":
            return False
        owner = self._app.blueprints.get(name) if name else self._app
        return owner is not None and owner.has_static_folder

    def of_call(
        self,
        function: Callable[..., Any],
        overrides: Mapping[str, Any],
        endpoint: str | None,
        method: str,
    ) -> Call:
        """What a decorated function does when it is called in such a request.

        :param overrides: the function's keywords.
        :param endpoint: the request's; None where no route matched.
        :raises OutsideRequest: when it requires a key and no route matched.
        """
        if endpoint is None:
            return self._unrouted(function, overrides)
        found = self.of(endpoint, method)
        blueprint = self._app.blueprints.get(endpoint.rpartition(".")[0])
        framework = framework_above(found.view, method, blueprint, overrides)
        if any(own is overrides for own in marks_of(found.view, method)):
            settings = found.settings if found.kind is Kind.PROTECTED else None
            call = Call(found.view, settings, nested=False, framework=framework)
        else:
            # A function that the view calls, or a view that another decorator hides.
            between = (layer for layer in found.layers if layer.source not in _NOT_SHARED)
            settings = self.settings(Layer("view", overrides), *between)
            if found.dispatched and settings != found.settings:
                self._tell_hidden(found, settings, name_of(function), f"{method} {endpoint!r}")
            outer = found.kind is Kind.PROTECTED and not found.decorated
            call = Call(found.view, settings, nested=outer, framework=framework)
        self.calls[id(overrides), endpoint, method] = call
        return call

    def _tell_hidden(self, found: Protection, own: Settings, name: str, where: str) -> None:
        # The dispatching claims before the function is called.
        text = _HIDDEN.format(name, where, found.source)
        if any(getattr(own, option) != getattr(found.settings, option) for option in WHOSE):
            raise SettingsError(text)
        logger.warning("%s", text)

    def _unrouted(self, function: Callable[..., Any], overrides: Mapping[str, Any]) -> Call:
        name = name_of(function)
        if self.settings(Layer("view", overrides)).required:
            raise OutsideRequest(_REQUIRED_WITHOUT_ROUTE.format(name))
        if name not in self._told:
            self._told.add(name)
            logger.warning(_WITHOUT_ROUTE, name)
        return Call(None, None, nested=True)


class Route(NamedTuple):
    """A route of an application, or of its methods those that are protected alike."""

    rule: Rule
    methods: tuple[str, ...]
    protection: Protection


def routes_of(app: Flask, protections: Protections) -> Iterator[Route]:
    """All routes that have views, by path; one appears more than once where its methods differ."""
    rules = (rule for rule in app.url_map.iter_rules() if rule.endpoint in app.view_functions)
    for rule in sorted(rules, key=lambda rule: rule.rule):
        groups: dict[tuple[object, ...], list[str]] = {}
        for method in sorted(rule.methods or ()):
            found = protections.of(rule.endpoint, method)
            alike = (found.kind, found.source, found.claims, id(found.settings))
            groups.setdefault(alike, []).append(method)
        for methods in groups.values():
            yield Route(rule, tuple(methods), protections.of(rule.endpoint, methods[0]))


_every: WeakSet[Protections] = WeakSet()
#: Whose keywords a function does not share with the view that calls it.
_NOT_SHARED = ("view", "extension")
#: The settings that decide who gets a response, and for which request.
WHOSE = ("key", "scope", "fingerprint", "ignore_fields")


def forget_all() -> None:
    """Find everything out again in every application, because a mark or a hook has changed."""
    for protections in list(_every):
        protections.forget()


def name_of(view: Any) -> str:
    """The module and the name of a view."""
    view = getattr(view, "view_class", view)
    # A functools.partial has no name.
    return f"{view.__module__}.{getattr(view, '__qualname__', type(view).__qualname__)}"


def route_name(rule: Rule) -> str:
    """A route as its requests begin."""
    return f"{'/'.join(sorted((rule.methods or set()) - UNTRACKED_METHODS))} {rule.rule}"


_HIDDEN = (
    "the keywords of @idempotent on {0} do not count for requests to {1}: the {2} protects them "
    "before {0} is called. If that is the view, a decorator above it hides it: give that decorator "
    "functools.wraps. If the view calls it, give the keywords to an @idempotent on the view"
)
_WITHOUT_ROUTE = (
    "%s was called in a request that no route matched, such as the event of a WebSocket: nothing "
    "protects the call"
)
_REQUIRED_WITHOUT_ROUTE = (
    "{} requires a key, and was called in a request that no route matched, such as the event of a "
    "WebSocket: no key is looked for there. Call the function inside, its __wrapped__."
)
