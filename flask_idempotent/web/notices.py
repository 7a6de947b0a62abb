"""Notices: warnings that the log has once, where an application protects less than it seems to."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from flask_idempotent._http_semantics import UNTRACKED_METHODS
from flask_idempotent._logging import logger
from flask_idempotent.web.routes import decorated_routes
from flask_idempotent.web.scopes import unread_entries

if TYPE_CHECKING:
    from flask import Flask, Request

    from flask_idempotent.settings import Settings
    from flask_idempotent.web.protection import Protections


class Notices:
    """The notices of one application."""

    def __init__(self) -> None:
        self._given: set[Hashable] = set()

    def on_settings(self, settings: Settings) -> None:
        """Warn of cookies in replays."""
        if keeps_cookies(settings):
            self._warn(
                "cookies",
                "keep_headers has Set-Cookie: whoever has a key gets the cookies of its first "
                "request, sessions too. Take it off, unless no cookie says who somebody is",
            )

    def on_views(self, app: Flask, protections: Protections) -> None:
        """Warn of cookies in replays, and of views whose decorator protects nothing."""
        self.on_settings(protections.settings())
        for _, _, protection in decorated_routes(app, protections):
            self.on_settings(protection.settings)
        for view in untracked_views(app, protections):
            self._warn(
                view,
                "@idempotent protects nothing at %s: %s is not tracked. Take the decorator off, "
                "or have the method tracked: @idempotent(methods=%s)",
                view.path,
                "/".join(view.methods),
                list(view.methods),
            )

    def on_anonymous(self, request: Request) -> None:
        """Warn of a session that may say who is asking, where the default scope sees nobody."""
        subject = "session", request.endpoint
        if subject in self._given or not (entries := unread_entries()):
            return
        self._warn(
            subject,
            "the default scope sees no caller at %s, but the session has %s: if that says who is "
            "asking, callers share their keys, and one may get another's response. Return the "
            "caller from a scope function, or None if there is none: scope=lambda request: None",
            request.url_rule,
            ", ".join(map(repr, entries)),
        )

    def _warn(self, subject: Hashable, message: str, *arguments: object) -> None:
        if subject not in self._given:
            self._given.add(subject)
            logger.warning(message, *arguments)


def keeps_cookies(settings: Settings) -> bool:
    """Say whether replays repeat the cookies of the first response."""
    return "set-cookie" in settings.keep_headers


class UntrackedView(NamedTuple):
    """A decorated view by one of its paths, and the methods that it takes."""

    path: str
    methods: tuple[str, ...]


def untracked_views(app: Flask, protections: Protections) -> Iterator[UntrackedView]:
    """Find the decorated views that take none of the methods that are tracked.

    Lazy views are left out, so that nothing is imported for this.
    """
    # One view may stand at several routes, one for each method.
    found: dict[int, tuple[str, set[str]]] = {}
    tracked = set()
    for rule, method, protection in decorated_routes(app, protections):
        found.setdefault(id(protection.view), (rule.rule, set()))[1].add(method)
        if protection.claims:
            tracked.add(id(protection.view))
    for view, (path, methods) in found.items():
        if view not in tracked:
            yield UntrackedView(path, tuple(sorted(methods - UNTRACKED_METHODS)))
