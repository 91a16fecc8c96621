"""Quality of enrollment recordings: level, noise, clipping, and whether one and the same person talks all the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tse.audio import better_ear, clipped_samples, resample
from edge_tse.condition import NARROW_HZ, examine, narrow
from edge_tse.enrollment.preparation import HUM_DB, LEAST_SPEECH_SHARE, for_enrollment, hum_db, loud_share
from edge_tse.voice import MIN_SPEECH_S, POOL, VoiceModel, speech_levels

__all__ = ["ClipQuality", "assess", "least_alike"]

Float = NDArray[np.float32]

QUIET_DBFS = -45.0
NOISY_DB = 15.0
CHANGING = 0.5
"""Least similarity of two stretches by one talker. Measured on the demo clips with the first model: 0.65 to 0.84 within one talker,
-0.13 to 0.37 where a second one takes over; both at once give 0.43 to 0.78 and mostly pass."""
_STRETCH_S = 1.5
_BLOCK_S = 0.02


@dataclass(frozen=True, kw_only=True)
class ClipQuality:
    """Measurements of an enrollment clip."""

    level_dbfs: float
    """Level of the louder parts, which speech itself reaches."""
    noise_db: float
    """Level of the louder parts over the softest tenth: pauses that are not quiet lower it."""
    clipped_samples: int
    speech_s: float
    similarity: float | None
    """Cosine of the two least alike stretches of speech; None if there are not two."""
    loud_share: float = 1.0
    """Share of the clip in which somebody may be talking."""
    bandwidth_hz: float | None = None
    """Highest frequency of its sound; None if there is too little to tell."""
    hum_db: float = -140.0
    """Level of a constant and the mains, relative to everything else."""

    @property
    def score(self) -> float:
        """Score of 0 to 1 to compare takes by, the least of: speech in 5 s, similarity, noise in 30 dB; halved by clipping."""
        parts = [self.speech_s / 5, self.noise_db / 30, 1.0 if self.similarity is None else self.similarity]
        return float(np.clip(min(parts), 0, 1)) * (0.5 if self.clipped_samples else 1)

    @property
    def remarks(self) -> tuple[str, ...]:
        """One line for each thing that is wrong, with its numbers and what to do."""
        out = []
        if self.level_dbfs < QUIET_DBFS:
            out.append(
                f"the recording is quiet: speech at {self.level_dbfs:.0f} dBFS, at least {QUIET_DBFS:.0f} is needed: "
                "come nearer or turn it up"
            )
        if self.clipped_samples:
            out.append(f"{self.clipped_samples} samples are clipped: go further away, or turn it down")
        if self.speech_s < MIN_SPEECH_S:
            out.append(f"{self.speech_s:.1f} s of speech, {MIN_SPEECH_S:.1f} s are needed: talk for longer")
        elif self.noise_db < NOISY_DB:
            out.append(
                f"the recording is noisy: speech is {self.noise_db:.0f} dB above the pauses, at least {NOISY_DB:.0f} is needed: "
                "find a quiet place"
            )
        if self.loud_share < LEAST_SPEECH_SHARE:
            out.append(
                f"somebody talks in {self.loud_share:.0%} of the recording, {self.speech_s:.1f} s, at least "
                f"{LEAST_SPEECH_SHARE:.0%} is expected: the rest was cut away, cut the recording yourself to choose"
            )
        if self.hum_db > HUM_DB:
            out.append(
                f"a constant or hum is {-self.hum_db:.0f} dB below the rest, at least {-HUM_DB:.0f} dB is expected: it was taken "
                "out, look for its source"
            )
        if self.bandwidth_hz is not None and self.bandwidth_hz < NARROW_HZ:
            out.append(narrow(self.bandwidth_hz))
        if self.similarity is not None and self.similarity < CHANGING:
            out.append(
                f"two people seem to talk: similarity between segments is {self.similarity:.2f}, one talker gives at least "
                f"{CHANGING:.2f}: record one talker"
            )
        return tuple(out)


def assess(model: VoiceModel, signal: Float, rate_hz: int) -> ClipQuality:
    """Measure a recording ``[channels, n]`` at any rate."""
    frame = model.frame
    heard = better_ear(resample(signal, rate_hz, frame.sample_rate_hz))
    ear = for_enrollment(heard, frame.sample_rate_hz)
    size = round(_BLOCK_S * frame.sample_rate_hz)
    blocks = ear[: len(ear) // size * size].reshape(-1, size).astype(np.float64)
    levels = 10 * np.log10((blocks**2).mean(axis=1) + 1e-12) if len(blocks) else np.array([-120.0])
    loud, soft = np.percentile(levels, (90, 10))
    speech = speech_levels(frame, ear)
    speech_s = len(speech) * POOL * frame.period_s
    stretches = max(1, int(speech_s / _STRETCH_S))
    similarity = None
    if stretches > 1:
        voices = np.stack([model.embed(part) for part in np.array_split(speech, stretches)])
        similarity = float((voices @ voices.T).min())
    return ClipQuality(
        level_dbfs=float(loud),
        noise_db=float(loud - soft),
        clipped_samples=clipped_samples(signal),
        speech_s=speech_s,
        similarity=similarity,
        loud_share=loud_share(heard, frame.sample_rate_hz),
        bandwidth_hz=examine(signal, rate_hz).bandwidth_hz,
        hum_db=hum_db(heard, frame.sample_rate_hz) if len(heard) else -140.0,
    )


def least_alike(model: VoiceModel, clips: Sequence[tuple[str, Float, int]]) -> tuple[str, str, float] | None:
    """The two clips (name, ``[channels, samples]``, rate) whose voices are least alike, and their cosine.

    None of fewer than two clips with speech, or if the model makes no voices itself.
    """
    frame, voices = model.frame, []
    for name, signal, rate_hz in clips if model.encodes and len(clips) > 1 else ():
        ear = for_enrollment(better_ear(resample(signal, rate_hz, frame.sample_rate_hz)), frame.sample_rate_hz)
        if len(speech := speech_levels(frame, ear)):
            voices.append((name, model.embed(speech)))
    pairs = [(a, b, float(x @ y)) for i, (a, x) in enumerate(voices) for b, y in voices[:i]]
    return min(pairs, key=lambda pair: pair[2], default=None)
