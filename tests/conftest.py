"""Fixtures of several files."""

from __future__ import annotations

import pytest

from edge_tse.cli import main
from tests.command import Done, Run


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """``run(*arguments)``: a verb in this process, with what it printed."""

    def call(*arguments: object) -> Done:
        code = main([str(a) for a in arguments])
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return call
