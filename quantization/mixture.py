"""What is random about a training mixture: who talks, from where, in which room, how loudly, and what a device does to it.

Drawn on the host from a random generator; :mod:`quantization.mixing` makes the sound of it, where the network trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from edge_tse.errors import DataError
from quantization.corpus import Speech
from quantization.narrowband import PassBand, draw_pass_band

__all__ = ["BABBLE_TALKERS", "COLOUR_KNOTS_HZ", "TWO_EARS", "Excerpt", "Mixture", "MixtureSampler", "Scene"]

Float = NDArray[np.float32]

COLOUR_KNOTS_HZ = (100.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)


@dataclass(frozen=True)
class Scene:
    """Properties of mixtures: probabilities and ranges, uniform unless said."""

    seconds: float = 4.0
    sir_db: tuple[float, float] = (-6.0, 6.0)
    snr_db: tuple[float, float] = (0.0, 20.0)
    noisy: float = 0.25
    """Share of items with noise."""
    noisy_alone: float | None = None
    """Share with noise of the items in which nobody but the target talks; None: as of all."""
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
    noisy=0.35,
    noisy_alone=0.65,
    snr_db=(-5.0, 20.0),
    babble=0.2,
    talkers=(0.02, 0.10, 0.76, 0.12),
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
class Excerpt:
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
class Mixture:
    """Everything that is random about one mixture."""

    talker: str
    utterance: int
    """Index of the utterance, -1: the talker is absent, and only sets the levels."""
    others: list[str]
    """Interfering talkers."""
    excerpts: list[Excerpt]
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
BABBLE_TALKERS = 5


class MixtureSampler:
    """Draws mixtures of a scene out of talkers, noises and heads."""

    def __init__(
        self,
        speech: Speech,
        scene: Scene,
        rate_hz: int,
        length: int,
        noise_lengths: Sequence[int] = (),
        heads: Sequence[Float] = (),
        centres: dict[str, Float] | None = None,
    ) -> None:
        """``length``: samples of a mixture. ``noise_lengths``: samples of each noise. ``heads``: ``[directions, 2, taps]`` each.

        ``centres``: a unit vector for each talker, by which voices are alike; without, interferers are drawn at random.
        ``DataError`` if there are too few talkers for the scene.
        """
        people = {name.rpartition("@")[0] for name in speech.spans}
        self._known = len(people - speech.unlabelled)
        usable = self._known + bool(people & speech.unlabelled)
        needed = max(n for n, share in zip((2, 1, 2, 3), scene.talkers, strict=True) if share)
        if not speech.targets or usable < needed:
            raise DataError(
                f"{usable} talkers, {len(speech.targets)} with two utterances: these mixtures need {needed}, at least 1 with two"
            )
        self._speech, self._scene, self._rate_hz, self._length = speech, scene, rate_hz, length
        self._noise_lengths, self._heads = noise_lengths, heads
        self._unlabelled = tuple(n for n in speech.spans if n.rpartition("@")[0] in speech.unlabelled)
        self._labelled = tuple(n for n in speech.spans if n.rpartition("@")[0] not in speech.unlabelled)
        self._centres = centres or {}
        self._targets = frozenset(speech.targets)

    def draw(self, rng: np.random.Generator, ears: int, step: int) -> Mixture:
        """A mixture on ``ears`` (1 or 2) of training step ``step``, by which interferers get harder."""
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
        noisy = scene.noisy if others or scene.noisy_alone is None else scene.noisy_alone
        if (self._noise_lengths or scene.babble) and rng.random() < noisy:
            if not self._noise_lengths or rng.random() < scene.babble:
                noise, starts = -2, rng.integers(len(speech.samples) - self._length, size=BABBLE_TALKERS * ears)
            else:
                noise = int(rng.integers(len(self._noise_lengths)))
                starts = rng.integers(self._noise_lengths[noise], size=ears)
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
        return Mixture(
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
            begins=int(rng.uniform(0.05, 0.5) * self._length) if rng.random() < scene.late else 0,
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
    ) -> Excerpt:
        start, stop = self._speech.spans[talker][utterance]
        spare = stop - start - self._length
        first = start + (int(rng.integers(spare + 1)) if spare > 0 else 0)
        turn = int(rng.integers(-spare)) if spare < 0 else 0
        tilt = rng.uniform(-self._scene.tilt, self._scene.tilt)
        colour_db = self._scene.colour_db
        knots = rng.uniform(-colour_db, colour_db, len(COLOUR_KNOTS_HZ)) if colour_db else np.zeros(len(COLOUR_KNOTS_HZ))
        directions = len(self._heads[head]) if head >= 0 else 1
        direction, towards = (int(d) for d in rng.integers(directions, size=2))
        if head < 0 or rng.random() >= self._scene.moving:
            towards = -1
        around, direct = None, 1.0
        if room is not None:
            around, direct = self._room_response(rng, head, *room)
        return Excerpt(first, stop, turn, tilt, knots.astype(np.float32), direction, towards, around, direct)

    def _room_response(self, rng: np.random.Generator, head: int, t60_s: float, direct_db: float) -> tuple[Float, float]:
        """Response ``[ears, taps]`` that a room adds to direct sound, with an energy of 1, and the direct sound's amplitude.

        Twenty early reflections within 40 ms, each from its own direction of the head, and a diffuse tail whose ears share what is
        low: below some 500 Hz a head is small against the wave.
        """
        n = np.arange(round(t60_s * self._rate_hz))
        ears = 2 if head >= 0 else 1
        decay = np.exp(-6.9 * n / len(n))
        tail = rng.standard_normal((ears, len(n))).astype(np.float32)
        if ears == 2:
            shared = scipy.signal.lfilter([0.18], [1, -0.82], rng.standard_normal(len(n))) * 2.0
            low = scipy.signal.lfilter([0.18], [1, -0.82], tail)
            tail = tail - low + shared * 0.6
        tail *= decay * np.minimum(n / (0.02 * self._rate_hz), 1)
        tail *= np.sqrt(0.5 / (np.sum(tail**2) / ears + 1e-9))
        early = np.zeros((ears, len(n)), np.float32)
        for _ in range(20):
            at = int(rng.uniform(0.001, 0.04) * self._rate_hz)
            response = np.ones((1, 1), np.float32)
            if ears == 2:
                response = self._heads[head][int(rng.integers(len(self._heads[head])))]
            taps = min(response.shape[1], len(n) - at)
            early[:, at : at + taps] += rng.choice((-1, 1)) * rng.uniform(0.3, 1) * np.exp(-6.9 * at / len(n)) * response[:, :taps]
        early *= np.sqrt(0.5 / (np.sum(early**2) / ears + 1e-9))
        return (early + tail).astype(np.float32), float(10 ** (direct_db / 20))
