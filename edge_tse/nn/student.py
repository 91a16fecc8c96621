"""The causal streaming student of Mask2Flow-TSE: a mask stage that deletes, a one-step flow that inserts.

Both stages are stacks of dilated causal blocks over ``[B, T, C]`` (channels last, pointwise layers as matrix products). The flow
lives in the gain domain: a spectrogram is described by its band gain on the mixture, so the masked spectrogram is the mask ``m``,
the clean one its best real gain ``m*``, the path ``m_t = (1 - t) m + t m*``, the velocity ``m* - m``, and one Euler step from t = 0
gives ``max(0, m + v(m, 0))``.

The voice (and t) enter only as a positive scale and a shift per channel after a convolution, so for one voice at t = 0 they are
constants of the integer graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_tse.frame import FrameSpec
from edge_tse.nn.encoder import BLOCKS, CHANNELS
from edge_tse.nn.front import TorchFront
from edge_tse.nn.stage import Film, Stage, StageConfig
from edge_tse.voice import matching_layers

__all__ = [
    "BASE",
    "BASE_BEAM",
    "NANO",
    "NANO_BEAM",
    "SMALL",
    "SMALL_BEAM",
    "TEACHER",
    "TEACHER_S",
    "Moves",
    "Student",
    "StudentConfig",
]


@dataclass(frozen=True)
class StudentConfig:
    """Geometry and sizes of a student."""

    mask: StageConfig
    refine: StageConfig
    frame: FrameSpec = field(default_factory=FrameSpec)
    taps: int = 3
    embedding: int = 128
    code: int = 64
    """Width of the bottleneck between a voice and its modulations."""
    ahead: bool = False
    """Whether frames also see later ones: a teacher may, nothing that streams does."""
    local: int = 0
    """Width of the bottleneck of each layer of the enrollment encoder, whose averages modulate the blocks that match it (local and
    global features, as in LGR-TSE); 0: the embedding alone modulates."""

    @property
    def voice_size(self) -> int:
        """Values that describe a talker: the embedding, then the averages of each layer."""
        return self.embedding + (BLOCKS * CHANNELS if self.local else 0)

    @property
    def receptive_field(self) -> int:
        """Frames that one output frame depends on."""
        return 1 + (self.taps - 1) * (sum(self.mask.dilations) + sum(self.refine.dilations))


_OCTAVES = (1, 2, 4, 8, 16, 32, 64, 128)
_TWO_EARS = FrameSpec(beam=True, level_invariant=True)
NANO = StudentConfig(StageConfig(64, 96, _OCTAVES[:6]), StageConfig(48, 64, _OCTAVES[:3]))
SMALL = StudentConfig(StageConfig(128, 208, (*_OCTAVES, 2)), StageConfig(64, 96, _OCTAVES[:3]))
BASE = StudentConfig(StageConfig(224, 368, (*_OCTAVES, 2, 4)), StageConfig(128, 192, _OCTAVES[:4]))
NANO_BEAM = StudentConfig(NANO.mask, StageConfig(64, 96, _OCTAVES[:5]), _TWO_EARS)
SMALL_BEAM = StudentConfig(SMALL.mask, StageConfig(112, 176, (*_OCTAVES[:7], 2, 1)), _TWO_EARS)
BASE_BEAM = StudentConfig(StageConfig(288, 480, (*_OCTAVES, 2, 4)), StageConfig(176, 288, (*_OCTAVES[:7], 2, 1)), _TWO_EARS)
TEACHER_S = replace(SMALL, taps=5, ahead=True)
TEACHER = StudentConfig(
    StageConfig(320, 640, (*_OCTAVES, 2, 4, 8, 16, 32, 64, 128)), StageConfig(192, 320, _OCTAVES[:4]), taps=5, ahead=True
)


_FIRST_SHARE = math.log(0.3 / 0.7)
"""Logit of the beam's share that a new student begins with."""


class Moves(NamedTuple):
    """Decisions of a student for a mixture; ``[B, T, G]`` unless said."""

    mask: Tensor
    velocity: Tensor
    share: Tensor | None
    """Share of the beam; None: no beam in this geometry."""
    beam: Tensor | None
    """Beam ``complex [B, 2, T, K]``; None: one ear, or no beam in this geometry."""
    hidden: Tensor
    """Stream of the first stage, ``[B, T, C]``."""
    features: Tensor
    """Features of the whole frame, ``[B, T, features]``."""
    part: Tensor
    """Part of the talker that pointed the beam, in [0, 1]: the mask where there is no beam."""

    @property
    def gain(self) -> Tensor:
        """Gain on the mixture: ``relu(mask + velocity)``."""
        return functional.relu(self.mask + self.velocity)

    def apply(self, front: TorchFront, spectra: Tensor) -> Tensor:
        """Apply the decisions: ``max(0, m + v) x + b (y - m x)``, of which a single ear, where ``y = m x``, has the first part."""
        if self.beam is None or self.share is None:
            return front.amplify(spectra, self.gain)
        return front.amplify(spectra, self.gain - self.share * self.mask) + front.amplify(self.beam, self.share)


class Student(nn.Module):
    """Mask stage and refiner with the heads that turn a voice into modulations."""

    local_mean: Tensor
    local_deviation: Tensor

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self.mixed_precision = False
        """Whether matrices are multiplied in bfloat16 (sums, moments and losses stay float32): training and teachers do."""
        frame = config.frame
        self.entry: nn.Module = nn.Identity()
        self.stem: nn.Module = nn.Linear(frame.heard, config.mask.channels)
        self.mask = Stage(config.mask, config.taps, config.ahead)
        self.mask_head: nn.Module = nn.Linear(config.mask.channels, frame.bands)
        self.mask_out: nn.Module = nn.Sigmoid()
        self.from_hidden: nn.Module = nn.Linear(config.mask.channels, config.refine.channels)
        self.from_gain: nn.Module = nn.Linear(frame.bands, config.refine.channels, bias=False)
        if frame.beam:
            self.from_features: nn.Module = nn.Linear(frame.features, config.refine.channels, bias=False)
            self.share_head: nn.Module = nn.Linear(config.refine.channels, frame.bands)
            self.share_out: nn.Module = nn.Sigmoid()
            nn.init.zeros_(self.share_head.weight)
            nn.init.constant_(self.share_head.bias, _FIRST_SHARE)
        self.refine = Stage(config.refine, config.taps, config.ahead)
        self.velocity_head: nn.Module = nn.Linear(config.refine.channels, frame.bands)
        self.velocity_out: nn.Module = nn.Tanh()
        nn.init.zeros_(self.velocity_head.weight)
        nn.init.zeros_(self.velocity_head.bias)
        self.code = nn.Linear(config.embedding, config.code)
        self.films = nn.ModuleDict(
            {slot.replace(".", "_"): nn.Linear(config.code, 2 * hidden) for slot, hidden in self.slots(config).items()}
        )
        self.time = nn.Linear(1, config.code, bias=False)
        """Enters the refiner's code as t times a vector: nothing at t = 0."""
        nn.init.zeros_(self.time.weight)
        if config.local:
            self.local = nn.ModuleList(nn.Linear(CHANNELS, config.local) for _ in range(BLOCKS))
            self.local_films = nn.ModuleDict(
                {
                    slot.replace(".", "_"): nn.Linear(config.local, 2 * hidden, bias=False)
                    for slot, hidden in self.slots(config).items()
                }
            )
            for weight in self.local_films.parameters():
                nn.init.zeros_(weight)  # so that a student may go on from one that has none
            self.register_buffer("local_mean", torch.zeros(BLOCKS * CHANNELS))
            self.register_buffer("local_deviation", torch.ones(BLOCKS * CHANNELS))

    @staticmethod
    def slots(config: StudentConfig) -> dict[str, int]:
        """Modulations by name (``mask.0`` ...) and their channel counts."""
        stages = {"mask": config.mask, "refine": config.refine}
        return {f"{name}.{i}": stage.hidden for name, stage in stages.items() for i in range(len(stage.dilations))}

    @torch.no_grad()
    def standardize(self, voices_NE: Tensor) -> None:
        """Measure the spread of each average over these voices (``[N, voice_size]``, the training talkers'), to be its unit."""
        averages = voices_NE[:, self.config.embedding :]
        self.local_mean.copy_(averages.mean(dim=0))
        self.local_deviation.copy_(averages.std(dim=0).clamp_min(1e-4))

    def encode(self, voice_BE: Tensor, t_B: Tensor | None = None) -> Tensor:
        """Encode a voice ``[B, voice_size]`` (and flow time) into the code that modulates: the embedding's, then each layer's."""
        if voice_BE.shape[-1] != self.config.voice_size:
            raise ValueError(f"a voice of {voice_BE.shape[-1]} values, this student takes {self.config.voice_size}")
        unit, averages = voice_BE.split([self.config.embedding, self.config.voice_size - self.config.embedding], dim=-1)
        h = self.code(unit * math.sqrt(unit.shape[-1]))
        code = functional.relu(h if t_B is None else h + self.time(t_B[:, None]))
        if not self.config.local:
            return code
        standard = ((averages - self.local_mean) / self.local_deviation).chunk(BLOCKS, dim=-1)
        return torch.cat([code, *(functional.relu(head(x)) for head, x in zip(self.local, standard, strict=True))], dim=-1)

    def modulations(self, stage: str, code_BD: Tensor) -> list[Film]:
        """Positive scale and shift per block of ``mask`` or ``refine``."""
        code, *local = code_BD.split([self.config.code, *[self.config.local] * (BLOCKS if self.config.local else 0)], dim=-1)
        layers = matching_layers((name.replace("_", ".") for name in self.films), BLOCKS)
        out = []
        for name, layer in self.films.items():
            if name.startswith(stage):
                raw = layer(code)
                if local:
                    raw = raw + self.local_films[name](local[layers[name.replace("_", ".")]])
                scale, shift = raw.chunk(2, dim=-1)
                out.append((scale.tanh().exp(), shift))
        return out

    def predict_mask(self, features_BTF: Tensor, voice_BE: Tensor) -> tuple[Tensor, Tensor]:
        """Stage 1: hidden stream ``[B, T, C]`` and mask ``[B, T, G]`` in (0, 1)."""
        with self._precision(features_BTF.device):
            x = self.mask(self.stem(self.entry(features_BTF)), self.modulations("mask", self.encode(voice_BE)))
            logits = self.mask_head(x)
        return x, self.mask_out(logits.float())

    def predict_velocity(
        self,
        hidden_BTC: Tensor,
        gain_BTG: Tensor,
        voice_BE: Tensor,
        t_B: Tensor | None = None,
        *,
        features_BTF: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Stage 2: velocity of the band gain at state ``gain`` and time ``t`` (0 if None), ``[B, T, G]`` in (-1, 1).

        With a beam also the share of it in (0, 1), which whole features (the beam's last) decide.
        """
        with self._precision(gain_BTG.device):
            films = self.modulations("refine", self.encode(voice_BE, t_B))
            x = self.refine.settle(self.from_hidden(hidden_BTC) + self.from_gain(gain_BTG))
            if self.config.frame.beam:
                x = self.refine.settle(x + self.from_features(self.entry(features_BTF)))
            x = self.refine(x, films)
            logits = self.velocity_head(x)
            share = self.share_head(x) if self.config.frame.beam else None
        return self.velocity_out(logits.float()), None if share is None else self.share_out(share.float())

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.mixed_precision)

    def forward(self, features_BTF: Tensor, voice_BE: Tensor) -> tuple[Tensor, ...]:
        """Compute as the integer graph does: mask, velocity and, with a beam, its share, ``[B, T, G]`` each, from whole features.

        One Euler step at t = 0: the gain on the mixture is ``relu(mask + velocity)``.
        """
        hidden, mask = self.predict_mask(features_BTF[..., : self.config.frame.heard], voice_BE)
        velocity, share = self.predict_velocity(hidden, mask, voice_BE, features_BTF=features_BTF)
        return (mask, velocity) if share is None else (mask, velocity, share)

    def listen(self, front: TorchFront, spectra: Tensor, voice_BE: Tensor, rounds: int = 1) -> Moves:
        """Run both stages on ``complex [B, E, T, K]``, and between them the beam of two ears.

        A device points it with the mask and with what was heard of the hops before. Here all frames are made at once: the mask
        points it alone, then each of ``rounds`` with what was heard in the round before. One is near the device's loop, as many as
        there are frames would be it. No gradient goes back through what was heard.
        """
        features = front.features(spectra)
        hidden, mask = self.predict_mask(features, voice_BE)
        if not self.config.frame.beam or spectra.shape[1] == 1:
            return self._decide(voice_BE, hidden, mask, features, mask, None)
        loudness, part = front.loudness(spectra), mask
        for _ in range(rounds):
            with torch.no_grad():
                heard = self._decide(voice_BE, hidden, mask, features, part, front.beam(spectra, part, loudness))
                remaining = front.remaining(heard.apply(front, spectra), loudness)
            part = (mask + remaining) / 2
        return self._decide(voice_BE, hidden, mask, features, part, front.beam(spectra, part, loudness))

    def _decide(
        self, voice_BE: Tensor, hidden: Tensor, mask: Tensor, features: Tensor, part: Tensor, made: tuple[Tensor, Tensor] | None
    ) -> Moves:
        """Decisions of the second stage, with what ``part`` made of two ears: the beam and its level features."""
        beam, levels = made or (None, torch.zeros_like(mask))
        if self.config.frame.beam:
            features = torch.cat([features, levels], dim=-1)
        velocity, share = self.predict_velocity(hidden, mask, voice_BE, features_BTF=features)
        return Moves(mask, velocity, share, beam, hidden, features, part)

    @property
    def resident_weights(self) -> int:
        """Weights a personalised device holds: everything but the modulation heads."""
        parts: tuple[nn.Module, ...] = (
            self.stem,
            self.mask,
            self.mask_head,
            self.from_hidden,
            self.from_gain,
            self.refine,
            self.velocity_head,
        )
        if self.config.frame.beam:
            parts = (*parts, self.from_features, self.share_head)
        return sum(p.numel() for part in parts for p in part.parameters() if p.ndim == 2)
