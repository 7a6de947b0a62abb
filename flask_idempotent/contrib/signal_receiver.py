"""Receives the signals of one application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_idempotent import signals
from flask_idempotent.errors import SettingsError

if TYPE_CHECKING:
    from flask import Flask


class SignalReceiver:
    """Receives the signals of one application for as long as that exists.

    Each method that is named after a signal receives it.

    :param app: the application.
    :param name: its key in ``app.extensions``.
    :raises SettingsError: when the application already has a receiver of that name.
    """

    def __init__(self, app: Flask, name: str) -> None:
        if name in app.extensions:
            raise SettingsError(
                f"{name} is already set up on the application {app.name!r}, and everything would "
                "be counted twice. Call instrument once for each application"
            )
        # Signals refer to their receivers weakly, so the application has to keep this one alive.
        app.extensions[name] = self
        for signal in signals.ALL:
            receiver = getattr(self, signal.name, None)
            if receiver is not None:
                signal.connect(receiver, app)
