"""The C library as somebody else's program has it: the example of the documentation, and documented names."""

from __future__ import annotations

import io
import json
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import contracts
from edge_tse.artifact import Artifact
from edge_tse.deployment.fit import fits
from edge_tse.deployment.offers import load_offers
from edge_tse.deployment.runtime import runtime_named
from edge_tse.deployment.target import load_target, targets
from edge_tse.engines.litert import open_interpreter
from edge_tse.graph import IntegerGraph
from edge_tse.personalization import universal
from edge_tse.voice import Voice
from firmware_bridge.build import BOARD, LIBRARY, PROGRAMS, zig
from firmware_bridge.codegen import generate, voice_patch
from firmware_bridge.native import NativeChain
from targets import onnx as onnx_file
from targets import tflite
from tests import graphs

Int16 = NDArray[np.int16]
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "docs" / "integration" / "example.c"
INTEGRATION, PORTING = ROOT / "docs" / "integration.md", ROOT / "docs" / "porting.md"
STREAM = "etse_stream.c"


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return graphs.artifact()


@pytest.fixture(scope="module")
def patch(artifact: Artifact) -> bytes:
    voice = Voice(embedding=graphs.embedding(1), encoder_digest=artifact.voice_model.encoder_digest, created="", source="")
    return voice_patch(artifact, voice)


@pytest.fixture(scope="module")
def example(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The example, compiled by the command that docs/integration.md gives, with more warnings and all of them errors."""
    pytest.importorskip("ziglang", reason="compiling C needs ziglang: pip install '.[firmware]'")
    folder = tmp_path_factory.mktemp("example")
    with zipfile.ZipFile(io.BytesIO(runtime_named("native-c").write(artifact, load_target("stm32h7")).content)) as archive:
        archive.extractall(folder)
    (command,) = re.findall(r"^    cc ((?:.*\\\n)*.*)", INTEGRATION.read_text(), re.MULTILINE)
    words = command.replace("\\\n", " ").replace("$ETSE", str(folder)).split()
    words = [str(EXAMPLE) if word == "example.c" else word for word in words]
    words[words.index("-o") + 1] = str(folder / "example")
    done = subprocess.run(
        [*zig(), *words, "-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Werror"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    def run(*arguments: str, sound: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([str(folder / "example"), *arguments], input=sound, capture_output=True, timeout=20, check=False)

    return run


def aligned(artifact: Artifact, x: Int16, voice: bytes | None) -> Int16:
    """``[frames, ears]`` through the chain, padded at its end and cut at its beginning."""
    frame, frames = artifact.frame, len(x)
    chain = NativeChain(artifact, x.shape[1])
    if voice is not None:
        chain.set_voice(voice)
    room = -(frames + frame.delay) % frame.hop + frame.delay
    hops = np.concatenate([x, np.zeros((room, x.shape[1]), np.int16)]).reshape(-1, frame.hop, x.shape[1])
    return np.concatenate([chain(np.ascontiguousarray(hop.T)).T for hop in hops])[frame.delay :][:frames]


@pytest.mark.parametrize(
    ("ears", "frames", "voiced"), [(1, 800, False), (2, 1003, True), (2, 8, False), (1, 5, True), (2, 0, False)]
)
def test_the_example_does_what_the_chain_does(
    artifact: Artifact, example: Run, patch: bytes, tmp_path: Path, ears: int, frames: int, voiced: int
) -> None:
    x = np.random.default_rng(frames).integers(-20000, 20000, (frames, ears)).astype(np.int16)
    (tmp_path / "voice").write_bytes(patch)
    done = example(str(ears), *([str(tmp_path / "voice")] if voiced else []), sound=x.astype("<i2").tobytes())
    assert (done.returncode, done.stderr) == (0, b"")
    got = np.frombuffer(done.stdout, "<i2").reshape(-1, ears)
    np.testing.assert_array_equal(got, aligned(artifact, x, patch if voiced else None))
    assert frames < 100 or np.abs(got).max() > 500


def test_the_example_says_what_is_wrong(example: Run, patch: bytes, tmp_path: Path) -> None:
    foreign = graphs.artifact(seed=1)
    other = Voice(embedding=graphs.embedding(1), encoder_digest=foreign.voice_model.encoder_digest, created="", source="")
    (tmp_path / "short").write_bytes(patch[:-1])
    (tmp_path / "foreign").write_bytes(voice_patch(foreign, other))
    for arguments, message in (
        ((), "usage"),
        (("3",), "does not take that many channels"),
        (("2", str(tmp_path / "short")), "not a whole one"),
        (("2", str(tmp_path / "foreign")), "made for another model"),
        (("2", str(tmp_path / "nothing")), "no voice patch"),
    ):
        done = example(*arguments)
        assert done.returncode == 1
        assert message in done.stderr.decode()
        assert done.stdout == b""


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 105


def test_documented_names_are_those_of_the_shipped_model() -> None:
    """If this fails: ``python -m benchmarks.contracts``."""
    text = contracts.PAGE.read_text()
    assert contracts.fill(text, contracts.block(Artifact.shipped())) == text


FORMS = {"one voice": lambda artifact: artifact, "universal": universal}


@pytest.fixture(params=FORMS)
def graph(artifact: Artifact, request: pytest.FixtureRequest) -> IntegerGraph:
    """Of either form that a file has."""
    return FORMS[request.param](artifact).graph


def test_a_tflite_file_has_the_documented_names(graph: IntegerGraph) -> None:
    """Signature ``step``, in terms of the rows that the page is made of."""
    pytest.importorskip("ai_edge_litert", reason="a TFLite file is read by ai-edge-litert: pip install '.[litert]'")
    rows = contracts.rows(graph)
    interpreter, _ = open_interpreter(tflite.emit(graph, {}), "xnnpack", 1)
    signature = interpreter.get_signature_list()["step"]
    states = [row.key for row in rows if row.role == "state"]
    assert sorted(signature["inputs"]) == sorted([*(row.key for row in rows if row.role in {"input", "voice"}), *states])
    outputs = [row.key for row in rows if row.role == "output"]
    assert sorted(signature["outputs"]) == sorted([*outputs, *(f"{key}.next" for key in states)])
    found = {d["name"]: d for d in (*interpreter.get_input_details(), *interpreter.get_output_details())}
    assert set(found) == {name for row in rows for name in row.tensors}
    for row in rows:
        for name in row.tensors:
            assert found[name]["shape"].tolist() == [1, row.tensor.frames, 1, row.tensor.channels]
            assert found[name]["dtype"] == np.int8
            assert found[name]["quantization"] == (row.tensor.scale, row.tensor.zero_point)


def test_an_onnx_file_has_the_documented_names(graph: IntegerGraph) -> None:
    onnx = pytest.importorskip("onnx", reason="an ONNX file is written by onnx: pip install '.[onnx]'")
    rows = contracts.rows(graph)
    model = onnx.load_from_string(onnx_file.emit(graph, {}))
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    int8, uint8 = onnx.TensorProto.INT8, onnx.TensorProto.UINT8
    assert kinds == {name: uint8 if row.role == "state" else int8 for row in rows for name in row.tensors}
    (notes,) = (json.loads(entry.value) for entry in model.metadata_props if entry.key == "edge_tse.io")
    for row in rows:
        offset = 128 if row.role == "state" else 0
        for name in row.tensors:
            assert notes["tensors"][name] == {"scale": row.tensor.scale, "zero_point": row.tensor.zero_point + offset}
        assert row.role != "state" or notes["states"][row.key] == list(row.tensors)
    assert notes["voice"] == [row.key for row in rows if row.role == "voice"]
    assert model.opset_import[0].version == int(re.findall(r"^Opset (\d+)", INTEGRATION.read_text(), re.MULTILINE)[0])


def test_documented_voice_inputs_are_those_of_the_universal_form(artifact: Artifact) -> None:
    """Two for each modulated layer, named after it, in the form that the page gives."""
    (listed,) = re.findall(r"^\| voice \| (.+?) \|", INTEGRATION.read_text(), re.MULTILINE)
    parts = re.findall(r"`LAYER\.(\w+)`", listed)
    graph = universal(artifact).graph
    assert list(graph.voice) == [f"{slot}.{part}" for slot in artifact.graph.films for part in parts]
    assert list(graph.given) == [*graph.inputs, *graph.voice, *(s.input for s in graph.states)]


def test_documented_calls_and_sizes_exist() -> None:
    """Every ``etse_...`` and ``ETSE_...`` that the pages name is in the headers or the generated one."""
    headers = (
        "".join(path.read_text() for folder in (LIBRARY, BOARD) for path in sorted(folder.glob("*.h")))
        + generate(graphs.artifact())["model.h"]
    )
    known = set(re.findall(r"\b(?:etse|ETSE)_\w+", headers)) | {STREAM.removesuffix(".c")}
    for page in (INTEGRATION, PORTING, EXAMPLE, PROGRAMS / "main_i2s.c"):
        named = set(re.findall(r"\b(?:etse|ETSE)_\w*\w", page.read_text()))
        assert named - known == set(), page.name
    public = "".join((LIBRARY / name).read_text() for name in ("etse.h", "etse_stream.h"))
    for name in re.findall(r"^\w[\w *]*?\b(etse_\w+)\(", public, re.MULTILINE):
        assert f"`{name}" in INTEGRATION.read_text(), name


def test_documented_patch_is_the_patch(artifact: Artifact, patch: bytes) -> None:
    model = generate(artifact)["model.h"]
    channels, size = (int(re.findall(rf"#define ETSE_VOICE_{name} (\d+)", model)[0]) for name in ("CHANNELS", "PATCH_BYTES"))
    sizes = [eval(re.sub("`ETSE_VOICE_CHANNELS`", str(channels), cell).replace("×", "*")) for cell in _patch_table()]
    assert sum(sizes) == size == len(patch)
    assert patch[8:24].hex() == artifact.digest[:32]


def _patch_table() -> list[str]:
    rows = INTEGRATION.read_text().partition("## Voice patch")[2].partition("\n\n    ")[0]
    return re.findall(r"^\| (\d[^|]*) \|", rows, re.MULTILINE)


def test_the_documented_target_is_one(tmp_path: Path) -> None:
    """The example of the porting guide loads, and a model can be asked whether it fits."""
    (text,) = re.findall(r"```toml\n(.*?)```", PORTING.read_text(), re.DOTALL)
    (tmp_path / "my-board.toml").write_text(text)
    target = load_target(str(tmp_path / "my-board.toml"))
    assert (target.core, target.evidence) == ("Cortex-M33", "untested")
    fits(target, graphs.artifact()).check()


@pytest.mark.parametrize("page", [INTEGRATION, PORTING])
def test_what_the_pages_point_at_exists(page: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link
    known = {*targets(), *load_offers()}
    for name in re.findall(r"--target ([a-z][\w-]+)", page.read_text()):
        assert name in known, name
    for path in re.findall(r"`((?:edge_tse|firmware_bridge|benchmarks|targets|tests)/[\w/.]+)`", page.read_text()):
        assert (ROOT / path).exists(), path
