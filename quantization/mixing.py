"""Seeded training mixtures: drawn on the host, made of sound where the network trains.

What an item consists of is drawn from (seed, step, position), so a run resumes bit for bit and any number of processes share one
sequence. Decoded speech, noises and head-related responses lie on the device, and cutting, colouring, convolution and mixing of a
whole batch happen there: a GPU trains faster than a CPU mixes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_tse.errors import DataError
from edge_tse.frame import FrameSpec
from quantization.corpus import Speech, mono_at

__all__ = ["Batch", "Mixer", "Scene"]

Float = NDArray[np.float32]

_COLOUR_KNOTS_HZ = (100.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)


@dataclass(frozen=True)
class Scene:
    """What mixtures are made of: probabilities and ranges, uniform unless said."""

    seconds: float = 4.0
    sir_db: tuple[float, float] = (-6.0, 6.0)
    snr_db: tuple[float, float] = (0.0, 20.0)
    noisy: float = 0.25
    """Share of items with noise."""
    talkers: tuple[float, ...] = (0.10, 0.10, 0.68, 0.12)
    """Shares of: target absent, target alone, two talkers, three talkers."""
    level_db: tuple[float, float] = (-36.0, -18.0)
    """RMS of the mixture, dB relative to full scale."""
    tilt: float = 0.35
    """Largest first-order coefficient of each talker's random spectral tilt (microphones, rooms)."""
    colour_db: float = 3.0
    """Largest gain or loss of each talker at random knots of a smooth response: voices that the corpus does not have."""
    unlabelled: float = 0.15
    """Share of interferers drawn from talkers without labels, who come from other microphones and rooms: too easily told apart."""
    reverberant: float = 0.15
    """Share of mono items in a simulated room."""
    t60_s: tuple[float, float] = (0.1, 0.5)
    binaural_every: int = 4
    """Every n-th batch is binaural (whole batches, so that mono ones cost one ear); 0: none."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One training batch, its sound on the mixer's device."""

    mixture: Tensor
    """``[items, ears, samples]``"""
    target: Tensor
    """``[items, ears, samples]``; zeros where the target is absent."""
    talker: list[str]
    """Whose voice to enroll (``talker@speed``), also where that talker is absent."""
    utterance: NDArray[np.int64]
    """Index of the talker's span that the target was cut from; -1 where absent. Enrollment must use another."""


@dataclass(frozen=True, eq=False)
class _Excerpt:
    """A stretch of one utterance and what a microphone makes of it."""

    start: int
    """First sample in the corpus."""
    stop: int
    """Where the utterance ends: zeros follow."""
    turn: int
    """How far the stretch is rotated: what is too short is heard at a random place in the item."""
    tilt: float
    colour_db: Float
    """At the knots."""
    direction: int
    """Index of a response of the item's head."""


@dataclass(frozen=True, eq=False)
class _Item:
    """Everything that is random about one mixture."""

    talker: str
    utterance: int
    """-1: the talker is absent, and only sets the levels."""
    excerpts: list[_Excerpt]
    """The target's, then the interferers'."""
    sir_db: list[float]
    """Of each interferer."""
    head: int
    """Index, -1: mono."""
    room: Float | None
    """``[taps]`` of a simulated room."""
    noise: int
    """Index, -1: none."""
    noise_starts: NDArray[np.int64]
    """One stretch of the recording per ear: diffuse, as most noise is."""
    snr_db: float
    level_db: float


class Mixer:
    """Mixtures without end: ``batch(step)`` is a pure function of the seed and the step."""

    def __init__(
        self,
        speech: Speech,
        scene: Scene,
        frame: FrameSpec,
        seed: int,
        noises: Sequence[Path] = (),
        hrirs: Sequence[Path] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        people = {name.rpartition("@")[0] for name in speech.spans}
        self._known = len(people - speech.unlabelled)
        usable = self._known + bool(people & speech.unlabelled)
        needed = max(n for n, share in zip((2, 1, 2, 3), scene.talkers, strict=True) if share)
        if not speech.targets or usable < needed:
            raise DataError(
                f"{usable} talkers, {len(speech.targets)} with two utterances: these mixtures need {needed}, at least 1 with two"
            )
        self._speech, self._scene, self._seed, self._rate, self._device = speech, scene, seed, frame.sample_rate_hz, device
        self._unlabelled = tuple(n for n in speech.spans if n.rpartition("@")[0] in speech.unlabelled)
        self._labelled = tuple(n for n in speech.spans if n.rpartition("@")[0] not in speech.unlabelled)
        self.length = round(scene.seconds * frame.sample_rate_hz) // frame.hop * frame.hop
        self._samples = _shared(speech.samples).to(device)
        self._noises = [torch.from_numpy(mono_at(p, frame.sample_rate_hz)).to(device) for p in noises]
        self._heads = [_head(p).to(device) for p in hrirs]
        self._knots = _between_knots(self.length, frame.sample_rate_hz).to(device)

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        """``size`` items of step ``step`` for process ``rank`` of ``ranks``: together they are one batch of ``size * ranks``."""
        every = self._scene.binaural_every
        ears = 2 if every and self._heads and step % every == every - 1 else 1
        items = [self._drawn(np.random.default_rng([self._seed, step, rank * size + i]), ears) for i in range(size)]
        mixture, target = self._mixed(items, ears)
        return Batch(mixture, target, [item.talker for item in items], np.array([item.utterance for item in items]))

    def _drawn(self, rng: np.random.Generator, ears: int) -> _Item:
        scene, speech = self._scene, self._speech
        talker = str(rng.choice(speech.targets))
        kind = rng.choice(4, p=scene.talkers)
        others = self._others(rng, talker, (1, 0, 1, 2)[kind])
        head = int(rng.integers(len(self._heads))) if ears == 2 else -1
        room = self._room(rng) if ears == 1 and rng.random() < scene.reverberant else None
        utterance = int(rng.integers(len(speech.spans[talker])))
        excerpts = [self._excerpt(rng, talker, utterance, head), *(self._excerpt(rng, name, None, head) for name in others)]
        sir_db = [rng.uniform(*scene.sir_db) + 10 * np.log10(len(others)) for _ in others]
        noise, starts, snr_db = -1, np.zeros(0, np.int64), 0.0
        if self._noises and rng.random() < scene.noisy:
            noise = int(rng.integers(len(self._noises)))
            starts = rng.integers(len(self._noises[noise]), size=ears)
            snr_db = rng.uniform(*scene.snr_db)
        return _Item(
            talker=talker,
            utterance=-1 if kind == 0 else utterance,
            excerpts=excerpts,
            sir_db=sir_db,
            head=head,
            room=room,
            noise=noise,
            noise_starts=starts,
            snr_db=snr_db,
            level_db=rng.uniform(*scene.level_db),
        )

    def _others(self, rng: np.random.Generator, talker: str, count: int) -> list[str]:
        """Interfering talkers: other people than the target (at any speed), at most one unlabelled."""
        chosen: list[str] = []
        people = {talker.rpartition("@")[0]}
        if count and self._unlabelled and (count > self._known - 1 or rng.random() < count * self._scene.unlabelled):
            chosen.append(str(self._unlabelled[rng.integers(len(self._unlabelled))]))
        while len(chosen) < count:
            name = str(self._labelled[rng.integers(len(self._labelled))])
            if name.rpartition("@")[0] not in people:
                people.add(name.rpartition("@")[0])
                chosen.append(name)
        return chosen

    def _excerpt(self, rng: np.random.Generator, talker: str, utterance: int | None, head: int) -> _Excerpt:
        spans = self._speech.spans[talker]
        start, stop = spans[rng.integers(len(spans)) if utterance is None else utterance]
        room = stop - start - self.length
        first = start + (int(rng.integers(room + 1)) if room > 0 else 0)
        turn = int(rng.integers(-room)) if room < 0 else 0
        tilt = rng.uniform(-self._scene.tilt, self._scene.tilt)
        colour_db = self._scene.colour_db
        knots = rng.uniform(-colour_db, colour_db, len(_COLOUR_KNOTS_HZ)) if colour_db else np.zeros(len(_COLOUR_KNOTS_HZ))
        direction = int(rng.integers(len(self._heads[head]))) if head >= 0 else 0
        return _Excerpt(first, stop, turn, tilt, knots.astype(np.float32), direction)

    def _room(self, rng: np.random.Generator) -> Float:
        """A direct path and an exponentially decaying tail of noise, ``[taps]``."""
        t60 = rng.uniform(*self._scene.t60_s)
        n = np.arange(round(t60 * self._rate))
        tail = rng.standard_normal(len(n)) * 10 ** (-3 * n / len(n))
        tail[: round(0.003 * self._rate)] = 0
        tail *= 10 ** (-rng.uniform(0, 12) / 20) / (np.sqrt(np.sum(tail**2)) + 1e-9)
        tail[0] = 1.0
        return tail.astype(np.float32)

    # From here on sound: ``S`` excerpts of a batch of ``B`` items, ``E`` ears, ``N`` samples, all on the device.

    def _mixed(self, items: list[_Item], ears: int) -> tuple[Tensor, Tensor]:
        """Mixtures and targets, ``[B, E, N]`` each."""
        of = [i for i, item in enumerate(items) for _ in item.excerpts]
        first = [of.index(i) for i in range(len(items))]
        image_SEN = self._placed(self._cut([e for item in items for e in item.excerpts]), items, ears)
        first_B, of_S = self._at(first), self._at(of)
        target_BEN, power_S = image_SEN[first_B], _power(image_SEN)
        power_B = power_S[first_B]
        db_S = [db for item in items for db in (0.0, *item.sir_db)]
        gain_S = (power_B[of_S] / (power_S + 1e-12)).sqrt() * self._amplitude(db_S)
        gain_S = gain_S.index_fill(0, first_B, 0)  # targets join last: absent ones are silent, but set the levels
        mixture_BEN = torch.zeros_like(target_BEN).index_add(0, of_S, image_SEN * gain_S[:, None, None])
        if noisy := [i for i, item in enumerate(items) if item.noise >= 0]:
            noise, at = torch.stack([self._noise(items[i]) for i in noisy]), self._at(noisy)
            snr_db = [items[i].snr_db for i in noisy]
            gain = (power_B[at] / (_power(noise) + 1e-12)).sqrt() * self._amplitude(snr_db)
            mixture_BEN = mixture_BEN.index_add(0, at, noise * gain[:, None, None])
        here = torch.tensor([item.utterance >= 0 for item in items], dtype=torch.float32).to(self._device)
        target_BEN = target_BEN * here[:, None, None]
        mixture_BEN = mixture_BEN + target_BEN
        level = self._amplitude([-item.level_db for item in items]) / (_power(mixture_BEN).sqrt() + 1e-9)
        loudest = 0.99 / (mixture_BEN.abs().amax(dim=(1, 2)) + 1e-9)
        gain_BEN = torch.minimum(level, loudest)[:, None, None]
        return mixture_BEN * gain_BEN, target_BEN * gain_BEN

    def _cut(self, excerpts: list[_Excerpt]) -> Tensor:
        """``[S, N]`` as microphones hear them, each with an RMS of 1."""
        start, stop, turn = (self._at([getattr(e, name) for e in excerpts])[:, None] for name in ("start", "stop", "turn"))
        at_SN = start + torch.arange(self.length, device=self._device).sub(turn).remainder(self.length)
        x_SN = self._samples[at_SN.clamp_max(len(self._samples) - 1)] * (1 / 32768)
        x_SN = torch.where(at_SN < stop, x_SN, 0.0)
        tilt = torch.tensor([e.tilt for e in excerpts], dtype=torch.float32).to(self._device)[:, None]
        x_SN = torch.cat([x_SN[:, :1], x_SN[:, 1:] + tilt * x_SN[:, :-1]], dim=1)
        if self._scene.colour_db:
            # A random response, linear in dB between knots spaced logarithmically, without delay.
            db = torch.from_numpy(np.stack([e.colour_db for e in excerpts])).to(self._device) @ self._knots
            x_SN = torch.fft.irfft(torch.fft.rfft(x_SN) * (10 ** (db / 20)), self.length)
        return x_SN / (x_SN.square().mean(dim=1, keepdim=True).sqrt() + 1e-6)

    def _placed(self, x_SN: Tensor, items: list[_Item], ears: int) -> Tensor:
        """``[S, E, N]``: each through a head from a random direction, a room, or neither."""
        if ears == 2:
            responses = [self._heads[item.head][e.direction] for item in items for e in item.excerpts]
            return _convolved(x_SN, responses)
        image = x_SN[:, None]
        rooms = [None if item.room is None else torch.from_numpy(item.room)[None] for item in items for _ in item.excerpts]
        if inside := [s for s, room in enumerate(rooms) if room is not None]:
            at = self._at(inside)
            reverberant = _convolved(x_SN[at], [room.to(self._device) for room in rooms if room is not None])
            image = image.index_copy(0, at, reverberant)
        return image

    def _noise(self, item: _Item) -> Tensor:
        """``[E, N]``, the recording over and over."""
        recording = self._noises[item.noise]
        at = self._at(item.noise_starts)[:, None] + torch.arange(self.length, device=self._device)
        return recording[at.remainder(len(recording))]

    def _at(self, indices: Sequence[int] | NDArray[np.int64]) -> Tensor:
        return torch.as_tensor(indices, dtype=torch.int64).to(self._device)

    def _amplitude(self, db: Sequence[float]) -> Tensor:
        """Of levels so many dB *below* another."""
        return 10 ** (torch.tensor(db, dtype=torch.float32).to(self._device) / -20)


def _convolved(x_SN: Tensor, responses: Sequence[Tensor]) -> Tensor:
    """``[S, N]`` through a response ``[E, taps]`` each, as long as before: ``[S, E, N]``."""
    n = x_SN.shape[1]
    taps = max(response.shape[1] for response in responses)
    size = scipy.fft.next_fast_len(n + taps - 1, real=True)
    padded = torch.stack([torch.nn.functional.pad(response, (0, taps - response.shape[1])) for response in responses])
    return torch.fft.irfft(torch.fft.rfft(x_SN, size)[:, None] * torch.fft.rfft(padded, size), size)[..., :n]


def _power(x_BEN: Tensor) -> Tensor:
    return x_BEN.square().mean(dim=(1, 2))


def _between_knots(length: int, rate: int) -> Tensor:
    """``[knots, bins]``: gains at the knots to gains at the bins of ``length`` samples."""
    hz = np.arange(length // 2 + 1) * (rate / length)
    rows = [np.interp(np.log(hz + 1), np.log(_COLOUR_KNOTS_HZ), unit) for unit in np.eye(len(_COLOUR_KNOTS_HZ))]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _head(path: Path) -> Tensor:
    """Responses ``[directions, 2, taps]`` of one head."""
    with np.load(path) as file:
        return torch.from_numpy(file["ir"].astype(np.float32))


def _shared(samples: NDArray[np.int16]) -> Tensor:
    """The same memory as a tensor: on a CPU the file of decoded speech stays where it is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(samples)
