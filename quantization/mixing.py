"""Seeded training mixtures: drawn on the host, made of sound where the network trains.

The parts of an item are drawn from (seed, step, position), so a run resumes bit for bit and any number of processes share one
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
import scipy.signal
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_tse.errors import DataError
from edge_tse.frame import FrameSpec
from quantization.corpus import Speech, mono_at
from quantization.narrowband import PassBand, draw_pass_band

__all__ = ["TWO_EARS", "Batch", "Mixer", "Scene"]

Float = NDArray[np.float32]

_COLOUR_KNOTS_HZ = (100.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)


@dataclass(frozen=True)
class Scene:
    """Properties of mixtures: probabilities and ranges, uniform unless said."""

    seconds: float = 4.0
    sir_db: tuple[float, float] = (-6.0, 6.0)
    snr_db: tuple[float, float] = (0.0, 20.0)
    noisy: float = 0.25
    """Share of items with noise."""
    babble: float = 0.0
    """Share of noises that are many talkers at once, from everywhere."""
    talkers: tuple[float, ...] = (0.10, 0.10, 0.68, 0.12)
    """Shares of: target absent, target alone, two talkers, three talkers."""
    paired: bool = False
    """Whether each mixture serves two voices in turn: the target's, then an interferer's, or that of somebody who is not there."""
    alike: float = 0.0
    """Share of interferers chosen for being like the target: the likest of several."""
    easy_steps: int = 0
    """Over so many steps interferers go from the unlikest of several to any."""
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
    indoors: float = 0.0
    """Share of binaural items in a room around the head."""
    direct_db: tuple[float, float] = (-2.0, 12.0)
    """Direct sound over the rest of a room."""
    moving: float = 0.0
    """Share of binaural items in which a talker moves, or the head turns."""
    unequal: float = 0.0
    """Share of binaural items with ears that are not a pair: one dead, weak, inverted, late or clipped, or the same sound twice."""
    narrow: float = 0.0
    """Share of items through a telephone, a codec or a low sampling rate."""
    late: float = 0.0
    """Share of items that begin with silence."""
    disturbed: float = 0.0
    """Share of items with a constant offset or mains hum."""


TWO_EARS = Scene(
    seconds=3.0,
    babble=0.2,
    talkers=(0.02, 0.08, 0.78, 0.12),
    paired=True,
    alike=0.25,
    level_db=(-45.0, -15.0),
    unlabelled=0.1,
    t60_s=(0.15, 0.7),
    binaural_every=2,
    indoors=0.6,
    moving=0.1,
    unequal=0.15,
    narrow=0.25,
    late=0.1,
    disturbed=0.03,
)
"""Every second batch on two ears, 60 % of these in rooms around the head; telephones, silence and ears that are not a pair."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One training batch, its sound on the mixer's device."""

    mixture: Tensor
    """``[items, ears, samples]``"""
    target: Tensor
    """``[items, ears, samples]``; zeros where the target is absent."""
    talker: list[str]
    """Talker whose voice is enrolled, per item (``talker@speed``), also where that talker is absent."""
    utterance: NDArray[np.int64]
    """Index of the talker's span that the target was cut from; -1 where absent. Enrollment must use another."""
    others: list[list[str]]
    """Other talkers that are heard, per item."""


@dataclass(frozen=True, eq=False)
class _Excerpt:
    """A stretch of one utterance and its changes by a microphone."""

    start: int
    """First sample in the corpus."""
    stop: int
    """End of the utterance: zeros follow."""
    turn: int
    """Samples by which the stretch is rotated: a short one is heard at a random place in the item."""
    tilt: float
    colour_db: Float
    """Gain at the knots."""
    direction: int
    """Index of a response of the item's head."""
    towards: int
    """Direction to which a moving talker goes, -1: nowhere."""
    room: Float | None
    """``[ears, taps]`` of a simulated room around the direct sound."""
    direct: float
    """Amplitude of the direct sound in it."""


@dataclass(frozen=True, eq=False)
class _Item:
    """Everything that is random about one mixture."""

    talker: str
    utterance: int
    """Index of the utterance, -1: the talker is absent, and only sets the levels."""
    others: list[str]
    """Interfering talkers."""
    excerpts: list[_Excerpt]
    """The target's, then the interferers'."""
    sir_db: list[float]
    """Ratio of target to each interferer."""
    head: int
    """Index of the head, -1: mono."""
    noise: int
    """Index of the noise, -1: none, -2: babble."""
    noise_starts: NDArray[np.int64]
    """One stretch of the recording per ear (diffuse, as most noise is), or of each talker of the babble."""
    snr_db: float
    level_db: float
    second: int
    """Index of the second voice's excerpt, -1: its talker is absent, or says nothing."""
    second_talker: str
    second_utterance: int
    ears: str
    """Fault of a pair of ears: one of :data:`_UNEQUAL`, or nothing."""
    ear: int
    """Index of the faulty ear."""
    amount: float
    """Amount of the fault, from 0 to 1."""
    band: PassBand | None
    """Pass band; None: everything passes."""
    begins: int
    """Samples of silence at the start."""
    disturbance: tuple[float, float]
    """Constant offset and amplitude of hum, relative to the RMS of the mixture."""
    move: tuple[float, float]
    """Start and length of a talker's movement, as shares of the item."""


_UNEQUAL = ("dead", "weak", "inverted", "late", "clipped", "same")
_LIKENESS_CANDIDATES = 12
_BABBLE = 5


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
        centres: dict[str, Float] | None = None,
    ) -> None:
        """``centres``: a unit vector for each talker, by which voices are alike; without, interferers are drawn at random."""
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
        self._centres = centres or {}
        self._targets = frozenset(speech.targets)
        self._knots = _between_knots(self.length, frame.sample_rate_hz).to(device)

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        """``size`` items of step ``step`` for process ``rank`` of ``ranks``: together they are one batch of ``size * ranks``.

        The first half of paired items are the mixtures, the second half the same mixtures for another voice.
        """
        every = self._scene.binaural_every
        ears = 2 if every and self._heads and step % every == every - 1 else 1
        paired = self._scene.paired and size % 2 == 0
        count = size // 2 if paired else size
        items = [self._drawn(np.random.default_rng([self._seed, step, rank * count + i]), ears, step) for i in range(count)]
        mixture, target, second = self._mixed(items, ears)
        talkers, utterances = [item.talker for item in items], [item.utterance for item in items]
        others = [item.others for item in items]
        if paired:
            mixture, target = torch.cat([mixture, mixture]), torch.cat([target, second])
            talkers += [item.second_talker for item in items]
            utterances += [item.second_utterance for item in items]
            others += [[n for n in (item.talker, *item.others) if n != item.second_talker] for item in items]
        return Batch(mixture, target, talkers, np.array(utterances), others)

    def _drawn(self, rng: np.random.Generator, ears: int, step: int) -> _Item:
        scene, speech = self._scene, self._speech
        talker = str(rng.choice(speech.targets))
        kind = rng.choice(4, p=scene.talkers)
        others = self._others(rng, talker, (1, 0, 1, 2)[kind], step)
        head = int(rng.integers(len(self._heads))) if ears == 2 else -1
        indoors = rng.random() < (scene.indoors if ears == 2 else scene.reverberant)
        t60_s, direct_db = rng.uniform(*scene.t60_s), rng.uniform(*scene.direct_db)
        room = (t60_s, direct_db) if indoors else None
        spans = [int(rng.integers(len(speech.spans[name]))) for name in (talker, *others)]
        excerpts = [self._excerpt(rng, name, span, head, room) for name, span in zip((talker, *others), spans, strict=True)]
        sir_db = [rng.uniform(*scene.sir_db) + 10 * np.log10(len(others)) for _ in others]
        noise, starts, snr_db = -1, np.zeros(0, np.int64), 0.0
        if (self._noises or scene.babble) and rng.random() < scene.noisy:
            if not self._noises or rng.random() < scene.babble:
                noise, starts = -2, rng.integers(len(speech.samples) - self.length, size=_BABBLE * ears)
            else:
                noise = int(rng.integers(len(self._noises)))
                starts = rng.integers(len(self._noises[noise]), size=ears)
            snr_db = rng.uniform(*scene.snr_db)
        utterance = -1 if kind == 0 else spans[0]
        second = next((i for i, name in enumerate(others, 1) if name in self._targets), -1)
        if second > 0:
            second_talker, second_utterance = others[second - 1], spans[second]
        else:  # nobody else here can be enrolled: listen for somebody who is not here, or for the talker again
            here = {name.rpartition("@")[0] for name in (talker, *others)}
            elsewhere = [name for name in speech.targets if name.rpartition("@")[0] not in here]
            second_talker, second_utterance = (str(rng.choice(elsewhere)), -1) if elsewhere else (talker, utterance)
            second = -1 if second_utterance < 0 else 0
        unequal = ears == 2 and rng.random() < scene.unequal
        disturbance = (rng.uniform(-1, 1), rng.uniform(0, 0.5)) if rng.random() < scene.disturbed else (0.0, 0.0)
        return _Item(
            talker=talker,
            utterance=utterance,
            others=others,
            excerpts=excerpts,
            sir_db=sir_db,
            head=head,
            noise=noise,
            noise_starts=starts,
            snr_db=snr_db,
            level_db=rng.uniform(*scene.level_db),
            second=second,
            second_talker=second_talker,
            second_utterance=second_utterance,
            ears=str(rng.choice(_UNEQUAL)) if unequal else "",
            ear=int(rng.integers(2)),
            amount=rng.random(),
            band=draw_pass_band(rng) if rng.random() < scene.narrow else None,
            begins=int(rng.uniform(0.05, 0.5) * self.length) if rng.random() < scene.late else 0,
            disturbance=disturbance,
            move=(rng.uniform(0.1, 0.7), rng.uniform(0.05, 0.5)),
        )

    def _others(self, rng: np.random.Generator, talker: str, count: int, step: int) -> list[str]:
        """Interfering talkers: other people than the target (at any speed), at most one unlabelled."""
        chosen: list[str] = []
        people = {talker.rpartition("@")[0]}
        if count and self._unlabelled and (count > self._known - 1 or rng.random() < count * self._scene.unlabelled):
            chosen.append(str(self._unlabelled[rng.integers(len(self._unlabelled))]))
        ease = 1 - step / self._scene.easy_steps if step < self._scene.easy_steps else 0.0
        while len(chosen) < count:
            drawn = rng.random()
            likeness = -1 if drawn < ease else 1 if drawn > 1 - self._scene.alike * (1 - ease) else 0
            own = self._centres.get(talker)
            names = rng.integers(len(self._labelled), size=_LIKENESS_CANDIDATES if likeness and own is not None else 1)
            candidates = [n for n in (self._labelled[i] for i in names) if n.rpartition("@")[0] not in people]
            if own is not None and likeness and len(candidates) > 1:
                candidates = [max(candidates, key=lambda n: likeness * float(own @ self._centres.get(n, own)))]
            if candidates:
                people.add(candidates[0].rpartition("@")[0])
                chosen.append(str(candidates[0]))
        return chosen

    def _excerpt(
        self, rng: np.random.Generator, talker: str, utterance: int, head: int, room: tuple[float, float] | None
    ) -> _Excerpt:
        start, stop = self._speech.spans[talker][utterance]
        spare = stop - start - self.length
        first = start + (int(rng.integers(spare + 1)) if spare > 0 else 0)
        turn = int(rng.integers(-spare)) if spare < 0 else 0
        tilt = rng.uniform(-self._scene.tilt, self._scene.tilt)
        colour_db = self._scene.colour_db
        knots = rng.uniform(-colour_db, colour_db, len(_COLOUR_KNOTS_HZ)) if colour_db else np.zeros(len(_COLOUR_KNOTS_HZ))
        directions = len(self._heads[head]) if head >= 0 else 1
        direction, towards = (int(d) for d in rng.integers(directions, size=2))
        if head < 0 or rng.random() >= self._scene.moving:
            towards = -1
        around, direct = None, 1.0
        if room is not None:
            around, direct = self._around(rng, head, *room)
        return _Excerpt(first, stop, turn, tilt, knots.astype(np.float32), direction, towards, around, direct)

    def _around(self, rng: np.random.Generator, head: int, t60_s: float, direct_db: float) -> tuple[Float, float]:
        """Response ``[ears, taps]`` that a room adds to direct sound, with an energy of 1, and the direct sound's amplitude.

        Twenty early reflections within 40 ms, each from its own direction of the head, and a diffuse tail whose ears share what is
        low: below some 500 Hz a head is small against the wave.
        """
        n = np.arange(round(t60_s * self._rate))
        ears = 2 if head >= 0 else 1
        decay = np.exp(-6.9 * n / len(n))
        tail = rng.standard_normal((ears, len(n))).astype(np.float32)
        if ears == 2:
            shared = scipy.signal.lfilter([0.18], [1, -0.82], rng.standard_normal(len(n))) * 2.0
            low = scipy.signal.lfilter([0.18], [1, -0.82], tail)
            tail = tail - low + shared * 0.6
        tail *= decay * np.minimum(n / (0.02 * self._rate), 1)
        tail *= np.sqrt(0.5 / (np.sum(tail**2) / ears + 1e-9))
        early = np.zeros((ears, len(n)), np.float32)
        for _ in range(20):
            at = int(rng.uniform(0.001, 0.04) * self._rate)
            response = np.ones((1, 1), np.float32)
            if ears == 2:
                response = self._heads[head][int(rng.integers(len(self._heads[head])))].numpy(force=True)
            taps = min(response.shape[1], len(n) - at)
            early[:, at : at + taps] += rng.choice((-1, 1)) * rng.uniform(0.3, 1) * np.exp(-6.9 * at / len(n)) * response[:, :taps]
        early *= np.sqrt(0.5 / (np.sum(early**2) / ears + 1e-9))
        return (early + tail).astype(np.float32), float(10 ** (direct_db / 20))

    # From here on sound: ``S`` excerpts of a batch of ``B`` items, ``E`` ears, ``N`` samples, all on the device.

    def _mixed(self, items: list[_Item], ears: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mixtures, targets and speech of the second voices, ``[B, E, N]`` each."""
        of = [i for i, item in enumerate(items) for _ in item.excerpts]
        first = [of.index(i) for i in range(len(items))]
        image_SEN = self._placed(self._cut([e for item in items for e in item.excerpts]), items, ears)
        first_B, of_S = self._at(first), self._at(of)
        target_BEN, power_S = image_SEN[first_B], _power(image_SEN)
        power_B = power_S[first_B]
        db_S = [db for item in items for db in (0.0, *item.sir_db)]
        gain_S = (power_B[of_S] / (power_S + 1e-12)).sqrt() * self._amplitude(db_S)
        second_B = self._at([at + max(item.second, 0) for at, item in zip(first, items, strict=True)])
        there = self._flags([item.second >= 0 for item in items])
        second_BEN = image_SEN[second_B] * (gain_S[second_B] * there)[:, None, None]
        gain_S = gain_S.index_fill(0, first_B, 0)  # targets join last: absent ones are silent, but set the levels
        mixture_BEN = torch.zeros_like(target_BEN).index_add(0, of_S, image_SEN * gain_S[:, None, None])
        if noisy := [i for i, item in enumerate(items) if item.noise != -1]:
            noise, at = torch.stack([self._noise(items[i], ears) for i in noisy]), self._at(noisy)
            snr_db = [items[i].snr_db for i in noisy]
            gain = (power_B[at] / (_power(noise) + 1e-12)).sqrt() * self._amplitude(snr_db)
            mixture_BEN = mixture_BEN.index_add(0, at, noise * gain[:, None, None])
        here = self._flags([item.utterance >= 0 for item in items])
        target_BEN = target_BEN * here[:, None, None]
        mixture_BEN = mixture_BEN + target_BEN
        sound = torch.stack([mixture_BEN, target_BEN, second_BEN])
        sound = self._heard(sound, items, ears)
        level = self._amplitude([-item.level_db for item in items]) / (_power(sound[0]).sqrt() + 1e-9)
        loudest = 0.99 / (sound[0].abs().amax(dim=(1, 2)) + 1e-9)
        sound = sound * torch.minimum(level, loudest)[:, None, None]
        mixture_BEN = sound[0]
        if any(item.ears == "clipped" for item in items) and ears == 2:
            mixture_BEN = mixture_BEN.clone()
            for i, item in enumerate(items):
                if item.ears == "clipped":
                    peak = mixture_BEN[i, item.ear].abs().amax() * (0.1 + 0.5 * item.amount)
                    mixture_BEN[i, item.ear] = mixture_BEN[i, item.ear].clamp(-peak, peak)
        return mixture_BEN, sound[1], sound[2]

    def _heard(self, sound: Tensor, items: list[_Item], ears: int) -> Tensor:
        """Effects of devices on mixture and talkers alike, ``[3, B, E, N]``; offset and hum join the mixture alone."""
        for i, item in enumerate(items):
            if item.band is not None:
                sound[:, i] = _narrowed(sound[:, i], item.band, self._rate)
            if item.begins:
                sound[:, i, :, : item.begins] = 0
            offset, hum = item.disturbance
            if offset or hum:
                n = torch.arange(self.length, device=self._device) / self._rate
                rms = sound[0, i].square().mean().sqrt()
                sound[0, i] += rms * (offset + hum * sum(torch.sin(2 * torch.pi * 50 * k * n) / k for k in (1, 2, 3)))
            if ears == 2 and item.ears:
                pair, ear = sound[:, i], item.ear
                match item.ears:
                    case "dead":
                        pair[:, ear] = 0
                    case "weak":
                        pair[:, ear] *= 10 ** (-(6 + 20 * item.amount) / 20)
                    case "inverted":
                        pair[:, ear] *= -1
                    case "late":
                        pair[:, ear] = pair[:, ear].roll(int(item.amount * 1e-3 * self._rate), dims=-1)
                    case "same":
                        pair[:, ear] = pair[:, 1 - ear]
        return sound

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
        """``[S, E, N]``: each through a head from a random direction, a room, both or neither."""
        pairs = [(item, e) for item in items for e in item.excerpts]
        if ears == 2:
            image = _convolved(x_SN, [self._response(item.head, e.direction, e) for item, e in pairs])
            if moving := [s for s, (_, e) in enumerate(pairs) if e.towards >= 0]:
                at = self._at(moving)
                gone = _convolved(x_SN[at], [self._response(pairs[s][0].head, pairs[s][1].towards, pairs[s][1]) for s in moving])
                n = torch.arange(self.length, device=self._device) / self.length
                when, during = (torch.tensor([pairs[s][0].move[k] for s in moving], device=self._device)[:, None] for k in (0, 1))
                there = ((n - when) / during).clamp(0, 1)[:, None]
                image = image.index_copy(0, at, image[at] * (1 - there) + gone * there)
            return image
        image = x_SN[:, None]
        if inside := [s for s, (_, e) in enumerate(pairs) if e.room is not None]:
            at = self._at(inside)
            image = image.index_copy(0, at, _convolved(x_SN[at], [self._response(-1, 0, pairs[s][1]) for s in inside]))
        return image

    def _response(self, head: int, direction: int, excerpt: _Excerpt) -> Tensor:
        """Response ``[E, taps]`` of the direct sound and the room."""
        direct = self._heads[head][direction] if head >= 0 else torch.ones(1, 1, device=self._device)
        if excerpt.room is None:
            return direct
        response = torch.from_numpy(excerpt.room).to(self._device)
        taps = min(direct.shape[1], response.shape[1])
        unit = excerpt.direct * (direct.shape[0] / (direct.square().sum() + 1e-12)).sqrt()
        response = response.clone()
        response[:, :taps] += direct[:, :taps] * unit
        return response

    def _noise(self, item: _Item, ears: int) -> Tensor:
        """Noise ``[E, N]``: the recording over and over, or as many talkers at once as are babble."""
        samples = torch.arange(self.length, device=self._device)
        starts = self._at(item.noise_starts)[:, None]
        if item.noise == -2:
            voices = self._samples[starts + samples].float()
            voices = voices / (voices.square().mean(dim=1, keepdim=True).sqrt() + 1.0)
            return voices.unflatten(0, (_BABBLE, ears)).sum(dim=0)
        recording = self._noises[item.noise]
        return recording[(starts + samples).remainder(len(recording))]

    def _flags(self, there: Sequence[bool]) -> Tensor:
        return torch.tensor(there, dtype=torch.float32).to(self._device)

    def _at(self, indices: Sequence[int] | NDArray[np.int64]) -> Tensor:
        return torch.as_tensor(indices, dtype=torch.int64).to(self._device)

    def _amplitude(self, db: Sequence[float]) -> Tensor:
        """Amplitude of a level that is so many dB *below* another."""
        return 10 ** (torch.tensor(db, dtype=torch.float32).to(self._device) / -20)


def _convolved(x_SN: Tensor, responses: Sequence[Tensor]) -> Tensor:
    """``[S, N]`` through a response ``[E, taps]`` each, as long as before: ``[S, E, N]``."""
    n = x_SN.shape[1]
    taps = max(response.shape[1] for response in responses)
    size = scipy.fft.next_fast_len(n + taps - 1, real=True)
    padded = torch.stack([torch.nn.functional.pad(response, (0, taps - response.shape[1])) for response in responses])
    return torch.fft.irfft(torch.fft.rfft(x_SN, size)[:, None] * torch.fft.rfft(padded, size), size)[..., :n]


def _narrowed(x: Tensor, band: PassBand, rate: int) -> Tensor:
    """The signal ``[..., N]`` without the sound outside the band."""
    low, high, walls = band
    n = x.shape[-1]
    hz = torch.fft.rfftfreq(n, 1 / rate).to(x.device)
    order = 200.0 if walls else 4.0
    response = (1 + (hz / high) ** (2 * order)).rsqrt()
    if low:
        response = response * (1 + (low / hz.clamp_min(1.0)) ** (2 * order)).rsqrt()
    return torch.fft.irfft(torch.fft.rfft(x) * response.nan_to_num(0.0), n)


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
    """A tensor that shares the array's memory: on a CPU the file of decoded speech stays where it is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(samples)
