"""What the rules know of a request that the store let have the key."""

from __future__ import annotations

from dataclasses import dataclass

from flask_idempotent.records import RunningRecord


@dataclass(slots=True)
class Grant:
    """The store's answer that a request has the key, so that its view may run.

    :param over: its view failed, or it was given back.
    :param lapsed: its lease is over and was not renewed since.
    :param ever_lapsed: its lease was over once.
    :param lost: the store lost the record and it was not put back since.
    :param ever_lost: the store lost the record once.
    :param confirmed_move: how often time had moved when the store last said that it is theirs.
    :param confirmed_at: the simulation's time then.
    :param era: when it was granted.
    :param stored: its response was stored.
    """

    record: RunningRecord
    era: int
    over: bool = False
    lapsed: bool = False
    ever_lapsed: bool = False
    lost: bool = False
    ever_lost: bool = False
    confirmed_move: int = 0
    confirmed_at: float = 0.0
    stored: bool = False
