"""Integer graph to C text: the same every time, nothing hidden in it, and a memory plan that holds."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tse.artifact import Artifact
from edge_tse.deployment.arena import Buffer, place
from edge_tse.errors import ArtifactError, TargetError
from edge_tse.frame import FrameSpec
from edge_tse.graph import Add, Append, IntegerGraph, Pointwise, State, Tail, Tensor
from edge_tse.personalization import personalize
from edge_tse.voice import Voice
from firmware_bridge import front_end
from firmware_bridge.build import INCLUDES, build_program, c_source, shared_library
from firmware_bridge.c_source import array, real
from firmware_bridge.codegen import generate, generate_network, pack_pointwise, plan_memory, voice_patch
from firmware_bridge.cores import CORES, Core, LinkerRegion, linker_script
from tests import graphs

ZIG = "compiling C needs ziglang: pip install '.[firmware]'"


def voice_of(artifact: Artifact, seed: int = 0) -> Voice:
    return Voice(embedding=graphs.embedding(seed), encoder_digest=artifact.voice_model.encoder_digest, created="", source="")


def test_equal_models_give_equal_text() -> None:
    one, same, other = graphs.artifact(), graphs.artifact(), graphs.artifact(seed=1)
    assert generate(one) == generate(same)
    assert generate(one)["model.c"] != generate(other)["model.c"]
    assert sorted(generate(one)) == ["frame.c", "model.c", "model.h"]


def test_no_heap_and_no_history_copied() -> None:
    text = generate(graphs.artifact(graphs.NANO))["model.c"]
    assert not re.search(r"\b(malloc|calloc|realloc|free|alloca)\b", text)
    # In and out are copied; between them, a delay line is written where it stays.
    assert len(re.findall(r"\bmemcpy\(", text)) == 3
    assert "Append" not in text


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(1, 40)), max_size=25))
def test_no_two_living_buffers_overlap(rows: list[tuple[int, int, int]]) -> None:
    buffers = [Buffer(f"b{i}", first, first + length, 16 * size) for i, (first, length, size) in enumerate(rows)]
    offsets, total = place(buffers)
    for i, a in enumerate(buffers):
        assert offsets[a.name] % 16 == 0
        assert offsets[a.name] + a.size <= total
        for b in buffers[:i]:
            apart = a.last < b.first or b.last < a.first
            beside = offsets[a.name] + a.size <= offsets[b.name] or offsets[b.name] + b.size <= offsets[a.name]
            assert apart or beside
    busiest = max((sum(b.size for b in buffers if b.first <= t <= b.last) for t in range(20)), default=0)
    assert busiest <= total <= sum(b.size for b in buffers)


@pytest.mark.parametrize("sizes", [graphs.NANO, graphs.BEAM], ids=["plain", "beam"])
def test_memory_is_what_the_linker_finds(sizes: graphs.Sizes, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason=ZIG)
    artifact = graphs.artifact(sizes)
    memory = plan_memory(artifact)
    image = build_program(generate(artifact), CORES["qemu-mps3-an547"], tmp_path / "image.elf")
    assert image.sections[".weights"] == memory.weights == artifact.graph.weights
    assert image.sections[".voice"] == memory.voice == 8 * sum(graphs.NANO.slots.values())
    assert image.sections[".arena"] == memory.arena
    frame = artifact.frame
    spectra = 2 * frame.ears * frame.bins * 4
    samples = frame.ears * (2 * frame.window + 4 * frame.hop)
    assert 0 <= image.sections[".state"] - (memory.state + spectra + samples) < 256
    # One row more than the history of each delay line: the newest stands beside the oldest for the time of a step.
    rows = sum(artifact.graph.tensors[s.input].channels for s in artifact.graph.states)
    assert memory.state == artifact.graph.state_bytes + rows + front_end.beam_bytes(frame)
    assert image.stored_bytes == sum(size for name, size in image.sections.items() if name not in {".stack", ".bss", *OWN})
    assert image.memory_bytes == sum(image.sections[name] for name in (".data", ".stack", ".bss", *OWN))


OWN = (".state", ".arena", ".voice")


def test_a_model_that_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason=ZIG)
    core = CORES["qemu-mps2-an386"]
    small = replace(core, regions=(LinkerRegion(name="FLASH", origin=0, size_bytes=4096), core.regions[1]))
    with pytest.raises(TargetError, match=r"will not fit in region 'FLASH': overflowed by \d+ bytes"):
        build_program(generate(graphs.artifact()), small, tmp_path / "image.elf")
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_is_missing_or_refuses_says_so(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no-such-compiler does not run"):
        shared_library({"model.h": ""}, tmp_path / "x.so", compiler=("no-such-compiler",))
    pytest.importorskip("ziglang", reason=ZIG)
    with pytest.raises(TargetError, match=r"refuses the firmware: generated/model\.c:1:\d+: .*error"):
        shared_library({"model.h": "", "model.c": "this is not C;"}, tmp_path / "x.so")
    assert list(tmp_path.iterdir()) == []


def test_linker_script_puts_parts_into_their_regions() -> None:
    core = Core(
        name="board",
        zig=(),
        regions=(
            LinkerRegion(name="A", origin=0, size_bytes=1),
            LinkerRegion(name="B", origin=16, size_bytes=2),
            LinkerRegion(name="C", origin=99, size_bytes=3),
        ),
        code="A",
        weights="B",
        memory="C",
    )
    lines = linker_script(core).splitlines()
    for part, region in {".text": "A", ".tables": "A", ".weights": "B", ".state": "C", ".stack": "C", ".voice": "C"}.items():
        assert [line.rsplit(">", 1)[1] for line in lines if line.strip().startswith(f"{part} ")] == [region]


def test_weights_in_the_order_of_the_kernels() -> None:
    weight = np.arange(6 * 20, dtype=np.int8).reshape(6, 20)
    packed = pack_pointwise(weight)
    assert packed.shape == (2, 2, 4, 16)
    for o in range(8):
        for i in range(32):
            assert packed[o // 4, i // 16, o % 4, i % 16] == (weight[o, i] if o < 6 and i < 20 else 0)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_reals_are_exact(value: float) -> None:
    assert float.fromhex(real(value).removesuffix("f")) == value


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [graphs.TINY, graphs.BEAM], ids=["plain", "beam"])
def test_static_analysis_finds_nothing(sizes: graphs.Sizes, tmp_path: Path) -> None:
    if shutil.which("cppcheck") is None:
        pytest.skip("cppcheck is not installed: apt-get install cppcheck")
    for name, text in generate(graphs.artifact(sizes)).items():
        (tmp_path / name).write_text(text)
    library = ("kernels", "voice", "crc32", "front", "fft")
    boot = ("boot", "ed25519", "sha2", "boot_cases")
    ours = (
        *library,
        *boot,
        "main",
        "memory",
        "startup",
        "caches",
        "port_semihosting",
        "port_bare",
        "port_stdio",
        "kernel_cases",
        "web",
    )
    sources = [str(c_source(f"{name}.c")) for name in ours] + [str(tmp_path / name) for name in ("model.c", "frame.c")]
    checks = [
        "--std=c11",
        "--enable=warning,performance,portability,style",
        "--suppress=missingIncludeSystem",
        "--error-exitcode=1",
    ]
    for core in (
        "-DETSE_PORTABLE",
        "-D__ARM_FEATURE_MVE=3",
        "-D__ARM_FEATURE_DSP=1 -D__ARM_FP=4",
        "-D__aarch64__ -D__ARM_NEON -D__linux__",
        "-D__wasm_simd128__",
    ):
        command = ["cppcheck", "-q", *checks, *core.split(), f"-I{tmp_path}", *INCLUDES, *sources]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_names_from_a_file_cannot_become_code() -> None:
    graph = graphs.student()
    evil = "x */ int main(void) { for (;;); } /* \n#include <stdio.h>"
    first = graph.nodes[0]
    assert isinstance(first, Pointwise)
    text = generate_network(replace(graph, nodes=(replace(first, name=evil), *graph.nodes[1:])))["model.c"]
    assert "int main(" not in text
    assert "stdio" not in "".join(line for line in text.splitlines() if line.startswith("#"))
    assert array("int8_t", "x[2]", np.array([1, -2], np.int8), "S") == "S static const int8_t x[2] = {\n1,-2};"


def tensors(**frames: int) -> dict[str, Tensor]:
    return {name: Tensor(name=name, frames=n, channels=3, scale=0.1) for name, n in frames.items()}


def two_inputs() -> IntegerGraph:
    add = Add(name="add", left="a", right="b", output="c")
    return IntegerGraph(tensors=tensors(a=1, b=1, c=1), nodes=(add,), inputs=("a", "b"), outputs=("c",), states=())


def window_read_at_once() -> IntegerGraph:
    nodes = (
        Append(name="append", history="h", input="x", output="w"),
        Tail(name="tail", input="w", output="r"),
        Add(name="double", left="w", right="w", output="d"),
    )
    states = (State(name="h", input="h", output="r"),)
    return IntegerGraph(tensors=tensors(x=1, h=2, w=3, r=2, d=3), nodes=nodes, inputs=("x",), outputs=("d",), states=states)


def remembers_something_else() -> IntegerGraph:
    nodes = (
        Append(name="append", history="h", input="x", output="w"),
        Add(name="double", left="x", right="x", output="d"),
        Tail(name="tail", input="d", output="r"),
    )
    states = (State(name="h", input="h", output="r"),)
    return IntegerGraph(tensors=tensors(x=1, h=1, w=2, r=1, d=1), nodes=nodes, inputs=("x",), outputs=("d",), states=states)


def history_read_directly() -> IntegerGraph:
    nodes = (
        Append(name="append", history="h", input="x", output="w"),
        Tail(name="tail", input="w", output="r"),
        Add(name="sum", left="h", right="x", output="d"),
    )
    states = (State(name="h", input="h", output="r"),)
    return IntegerGraph(tensors=tensors(x=1, h=1, w=2, r=1, d=1), nodes=nodes, inputs=("x",), outputs=("d",), states=states)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_inputs, "takes one input"),
        (window_read_at_once, "node double: the firmware reads a window by the taps"),
        (remembers_something_else, "node append: the firmware appends one frame"),
        (history_read_directly, "node sum: the firmware knows a state"),
    ],
)
def test_graphs_that_it_cannot_run_are_refused(make: Callable[[], IntegerGraph], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        generate_network(make())


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"window": 32, "hop": 6, "synthesis": 12}, "window 32, hop 6"),
        ({"window": 32, "hop": 8, "synthesis": 16, "ears": 3}, "3 ears"),
    ],
)
def test_geometries_that_it_cannot_run_are_refused(geometry: dict[str, int], message: str) -> None:
    frame = FrameSpec(**{"bands": 8, "fine_bands": 3, "spatial_bands": 4, **geometry})
    with pytest.raises(ArtifactError, match=message):
        front_end.header(frame, {})


def test_voice_patch() -> None:
    artifact = graphs.artifact()
    patch = voice_patch(artifact, voice_of(artifact))
    assert len(patch) == 24 + 8 * sum(artifact.graph.films.values()) + 4
    assert patch[8:24].hex() == artifact.digest[:32]
    assert patch != voice_patch(artifact, voice_of(artifact, 1))
    with pytest.raises(ArtifactError, match="has a voice built in"):
        voice_patch(personalize(artifact, voice_of(artifact)), voice_of(artifact))
    with pytest.raises(ArtifactError, match="enroll again"):
        voice_patch(artifact, voice_of(graphs.artifact(seed=5)))
