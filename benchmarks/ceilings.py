"""How good could a real gain be? Oracles that know the target, at our resolution.

python -m benchmarks.ceilings --trials runs/trials-choose/trials.csv
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import RESULTS, one_line
from edge_tse import audio
from edge_tse.errors import DataError
from edge_tse.frame import FrameSpec
from edge_tse.metrics import si_sdr
from edge_tse.nn.flow_losses import FlowWeights, destination
from edge_tse.nn.front import TorchFront
from edge_tse.nn.mask2flow import MAX_GAIN
from edge_tse.nn.mel import MelFront, MelSpec
from edge_tse.report import Report, environment
from quantization.trial_list import read_trials

_TINY = 1e-12

Array = NDArray[Any]


def oracle_gains(frame: FrameSpec, mixture: Array, target: Array) -> dict[str, Array]:
    """Gain per bin ``[frames, bins]`` of each oracle, from spectra ``[frames, ears, bins]``; one gain for all ears."""
    turned = (target * mixture.conj()).sum(axis=1)
    cross = turned.real
    power = (np.abs(mixture) ** 2).sum(axis=1)
    wanted, rest = ((np.abs(x) ** 2).sum(axis=1) for x in (target, mixture - target))
    edges = frame.band_edges[:-1]
    best = cross / (power + _TINY)
    complex_band = frame.bin_gains(np.add.reduceat(turned, edges, axis=-1) / (np.add.reduceat(power, edges, axis=-1) + _TINY))
    best_band = complex_band.real
    return {
        "ideal_ratio_mask": np.sqrt(wanted / (wanted + rest + _TINY)),
        "best_gain_to_1": np.clip(best, 0, 1),
        "best_gain_to_3": np.clip(best, 0, 3),
        "best_gain_to_1_bands": np.clip(best_band, 0, 1),
        "best_gain_to_2_bands": np.clip(best_band, 0, 2),
        "best_gain_to_3_bands": np.clip(best_band, 0, 3),
        "complex_gain_bands": complex_band,
    }


def oracle_estimates(frame: FrameSpec, mixture: Array, target: Array) -> dict[str, Array]:
    """What each oracle makes of a mixture, in line with the target; signals ``[ears, samples]``."""
    n = mixture.shape[1]
    padded = [np.pad(x, ((0, 0), (0, frame.delay))) for x in (mixture, target)]
    spectra, wanted = (frame.analyze(x) for x in padded)
    return {
        name: frame.synthesize((spectra * gain[:, None]).astype(np.complex64))[:, frame.delay : frame.delay + n]
        for name, gain in oracle_gains(frame, spectra, wanted).items()
    }


def improvements(frame: FrameSpec, mixture: Array, target: Array) -> dict[str, float]:
    """SI-SDR improvement in dB of each oracle on one mixture, signals ``[ears, samples]``."""
    before = si_sdr(mixture, target)
    return {name: si_sdr(estimate, target) - before for name, estimate in oracle_estimates(frame, mixture, target).items()}


MEL = {
    "mel_level": FlowWeights(),
    "mel_best_gain": FlowWeights(phase_sensitive=True),
    "mel_best_gain_30_db": FlowWeights(phase_sensitive=True, deepest_db=30.0),
    "mel_best_gain_20_db": FlowWeights(phase_sensitive=True, deepest_db=20.0),
}
"""Ends that the flow of the published system may have."""


def mel_improvements(frame: FrameSpec, mixture: Array, target: Array) -> dict[str, float]:
    """Improvements as of :func:`improvements`, with the gains of :mod:`edge_tse.nn.mask2flow` if its flow arrived at its end.

    ``mel_taught`` is what a student that copied the last of them would reach.
    """
    front, student = MelFront(MelSpec()), TorchFront(frame)
    n = mixture.shape[1] // frame.hop * frame.hop
    heard, wanted = (torch.from_numpy(x[None, :, :n].copy()) for x in (mixture, target))
    before = si_sdr(mixture[:, :n], target[:, :n])
    spectra, out = front.analyze(heard), {}
    for name, weights in MEL.items():
        level, end = destination(front, heard, wanted, weights)
        gains = (10 ** (end - level)).clamp(max=MAX_GAIN)
        estimate = front.synthesize(front.amplify(spectra, gains), n)
        out[name] = si_sdr(estimate[0].numpy(), target[:, :n]) - before
    taught = front.band_gains(gains, frame, n // frame.hop)
    late = student.synthesize(student.amplify(student.analyze(heard), taught))[0, :, frame.delay :].numpy()
    out["mel_taught"] = si_sdr(late, target[:, : late.shape[1]]) - before
    return out


@one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=Path, required=True, metavar="CSV")
    parser.add_argument("--condition", default="two_talkers")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--name", default="ceilings", help="name of the result")
    given = parser.parse_args(arguments)
    frame = FrameSpec()
    scores: dict[str, list[float]] = {}
    listed = read_trials(given.trials)
    trials = [t for t in listed if t.condition == given.condition and t.target is not None][: given.limit]
    if not trials:
        there = ", ".join(sorted({t.condition for t in listed}))
        raise DataError(f"{given.trials}: 0 trials of {given.condition} with a target, 1 is needed: choose of {there}")
    for trial in trials:
        assert trial.target is not None
        mixture, target = (audio.resample(*audio.read(path), frame.sample_rate_hz) for path in (trial.mixture, trial.target))
        found = improvements(frame, mixture, target) | mel_improvements(frame, mixture, target)
        for name, value in found.items():
            scores.setdefault(name, []).append(value)
    figures = {
        "condition": given.condition,
        "n": len(trials),
        "si_sdr_i_mean_db": {name: round(float(np.mean(values)), 2) for name, values in scores.items()},
    }
    report = Report(question="How good could a real gain be?", figures=figures, environment=environment())
    report.save(RESULTS / f"{given.name}.json")
    print(report.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
