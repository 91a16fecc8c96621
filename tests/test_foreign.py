"""Models of others: what their description says is checked, and their states are carried as it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_tse.engines import open_network
from edge_tse.errors import ArtifactError
from targets import tflite
from tests import graphs

pytest.importorskip("ai_edge_litert", reason="litert extra not installed")

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
