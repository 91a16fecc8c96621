"""The real-time benchmark runs and writes what it says. Its figures are for the machine it runs on, and are not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import graphs

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(("engine", "ears"), [("litert", 2), ("reference", 1)])
def test_it_writes_a_report(tmp_path: Path, engine: str, ears: int) -> None:
    graphs.artifact(graphs.NANO, frames=4).save(tmp_path / "model.etse")
    options = ["--artifact", "model.etse", "--engine", engine, "--ears", str(ears), "--seconds", "2", "--to", "r.json"]
    command = [sys.executable, "-m", "benchmarks.realtime", *options]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    assert "real-time factor of extract" in done.stdout
    figures = json.loads((tmp_path / "r.json").read_text())["figures"]
    assert figures["step"]["hops"] == figures["network"]["hops"] == 250
    assert figures["step"]["p50_ms"] > figures["network"]["p50_ms"] > 0
    assert figures["extract_real_time_factor_wall"] > 0
    assert figures["extract_real_time_factor_cpu"] > 0
    assert (figures["network_split"] is not None) == (engine == "litert")
