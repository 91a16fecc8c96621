"""What a device loads: checked before it is made, replayed from its own bytes, and written whole or not at all."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_tse import golden
from edge_tse.artifact import Artifact
from edge_tse.deployment.compilation import compile_for, emit
from edge_tse.deployment.fit import fits
from edge_tse.deployment.offers import lacking, load_offers
from edge_tse.deployment.runtime import Emitted, HostEngine, Replay, Runtime, runtime_named
from edge_tse.deployment.target import Target, find_target, load_target
from edge_tse.engines import engines, open_network
from edge_tse.errors import EngineError, ParityError, TargetError
from edge_tse.graph import IntegerGraph, Pointwise, Tanh
from edge_tse.install_line import install_line
from edge_tse.reference import ReferenceNetwork
from edge_tse.voice import Voice, save_voice
from targets import tflite
from tests import graphs
from tests.command import Run

TIGHT = """
description = "as large as asked"
core = "a core"
isa = "an instruction set"
runtime = "litert"
link = "uart"
flasher = "none"
meter = "clock"
latency_budget_ms = 10
evidence = "untested"
[[memory]]
name = "flash"
size_bytes = {flash}
holds = ["code", "weights"]
source = "a datasheet"
[[memory]]
name = "ram"
size_bytes = {ram}
holds = ["arena", "state"]
source = "a datasheet"
[sources]
latency_budget_ms = "a paper"
"""

BOARDS = {"native-c": "qemu-mps3-an547", "vela": "ethos-u55-128"}
"""A runtime that needs a board to be anything."""


@pytest.fixture(scope="module")
def model() -> Artifact:
    return graphs.artifact(graphs.NANO, frames=20)


@pytest.fixture
def saved(model: Artifact, tmp_path: Path) -> Path:
    model.save(tmp_path / "model.etse")
    return tmp_path / "model.etse"


def able() -> list[str]:
    """Runtimes that can be emitted and replayed here, on this machine or, where a runtime is for a board, on its emulation."""
    return [
        name
        for name, each in ((name, runtime_named(name)) for name in load_offers())
        if not lacking((each.emitter, *each.needs)) and any(replay.available(board_of(name)) for replay in each.replays)
    ]


def board_of(runtime: str) -> Target:
    return load_target(BOARDS[runtime]) if runtime in BOARDS else find_target(runtime)


def test_litert_is_among_those_that_can_be_tried() -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    assert "litert" in able()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in {"litert", "onnx", "tflm"} else pytest.mark.slow) for name in able()]
)
def test_the_file_gives_the_golden_integers(model: Artifact, name: str, tmp_path: Path) -> None:
    target = board_of(name)
    to = tmp_path / f"model{runtime_named(name).suffixes(target)[0]}"
    made = compile_for(target, model, to)
    assert to.read_bytes() == made.emitted.content == emit(target, model).content
    assert made.parity.frames == 20
    if "weights" in made.emitted.needs_bytes:
        assert made.fit.needs_bytes["weights"] == to.stat().st_size


def test_a_board_gets_what_its_runtime_loads(run: Run, saved: Path, tmp_path: Path) -> None:
    done = run("compile", saved, "--target", "linux-aarch64", "-o", tmp_path / "a.tflite", "--json")
    assert done.code == 0, done
    assert run("compile", saved, "--target", "litert", "-o", tmp_path / "b.tflite").code == 0
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()
    found = json.loads(done.out)
    assert (found["runtime"], found["evidence"], found["replayed"]["worst_lsb"]) == ("litert", "untested", 0)
    assert found["fit"]["fits"] is True
    assert found["replayed"]["frames"] == 20


def test_for_people(run: Run, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = run("compile", saved, "--target", "linux-aarch64", "-o", tmp_path / "a.tflite")
    assert done.code == 0
    assert done.err == ""
    assert "20 golden frames on litert/xnnpack: worst 0 LSB" in done.out
    assert "fits" in done.out


def test_a_voice_is_folded_in_and_proved(run: Run, saved: Path, model: Artifact, tmp_path: Path) -> None:
    voice = Voice(embedding=graphs.embedding(), encoder_digest=model.voice_model.encoder_digest, created="", source="a clip")
    save_voice(voice, tmp_path / "a.voice")
    done = run("compile", saved, "--target", "host", "--voice", tmp_path / "a.voice", "-o", tmp_path / "a.tflite", "--json")
    assert done.code == 0, done
    found = json.loads(done.out)
    assert found["personalized"] is True
    replayed = {"engine": "litert/xnnpack", "what": "the file", "frames": 20, "worst_lsb": 0, "mismatch_rate": 0.0}
    assert found["replayed"] == replayed


class TestTooSmall:
    def tight(self, folder: Path, flash: int = 2**24, ram: int = 2**24) -> Path:
        path = folder / "tight.toml"
        path.write_text(TIGHT.format(flash=flash, ram=ram))
        return path

    def test_one_table_and_exit_code_2(self, run: Run, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        done = run("compile", saved, "--target", self.tight(tmp_path, ram=1000), "-o", tmp_path / "a.tflite")
        assert done.code == 2
        assert "DOES NOT FIT" in done.out
        assert done.err.count("\n") == 1
        assert "does not fit tight: ram needs" in done.err
        assert "has 1,000" in done.err
        assert not (tmp_path / "a.tflite").exists()

    def test_as_json(self, run: Run, saved: Path, tmp_path: Path) -> None:
        done = run("compile", saved, "--target", self.tight(tmp_path, ram=1000), "-o", tmp_path / "a.tflite", "--json")
        assert done.code == 2
        fit = json.loads(done.out)["fit"]
        assert fit["fits"] is False
        assert [row["what"] for row in fit["rows"] if row["fits"] is False] == ["ram"]

    def test_the_shipped_model_that_fits_is_named(self, run: Run, tmp_path: Path) -> None:
        target = tight = self.tight(tmp_path, flash=600_000)
        with tight.open("a") as file:
            file.write('clock_hz = "a datasheet"\nmacs_per_cycle = "a count"\n')
        tight.write_text(f"clock_hz = 128_000_000\nmacs_per_cycle = 0.5\n{tight.read_text()}")
        done = run("compile", "--target", target, "-o", tmp_path / "a.tflite")
        macs = Artifact.shipped("nano").graph.macs
        assert done.err.endswith(f": `nano` fits: {macs:,} of 256,000 MAC per hop\n")
        assert run("compile", "nano", "--target", target, "-o", tmp_path / "a.tflite").code == 0

    def test_no_shipped_model_fits(self, run: Run, tmp_path: Path) -> None:
        done = run("compile", "--target", self.tight(tmp_path, flash=1000), "-o", tmp_path / "a.tflite")
        assert re.search(r": no shipped model fits, `nano` needs [\d,]+ B of flash: take another target\n$", done.err)

    def test_before_anything_is_made(self, model: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*_: object) -> bytes:
            raise AssertionError("emitted")

        monkeypatch.setattr(tflite, "emit", never)
        with pytest.raises(TargetError, match="ram needs"):
            compile_for(load_target(str(self.tight(tmp_path, ram=1000))), model, tmp_path / "a.tflite")

    def test_a_file_larger_than_its_weights_is_found(self, model: Artifact, tmp_path: Path) -> None:
        target = load_target(str(self.tight(tmp_path, flash=model.graph.weight_bytes)))
        fits(target, model).check()
        with pytest.raises(TargetError, match="flash needs"):
            compile_for(target, model, tmp_path / "a.tflite")
        assert not (tmp_path / "a.tflite").exists()


class TestRefusals:
    def wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The emitter gets one bias wrong, by a tenth of what the layer can give."""
        right = tflite.emit

        def emit_wrong(graph: IntegerGraph, metadata: dict[str, str]) -> bytes:
            first = next(node for node in graph.nodes if isinstance(node, Pointwise))
            bias = (first.bias + np.int32(0.1 / (graph.tensors[first.input].scale * first.weight_scale[0]))).astype(np.int32)
            nodes = tuple(replace(node, bias=bias) if node is first else node for node in graph.nodes)
            return right(replace(graph, nodes=nodes), metadata)

        monkeypatch.setattr(tflite, "emit", emit_wrong)

    def test_other_integers_are_not_written(self, model: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wrong(monkeypatch)
        (tmp_path / "a.tflite").write_bytes(b"the old one")
        with pytest.raises(ParityError, match=r"litert/xnnpack: \w+ differs by \d+ LSB, 0 allowed"):
            compile_for(find_target("litert"), model, tmp_path / "a.tflite")
        assert (tmp_path / "a.tflite").read_bytes() == b"the old one"
        assert [path.name for path in tmp_path.iterdir()] == ["a.tflite"]

    @pytest.mark.parametrize(
        ("hidden", "needs"),
        [
            (("flatbuffers",), "flatbuffers is not installed"),
            (("ai_edge_litert", "tflite_runtime"), "nothing installed here can replay"),
        ],
    )
    def test_missing_packages(
        self, model: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: tuple[str, ...], needs: str
    ) -> None:
        for name in hidden:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(EngineError, match=needs) as caught:
            compile_for(find_target("litert"), model, tmp_path / "a.tflite")
        assert install_line("litert") in str(caught.value)
        assert not (tmp_path / "a.tflite").exists()

    def test_a_runtime_without_an_emitter(self, model: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(load_offers(), "litert", replace(runtime_named("litert"), emitter="targets.nothing"))
        with pytest.raises(TargetError, match="this build writes no file for runtime litert yet"):
            compile_for(load_target("linux-aarch64"), model, tmp_path / "a.tflite")

    def test_a_new_runtime_is_one_entry(self, model: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every verb goes by what a package states of it; its tolerance is in edge_tse/golden.py."""

        class Abacus(ReferenceNetwork):
            name = "abacus/beads"

        def opened(graph: IntegerGraph, content: bytes | None = None, **options: object) -> Abacus:
            return Abacus(graph)

        new = Runtime(
            description="Beads on wires",
            emitter="targets.runtimes",
            needs=(),
            extra="litert",
            engine="abacus",
            replays=(Replay(module="targets.runtimes", network=opened, needs=("numpy",), extra="litert"),),
            write=lambda artifact, target: Emitted(content=b"beads", kind="a drawing"),
            host=HostEngine(description="Beads", extra="", open=opened),
        )
        monkeypatch.setitem(load_offers(), "abacus", new)
        with pytest.raises(EngineError, match="engine abacus/beads states no tolerance"):
            compile_for(find_target("abacus"), model, tmp_path / "a.beads")
        monkeypatch.setitem(golden.TOLERANCE_LSB, "abacus/beads", 0)  # type: ignore[attr-defined]
        assert compile_for(find_target("abacus"), model, tmp_path / "a.beads").engine == "abacus/beads"
        assert (tmp_path / "a.beads").read_bytes() == b"beads"
        assert open_network(model, "abacus").name == "abacus/beads"
        assert engines()["abacus"].description == "Beads"

    def test_an_operator_that_the_runtime_lacks_is_named_with_its_layer(self, model: Artifact, tmp_path: Path) -> None:
        class Gru(Tanh):
            """New to every emitter."""

        nodes = tuple(Gru(**vars(node)) if isinstance(node, Tanh) else node for node in model.graph.nodes)
        strange = model.with_graph(replace(model.graph, nodes=nodes))
        with pytest.raises(TargetError, match=r"runtime litert has no operator Gru \(layer velocity.tanh\)"):
            compile_for(find_target("litert"), strange, tmp_path / "a.tflite")

    @pytest.mark.parametrize(
        ("target", "to", "name"),
        [
            ("litert", "a.bin", "a.tflite"),
            ("litert", "a.onnx", "a.tflite"),
            ("onnx", "alice.2", "alice.onnx"),
            ("stm32h7", "a.img", "a.zip"),
            ("qemu-mps3-an547", "a.zip", "a.img"),
        ],
    )
    def test_a_suffix_that_is_not_the_format(self, run: Run, saved: Path, tmp_path: Path, target: str, to: str, name: str) -> None:
        done = run("compile", saved, "--target", target, "-o", tmp_path / to)
        assert done.complaint.endswith(f"name it {name}\n")
        assert list(tmp_path.iterdir()) == [saved]

    def test_a_name_without_a_suffix_promises_nothing(self, run: Run, saved: Path, tmp_path: Path) -> None:
        assert run("compile", saved, "--target", "litert", "-o", tmp_path / "alice").code == 0

    @pytest.mark.parametrize("to", ["", "none/a.tflite"])
    def test_unwritable_outputs_are_found_first(self, run: Run, saved: Path, tmp_path: Path, to: str) -> None:
        done = run("compile", saved, "--target", "litert", "-o", tmp_path / to)
        assert done.code == 2
        assert done.err.count("\n") == 1

    def test_over_its_input(self, run: Run, saved: Path) -> None:
        before = saved.read_bytes()
        assert "is also the input" in run("compile", saved, "--target", "litert", "-o", saved).err
        assert saved.read_bytes() == before

    def test_over_its_target(self, run: Run, saved: Path, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text(TIGHT.format(flash=2**24, ram=2**24))
        assert "is also the input" in run("compile", saved, "--target", tmp_path / "mine.toml", "-o", tmp_path / "mine.toml").err

    def test_a_replay_class_that_is_not_there(self) -> None:
        with pytest.raises(EngineError, match="this build has no edge_tse"):
            replace(runtime_named("litert").replays[0], module="edge_tse.engines.nothing").load()


@pytest.mark.slow
class TestBoards:
    def test_a_board_without_start_up_code_gets_sources(self, model: Artifact, tmp_path: Path) -> None:
        pytest.importorskip("ziglang", reason="zig is not installed")
        made = compile_for(load_target("stm32h7"), model, tmp_path / "a.zip")
        assert made.emitted.kind == "archive of C sources"
        assert made.engine == "native/c99"
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            assert {"src/model.c", "src/model.h", "src/frame.c", "src/kernels.c", "src/etse.h"} <= set(archive.namelist())

    def test_an_npu_gets_vela_and_its_estimate(self, run: Run, saved: Path, tmp_path: Path) -> None:
        pytest.importorskip("ethosu", reason="Vela is not installed")
        done = run("compile", saved, "--target", "ethos-u55-128", "-o", tmp_path / "a.tflite", "--json")
        assert done.code == 0, done
        found = json.loads(done.out)
        estimate = found["estimate"]
        assert (estimate["evidence"], estimate["operators_on_cpu"]) == ("estimate", 0)
        assert found["fit"]["needs_bytes"]["arena"] == estimate["sram_bytes"]
        assert estimate["inference_ms"] == pytest.approx(estimate["cycles"] / 500e6 * 1e3)
        assert sum(layer["share"] for layer in estimate["layers"]) == pytest.approx(1, abs=0.02)
        assert found["replayed"]["what"].startswith("the .tflite that Vela was given")

    def test_an_estimate_is_at_the_clock_of_the_board(self, model: Artifact, tmp_path: Path) -> None:
        pytest.importorskip("ethosu", reason="Vela is not installed")
        board, generic = (emit(load_target(name), model).estimate for name in ("alif-e7", "ethos-u55-256"))
        assert board["cycles"] == generic["cycles"]
        assert board["inference_ms"] == pytest.approx(generic["inference_ms"] * 500 / 400)

    def test_an_npu_needs_to_be_stated(self, model: Artifact, tmp_path: Path) -> None:
        pytest.importorskip("ethosu", reason="Vela is not installed")
        with pytest.raises(TargetError, match=r"target vela states no NPU: choose one with a \[vela\] table"):
            compile_for(find_target("vela"), model, tmp_path / "a.tflite")


def test_a_voice_patch_needs_a_voice_a_place_and_a_runtime(run: Run, saved: Path, model: Artifact, tmp_path: Path) -> None:
    to, patch = tmp_path / "a.zip", tmp_path / "a.etsv"
    save_voice(graphs.voice(model.voice_model), tmp_path / "a.voice")
    voice = ("--voice", tmp_path / "a.voice")
    assert "give --voice" in run("compile", saved, "--target", "nrf5340", "-o", to, "--patch", patch).complaint
    for other in (to, tmp_path / "a.zip.etse", tmp_path / "bill"):  # the file, its record, and what it is made of
        words = ("compile", saved, "--target", "nrf5340", "-o", to, "--sbom", tmp_path / "bill", "--patch", other, *voice)
        assert f"{other} was given for two different outputs" in run(*words).complaint
    assert (
        "has no voice patches"
        in run("compile", saved, "--target", "litert", "-o", tmp_path / "a.tflite", "--patch", patch, *voice).complaint
    )
    assert not to.exists()
    assert not patch.exists()
