"""Orders, events and counters, in one SQLite file that every worker of a run shares.

An order is written in the transaction of its view, which the library commits together with the
view's response. Events are committed at once, so that the activity page shows them.
"""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import create_engine, delete, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

COUNTED = ("received", "placed", "replayed")
EVENTS_KEPT = 200


class Base(MappedAsDataclass, DeclarativeBase):
    """What all tables of the shop have in common."""


class Order(Base):
    """One placed order; *key* is the start of the key it came with, if it came with one."""

    __tablename__ = "orders"

    number: Mapped[int] = mapped_column(primary_key=True, init=False)
    product: Mapped[str]
    quantity: Mapped[int]
    key: Mapped[str | None]
    at: Mapped[float] = mapped_column(default_factory=time.time)


class Event(Base):
    """One line of the activity page."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    kind: Mapped[str]
    text: Mapped[str]
    key: Mapped[str | None]
    at: Mapped[float] = mapped_column(default_factory=time.time)


class Count(Base):
    """How many events of one kind there were."""

    __tablename__ = "counts"

    kind: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class Ledger:
    """The shop's orders, events and counters.

    :param path: the file of the database.
    """

    def __init__(self, path: str | Path) -> None:
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
        #: The session of the current thread, in which views read and write.
        self.session = scoped_session(sessionmaker(self._engine))

    def create_tables(self) -> None:
        with self._engine.begin() as connection:
            # Another worker may be doing the same.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            Base.metadata.create_all(connection)
        # A server that forks from now on leaves no connection to its workers.
        self._engine.dispose()

    def place(self, product: str, quantity: int, key: str | None = None) -> Order:
        """Write one order, and the event that reports it, without committing them."""
        order = Order(product, quantity, shorten(key))
        self.session.add(order)
        self.session.flush()
        text = f"Order no. {order.number} placed: {quantity} × {product}"
        self.write("placed", text if key else text + ", without a key", key)
        return order

    def write(self, kind: str, text: str, key: str | None = None) -> None:
        """Write one event in the transaction of the view."""
        _write(self.session(), kind, text, key)

    def note(self, kind: str, text: str, key: str | None = None) -> None:
        """Write one event in a transaction of its own."""
        with Session(self._engine) as session, session.begin():
            # It has its time when its turn has come, so that times and numbers are in one order.
            session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            _write(session, kind, text, key)

    def order(self, number: int) -> Order | None:
        """Return the order with that number, or None."""
        return self.session.get(Order, number)

    def counts(self) -> dict[str, int]:
        """Return the three counters, by the kind of event they count."""
        counts = {count.kind: count.value for count in self.session.scalars(select(Count))}
        return {kind: counts.get(kind, 0) for kind in COUNTED}

    def events(self, most: int = 40) -> list[Event]:
        """Return the last events, newest first."""
        newest_first = select(Event).order_by(Event.id.desc()).limit(most)
        return list(self.session.scalars(newest_first))


def shorten(key: str | None) -> str | None:
    """Return the start of *key*: somebody who reads a whole key can request its replay."""
    return key if key is None or len(key) <= 8 else key[:8] + "…"


def _write(session: Session, kind: str, text: str, key: str | None) -> None:
    """Write an event; the kinds in `COUNTED` increase their counter too."""
    # The first statement writes: a transaction of SQLite that has read may not wait for a writer.
    event = Event(kind, text, shorten(key))
    session.add(event)
    session.flush()
    session.execute(delete(Event).where(Event.id <= event.id - EVENTS_KEPT))
    if kind in COUNTED:
        one_more = {"value": Count.value + 1}
        count = insert(Count).values(kind=kind, value=1)
        session.execute(count.on_conflict_do_update(index_elements=[Count.kind], set_=one_more))
