"""The sound of training mixtures, made of whole batches where the network trains.

An item is a :class:`~quantization.mixture.Mixture`, drawn on the host from (seed, step, position), so a run resumes bit for bit and
any number of processes share one sequence. Decoded speech, noises and head-related responses lie on the device, and cutting,
colouring, convolution and mixing of a whole batch happen there: a GPU trains faster than a CPU mixes.
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

from edge_tse.frame import FrameSpec
from quantization.corpus import Speech, mono_at
from quantization.mixture import BABBLE_TALKERS, COLOUR_KNOTS_HZ, Excerpt, Mixture, MixtureSampler, Scene
from quantization.narrowband import PassBand

__all__ = ["Batch", "Mixer"]

Float = NDArray[np.float32]


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
    place: list[int]
    """Index of each item in the batch of all processes together."""


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
        """``centres`` as of :class:`~quantization.mixture.MixtureSampler`. ``DataError`` if there are too few talkers."""
        self._scene, self._seed, self._rate, self._device = scene, seed, frame.sample_rate_hz, device
        self.length = round(scene.seconds * frame.sample_rate_hz) // frame.hop * frame.hop
        """Samples of an item."""
        sounds, heads = [mono_at(path, frame.sample_rate_hz) for path in noises], [_head(path) for path in hrirs]
        self._sampler = MixtureSampler(
            speech, scene, frame.sample_rate_hz, self.length, [len(sound) for sound in sounds], heads, centres
        )
        self._samples = _without_copy(speech.samples).to(device)
        self._noises = [torch.from_numpy(sound).to(device) for sound in sounds]
        self._heads = [torch.from_numpy(head).to(device) for head in heads]
        self._knots = _interpolation(self.length, frame.sample_rate_hz).to(device)

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        """``size`` items of step ``step`` for process ``rank`` of ``ranks``: together they are one batch of ``size * ranks``.

        The first half of paired items are the mixtures, the second half the same mixtures for another voice.
        """
        every = self._scene.binaural_every
        ears = 2 if every and self._heads and step % every == every - 1 else 1
        paired = self._scene.paired and size % 2 == 0
        count = size // 2 if paired else size
        place = [rank * count + i for i in range(count)]
        items = [self._sampler.draw(np.random.default_rng([self._seed, step, i]), ears, step) for i in place]
        mixture, target, second = self._mix(items, ears)
        talkers, utterances = [item.talker for item in items], [item.utterance for item in items]
        others = [item.others for item in items]
        if paired:
            mixture, target = torch.cat([mixture, mixture]), torch.cat([target, second])
            talkers += [item.second_talker for item in items]
            utterances += [item.second_utterance for item in items]
            others += [[n for n in (item.talker, *item.others) if n != item.second_talker] for item in items]
            place += [ranks * count + i for i in place]
        return Batch(mixture, target, talkers, np.array(utterances), others, place)

    # Shapes: ``S`` excerpts of a batch of ``B`` items, ``E`` ears, ``N`` samples, all on the device.

    def _mix(self, items: list[Mixture], ears: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mixtures, targets and speech of the second voices, ``[B, E, N]`` each."""
        of = [i for i, item in enumerate(items) for _ in item.excerpts]
        first = [of.index(i) for i in range(len(items))]
        image_SEN = self._place(self._cut([e for item in items for e in item.excerpts]), items, ears)
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
        sound = self._degrade(sound, items, ears)
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

    def _degrade(self, sound: Tensor, items: list[Mixture], ears: int) -> Tensor:
        """Effects of devices on mixture and talkers alike, ``[3, B, E, N]``; offset and hum join the mixture alone."""
        for i, item in enumerate(items):
            if item.band is not None:
                sound[:, i] = _narrow(sound[:, i], item.band, self._rate)
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

    def _cut(self, excerpts: list[Excerpt]) -> Tensor:
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

    def _place(self, x_SN: Tensor, items: list[Mixture], ears: int) -> Tensor:
        """``[S, E, N]``: each through a head from a random direction, a room, both or neither."""
        pairs = [(item, e) for item in items for e in item.excerpts]
        if ears == 2:
            image = _convolve(x_SN, [self._response(item.head, e.direction, e) for item, e in pairs])
            if moving := [s for s, (_, e) in enumerate(pairs) if e.towards >= 0]:
                at = self._at(moving)
                gone = _convolve(x_SN[at], [self._response(pairs[s][0].head, pairs[s][1].towards, pairs[s][1]) for s in moving])
                n = torch.arange(self.length, device=self._device) / self.length
                when, during = (torch.tensor([pairs[s][0].move[k] for s in moving], device=self._device)[:, None] for k in (0, 1))
                there = ((n - when) / during).clamp(0, 1)[:, None]
                image = image.index_copy(0, at, image[at] * (1 - there) + gone * there)
            return image
        image = x_SN[:, None]
        if inside := [s for s, (_, e) in enumerate(pairs) if e.room is not None]:
            at = self._at(inside)
            image = image.index_copy(0, at, _convolve(x_SN[at], [self._response(-1, 0, pairs[s][1]) for s in inside]))
        return image

    def _response(self, head: int, direction: int, excerpt: Excerpt) -> Tensor:
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

    def _noise(self, item: Mixture, ears: int) -> Tensor:
        """Noise ``[E, N]``: the recording over and over, or as many talkers at once as are babble."""
        samples = torch.arange(self.length, device=self._device)
        starts = self._at(item.noise_starts)[:, None]
        if item.noise == -2:
            voices = self._samples[starts + samples].float()
            voices = voices / (voices.square().mean(dim=1, keepdim=True).sqrt() + 1.0)
            return voices.unflatten(0, (BABBLE_TALKERS, ears)).sum(dim=0)
        recording = self._noises[item.noise]
        return recording[(starts + samples).remainder(len(recording))]

    def _flags(self, there: Sequence[bool]) -> Tensor:
        return torch.tensor(there, dtype=torch.float32).to(self._device)

    def _at(self, indices: Sequence[int] | NDArray[np.int64]) -> Tensor:
        return torch.as_tensor(indices, dtype=torch.int64).to(self._device)

    def _amplitude(self, db: Sequence[float]) -> Tensor:
        """Amplitude of a level that is so many dB *below* another."""
        return 10 ** (torch.tensor(db, dtype=torch.float32).to(self._device) / -20)


def _convolve(x_SN: Tensor, responses: Sequence[Tensor]) -> Tensor:
    """``[S, N]`` through a response ``[E, taps]`` each, as long as before: ``[S, E, N]``."""
    n = x_SN.shape[1]
    taps = max(response.shape[1] for response in responses)
    size = scipy.fft.next_fast_len(n + taps - 1, real=True)
    padded = torch.stack([torch.nn.functional.pad(response, (0, taps - response.shape[1])) for response in responses])
    return torch.fft.irfft(torch.fft.rfft(x_SN, size)[:, None] * torch.fft.rfft(padded, size), size)[..., :n]


def _narrow(x: Tensor, band: PassBand, rate: int) -> Tensor:
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


def _interpolation(length: int, rate: int) -> Tensor:
    """``[knots, bins]``: gains at the knots to gains at the bins of ``length`` samples."""
    hz = np.arange(length // 2 + 1) * (rate / length)
    rows = [np.interp(np.log(hz + 1), np.log(COLOUR_KNOTS_HZ), unit) for unit in np.eye(len(COLOUR_KNOTS_HZ))]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _head(path: Path) -> Float:
    """Responses ``[directions, 2, taps]`` of one head."""
    with np.load(path) as file:
        return np.asarray(file["ir"], dtype=np.float32)


def _without_copy(samples: NDArray[np.int16]) -> Tensor:
    """A tensor that shares the array's memory: on a CPU the file of decoded speech stays where it is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(samples)
