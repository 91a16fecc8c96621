"""Known vulnerabilities of what is installed here: ``python .ci/audit.py``. The last line printed is the result.

Exit code 1 if there is one that ``audit-allowed`` does not name; 0 otherwise, and 0 where nobody could be asked: the line then says
``audit: NOT AUDITED``. What the service does not know, such as a build with a version of its own, is named and not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALLOWED = Path(__file__).with_name("audit-allowed")
COMMAND = (sys.executable, "-m", "pip_audit", "--format", "json", "--skip-editable", "--progress-spinner", "off", "--timeout", "15")
_TIMEOUT_S = 600


@dataclass(frozen=True)
class Result:
    """What an audit found, as lines of which the last is the result, and the exit code."""

    lines: Sequence[str]
    code: int


def allowed(text: str) -> Mapping[str, str]:
    """Identifier -> reason. ``ValueError`` if an entry has no reason."""
    entries = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.strip().partition(" ")
            if not reason.strip():
                raise ValueError(f"{ALLOWED.name}: {name} is allowed without a reason: write one behind it")
            entries[name] = reason.strip()
    return entries


def judged(stdout: str, stderr: str, known: Mapping[str, str]) -> Result:
    """The result of a run of pip-audit with JSON output."""
    try:
        packages: list[dict[str, Any]] = json.loads(stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        said = [line for line in stderr.splitlines() if line.strip()] or ["it says nothing"]
        return Result((f"audit: NOT AUDITED: pip-audit gives no result: {said[-1][:300]}",), 0)
    asked = [package for package in packages if "vulns" in package]
    # Not found is what a service answers that has no such answers at all: then nobody has looked.
    unknown = sorted(str(package["name"]) for package in packages if "vulns" not in package and not _editable(package))
    if not asked:
        return Result(
            (f"audit: NOT AUDITED: the vulnerability service knows none of {len(unknown)} packages, or cannot be reached",), 0
        )
    lines, found, passed = list[str](), 0, set[str]()
    for package in asked:
        for flaw in package["vulns"]:
            names = {flaw["id"], *flaw.get("aliases", ())}
            if excused := names & known.keys():
                passed |= excused
                continue
            found += 1
            remedy = " or ".join(flaw["fix_versions"]) or "no version"
            lines.append(f"    {package['name']} {package['version']}: {flaw['id']}, mended in {remedy}")
    lines += [f"    not found any more, remove it from {ALLOWED.name}: {name}" for name in sorted(known.keys() - passed)]
    if unknown:
        lines.append(f"    NOT AUDITED, unknown to the service: {', '.join(unknown)}")
    counts = f"{len(asked)} packages audited, {len(unknown)} not; {found} vulnerabilities, {len(passed)} more allowed with a reason"
    return Result((*lines, f"audit: {counts}"), 1 if found else 0)


def _editable(package: Mapping[str, Any]) -> bool:
    return "editable" in str(package.get("skip_reason", ""))


def main() -> int:
    known = allowed(ALLOWED.read_text())
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
        result = judged(done.stdout, done.stderr, known)
    except subprocess.TimeoutExpired:
        result = Result((f"audit: NOT AUDITED: no answer within {_TIMEOUT_S} s",), 0)
    for line in result.lines:
        print(line)
    return result.code


if __name__ == "__main__":
    sys.exit(main())
