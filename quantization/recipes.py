"""Recipes of training runs: each is a frozen value made by a function of the same name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from edge_tse.errors import DataError
from edge_tse.nn.baselines import BAND_SPLIT, GATED_CRN, SPEAKERBEAM, SPEX, VOICEFILTER
from edge_tse.nn.encoder import BLOCKS
from edge_tse.nn.flow_losses import FlowWeights
from edge_tse.nn.losses import Teaching, Weights
from edge_tse.nn.mask2flow import MINI, PAPER_V1, PAPER_V2, TINY
from edge_tse.nn.network import NetworkConfig
from edge_tse.nn.student import (
    BASE,
    BASE_BEAM,
    NANO,
    NANO_BEAM,
    SMALL,
    SMALL_BEAM,
    TEACHER,
    TEACHER_S,
    StudentConfig,
)
from quantization.mixture import TWO_EARS, Scene

__all__ = ["RECIPES", "EncoderRecipe", "Recipe", "recipe"]


@dataclass(frozen=True, kw_only=True)
class EncoderRecipe:
    """Enrollment encoder, trained as a speaker classifier."""

    hidden: int = 256
    """Hidden units of a block."""
    blocks: int = BLOCKS
    steps: int = 1500
    batch: int = 64
    frames: tuple[int, int] = (60, 200)
    """Length of training crops in pooled frames of 16 ms (active speech only)."""
    lr: float = 3e-3
    tilt: float = 0.15
    """Largest spectral tilt added to a crop, in units of 40 dB from the lowest to the highest band."""
    noisy: float = 0.5
    """Share of crops with noise: a floor 5 to 30 dB below the mean level, a recording of noise, or babble of other talkers."""
    snr_db: tuple[float, float] = (0.0, 25.0)
    """Signal-to-noise ratio of recordings and babble."""
    narrow: float = 0.2
    """Share of crops through a telephone or a low sampling rate."""
    loss: str = "am"
    """``am``: additive margin; ``aam``: additive angular margin; ``ge2e``: against the other talkers of the batch."""
    pull: float = 0.0
    """Weight of the mean distance (one minus the cosine) of crops to their talker's centre, beside ``am`` and ``aam``."""
    crops: int = 4
    """Crops of each talker in a batch of ``ge2e``."""
    goes_on: bool = False
    """Whether a run that starts from a checkpoint whose encoder was made otherwise trains it on; else it takes it as it is."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a training run depends on besides the data."""

    name: str
    student: NetworkConfig
    """Network to train: a student, the published system, or a baseline."""
    scene: Scene = field(default_factory=Scene)
    encoder: EncoderRecipe | None = field(default_factory=EncoderRecipe)
    """Recipe of the encoder; None: embeddings come from another model."""
    steps: int = 14000
    """Steps of the cosine; a constant rate ends nowhere, and a cut of it (`train --cut`) when it is asked to."""
    constant: bool = False
    """Whether the rate stays, so that a run has no planned end."""
    average: float = 0.0
    """Share of themselves that the averaged weights keep each step: they are validated and shipped; 0: the weights themselves."""
    own_moments: int | None = None
    """Steps whose batches are normalised by their own moments; from then on by the running ones, as on a device. None: all."""
    batch: int = 8
    """Items per step over all processes."""
    lr: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.01
    clip: float = 5.0
    validation: int = 96
    """Mixtures of held-out talkers that a validation hears; a third as many on two ears."""
    seed: int = 1
    blur: float = 0.3
    """Distance that a training enrollment is moved in a random direction (the embedding is a unit vector)."""
    mask_weight: float = 0.5
    """Weight of stage 1's own error, in dB like the output's."""
    flow_weight: float = 4.0
    """Weight of rectified-flow regression at t = 0 and at random t."""
    magnitude_weight: float = 3.0
    """Weight of compressed band magnitudes."""
    suppression: float = 1.0
    """Extra weight of a magnitude that falls short of the target over one that exceeds it."""
    teaching: Teaching = field(default_factory=lambda: Teaching(output=8.0, mask=4.0, velocity=4.0))
    """Weights of a teacher's targets, if the run is given one."""
    flow: FlowWeights = field(default_factory=FlowWeights)
    """Losses of the published system, instead of the terms above."""

    def hours(self, step: int) -> float:
        """Hours of mixture up to a step; one that serves two voices counts once."""
        served = 2 if self.scene.paired else 1
        return step * self.batch * self.scene.seconds / served / 3600

    @property
    def without_easy_start(self) -> Recipe:
        """The recipe without its easy start, for weights that have learned already."""
        return replace(self, scene=replace(self.scene, easy_steps=0))

    @property
    def weights(self) -> Weights:
        """Weights of the terms that a student is trained to."""
        return Weights(mask=self.mask_weight, flow=self.flow_weight, magnitude=self.magnitude_weight, suppression=self.suppression)


def nano_gains() -> Recipe:
    """One real gain a band for both ears, no beam: at most 150 k resident weights, for microcontrollers."""
    return Recipe(name="nano_gains", student=NANO)


def small_gains() -> Recipe:
    """One real gain a band for both ears, no beam: at most 600 k resident weights."""
    return Recipe(name="small_gains", student=SMALL)


def small_local() -> Recipe:
    """``small_gains``, from which it may start, that also listens to the layers of the enrollment encoder."""
    return replace(small_gains(), name="small_local", student=replace(SMALL, local=16))


def base_gains() -> Recipe:
    """One real gain a band for both ears, no beam: at most 2 M resident weights, for phones."""
    return Recipe(name="base_gains", student=BASE)


def nano() -> Recipe:
    """Model for microcontrollers: at most 230 k multiply-accumulates a hop."""
    return _of_two_ears("nano", NANO_BEAM)


def small() -> Recipe:
    """The default model: a beam between the stages, a second stage that decides; a run without a planned end."""
    return _of_two_ears("small", SMALL_BEAM)


def base() -> Recipe:
    """Model for phones and computers: at most 4 M multiply-accumulates a hop."""
    return _of_two_ears("base", BASE_BEAM)


def _of_two_ears(name: str, student: StudentConfig) -> Recipe:
    encoder = EncoderRecipe(hidden=512, blocks=6, steps=5000, batch=96, lr=1.5e-3, narrow=0.5, pull=8.0, goes_on=True)
    return Recipe(
        name=name,
        student=student,
        encoder=encoder,
        scene=replace(TWO_EARS, easy_steps=_SIX_HOURS),
        steps=_ENDLESS,
        constant=True,
        average=0.998,
        own_moments=_SIX_HOURS,
        batch=4,
        lr=1.5e-3,
        warmup=50,
    )


def small_one_ear() -> Recipe:
    """``small`` with one ear. On the sound of the baselines, to compare with them: voices of any likeness from the first step."""
    return _of_one_ear("small_one_ear", SMALL_BEAM)


def spex() -> Recipe:
    """Baseline: causal SpEx+, in the time domain."""
    return _of_one_ear("spex", SPEX)


def speakerbeam() -> Recipe:
    """Baseline: causal SpeakerBeam in the time domain; the voice multiplies the stream."""
    return _of_one_ear("speakerbeam", SPEAKERBEAM)


def voicefilter() -> Recipe:
    """Baseline: causal VoiceFilter, two LSTM layers and a real mask."""
    return _of_one_ear("voicefilter", VOICEFILTER)


def gated_crn() -> Recipe:
    """Baseline: gated convolutional-recurrent network with local and global enrollment, complex gains."""
    return _of_one_ear("gated_crn", GATED_CRN)


def band_split() -> Recipe:
    """Baseline: causal band-split recurrent network, complex gains."""
    return _of_one_ear("band_split", BAND_SPLIT)


def _of_one_ear(name: str, network: NetworkConfig) -> Recipe:
    own = _of_two_ears(name, SMALL_BEAM)
    scene = replace(own.scene, binaural_every=0, easy_steps=0)
    return replace(own, student=network, scene=scene, own_moments=480)  # 48 minutes of mixtures: runs of theirs are short


def teacher_s() -> Recipe:
    """``small_gains`` that also sees the future, from which it may be grown: to be distilled, not to be worn."""
    return Recipe(name="teacher_s", student=TEACHER_S)


def teacher() -> Recipe:
    """Teacher in the students' own domain, with two of five taps in the future: to be distilled, not to be worn. For a GPU."""
    return Recipe(name="teacher", student=TEACHER)


def smoke() -> Recipe:
    """Seconds, not hours: shows that every part runs. Learns nothing worth hearing."""
    encoder = EncoderRecipe(steps=6, batch=16)
    return replace(nano_gains(), name="smoke", steps=6, batch=4, warmup=2, encoder=encoder, scene=Scene(seconds=1.0), validation=12)


def smoke_beam() -> Recipe:
    """``smoke`` with a beam: no end but the steps that are asked for."""
    scene, encoder = replace(TWO_EARS, seconds=1.0, easy_steps=2), EncoderRecipe(steps=6, batch=16, goes_on=True)
    shown = replace(nano(), name="smoke_beam", encoder=encoder, scene=scene, own_moments=2, average=0.5)
    return replace(shown, warmup=2, validation=12)


def mask2flow_paper() -> Recipe:
    """Mask2Flow-TSE at the published size, about 89 M parameters: convolutions and LSTM, then 9 DiT blocks. For a GPU."""
    return Recipe(name="mask2flow_paper", student=PAPER_V1, steps=200_000, batch=32, lr=3e-4, warmup=2000, clip=1.0)


def mask2flow_paper_v2() -> Recipe:
    """Mask2Flow-TSE with the mask stage of the paper's second version: lightweight convolutions."""
    return replace(mask2flow_paper(), name="mask2flow_paper_v2", student=PAPER_V2)


def mask2flow_s() -> Recipe:
    """Mask2Flow-TSE in 4.4 M parameters, trained to what a gain on the mixture can reach: a teacher for students."""
    flow = FlowWeights(loudness=0.3, phase_sensitive=True, deepest_db=20.0)
    return Recipe(name="mask2flow_s", student=MINI, flow=flow, lr=1e-3, clip=1.0)


def mask2flow_smoke() -> Recipe:
    """``smoke`` of the published system."""
    return replace(smoke(), name="mask2flow_smoke", student=TINY, flow=mask2flow_s().flow, lr=1e-3)


_ENDLESS = 10**9
_SIX_HOURS = 3600
"""Steps of six hours of mixtures."""

_STUDENTS = (nano, small, base, nano_gains, small_gains, base_gains, small_local, teacher_s, teacher, smoke, smoke_beam)
_PUBLISHED = (mask2flow_paper, mask2flow_paper_v2, mask2flow_s, mask2flow_smoke)
_BASELINES = (small_one_ear, spex, speakerbeam, voicefilter, gated_crn, band_split)
RECIPES: dict[str, Callable[[], Recipe]] = {f.__name__: f for f in (*_STUDENTS, *_PUBLISHED, *_BASELINES)}


def recipe(name: str) -> Recipe:
    """A recipe by name. ``DataError`` lists the known ones."""
    if name not in RECIPES:
        raise DataError(f"unknown recipe {name!r}: one of {', '.join(sorted(RECIPES))}")
    return RECIPES[name]()
