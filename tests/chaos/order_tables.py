"""The orders that the chaos tests count: nothing but the library keeps a key from having two."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import DDL, Engine, Float, String, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

from flask_idempotent.contrib.sqlalchemy import SQLAlchemyTransaction


class Base(DeclarativeBase):
    pass


class Order(Base):
    """A row that a run of a view has written; its key is not unique."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(255), index=True)
    run: Mapped[str] = mapped_column(String(32))
    #: Seconds that PostgreSQL takes to commit the row.
    slowness: Mapped[float] = mapped_column(Float, default=0.0)


# A deferred trigger runs inside COMMIT, so that a process can be killed there.
_SLOW_COMMIT = """
CREATE OR REPLACE FUNCTION sleep_in_commit() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(NEW.slowness); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON orders
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.slowness > 0)
EXECUTE FUNCTION sleep_in_commit();
"""
event.listen(Order.__table__, "after_create", DDL(_SLOW_COMMIT).execute_if(dialect="postgresql"))


def transaction_of(source: Any) -> SQLAlchemyTransaction:
    """The transaction of a source of sessions whose answers are beside the orders."""
    return SQLAlchemyTransaction(source, metadata=Base.metadata)


def create_tables(engine: Engine) -> None:
    """Create the tables, empty."""
    if "idempotent_answers" not in Base.metadata.tables:
        transaction_of(scoped_session(sessionmaker(engine)))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)


def orders_by_key(engine: Engine) -> dict[str, list[str]]:
    """The runs that wrote the orders of each key."""
    runs = defaultdict(list)
    with engine.connect() as connection:
        for key, run in connection.execute(select(Order.key, Order.run).order_by(Order.id)):
            runs[key].append(run)
    return runs
