"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from tests.benchmarks.load import generator
from tests.servers import Server

_PACKAGES = ("Flask", "Werkzeug", "redis", "hiredis", "msgpack", "gunicorn", "idemkit")


def facts(server: Server) -> dict[str, str]:
    """Machine and versions, by name."""
    info = server.client.info("server")
    kind = "valkey" if "valkey_version" in info else "redis"
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"{kind.capitalize()} {info[f'{kind}_version']}, on the same machine",
        "packages": ", ".join(filter(None, map(_version, _PACKAGES))),
        "load from": generator(),
    }


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
