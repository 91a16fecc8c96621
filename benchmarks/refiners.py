"""What should the second stage say: a real gain that the ears share, or a complex one per ear below 2 kHz?

python -m benchmarks.refiners --data DIR --run RUN --checkpoint CHECKPOINT --steps 600

Both are trained from nothing on the frozen mask stage of a checkpoint, in lockstep on the same batches, to the error of the
waveform. The complex one also hears how the phase of every bin moves, without which it could not know what to turn.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import RESULTS, one_line
from edge_tse.metrics import si_sdr
from edge_tse.nn.front import TorchFront
from edge_tse.nn.stage import Stage
from edge_tse.nn.student import Student
from edge_tse.report import Report, environment
from quantization.arithmetic import fastest
from quantization.checkpoint import load_checkpoint, student_of
from quantization.loop import Plan, descend, optimizers_of
from quantization.mixing import Mixer
from quantization.mixture import Scene
from quantization.run import TrainingRun

__all__ = ["Refiner", "cues", "phase_advance"]

_LIMIT_HZ = 2000
_SEEN = 128
_CLIP_S = 2.0
_OVERSAMPLING = 16


def phase_advance(spectra_BETK: Tensor, hop: int, window: int, bins: int) -> Tensor:
    """Unit phasors from each frame to the next, less a bin's own advance: ``[B, E, T, 2 * bins]``."""
    low = spectra_BETK[..., :bins]
    turn = torch.polar(torch.ones(bins), -2 * math.pi * hop / window * torch.arange(bins))
    step = low * functional.pad(low, (0, 0, 1, 0))[..., :-1, :].conj() * turn
    step = step / (step.abs() + 1e-9)
    return torch.cat([step.real, step.imag], dim=-1)


class Refiner(nn.Module):
    """The student's second stage with other outputs: real velocities of all bands, and complex ones of the lowest ``bins``."""

    def __init__(self, student: Student, bins: int) -> None:
        super().__init__()
        config, frame = student.config, student.config.frame
        channels = config.refine.channels
        self.student, self.front, self.bins = student.requires_grad_(False).eval(), TorchFront(frame), bins
        self.from_hidden = nn.Linear(config.mask.channels, channels)
        self.from_gain = nn.Linear(frame.bands, channels, bias=False)
        self.from_phase = nn.Linear(2 * bins, channels, bias=False) if bins else None
        self.stage = Stage(config.refine, config.taps)
        self.code = nn.Linear(config.embedding, config.code)
        self.films = nn.ModuleList(nn.Linear(config.code, 2 * config.refine.hidden) for _ in config.refine.dilations)
        self.real = nn.Linear(channels, frame.bands)
        self.turned = nn.Linear(channels, 2 * bins) if bins else None
        for head in (self.real, self.turned):
            if head is not None:
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)

    def forward(self, mixture_BEN: Tensor, voice_BE: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates ``[B, E, N - delay]`` of both stages and of the mask alone, aligned with the mixture."""
        frame, front = self.student.config.frame, self.front
        spectra = front.analyze(mixture_BEN)
        with torch.no_grad():
            hidden, mask = self.student.predict_mask(front.features(spectra), voice_BE)
        code = functional.relu(self.code(voice_BE * math.sqrt(voice_BE.shape[-1])))
        films = [(scale.tanh().exp(), shift) for scale, shift in (film(code).chunk(2, dim=-1) for film in self.films)]
        x = self.from_hidden(hidden) + self.from_gain(mask)
        ears = mixture_BEN.shape[1]
        if self.from_phase is not None:
            x = (x[:, None] + self.from_phase(phase_advance(spectra, frame.hop, frame.window, self.bins))).flatten(0, 1)
            films = [(scale.repeat_interleave(ears, 0), shift.repeat_interleave(ears, 0)) for scale, shift in films]
        x = self.stage(x, films)
        real = self.real(x)
        if self.turned is not None:
            real = real.unflatten(0, (-1, ears)).mean(dim=1)
        gain = functional.relu(mask + real.tanh())
        refined = front.amplify(spectra, gain)
        if self.turned is not None:
            re, im = self.turned(x).tanh().unflatten(0, (-1, ears)).chunk(2, dim=-1)
            low = spectra[..., : self.bins]
            refined = torch.cat([refined[..., : self.bins] + torch.complex(re, im) * low, refined[..., self.bins :]], dim=-1)
        whole, masked = (front.synthesize(s)[..., frame.delay :] for s in (refined, front.amplify(spectra, mask)))
        return whole, masked

    def cost(self, ears: int) -> dict[str, int]:
        """Weights of this stage and multiply-accumulates a hop."""
        parts: list[nn.Module | None] = [self.stage, self.real, *([self.turned, self.from_phase] if self.bins else [])]
        each = sum(p.numel() for part in parts if part is not None for p in part.parameters() if p.ndim == 2)
        shared = self.from_hidden.weight.numel() + self.from_gain.weight.numel()
        return {"weights": each + shared, "macs_per_hop": shared + each * (ears if self.bins else 1)}


def error_db(estimate_BEN: Tensor, target_BEN: Tensor, mixture_BEN: Tensor) -> Tensor:
    """Mean over items of the waveform's error over the target (or over the mixture, where there is none), at least -30 dB."""
    n = estimate_BEN.shape[-1]
    error, wanted, mixed = (
        x.square().sum(dim=(1, 2)) for x in (estimate_BEN - target_BEN[..., :n], target_BEN[..., :n], mixture_BEN[..., :n])
    )
    absent = wanted <= 1e-9 * mixed
    return (10 * (error / (torch.where(absent, mixed, wanted) + 1e-9) + torch.where(absent, 10**-2.5, 1e-3)).log10()).mean()


def cues(signal: NDArray[np.float32], rate_hz: int) -> tuple[float, float]:
    """Interaural level difference in dB and time difference in µs of ``[2, samples]``: energies, and the peak of the correlation
    below 1.5 kHz."""
    level = 10 * np.log10((np.sum(signal[0] ** 2) + 1e-12) / (np.sum(signal[1] ** 2) + 1e-12))
    n = signal.shape[1]
    left, right = np.fft.rfft(signal, 2 * n)
    cross = left * right.conj()
    cross[round(1500 / rate_hz * 2 * n) :] = 0
    correlation = np.fft.irfft(cross, 2 * n * _OVERSAMPLING)
    reach = round(1e-3 * rate_hz * _OVERSAMPLING)
    lags = np.concatenate([correlation[-reach:], correlation[: reach + 1]])
    return float(level), float((np.argmax(lags) - reach) / (rate_hz * _OVERSAMPLING) * 1e6)


@torch.no_grad()
def scores(refiner: Refiner, run: TrainingRun, ears: int) -> dict[str, float]:
    """Scores on mixtures of two talkers, -5 to 5 dB, no noise, unseen."""
    frame = run.recipe.student.frame
    scene = Scene(
        seconds=_CLIP_S, sir_db=(-5, 5), noisy=0, talkers=(0, 0, 1, 0), tilt=0, colour_db=0, reverberant=0, binaural_every=ears - 1
    )
    mixer = Mixer(run.validation, scene, frame, 99, hrirs=run.corpus.hrirs_validation)
    refiner.stage.eval()
    gains: list[list[float]] = []
    moved: list[list[float]] = []
    for step in range(_SEEN // 8):
        batch = mixer.batch(step, 8)
        rng = np.random.default_rng([99, step])
        drawn = zip(batch.talker, batch.utterance, strict=True)
        voice = np.stack([run.held_out.draw(rng, talker, int(utterance)) for talker, utterance in drawn])
        both, alone = (x.numpy() for x in refiner(batch.mixture, torch.from_numpy(voice)))
        for mixture, target, refined, masked in zip(batch.mixture.numpy(), batch.target.numpy(), both, alone, strict=True):
            wanted = target[:, : refined.shape[1]]
            before = si_sdr(mixture, target)
            gains.append([si_sdr(refined, wanted) - before, si_sdr(masked, wanted) - before])
            if ears == 2:
                heard, true = cues(refined, frame.sample_rate_hz), cues(wanted, frame.sample_rate_hz)
                moved.append([abs(a - b) for a, b in zip(heard, true, strict=True)])
    refiner.stage.train()
    stages, mask = np.array(gains).T
    out = {"mean": stages.mean(), "median": np.median(stages), "over_mask": (stages - mask).mean(), "n": len(stages)}
    out["over_mask_error"] = (stages - mask).std() / np.sqrt(len(stages))
    if moved:
        out["ild_error_db"], out["itd_error_us"] = np.median(moved, axis=0)
    return {name: round(float(value), 3) for name, value in out.items()}


def compare(checkpoint: Path, data: Path, folder: Path, steps: int, told: Callable[[str], None]) -> dict[str, object]:
    """Train both; figures by name."""
    source = load_checkpoint(checkpoint)
    scene = Scene(seconds=_CLIP_S, binaural_every=2)
    made = replace(source.recipe, steps=steps, scene=scene)
    run = TrainingRun(made, data, folder, lambda progress: None, source.encoder)
    frame = made.student.frame
    low = round(_LIMIT_HZ / frame.sample_rate_hz * frame.window)
    plan = Plan(steps=steps, lr=made.lr, warmup=min(50, steps // 4))
    refiners, chosen = {}, {}
    for name, bins in (("shared real gain", 0), ("per-ear complex below 2 kHz", low)):
        torch.manual_seed(made.seed)
        refiners[name] = Refiner(student_of(source), bins)
        trained = nn.ModuleList(m for n, m in refiners[name].named_children() if n not in ("student", "front"))
        chosen[name] = (trained, optimizers_of(trained, made.lr, made.weight_decay, fastest("cpu", trained).steps))
    errors: dict[str, list[float]] = {name: [] for name in refiners}
    began = time.monotonic()
    for step in range(steps):
        mixture, target, voice, _ = run.tensors(step, made.batch, 0, 1)
        for name, refiner in refiners.items():
            trained, optimizers = chosen[name]
            loss = error_db(refiner(mixture, voice)[0], target, mixture)
            loss.backward()
            descend(trained, optimizers, plan.learning_rate(step), made.clip)
            errors[name].append(float(loss.detach()))
        if step % 25 == 24:
            line = ", ".join(f"{name} {np.mean(e[-25:]):.2f} dB" for name, e in errors.items())
            told(f"{step + 1} of {steps} after {time.monotonic() - began:.0f} s: {line}")
    return {
        name: {
            **{f"{ears}_ears": refiner.cost(ears) | scores(refiner, run, ears) for ears in (1, 2)},
            "training_error_db_last_100": round(float(np.mean(errors[name][-100:])), 3),
        }
        for name, refiner in refiners.items()
    }


@one_line
def main() -> None:
    """Train, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--run", type=Path, default=Path("runs/structures"), metavar="DIR")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    parser.add_argument("--steps", type=int, default=600)
    given = parser.parse_args()
    given.run.mkdir(parents=True, exist_ok=True)
    rows = compare(given.checkpoint, given.data, given.run, given.steps, lambda line: print(line, flush=True))
    figures = {"steps": given.steps, "clip_s": _CLIP_S, "refiners": rows}
    report = Report(question="A shared real gain, or a complex one per ear?", figures=figures, environment=environment())
    report.save(RESULTS / "refiners.json")
    print(report.to_json())


if __name__ == "__main__":
    sys.exit(main())
