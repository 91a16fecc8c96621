"""Models of others: what their description says is checked, and their states are carried as it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_tse.engines import open_network
from edge_tse.errors import ArtifactError, EngineError
from targets import tflite
from tests import graphs

pytest.importorskip("ai_edge_litert", reason="litert extra not installed")

from edge_tse.cli.foreign import profile_foreign
from edge_tse.engines.foreign import ForeignNetwork, load_foreign, steadiness

HEADER = 'name = "ours"\nsource = "this test"\nsample_rate_hz = 16000\nhop = 64\nalgorithmic_latency = 128\n'


@pytest.fixture(scope="module")
def artifact():
    return graphs.artifact()


@pytest.fixture
def described(artifact, tmp_path) -> Path:
    """One of our own flatbuffers, treated as a stranger's: its states are known from the graph."""
    (tmp_path / "net.tflite").write_bytes(tflite.emit(artifact.graph, {}))
    pairs = ", ".join(f'["{s.input}", "{s.output}"]' for s in artifact.graph.states)
    path = tmp_path / "net.toml"
    path.write_text(f'{HEADER}[[stages]]\nfile = "net.tflite"\nstates = [{pairs}]\n')
    return path


def test_a_stranger_computes_what_our_engine_computes(artifact, described) -> None:
    """The same file with the same features: states carried by their description give the integers of the reference engine."""
    network, reference = ForeignNetwork(load_foreign(described)), open_network(artifact, "reference")
    zero_points = {s.input: artifact.graph.tensors[s.input].zero_point for s in artifact.graph.states}
    assert not any(zero_points.values()), "a foreign state starts at zero"
    for row in artifact.golden.features[:40]:
        (found,) = network.run([{"features": row.reshape(1, 1, 1, -1)}])
        for name, wanted in zip(artifact.graph.outputs, reference.run(row), strict=True):
            np.testing.assert_array_equal(found[name].ravel(), wanted)


def test_it_is_steady(described) -> None:
    seen = steadiness(load_foreign(described), frames=30)
    assert seen.repeats
    assert seen.remembers
    assert seen.kernel_difference is not None
    assert seen.kernel_difference < 0.5


def test_sizes(artifact, described) -> None:
    model = load_foreign(described)
    network = ForeignNetwork(model)
    assert model.file_bytes == (described.parent / "net.tflite").stat().st_size
    assert network.state_bytes == artifact.graph.state_bytes
    assert model.period_s == pytest.approx(0.004)
    assert list(network.inputs[0]) == ["features"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("hop = 64", "hopp = 64"), "unknown key 'hopp': nearest is 'hop'"),
        (("hop = 64\n", ""), "hop missing"),
        (("hop = 64", "hop = 0"), "hop 0"),
        (("hop = 64", 'hop = "64"'), "int is needed, not '64' \\(str\\)"),
        (('"net.tflite"', '"gone.tflite"'), "gone.tflite is not there"),
        (("[[stages]]", "[[stagess]]"), "nearest is 'stages'"),
        (("states = [[", 'states = [["nothing", "mask"], ['), r"state \[nothing, mask\] is not there: inputs "),
        (("states = [[", 'states = [["features"], ['), "2 values are needed, not 1"),
        (("states = [[", 'states = [["features", "mask"], ['), "another output belongs to it"),
        (("states = [[", "inputs = { features = 300 }\nstates = [["), "input features holds 300, int8 goes from -128 to 127"),
        (("states = [[", "inputs = { features = [0, 300] }\nstates = [["), "holds 300, int8 goes from -128 to 127"),
    ],
)
def test_what_is_wrong_is_said(described, change, message) -> None:
    described.write_text(described.read_text().replace(*change))
    with pytest.raises(ArtifactError, match=message):
        steadiness(load_foreign(described), frames=1)


def test_what_cannot_be_read(tmp_path) -> None:
    with pytest.raises(ArtifactError, match="No such file"):
        load_foreign(tmp_path / "none.toml")
    (tmp_path / "not.toml").write_text("= 3")
    with pytest.raises(ArtifactError, match=r"not\.toml: "):
        load_foreign(tmp_path / "not.toml")


def test_peers_are_described_as_their_files_are() -> None:
    """Every description shipped for the benchmark is well formed; files are only looked at where they are."""
    peers = Path(__file__).parent.parent / "benchmarks" / "peers"
    assert sorted(p.stem for p in peers.glob("*.toml")) == ["dtln", "dtln-quantized", "gtcrn", "ulunas"]
    for path in peers.glob("*.toml"):
        with pytest.raises(ArtifactError, match="is not there"):
            load_foreign(path)


N = 16


def onnx_model(folder: Path, nodes, inputs, outputs, states, constants=(), stage="", **stored) -> Path:
    """A model of float32 tensors ``[1, N]``, or of the form that is given with a name, and its description."""
    onnx = pytest.importorskip("onnx", reason="onnx extra not installed")
    pytest.importorskip("onnxruntime", reason="onnx extra not installed")
    helper, kinds = onnx.helper, onnx.TensorProto

    def info(value):
        name, kind, shape = value if isinstance(value, tuple) else (value, "FLOAT", [1, N])
        return helper.make_tensor_value_info(name, getattr(kinds, kind), shape)

    held = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants]
    graph = helper.make_graph(
        [helper.make_node(kind, takes, gives, **how) for kind, takes, gives, how in nodes],
        "net",
        [info(value) for value in inputs],
        [info(value) for value in outputs],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, folder / "net.onnx", **stored)
    path = folder / "net.toml"
    path.write_text(f'{HEADER}[[stages]]\nfile = "net.onnx"\nstates = {json.dumps(states)}\n{stage}\n')
    return path


HALF = ("half", np.float32(0.5))
ADD = [("Add", ["x", "s"], ["y"], {}), ("Mul", ["y", "half"], ["s_out"], {})]


class TestWeightsBesideTheModel:
    """ONNX keeps weights in another file, which is that beside the model and no other of its name."""

    def model(self, folder: Path, gain: float) -> Path:
        folder.mkdir(exist_ok=True)
        weights = ("w", gain * np.eye(N, dtype=np.float32))
        nodes = [("MatMul", ["x", "w"], ["y"], {})]
        stored = {"save_as_external_data": True, "location": "net.onnx.data", "size_threshold": 0}
        return onnx_model(folder, nodes, ["x"], ["y"], [], [weights], **stored)

    def test_they_are_found_by_path(self, tmp_path, monkeypatch) -> None:
        wanted = self.model(tmp_path / "model", 3.0)
        other = self.model(tmp_path / "elsewhere", 5.0)
        monkeypatch.chdir(other.parent)
        (found,) = ForeignNetwork(load_foreign(wanted)).run([{"x": np.ones((1, N), np.float32)}])
        assert np.array_equal(found["y"], np.full((1, N), 3.0))

    def test_they_count(self, tmp_path) -> None:
        model = load_foreign(self.model(tmp_path, 3.0))
        assert model.file_bytes == sum((tmp_path / name).stat().st_size for name in ("net.onnx", "net.onnx.data")) > N * N * 4

    def test_without_them_one_line_says_so(self, tmp_path) -> None:
        path = self.model(tmp_path, 3.0)
        (tmp_path / "net.onnx.data").unlink()
        with pytest.raises(ArtifactError, match=r"keeps weights in net.onnx.data, and .* is not there: put it beside the model"):
            steadiness(load_foreign(path), frames=1)


class TestWhatInputsHold:
    RATE = ("rate", "INT64", [])
    """A rate that chooses by table look-up: any other one is refused."""
    NODES = (("Div", ["rate", "k"], ["i"], {}), ("Gather", ["table", "i"], ["g"], {}), ("Mul", ["x", "g"], ["y"], {}))
    CONSTANTS = (("k", np.int64(8000)), ("table", np.array([1, 2, 3], np.float32)))

    def test_a_value_a_range_and_noise(self, tmp_path) -> None:
        path = onnx_model(
            tmp_path, self.NODES, ["x", self.RATE], ["y"], [], self.CONSTANTS, "inputs = { rate = 16000, x = [0.25, 0.5] }"
        )
        network = ForeignNetwork(load_foreign(path))
        (given,) = network.noise(np.random.default_rng(0))
        assert given["rate"] == 16000
        assert given["x"].min() >= 0.25
        assert given["x"].max() <= 0.5
        (found,) = network.run([given])
        assert np.array_equal(found["y"], 3 * given["x"])
        assert steadiness(load_foreign(path), frames=3).repeats

    def test_what_a_runtime_refuses_is_one_line(self, tmp_path) -> None:
        path = onnx_model(tmp_path, self.NODES, ["x", self.RATE], ["y"], [], self.CONSTANTS)
        with pytest.raises(EngineError, match=r"does not compute net.onnx .*out of data bounds.*state what its inputs hold"):
            steadiness(load_foreign(path), frames=1)

    def test_a_magnitude(self, tmp_path) -> None:
        nodes = [("Log", ["x"], ["y"], {})]
        with pytest.raises(ArtifactError, match=r"y is NaN from frame 0: noise is no input .* inputs = \{ x = \"magnitude\" \}"):
            steadiness(load_foreign(onnx_model(tmp_path, nodes, ["x"], ["y"], [])), frames=1)
        path = onnx_model(tmp_path, nodes, ["x"], ["y"], [], stage='inputs = { x = "magnitude" }')
        assert steadiness(load_foreign(path), frames=3).repeats

    def test_profile_says_it_too(self, tmp_path) -> None:
        path = onnx_model(tmp_path, [("Log", ["x"], ["y"], {})], ["x"], ["y"], [])
        with pytest.raises(ArtifactError, match="y is NaN from frame 0"):
            profile_foreign(path, 5, None)

    @pytest.mark.parametrize("holds", ['"loud"', "[1]", "[2, 1]", '["a", "b"]', "{ a = 1 }"])
    def test_nothing_else(self, tmp_path, holds) -> None:
        path = onnx_model(tmp_path, ADD, ["x", "s"], ["y", "s_out"], [["s", "s_out"]], [HALF], f"inputs = {{ x = {holds} }}")
        with pytest.raises(ArtifactError, match=r"input x holds .*: give a number"):
            load_foreign(path)

    def test_a_flag(self, tmp_path) -> None:
        nodes = [("Where", ["first", "x", "s"], ["y"], {}), ("Mul", ["y", "half"], ["s_out"], {})]
        path = onnx_model(
            tmp_path,
            nodes,
            ["x", "s", ("first", "BOOL", [1])],
            ["y", "s_out"],
            [["s", "s_out"]],
            [HALF],
            "inputs = { first = false }",
        )
        (given,) = ForeignNetwork(load_foreign(path)).noise(np.random.default_rng(0))
        assert given["first"].dtype == bool
        assert not given["first"].any()

    def test_of_a_state_nothing_is_stated(self, tmp_path) -> None:
        path = onnx_model(tmp_path, ADD, ["x", "s"], ["y", "s_out"], [["s", "s_out"]], [HALF], "inputs = { s = 1 }")
        with pytest.raises(ArtifactError, match="s is no input that is given, those are x"):
            ForeignNetwork(load_foreign(path))


@pytest.mark.parametrize(
    ("nodes", "inputs", "outputs", "states", "message"),
    [
        (
            [("Cast", ["s"], ["f"], {"to": 1}), ("Add", ["x", "f"], ["y"], {}), ("Identity", ["y"], ["s_out"], {})],
            ["x", ("s", "FLOAT16", [1, N])],
            ["y", "s_out"],
            [["s", "s_out"]],
            r"state s is float16\[1, 16\], s_out is float32\[1, 16\]",
        ),
        ([("Cast", ["x"], ["y"], {"to": 1})], [("x", "BFLOAT16", [1, N])], ["y"], [], "x is bfloat16, numbers that NumPy has"),
        ([("Identity", ["x"], ["y"], {})], [("x", "STRING", [1])], [("y", "STRING", [1])], [], "x is string, numbers that NumPy"),
        (ADD, ["x", "s"], ["y", "s_out"], [["s", "s_out"], ["x", "y"]], "all of its outputs are states"),
        (ADD, ["x", "s"], ["y", "s_out"], [["s", "s_out"], ["s", "y"]], "s is named by 2 states"),
        ([("Nothing", ["x"], ["y"], {})], ["x"], ["y"], [], "onnxruntime refuses the model"),
    ],
)
def test_one_line_for_what_a_model_is_not(tmp_path, nodes, inputs, outputs, states, message) -> None:
    path = onnx_model(tmp_path, nodes, inputs, outputs, states, [HALF])
    with pytest.raises((ArtifactError, EngineError), match=message):
        steadiness(load_foreign(path), frames=1)


def int8_model(folder: Path, into: tuple[float, int], out: tuple[float, int], names: tuple[str, str] = ("x", "s")) -> Path:
    """``y = x + s``; the next state is ``y``, quantized as ``out`` says."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")

    def tensor(name, scale, zero_point):
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer, made.hasRank = name, [1, N], schema.TensorType.INT8, 0, True
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [scale], [zero_point]
        return made

    def operator(code, takes, gives, kind, options):
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, takes, gives
        made.builtinOptionsType, made.builtinOptions = kind, options
        return made

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description, model.subgraphs, model.buffers, model.operatorCodes = 3, "it", [graph], [schema.BufferT()], []
    for number in (schema.BuiltinOperator.ADD, schema.BuiltinOperator.QUANTIZE):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = number
        code.version = 2
        model.operatorCodes.append(code)
    graph.name, graph.inputs, graph.outputs = "main", [0, 1], [2, 3]
    graph.tensors = [tensor(names[0], 1 / 64, 0), tensor(names[1], *into), tensor("y", 1 / 32, 0), tensor("next", *out)]
    kinds = schema.BuiltinOptions
    graph.operators = [
        operator(0, [0, 1], [2], kinds.AddOptions, schema.AddOptionsT()),
        operator(1, [2], [3], kinds.QuantizeOptions, schema.QuantizeOptionsT()),
    ]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (folder / "net.tflite").write_bytes(bytes(builder.Output()))
    path = folder / "net.toml"
    path.write_text(f'{HEADER}[[stages]]\nfile = "net.tflite"\nstates = [["{names[1]}", "next"]]\n')
    return path


class TestIntegerStates:
    @pytest.mark.parametrize("into", [(1 / 32, 0), (1 / 64, 0), (1 / 100, -28), (1 / 48, 5)])
    def test_a_state_keeps_its_value_at_another_scale(self, tmp_path, into) -> None:
        """A quarter more every step; forgetting means the integer that stands for zero."""
        network = ForeignNetwork(load_foreign(int8_model(tmp_path, into, (1 / 32, 0))))
        step = [{"x": np.full((1, N), 16, np.int8)}]  # 16 / 64
        for _ in range(2):
            heard = [float(network.run(step)[0]["y"][0, 0]) / 32 for _ in range(3)]
            assert heard == pytest.approx([0.25, 0.5, 0.75], abs=1 / 32)
            network.reset()

    def test_two_inputs_of_one_name_are_refused(self, tmp_path) -> None:
        path = int8_model(tmp_path, (1 / 32, 0), (1 / 32, 0), ("x", "x"))
        with pytest.raises(ArtifactError, match="two of its inputs are named x"):
            ForeignNetwork(load_foreign(path))
