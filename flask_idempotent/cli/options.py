"""What all commands share: their options, their store, and their exit codes.

A command ends with 0 when it is done, 1 when it refuses or finds an error, 2 on wrong usage or
settings, and 3 when the store or a database failed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from typing import Any, TypeVar

import click
from flask import Flask

from flask_idempotent._printable import printable
from flask_idempotent.cli.formatting import parse_duration
from flask_idempotent.errors import DatabaseUnavailable, SettingsError, StoreError
from flask_idempotent.stores.inspectable import InspectableStore
from flask_idempotent.stores.memory import MemoryStore
from flask_idempotent.web.flask_compat import current_application
from flask_idempotent.web.state import state_of

Item = TypeVar("Item")

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
#: Declares an option whose value is a duration, such as ``5m``. Without the metavar, the help shows
#: the name of the function.
duration_option = partial(click.option, type=parse_duration, metavar="DURATION")


class Refused(click.ClickException):
    """There is no such record, or it must not be changed."""

    exit_code = 1


class WrongSettings(click.ClickException):
    """The application's settings cannot be used."""

    exit_code = 2


class StoreFailed(click.ClickException):
    """The store, or the database of a transaction, did not answer or refused."""

    exit_code = 3


class CommandGroup(click.Group):
    """A group whose errors have no traceback, and no characters that control the terminal."""

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                # A name may contain characters that the terminal's encoding lacks.
                stream.reconfigure(errors="backslashreplace")
        try:
            return self._invoke(ctx)
        except click.ClickException as error:
            lines = error.message.split("\n")
            error.message = "\n".join(map(printable, lines))  # type: ignore[misc]
            raise

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise WrongSettings(str(error)) from error
        except StoreError as error:
            raise StoreFailed(f"the store failed: {error}{_hint(error)}") from error
        except DatabaseUnavailable as error:
            raise StoreFailed(f"the database failed: {error}") from error


def _hint(error: StoreError) -> str:
    if "no permissions" in str(error).lower():
        return '\nThe page "Command line" lists the permissions that an operator needs.'
    if str(error).startswith("MOVED "):
        return "\nThe server is a node of a cluster: set REDIS_URL to redis+cluster://."
    return ""


def this_app() -> Flask:
    """The application that the command works on."""
    return current_application()


def this_store() -> InspectableStore:
    """The application's store.

    :raises WrongSettings: when it is not one whose records can be inspected.
    """
    store = state_of(this_app()).engine.store
    if not isinstance(store, InspectableStore):
        raise WrongSettings(
            f"store= is a {type(store).__name__}, which cannot be inspected: commands need an "
            "InspectableStore"
        )
    if isinstance(store, MemoryStore):
        click.echo(_OWN_MEMORY, err=True)
    return store


def this_prefix() -> str:
    """The prefix of the application's storage keys."""
    return state_of(this_app()).settings().prefix


def confirm(question: str, *, yes: bool) -> None:
    """Ask before a change, and end the command with 1 unless the answer is yes."""
    if yes:
        return
    # Not click.confirm: its older versions write to the standard output even with err=True.
    click.echo(f"{printable(question)} [y/N]: ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise click.Abort


@contextmanager
def progress(items: Iterable[Item], label: str, length: int | None = None) -> Iterator[Any]:
    """Show the progress of a loop on the standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield items
        return
    with click.progressbar(items, length, label, show_pos=True, file=sys.stderr) as bar:
        yield bar


_OWN_MEMORY = (
    "memory:// keeps records in the memory of each process: this command sees only its own, not "
    "those of a running server."
)
