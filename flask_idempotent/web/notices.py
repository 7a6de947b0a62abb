"""Notices: one-time log warnings where an application protects less than it seems to."""

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
        self._logged: set[Hashable] = set()

    def on_settings(self, settings: Settings) -> None:
        """Warn of cookies and logins in replays, by the settings of a view or of all."""
        if keeps_cookies(settings):
            self._warn(
                "cookies",
                "keep_headers has Set-Cookie: everybody who has a key gets the cookies of its "
                "first request, sessions too. Remove it, unless no cookie identifies a user",
            )
        if names := login_entries(settings):
            self._warn(
                "logins",
                "replay_session names %s: everybody who sends a request again with its key is "
                "signed in as its first sender. Remove it",
                " and ".join(names),
            )

    def on_views(self, app: Flask, protections: Protections) -> None:
        """Warn of cookies and logins in replays, and of decorated views that no request claims."""
        self.on_settings(protections.settings())
        for _, _, protection in decorated_routes(app, protections):
            self.on_settings(protection.settings)
        for view in untracked_views(app, protections):
            self._warn(
                view,
                "@idempotent protects nothing at %s: %s is not tracked. Remove the decorator, "
                "or track the method: @idempotent(methods=%s)",
                view.path,
                "/".join(view.methods),
                list(view.methods),
            )

    def on_anonymous(self, request: Request) -> None:
        """Warn of a session that may identify a caller whom the default scope does not see."""
        subject = "session", request.endpoint
        if subject in self._logged or not (entries := unread_entries()):
            return
        self._warn(
            subject,
            "the default scope sees no caller at %s, but the session has %s: if that "
            "identifies the caller, callers share their keys, and one may get another's response. "
            "Return the caller from a scope function, or None for all: scope=lambda request: None",
            request.url_rule and request.url_rule.rule,
            ", ".join(map(repr, entries)),
        )

    def _warn(self, subject: Hashable, message: str, *arguments: object) -> None:
        if subject not in self._logged:
            self._logged.add(subject)
            logger.warning(message, *arguments)


def keeps_cookies(settings: Settings) -> bool:
    """Whether replays repeat the cookies of the first response."""
    return "set-cookie" in settings.keep_headers


def login_entries(settings: Settings) -> list[str]:
    """Name the session entries of a login that replays repeat: Flask-Login's, the tutorial's."""
    return [name for name in ("_user_id", "user_id") if name in settings.replay_session]


class UntrackedView(NamedTuple):
    """A decorated view that no request claims.

    :param path: one of its paths.
    :param methods: the methods that it accepts.
    """

    path: str
    methods: tuple[str, ...]


def untracked_views(app: Flask, protections: Protections) -> Iterator[UntrackedView]:
    """Find the decorated views none of whose methods is tracked.

    Lazy views are left out, so that nothing is imported for this.
    """
    # A view may have several routes, one for each method.
    methods_by_view: dict[int, tuple[str, set[str]]] = {}
    tracked = set()
    for rule, method, protection in decorated_routes(app, protections):
        _, methods = methods_by_view.setdefault(id(protection.view), (rule.rule, set()))
        methods.add(method)
        if protection.claims:
            tracked.add(id(protection.view))
    for view, (path, methods) in methods_by_view.items():
        if view not in tracked:
            yield UntrackedView(path, tuple(sorted(methods - UNTRACKED_METHODS)))
