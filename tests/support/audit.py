"""The second half of ``make audit``: known vulnerabilities of what is installed beside the package.

pip-audit succeeds even where its service knows none of the packages, as behind a mirror of PyPI.
That must not look as if none of them had a vulnerability.
"""

from __future__ import annotations

import json
import subprocess
import sys

NO_DATA = "NO VULNERABILITY DATA"
COMMAND = [
    sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--format=json",
    "--progress-spinner=off",
]  # fmt: skip


def report(printed: str, complaints: str) -> tuple[list[str], int]:
    """Return the lines to print and the exit code, from what pip-audit printed."""
    try:
        packages = json.loads(printed)["dependencies"]
    except ValueError:
        reason = (complaints.strip() or "it printed nothing").splitlines()[-1]
        return [f"{NO_DATA}: the advisory service cannot be reached. pip-audit: {reason}"], 0
    known = [package for package in packages if "vulns" in package]
    if not known:
        return [f"{NO_DATA}: the advisory service knows none of the {len(packages)} packages."], 0
    vulnerable = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version'}"
        for package in known
        for vulnerability in package["vulns"]
    ]
    unknown = [package["name"] for package in packages if package not in known]
    lines = [f"{len(known)} of {len(packages)} packages have been looked up."]
    if unknown:
        lines.append(f"{NO_DATA} of {', '.join(unknown)}")
    return [*lines, *(vulnerable or ["No vulnerability is known."])], int(bool(vulnerable))


if __name__ == "__main__":
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    lines, code = report(done.stdout, done.stderr)
    print("\n".join(lines))
    sys.exit(code)
