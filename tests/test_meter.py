"""Instructions of a hop on a target's kind of core: counted, not timed, and modelled only where it says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_tse.deployment.target import load_target
from edge_tse.errors import TargetError
from tests import graphs
from tests.command import Run

pytest.importorskip("ziglang", reason="needs edge-tse[firmware]")
if shutil.which("qemu-system-arm") is None:
    pytest.skip("needs qemu-system-arm: apt-get install qemu-system-arm", allow_module_level=True)

from firmware_bridge.meter import count_hop, emulated_core

ARTIFACT = graphs.artifact(graphs.TINY)


def test_a_count_is_exact_and_adds_up() -> None:
    target = load_target("qemu-mps3-an547")
    first, again = (count_hop(ARTIFACT, target, 2) for _ in range(2))
    assert first == again
    functions = first["functions"]
    assert isinstance(functions, dict)
    assert sum(functions.values()) == pytest.approx(first["instructions_per_hop"], rel=0.01)
    assert 0 < first["instructions_network"] < first["instructions_per_hop"]
    assert count_hop(ARTIFACT, target, 1)["instructions_per_hop"] < first["instructions_per_hop"]
    assert first["evidence"] == "emulated"
    assert first["deadline"] is None  # an emulator has no clock


def test_a_deadline_is_modelled_from_the_targets_clock() -> None:
    target = load_target("stm32h7")
    found = count_hop(ARTIFACT, target, 2)
    deadline = found["deadline"]
    assert isinstance(deadline, dict)
    assert deadline["evidence"].startswith("modelled")
    assert target.clock_hz is not None
    assert deadline["cycles_per_hop"] == target.clock_hz * ARTIFACT.frame.period_s
    assert deadline["share"] == pytest.approx(found["instructions_per_hop"] / deadline["cycles_per_hop"])


def test_a_core_that_nothing_emulates() -> None:
    target = load_target("nrf5340")
    assert emulated_core(target) is None
    with pytest.raises(TargetError, match=r"no emulator here has a Cortex-M33: instructions are counted for .*Cortex-M55"):
        count_hop(ARTIFACT, target, 2)


def test_it_is_in_the_profile(run: Run, tmp_path: Path) -> None:
    ARTIFACT.save(tmp_path / "model.etse")
    done = run("profile", tmp_path / "model.etse", "--target", "stm32h7", "--hops", "10", "-o", tmp_path / "p.html", "--json")
    counted = done.json["figures"]["counted"]
    assert counted["core"] == "qemu-mps2-an500"
    page = (tmp_path / "p.html").read_text()
    assert "Instructions of a hop" in page
    assert f"{counted['instructions_per_hop']:,}" in page
    assert "modelled" in page
    without = run("profile", tmp_path / "model.etse", "--target", "nrf5340", "--hops", "10")
    assert "no emulator here has a Cortex-M33" in " ".join(without.out.split())
