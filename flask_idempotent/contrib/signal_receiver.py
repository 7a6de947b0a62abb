"""The listener: hears the signals of one application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_idempotent import signals
from flask_idempotent.errors import SettingsError

if TYPE_CHECKING:
    from flask import Flask


class Listener:
    """Hears the signals of one application for as long as that lives.

    A method that has the name of a signal is its receiver.

    :param app: the application.
    :param name: its place in ``app.extensions``.
    :raises SettingsError: when the application has such a listener already.
    """

    def __init__(self, app: Flask, name: str) -> None:
        if name in app.extensions:
            raise SettingsError(
                f"{name} is already set up on the application {app.name!r}, and everything would "
                "be counted twice. Call instrument once for each application"
            )
        # Signals hold their receivers weakly; this holds them as long as the application lives.
        app.extensions[name] = self
        for signal in signals.ALL:
            receiver = getattr(self, signal.name, None)
            if receiver is not None:
                signal.connect(receiver, app)
