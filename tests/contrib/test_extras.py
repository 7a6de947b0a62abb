"""The extras: what is said where one is not installed."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = """
import importlib, sys

adapters = dict(prometheus="prometheus_client", opentelemetry="opentelemetry", apispec="apispec",
    sqlalchemy="sqlalchemy")
for module, package in adapters.items():
    sys.modules[package] = None
    try:
        importlib.import_module(f"flask_idempotent.contrib.{module}")
    except ImportError as error:
        assert f"pip install 'flask-idempotent[{module}]'" in str(error), error
    else:
        raise AssertionError(module)
"""


def test_missing() -> None:
    """An extra that is missing is named, with the command that installs it."""
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)
