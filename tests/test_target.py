"""Targets are data that is checked, and a model that does not fit is found before anything is made."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edge_tse.artifact import Artifact
from edge_tse.cli import main
from edge_tse.cli import targets as shown
from edge_tse.deployment import runtime
from edge_tse.deployment.arena import plan
from edge_tse.deployment.fit import fits
from edge_tse.deployment.offers import lacking, load_offers
from edge_tse.deployment.runtime import Emitted
from edge_tse.deployment.target import CONTENTS, Region, Target, find_target, load_target, targets
from edge_tse.errors import TargetError
from edge_tse.graph import IntegerGraph
from edge_tse.install_line import install_line
from edge_tse.operators import node_inputs
from firmware_bridge.codegen import plan_memory
from targets import tflite
from tests import graphs

REQUIRED = {
    "alif-e7",
    "alif-e7-hp",
    "android-arm64",
    "apollo510",
    "ethos-u55-128",
    "ethos-u55-256",
    "ethos-u65-256",
    "ethos-u85-256",
    "host",
    "ios-arm64",
    "linux-aarch64",
    "nrf5340",
    "phone-arm64",
    "qemu-aarch64",
    "qemu-mps2-an386",
    "qemu-mps2-an500",
    "qemu-mps3-an547",
    "stm32h7",
    "stm32h743",
}

SOURCE = "latency_budget_ms = 'a paper'"
MINIMAL = f"""
description = "a board"
core = "a core"
isa = "an instruction set"
runtime = "litert"
link = "uart"
flasher = "pyocd"
meter = "clock"
latency_budget_ms = 10
evidence = "untested"
[sources]
{SOURCE}
"""
MEMORY = """
[[memory]]
name = "ram"
size_bytes = 1000
holds = ["code", "weights", "arena", "state"]
source = "a datasheet"
"""


@pytest.fixture(scope="module")
def small() -> Artifact:
    return graphs.artifact(graphs.SMALL, frames=1)


def region(name: str, size_bytes: int, *holds: str) -> Region:
    return Region(name=name, size_bytes=size_bytes, holds=holds, source="a datasheet")


class TestBoards:
    def test_all_are_there(self) -> None:
        assert set(targets()) >= REQUIRED

    @pytest.mark.parametrize("name", sorted(REQUIRED))
    def test_each_is_whole(self, name: str) -> None:
        target = load_target(name)
        assert target.name == name
        assert (target.vela is not None) == (target.runtime == "vela")
        assert (target.toolchain is not None) or target.runtime != "native-c"
        assert all(len(source) > 12 for source in target.sources.values())
        assert all(len(place.source) > 12 for place in target.memory)

    def test_only_this_machine_claims_hardware(self) -> None:
        assert [name for name in targets() if load_target(name).evidence == "hardware"] == ["host"]
        assert all(load_target(name).evidence == "emulated" for name in targets() if name.startswith("qemu-"))
        assert all(load_target(name).evidence == "estimate" for name in targets() if name.startswith("ethos-"))

    def test_an_emulator_has_no_clock(self) -> None:
        """It executes instructions, not time: a budget of cycles would mean nothing."""
        assert [name for name in targets() if name.startswith("qemu-") and load_target(name).clock_hz is not None] == []

    def test_addresses_do_not_overlap(self) -> None:
        for name in targets():
            spans = sorted((r.origin, r.origin + r.size_bytes) for r in load_target(name).memory if r.origin is not None)
            assert all(end <= start for (_, end), (start, _) in pairwise(spans)), name

    def test_the_name_of_a_runtime_is_this_machine_with_it(self) -> None:
        for name in load_offers():
            alone = replace(load_target("host"), name=name, runtime=name, description=load_offers()[name].description)
            assert find_target(name) == alone

    def test_boards_travel_with_the_package(self) -> None:
        project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
        assert "boards/*.toml" in project["tool"]["setuptools"]["package-data"]["targets"]
        assert (resources.files("targets") / "boards" / "host.toml").is_file()


RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
COUNTED_ON = {
    "Cortex-M55": "Cortex-M55, Helium",
    "Cortex-M7": "Cortex-M7",
    "Cortex-M33": "Cortex-M4",
    "Cortex-A72": "aarch64, without dot product",
}
"""The row of ``benchmarks.firmware`` that stands for a core."""


def counted(model: str) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((RESULTS / f"firmware-{model}.json").read_text())["figures"]
    return figures


class TestCountedFigures:
    """What boards say was counted here is what was counted, of the models that are shipped now."""

    @pytest.mark.parametrize(
        "name", [name for name in targets() if "counted under QEMU" in load_target(name).sources.get("macs_per_cycle", "")]
    )
    def test_rate_of_a_core(self, name: str) -> None:
        target = load_target(name)
        said = re.search(r"([\d,]+) MACs of `(\w+)` and .* in ([\d,]+) instructions", target.sources["macs_per_cycle"])
        assert said is not None
        macs, model, instructions = int(said[1].replace(",", "")), said[2], int(said[3].replace(",", ""))
        assert macs == Artifact.find(Path(model)).graph.macs == counted(model)["macs_per_hop"]
        assert instructions == counted(model)["cores"][COUNTED_ON[target.core]]["instructions_per_hop"]
        cycles = instructions * (2 if "two cycles each" in target.sources["macs_per_cycle"] else 1)
        assert target.macs_per_cycle == pytest.approx(macs / cycles, abs=0.011)

    @pytest.mark.parametrize("name", [name for name in targets() if load_target(name).code_bytes is not None])
    def test_size_of_the_program(self, name: str) -> None:
        target = load_target(name)
        said = re.search(
            r"([\d,]+) to ([\d,]+) bytes on M55, M7 and M4 .* up to ([\d,]+) with the server", target.sources["code_bytes"]
        )
        assert said is not None
        sizes = [
            core["sections"][".text"] + core["sections"][".rodata"]
            for model in ("small", "nano")
            for title, core in counted(model)["cores"].items()
            if "sections" in core and "portable" not in title
        ]
        least, most, server = (int(number.replace(",", "")) for number in said.groups())
        assert (least, most) == (min(sizes), max(sizes))
        assert most < server <= (target.code_bytes or 0)


class TestSchema:
    def load(self, tmp_path: Path, text: str) -> Target:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return load_target(str(path))

    def test_a_file_of_ones_own(self, tmp_path: Path) -> None:
        target = self.load(tmp_path, MINIMAL + MEMORY)
        assert (target.name, target.latency_budget_ms, target.memory[0].holds) == ("mine", 10.0, CONTENTS)
        assert isinstance(target.latency_budget_ms, float)

    @pytest.mark.parametrize(
        ("old", "new", "complaint"),
        [
            ("core =", "croe =", "unknown key 'croe': nearest is 'core'"),
            ("latency_budget_ms = 10", "latency_budget = 10", "unknown key 'latency_budget': nearest is 'latency_budget_ms'"),
            ('core = "a core"', "", "core missing"),
            ('core = "a core"', "core = 7", "core: str is needed, not 7 (int)"),
            ("latency_budget_ms = 10", "latency_budget_ms = true", "latency_budget_ms: float is needed, not True (bool)"),
            ("latency_budget_ms = 10", "latency_budget_ms = -1", "latency_budget_ms is -1.0: it must be positive"),
            ('"litert"', '"litter"', "unknown runtime 'litter': nearest is 'litert'"),
            ('"untested"', '"tested"', "unknown evidence 'tested': nearest is 'untested'"),
            ('"pyocd"', '"pyocdd"', "unknown flasher 'pyocdd': nearest is 'pyocd'"),
            (SOURCE, "", "no source for latency_budget_ms"),
            (SOURCE, f"{SOURCE}\nclock_hz = 'x'", "unknown source 'clock_hz'"),
            ("[sources]", "clock_hz = 1e6\n[sources]", "no source for clock_hz"),
            ('["code", "weights", "arena", "state"]', "3", "memory[0]: holds: an array is needed, not 3 (int)"),
            ("[sources]", "toolchain = 3\n[sources]", "toolchain: a table is needed, not 3 (int)"),
            (f"[sources]\n{SOURCE}", "sources = 3", "sources: a table is needed, not 3 (int)"),
            ("[sources]", "[toolchain]\ncompiler = 'zig'\n[sources]", "toolchain: triple missing"),
            ("size_bytes", "size", "memory[0]: unknown key 'size': nearest is 'size_bytes'"),
            ("1000", "0", "memory ram has 0 bytes"),
            ("1000", "1000.0", "memory[0]: size_bytes: int is needed, not 1000.0 (float)"),
            ('"arena"', '"arenas"', "unknown content 'arenas': nearest is 'arena'"),
            ('"arena", ', "", "no memory holds arena"),
            ('source = "a datasheet"', "", "memory[0]: source missing"),
            ("[[memory]]", MEMORY + "[[memory]]", "two memories have one name"),
            ("core =", "core", "mine.toml"),
        ],
    )
    def test_mistakes_are_one_line_that_names_them(self, tmp_path: Path, old: str, new: str, complaint: str) -> None:
        text = MINIMAL + MEMORY
        assert old in text
        with pytest.raises(TargetError) as caught:
            self.load(tmp_path, text.replace(old, new, 1))
        assert complaint in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "mine.toml" in str(caught.value)

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(TargetError, match="cannot read target"):
            load_target(str(tmp_path / "none.toml"))
        (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
        with pytest.raises(TargetError, match="this is not TOML: 'utf-8' codec"):
            load_target(str(tmp_path / "binary.toml"))

    def test_an_unknown_name_comes_with_the_known_and_the_nearest(self) -> None:
        with pytest.raises(TargetError, match=r"unknown target 'cortex-m4': one of .*, stm32h743$"):
            load_target("cortex-m4")  # nothing is near
        with pytest.raises(TargetError, match=r"unknown target 'stm32h8': one of litert, .*alif-e7.*: nearest is 'stm32h7'"):
            find_target("stm32h8")
        with pytest.raises(TargetError, match=r"unknown target 'litetr': .*: nearest is 'litert'"):
            find_target("litetr")


class TestArena:
    def alive(self, graph: IntegerGraph) -> dict[str, set[int]]:
        """Written out step by step, as a witness: at which nodes each tensor must exist."""
        n = len(graph.nodes)
        uses: dict[str, list[int]] = {name: [-1] for name in (*graph.inputs, *(s.input for s in graph.states))}
        for i, node in enumerate(graph.nodes):
            for name in (*node_inputs(node), node.output):
                uses.setdefault(name, []).append(i)
        for name in (*graph.outputs, *(s.output for s in graph.states)):
            uses[name].append(n)
        return {name: set(range(min(at), max(at) + 1)) for name, at in uses.items()}

    @pytest.mark.parametrize("sizes", [graphs.TINY, graphs.NANO, graphs.SMALL], ids=["tiny", "nano", "small"])
    def test_nothing_alive_is_overwritten(self, sizes: graphs.Sizes) -> None:
        graph = graphs.student(sizes)
        arena, alive = plan(graph), self.alive(graph)
        assert set(arena.offsets) == set(graph.tensors)
        spans = {n: (o, o + graph.tensors[n].frames * graph.tensors[n].channels) for n, o in arena.offsets.items()}
        names = list(spans)
        for i, left in enumerate(names):
            for right in names[:i]:
                if alive[left] & alive[right]:
                    assert spans[left][1] <= spans[right][0] or spans[right][1] <= spans[left][0], (left, right)
        assert max(end for _, end in spans.values()) <= arena.size_bytes
        assert all(offset % 16 == 0 for offset in arena.offsets.values())
        assert arena.lower_bound_bytes <= arena.size_bytes <= 1.2 * arena.lower_bound_bytes

    def test_it_shares_memory(self) -> None:
        graph = graphs.student(graphs.SMALL)
        everything = sum(t.frames * t.channels for t in graph.tensors.values())
        assert graph.state_bytes < plan(graph).size_bytes < everything / 1.5

    @pytest.mark.parametrize("sizes", [graphs.NANO, graphs.SMALL], ids=["nano", "small"])
    def test_it_is_what_tflite_micro_plans(self, sizes: graphs.Sizes) -> None:
        pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
        from edge_tse.engines.tflm import arena

        graph = graphs.student(sizes)
        reported = arena(tflite.emit(graph, {}))
        assert reported.head_bytes == plan(graph).size_bytes
        assert reported.total_bytes > reported.head_bytes  # its bookkeeping is not planned


class TestFit:
    def target(self, *memory: Region, **figures: float) -> Target:
        sources = dict.fromkeys([*figures, "latency_budget_ms"], "a datasheet")
        return replace(load_target("host"), name="board", memory=memory, sources=sources, **figures)

    def test_contents_go_where_they_may(self, small: Artifact) -> None:
        fit = fits(load_target("stm32h7"), small)
        assert fit.placed["weights"] == "flash"
        assert fit.placed["arena"] in {"dtcm", "axi-sram"}
        flash = next(row for row in fit.rows if row.what == "flash")
        assert (flash.need, flash.have, flash.fits) == (fit.needs_bytes["weights"] + fit.needs_bytes["code"], 2 * 2**20, True)

    def test_needs_are_what_the_runtime_plans(self, small: Artifact) -> None:
        graph = small.graph
        from_file = {"weights": graph.weight_bytes, "arena": plan(graph).size_bytes, "state": graph.state_bytes}
        assert fits(load_target("ethos-u55-128"), small).needs_bytes == from_file
        memory = plan_memory(small)
        in_c = {"weights": memory.weights + memory.tables, "arena": memory.arena + memory.voice, "state": memory.state}
        board = load_target("stm32h7")
        assert fits(board, small).needs_bytes == {**in_c, "code": board.code_bytes}
        assert in_c["arena"] < from_file["arena"] / 3  # states are read where they are

    def test_a_full_region_sends_the_next_elsewhere(self, small: Artifact) -> None:
        arena, state = plan(small.graph).size_bytes, small.graph.state_bytes
        rest = region("flash", 2**24, "weights", "code")
        two = (region("fast", arena, "arena", "state"), region("slow", 2**20, "arena", "state"), rest)
        fit = fits(self.target(*two), small)
        assert fit.fits
        assert (fit.placed["arena"], fit.placed["state"]) == ("fast", "slow")
        exact = (region("fast", state, "arena", "state"), region("slow", arena, "arena", "state"), rest)
        assert fits(self.target(*exact), small).placed == {"weights": "flash", "arena": "slow", "state": "fast"}

    def test_what_is_too_small_is_named_with_both_numbers(self, small: Artifact) -> None:
        fit = fits(self.target(region("ram", 1000, *CONTENTS)), small)
        assert not fit.fits
        need = small.graph.weight_bytes + plan(small.graph).size_bytes + small.graph.state_bytes
        with pytest.raises(TargetError, match=rf"does not fit board: ram needs {need:,} B, has 1,000: take a smaller model"):
            fit.check()

    def test_the_file_counts_once_it_is_made(self, small: Artifact) -> None:
        ram = region("ram", small.graph.weight_bytes + plan(small.graph).size_bytes + small.graph.state_bytes, *CONTENTS)
        assert fits(self.target(ram), small).fits
        grown = Emitted(content=b"", kind="file", needs_bytes={"weights": small.graph.weight_bytes + 1})
        assert not fits(self.target(ram), small, grown).fits

    def test_a_step_that_is_estimated_too_long_does_not_fit(self, small: Artifact) -> None:
        for spent_ms, enough in ((3.9, True), (4.1, False)):
            made = Emitted(content=b"", kind="file", estimate={"tool": "a tool", "inference_ms": spent_ms})
            fit = fits(self.target(), small, made)
            assert fit.fits is enough
            assert next(row for row in fit.rows if row.what == "step").detail == "a tool's estimate"

    def test_code_counts_where_it_is_known(self, small: Artifact) -> None:
        fit = fits(self.target(region("ram", 2**24, *CONTENTS), code_bytes=5000), small)
        assert fit.needs_bytes["code"] == 5000
        assert fit.placed["code"] == "ram"

    def test_compute_budget_is_clock_times_hop_times_rate(self, small: Artifact) -> None:
        cycles = small.frame.period_s * 100e6
        enough = fits(self.target(clock_hz=100e6, macs_per_cycle=small.graph.macs / cycles * 1.01), small)
        short = fits(self.target(clock_hz=100e6, macs_per_cycle=small.graph.macs / cycles * 0.99), small)
        assert (enough.fits, short.fits) == (True, False)
        with pytest.raises(TargetError, match="compute needs"):
            short.check()

    def test_weights_are_read_once_a_hop(self, small: Artifact) -> None:
        """The bound of an NPU at one frame a step: weight bandwidth, not multiply-accumulates."""
        needed = small.graph.weight_bytes / small.frame.period_s
        for rate, enough in ((needed * 1.01, True), (needed * 0.99, False)):
            ram = replace(region("ram", 2**24, *CONTENTS), bytes_per_s=rate)
            fit = fits(self.target(ram), small)
            assert next(row for row in fit.rows if row.what == "weight traffic").fits is enough

    def test_what_is_not_stated_is_not_checked(self, small: Artifact) -> None:
        fit = fits(load_target("host"), small)
        assert fit.fits
        assert {row.what for row in fit.rows if row.fits is None} == {"weights", "arena", "state", "compute"}

    def test_latency(self, small: Artifact) -> None:
        with pytest.raises(TargetError, match="algorithmic latency needs 8 ms, has 7"):
            fits(replace(load_target("host"), latency_budget_ms=7.0), small).check()

    def test_the_shipped_model(self) -> None:
        model = Artifact.shipped()
        verdict = {name: fits(load_target(name), model).fits for name in targets()}
        assert verdict["stm32h7"]
        assert verdict["ethos-u55-128"]
        assert not verdict["nrf5340"]


class TestCommand:
    def test_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["targets"]) == 0
        out = capsys.readouterr().out
        assert [name for name in REQUIRED if name not in out] == []

    def test_list_as_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["targets", "--json"]) == 0
        listed = {t["name"]: t for t in json.loads(capsys.readouterr().out)["targets"]}
        assert set(listed) == set(targets())
        assert listed["host"]["here"]["emit"] == {"can": True, "detail": "targets.tflite"}
        assert all(set(t["here"]) == {"emit", "replay", "build", "flash"} for t in listed.values())

    def test_explained_with_every_source(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "300")
        assert main(["targets", "stm32h7"]) == 0
        out = capsys.readouterr().out
        target = load_target("stm32h7")
        for text in (*target.sources.values(), *(place.source for place in target.memory), target.core, "480 MHz", "0x24000000"):
            assert text in out

    def test_explained_as_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["targets", "ethos-u55-128", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["vela"]["accelerator"] == "ethos-u55-128"
        assert found["memory"][0]["name"] == "sram"

    def test_unknown(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["targets", "toaster"]) == 2
        assert "unknown target 'toaster'" in capsys.readouterr().err


class TestAbilities:
    def test_programs_are_looked_for_on_the_path(self) -> None:
        target = load_target("stm32h7")
        missing = shown.abilities(target, lambda program: None)["flash"]
        assert (missing.can, missing.detail) == (False, "install pyocd")
        assert shown.abilities(target, lambda program: f"/usr/bin/{program}")["flash"].can
        assert shown.abilities(load_target("host"), lambda program: None)["flash"].can is None

    def test_what_is_missing_comes_with_its_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (shown, runtime):
            monkeypatch.setattr(module, "lacking", lambda needs: tuple(n for n in needs if "." not in n))
        can = shown.abilities(load_target("host"), lambda program: None)
        assert (can["emit"].can, can["emit"].detail) == (False, install_line("litert"))
        assert (can["replay"].can, can["replay"].detail) == (False, install_line("litert"))

    def test_lacking_imports_nothing_and_survives_anything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert lacking(("json", "no_such_module", "no_such.module", "json.no_such")) == (
            "no_such_module",
            "no_such.module",
            "json.no_such",
        )
