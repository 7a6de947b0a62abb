"""The command ``list``: a table of records."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

import click
from flask.cli import with_appcontext

from flask_idempotent.cli import formatting, record_fields
from flask_idempotent.cli.options import (
    duration_option,
    json_option,
    progress,
    this_app,
    this_prefix,
    this_store,
)
from flask_idempotent.records import ReleasedRecord, RunningRecord
from flask_idempotent.stores.base import RecordInfo

if TYPE_CHECKING:
    from flask import Flask


@click.command("list")
@click.option("--in-progress", is_flag=True, help="Only records that are in progress.")
@click.option(
    "--held",
    is_flag=True,
    help="Only keys that nobody runs and that are not free: a lease has lapsed, or a step is open.",
)
@duration_option("--older", help="Only records older than this, such as 30s, 5m or 2h.")
@click.option("--route", help="Only records of this route: its endpoint, or its path.")
@json_option
@with_appcontext
def list_command(
    in_progress: bool, held: bool, older: float | None, route: str | None, as_json: bool
) -> None:
    """List records, oldest first."""
    endpoints = None if route is None else _endpoints(this_app(), route)
    store = this_store()
    with progress(store.inspect(store.scan(this_prefix())), "Reading records") as records:
        # By name, because SCAN may return one twice.
        selected = {
            info.storage_key: info
            for info in records
            if (isinstance(info.record, RunningRecord) or not in_progress)
            and (info.is_resolvable or not held)
            and record_fields.is_older(info, older)
            and (endpoints is None or _is_for(info, endpoints))
        }
    ordered = sorted(selected.values(), key=lambda info: -(record_fields.age(info) or 0))
    if as_json:
        formatting.write_json([record_fields.as_dict(info) for info in ordered])
    elif ordered:
        formatting.write_table(_COLUMNS, map(_row, ordered))
    else:
        click.echo("No records found.")


def _endpoints(app: Flask, route: str) -> set[str]:
    rules = app.url_map.iter_rules()
    endpoints = {rule.endpoint for rule in rules if route in (rule.rule, rule.endpoint)}
    if not endpoints:
        raise click.BadParameter(
            f"{route!r} is neither an endpoint nor the path of a route. Write it as flask routes "
            "shows it, such as /orders/<int:number>.",
            param_hint="--route",
        )
    return endpoints


def _is_for(info: RecordInfo, endpoints: Container[str]) -> bool:
    return info.record is not None and info.record.endpoint in endpoints


def _row(info: RecordInfo) -> tuple[str, ...]:
    record, age = info.record, record_fields.age(info)
    outcome = "-"
    if isinstance(record, RunningRecord | ReleasedRecord):
        outcome = record_fields.owner(record)
    elif record is not None:
        outcome = f"status {record.status_code}"
    return (
        info.storage_key,
        record_fields.state(info),
        record_fields.request(record),
        "-" if age is None else formatting.duration(age),
        formatting.timestamp(record_fields.since(info)) or "-",
        record_fields.lease(info),
        record_fields.waiters(info) if isinstance(record, RunningRecord) else "-",
        record_fields.expires(info),
        outcome,
    )


_COLUMNS = (
    "RECORD", "STATE", "REQUEST", "AGE", "SINCE", "LEASE", "WAITERS", "EXPIRES",
    "OWNER OR STATUS",
)  # fmt: skip
