"""Do all engines compute the same integers, and where they do not, can it be heard?

python -m benchmarks.parity --data DIR [--artifact FILE ...] [--trials 20]

Integers: each engine against the reference over the shipped mixtures in two ears, state carried from the first frame to the last.
A voice is folded in, or, in the universal form of the engines that have one, given to a model without a voice while it runs.
Sound: SI-SDR improvement on trials of talkers nobody trained on, as a difference to the reference engine; without a single
differing integer it is 0 and not run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import RESULTS
from edge_tse.artifact import Artifact, shipped_names
from edge_tse.cli.output import open_quietly, quietly
from edge_tse.demo import shipped_cases
from edge_tse.engines import ENGINES, Engine, Network, open_network
from edge_tse.enrollment import enroll_files
from edge_tse.errors import EdgeTseError
from edge_tse.extract import extract
from edge_tse.golden import TOLERANCE_LSB, record, replay
from edge_tse.metrics import si_sdr
from edge_tse.quant import quantize
from edge_tse.report import Report, environment
from edge_tse.voice import Voice, personalize
from quantization.evaluate import Trial, read_trials
from quantization.trials import make_trials

Open = Callable[[Artifact, Voice], Network]
"""A model without a voice, and a voice, to a network that computes with it."""


class Board:
    """The compiled C as a network that was given a voice while it ran."""

    def __init__(self, artifact: Artifact, voice: Voice) -> None:
        from firmware_bridge.codegen import voice_patch
        from firmware_bridge.native import NativeChain

        self._chain = NativeChain(artifact, artifact.frame.ears)
        self._chain.set_voice(voice_patch(artifact, voice))
        self.name = f"native/{self._chain.kernels}"

    def reset(self) -> None:
        """The voice stays."""
        self._chain.reset()

    def run(self, features: NDArray[np.int8]) -> tuple[NDArray[np.int8], ...]:
        """One step."""
        return self._chain.network(features)


def engines() -> dict[str, Open]:
    """Every way to run a graph that this machine may have, but the reference itself: it would be compared with itself."""

    def folded(name: str) -> Open:
        return lambda artifact, voice: open_quietly(personalize(artifact, voice), name)

    def builtin(artifact: Artifact, voice: Voice) -> Network:
        with quietly():
            return open_network(personalize(artifact, voice), "litert", kernels="builtin_ref")

    def native(artifact: Artifact, voice: Voice) -> Network:
        from firmware_bridge.native import NativeNetwork

        return NativeNetwork(personalize(artifact, voice).graph)

    def universal_onnx(artifact: Artifact, voice: Voice) -> Network:
        from edge_tse.engines.onnxrt import OnnxNetwork

        network = OnnxNetwork(artifact.graph)
        network.set_voice(personalize(artifact, voice).graph)
        return network

    more = {"litert builtin_ref": builtin, "native": native, "onnx, universal": universal_onnx, "native, universal": Board}
    return {name: folded(name) for name in ENGINES if name != "reference"} | more


def frames(artifact: Artifact) -> Iterator[tuple[Voice, NDArray[np.int8]]]:
    """The shipped mixtures as int8 features ``[frames, n]``, each with the voice to hear in it."""
    for case in shipped_cases():
        mono = case.mixture.signal[0]
        both = np.stack([mono, np.roll(mono, 5) * np.float32(0.8)])  # interaural features have something to say
        rows = artifact.frame.frame_features(artifact.frame.analyze(both))
        source = artifact.graph.tensors["features"]
        yield case.voice(artifact.voice_model), quantize(rows, source.scale, source.zero_point)


def integers(artifact: Artifact, opened: Open) -> dict[str, object]:
    """Worst LSB and share of differing values over all frames."""
    worst, differing, count, name = 0, 0.0, 0, ""
    for voice, rows in frames(artifact):
        network = opened(artifact, voice)
        parity = replay(record(personalize(artifact, voice).graph, rows), network)
        worst = max(worst, parity.worst_lsb)
        differing += parity.mismatch_rate * parity.frames
        count += parity.frames
        name = network.name
    return {"runs_on": name, "worst_lsb": worst, "mismatch_rate": differing / count, "frames": count}


def heard(artifact: Artifact, opened: Open, trials: list[Trial]) -> dict[str, float]:
    """SI-SDR improvement against that of the reference engine, in dB."""
    differences = []
    for trial in trials:
        voice = enroll_files(artifact.voice_model, list(trial.enrollment)).voice
        own = personalize(artifact, voice)
        scores = []
        for network in (open_quietly(own, "reference"), opened(artifact, voice)):
            mixture, target = (_read(path) for path in (trial.mixture, trial.target))
            scores.append(si_sdr(extract(mixture, 16000, Engine(own, network)).signal, target))
        differences.append(scores[1] - scores[0])
    return {"mean_db": float(np.mean(differences)), "worst_db": float(np.max(np.abs(differences))), "trials": len(differences)}


def _read(path: Path | None) -> NDArray[np.float32]:
    from edge_tse import audio

    assert path is not None
    return audio.read(path)[0]


def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--artifact", type=Path, nargs="+", metavar="FILE", help="the shipped ones if left out")
    parser.add_argument("--trials", type=int, default=20)
    given = parser.parse_args()
    models = [Artifact.find(name) for name in given.artifact or shipped_names()]
    console = Console(highlight=False)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        listed = read_trials(make_trials(given.data, Path(folder), "choose", 1, given.trials))
        trials = [trial for trial in listed if trial.condition == "two_talkers"]
        for model in models:
            for name, opened in engines().items():
                try:
                    found = integers(model, opened)
                except EdgeTseError as failure:
                    console.print(f"left out: {failure}", markup=False)
                    continue
                found["si_sdr_difference"] = heard(model, opened, trials) if found["worst_lsb"] else None
                rows.append({"model": model.provenance["recipe"], "artifact": model.digest, "engine": name, **found})
                console.print(rows[-1], markup=False)
    figures = {"rows": rows, "tolerance_lsb": dict(TOLERANCE_LSB)}
    Report(question="Do all engines compute the same?", figures=figures, environment=environment()).save(RESULTS / "parity.json")


if __name__ == "__main__":
    main()
