"""The public surface: everything that a program can depend on, one line each."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any

import click

import flask_idempotent
from flask_idempotent import errors, problems, signals, testing
from flask_idempotent.cli import commands
from flask_idempotent.options import OPTIONS, Overrides
from flask_idempotent.web.current_claim import CurrentClaim

#: Modules all of whose names without an underscore are public, as docs/api.md says.
MODULES = (
    "webhooks", "forms", "problems", "records", "record_format", "policy", "stores.base",
    "stores.memory", "engine.transactions",
    "contrib.openapi", "contrib.apispec", "contrib.prometheus", "contrib.opentelemetry",
    "contrib.sqlalchemy",
)  # fmt: skip
PACKAGE = flask_idempotent.__name__


def surface() -> list[str]:
    """Return the lines, sorted within each part, each once."""
    parts = (_names, _options, _commands, _signals, _problems, _errors)
    return [line for part in parts for line in sorted({*part()})]


def _names() -> Iterator[str]:
    for module in (flask_idempotent, testing):
        for name in module.__all__:
            yield from _described(f"{module.__name__}.{name}", getattr(module, name))
    yield from _described("flask_idempotent.current_claim", CurrentClaim)
    for path in MODULES:
        module = importlib.import_module(f"{PACKAGE}.{path}")
        for name, value in _own(module):
            yield from _described(f"{module.__name__}.{name}", value)


def _own(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module defines, or shows of a module that is private."""
    exported = getattr(module, "__all__", None)
    for name, value in vars(module).items():
        origin = getattr(value, "__module__", "")
        is_shown = isinstance(value, type) and origin.startswith(f"{PACKAGE}._")
        is_own = origin == module.__name__ or is_shown or isinstance(value, dict)
        if name in exported if exported is not None else is_own and not name.startswith("_"):
            yield name, value


def _described(path: str, value: Any) -> Iterator[str]:
    if not isinstance(value, type):
        yield path + _signature(value)
        if type(value).__module__.startswith(PACKAGE):
            yield from (f"{path}.{name}{_signature(m)}" for name, m in _members(type(value)))
        return
    yield f"{path}({', '.join(base.__name__ for base in value.__bases__)})"
    for name, kind in inspect.get_annotations(value).items():
        if not name.startswith("_"):
            yield f"{path}.{name}: {getattr(kind, '__forward_arg__', kind)}"
    for name, member in _members(value):
        yield f"{path}.{name}{_signature(member)}"


def _members(value: type) -> Iterator[tuple[str, Any]]:
    """What a class defines that is not an annotation, and what it has from private classes."""
    members: dict[str, Any] = {}
    for base in reversed(value.__mro__):
        if base is value or base.__module__.startswith(f"{PACKAGE}._"):
            members |= vars(base)
    for name in members.keys() - inspect.get_annotations(value).keys():
        # The fields of a dataclass are its annotations.
        if not name.startswith("_") or (name == "__init__" and not is_dataclass(value)):
            yield name, members[name]


def _signature(member: Any) -> str:
    function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    if not inspect.isroutine(function):
        return ""
    signature = inspect.signature(function)
    bare = signature.replace(
        parameters=[
            p.replace(annotation=_bare(p.annotation)) for p in signature.parameters.values()
        ],
        return_annotation=_bare(signature.return_annotation),
    )
    # Of a default value that has no other name, its type.
    return re.sub(r"<([\w.]+) object at \w+>", r"<\1>", str(bare))


class _Annotation(str):
    """An annotation that is shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _bare(annotation: Any) -> Any:
    return _Annotation(annotation) if isinstance(annotation, str) else annotation


def _options() -> Iterator[str]:
    for option in OPTIONS:
        default = getattr(option.default, "__name__", None) or repr(option.default)
        yield f"setting {option.config or option.name} = {default}"
    for name, kind in Overrides.__annotations__.items():
        yield f"keyword {name}: {getattr(kind, '__forward_arg__', kind)}"


def _commands() -> Iterator[str]:
    with click.Context(commands) as context:
        for name in commands.list_commands(context):
            command = commands.get_command(context, name)
            assert command is not None
            for parameter in command.params:
                spelt = " ".join(sorted([*parameter.opts, *parameter.secondary_opts]))
                yield f"command {name} {spelt} {parameter.type.name}"
            yield f"command {name}"


def _signals() -> Iterator[str]:
    for signal in signals.ALL:
        yield f"signal {signal.name}"


def _problems() -> Iterator[str]:
    for name, value in _own(problems):
        if isinstance(value, type) and getattr(value, "slug", None) and value.code:
            yield f"problem {value.slug} {value.code} {name}"


def _errors() -> Iterator[str]:
    for name, value in _own(errors):
        yield f"error {name}({', '.join(base.__name__ for base in value.__bases__)})"
