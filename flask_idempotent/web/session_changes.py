"""Session changes: what a view changed in some of a session's entries, and repeating it in another.

An entry is a list that grew at its end, such as that of ``flask.flash()``, or it is new, replaced
or removed. Repeating never undoes what came later: it appends what a list lacks, and all else
happens only where the entry is as the view found it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask.sessions import session_json_serializer

from flask_idempotent._digests import url_safe_digest
from flask_idempotent.errors import RecordUnreadable

Change = TypeVar("Change")
_ABSENT = object()


@dataclass
class SessionChanges:
    """What a view changed in the entries of a session that replays repeat.

    Values are written as Flask writes its session cookie, which keeps tuples, bytes, dates, UUIDs
    and ``Markup`` apart from other values.
    """

    #: What the view appended to lists, new ones included.
    appended: dict[str, list[Any]] = field(default_factory=dict)
    #: New and replaced values, each after the digest of what the view found; None for nothing.
    written: dict[str, tuple[str | None, Any]] = field(default_factory=dict)
    #: Removed entries, each with the digest of what the view found.
    removed: dict[str, str] = field(default_factory=dict)
    #: Whether the view changed other entries too, which no replay repeats.
    changed_others: bool = False

    @classmethod
    def between(
        cls, before: Mapping[str, Any], after: Mapping[str, Any], names: Collection[str]
    ) -> SessionChanges:
        """Compare the named entries of a session before and after a view.

        :raises Exception: when a value cannot be compared or written.
        """
        changes = cls()
        for name in names:
            changes._compare(name, before.get(name, _ABSENT), after.get(name, _ABSENT))
        if changes:
            changes.changed_others = _others(before, names) != _others(after, names)
        return changes

    def _compare(self, name: str, before: Any, after: Any) -> None:
        if before is after is _ABSENT or before == after:
            return
        if items := _appended_items(before, after):
            self.appended[name] = items
        elif after is _ABSENT:
            self.removed[name] = _digest(before)
        else:
            self.written[name] = (None if before is _ABSENT else _digest(before), after)

    def __bool__(self) -> bool:
        """Whether there is anything to repeat."""
        return bool(self.appended or self.written or self.removed)

    def encode(self) -> bytes:
        """Turn the changes into bytes.

        :raises Exception: when a value is none that Flask's session cookie can carry.
        """
        text: str = session_json_serializer.dumps(vars(self))
        return text.encode()

    @classmethod
    def decode(cls, data: bytes) -> SessionChanges:
        """Turn bytes back into changes.

        :raises RecordUnreadable: on bytes that ``encode`` never writes.
        """
        try:
            changes = cls(**session_json_serializer.loads(data.decode()))
            if not _is_well_formed(changes):
                raise ValueError("it is not what this package writes")
        except Exception as error:
            # Another program may have written anything, which the serializer meets with any error.
            # Its text might show a part of it.
            raise RecordUnreadable(f"its session part is damaged: {type(error).__name__}") from None
        return changes

    def only(self, names: Collection[str]) -> SessionChanges:
        """Return the changes of these entries alone."""
        return SessionChanges(
            _chosen(self.appended, names),
            _chosen(self.written, names),
            _chosen(self.removed, names),
            self.changed_others,
        )

    def repeat(self, session: MutableMapping[str, Any]) -> None:
        """Make the changes in a session, where they are not made there yet."""
        for name, items in self.appended.items():
            present = session.get(name, [])
            if isinstance(present, list) and (missing := list(_missing(items, present))):
                session[name] = [*present, *missing]
        for name, (digest, value) in self.written.items():
            if _is_unchanged(session, name, digest):
                session[name] = value
        for name, digest in self.removed.items():
            if _is_unchanged(session, name, digest):
                del session[name]


def _chosen(part: dict[str, Change], names: Collection[str]) -> dict[str, Change]:
    return {name: change for name, change in part.items() if name in names}


def _others(entries: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in entries.items() if name not in names}


def _appended_items(before: Any, after: Any) -> list[Any]:
    """The items that a list has more at its end; none where something else happened to it."""
    earlier = [] if before is _ABSENT else before
    is_longer = isinstance(earlier, list) and isinstance(after, list)
    return after[len(earlier) :] if is_longer and after[: len(earlier)] == earlier else []


def _missing(items: list[Any], present: list[Any]) -> Iterator[Any]:
    """The items that a list lacks; an item that occurs twice must be there twice."""
    rest = Counter(map(_canonical, present))
    for item in items:
        text = _canonical(item)
        if rest[text]:
            rest[text] -= 1
        else:
            yield item


def _is_unchanged(session: Mapping[str, Any], name: str, digest: str | None) -> bool:
    """Whether an entry is what the view found: absent where the digest is None."""
    if name not in session:
        return digest is None
    return digest is not None and _digest(session[name]) == digest


def _digest(value: Any) -> str:
    # In place of the value, of which nothing else is needed: it may be somebody's data.
    return url_safe_digest(_canonical(value))


def _canonical(value: Any) -> str:
    """A text that equal values have in common, and no others."""
    text: str = session_json_serializer.dumps(_without_tuples(value))
    return text


def _without_tuples(value: Any) -> Any:
    """A value as a session that a server keeps may read it back: tuples have become lists."""
    if isinstance(value, list | tuple):
        return [_without_tuples(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_tuples(item) for name, item in value.items()}
    return value


def _is_well_formed(changes: SessionChanges) -> bool:
    parts = (changes.appended, changes.written, changes.removed)
    return (
        all(isinstance(part, dict) for part in parts)
        and all(isinstance(items, list) for items in changes.appended.values())
        and all(_is_written(change) for change in changes.written.values())
        and all(isinstance(digest, str) for digest in changes.removed.values())
        and isinstance(changes.changed_others, bool)
    )


def _is_written(change: Any) -> bool:
    if not isinstance(change, tuple) or len(change) != 2:
        return False
    return change[0] is None or isinstance(change[0], str)
