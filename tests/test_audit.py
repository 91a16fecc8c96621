"""The audit of dependencies: what is known is red, and what nobody could look up is never green."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parent.parent / ".ci" / "audit.py"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    """The program in ``.ci``, which is no package."""
    spec = importlib.util.spec_from_file_location("audit", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit"] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


GOOD = {"name": "numpy", "version": "2.1.3", "vulns": []}
BAD = {
    "name": "idna",
    "version": "2.7",
    "vulns": [{"id": "PYSEC-2024-60", "fix_versions": ["3.7"], "aliases": ["CVE-2024-3651"], "description": ""}],
}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.13.0+cpu)"}
EDITABLE = {"name": "edge-tse", "skip_reason": "distribution marked as editable"}


def said(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_nothing_known_is_green(audit: ModuleType) -> None:
    result = audit.judged(said(GOOD, EDITABLE), "", {})
    assert (result.code, result.lines) == (
        0,
        ("audit: 1 packages audited, 0 not; 0 vulnerabilities, 0 more allowed with a reason",),
    )


def test_a_known_one_is_red_and_named(audit: ModuleType) -> None:
    result = audit.judged(said(GOOD, BAD), "", {})
    assert result.code == 1
    assert result.lines[0] == "    idna 2.7: PYSEC-2024-60, mended in 3.7"
    assert result.lines[-1].startswith("audit: 2 packages audited, 0 not; 1 vulnerabilities")


@pytest.mark.parametrize("name", ["PYSEC-2024-60", "CVE-2024-3651"])
def test_one_that_is_allowed_is_counted(audit: ModuleType, name: str) -> None:
    result = audit.judged(said(BAD), "", {name: "we give it no host names"})
    assert result.code == 0
    assert result.lines == ("audit: 1 packages audited, 0 not; 0 vulnerabilities, 1 more allowed with a reason",)


def test_one_that_is_allowed_and_gone_is_said(audit: ModuleType) -> None:
    result = audit.judged(said(GOOD), "", {"CVE-1": "old"})
    assert result.lines[0] == "    not found any more, remove it from audit-allowed: CVE-1"


def test_what_the_service_does_not_know_is_named(audit: ModuleType) -> None:
    result = audit.judged(said(GOOD, UNKNOWN), "", {})
    assert result.code == 0
    assert result.lines[0] == "    NOT AUDITED, unknown to the service: torch"
    assert "1 packages audited, 1 not" in result.lines[-1]


@pytest.mark.parametrize(
    ("stdout", "stderr"),
    [
        ("", "Traceback\nrequests.exceptions.ConnectionError: nobody there\n"),
        ("", ""),
        ("[]", ""),
        (said(UNKNOWN, EDITABLE), "No known vulnerabilities found"),
        (said(), "No known vulnerabilities found"),
    ],
)
def test_no_answer_is_not_green(audit: ModuleType, stdout: str, stderr: str) -> None:
    result = audit.judged(stdout, stderr, {})
    assert result.code == 0
    assert len(result.lines) == 1
    assert result.lines[0].startswith("audit: NOT AUDITED: ")


def test_what_is_allowed_has_reasons(audit: ModuleType) -> None:
    assert audit.allowed("# note\n\nCVE-1 because\n") == {"CVE-1": "because"}
    with pytest.raises(ValueError, match="CVE-2 is allowed without a reason"):
        audit.allowed("CVE-2\n")
    audit.allowed(audit.ALLOWED.read_text())
