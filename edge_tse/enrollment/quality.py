"""Is a recording good enough to enroll from? Level, noise, clipping, and whether one and the same person talks all the time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tse.audio import better_ear, clipped_samples, resample
from edge_tse.voice import MIN_SPEECH_S, POOL, VoiceModel, speech_levels

__all__ = ["ClipQuality", "assess"]

Float = NDArray[np.float32]

QUIET_DBFS = -45.0
NOISY_DB = 15.0
CHANGING = 0.5
"""Similarity of the two least alike stretches. Measured on the demo clips with the first model: 0.65 to 0.84 within one talker,
-0.13 to 0.37 where a second one takes over; both at once give 0.43 to 0.78 and mostly pass."""
_STRETCH_S = 1.5
_BLOCK_S = 0.02


@dataclass(frozen=True, kw_only=True)
class ClipQuality:
    """What a clip is like."""

    level_dbfs: float
    """Of the louder parts: what speech itself reaches."""
    noise_db: float
    """Louder parts over the softest tenth: pauses that are not quiet lower it."""
    clipped_samples: int
    speech_s: float
    similarity: float | None
    """Cosine of the two least alike stretches of speech; None if there are not two."""

    @property
    def score(self) -> float:
        """0 to 1, the least of: speech in 5 s, similarity, noise in 30 dB; halved by clipping. For people to compare takes by."""
        parts = [self.speech_s / 5, self.noise_db / 30, 1.0 if self.similarity is None else self.similarity]
        return float(np.clip(min(parts), 0, 1)) * (0.5 if self.clipped_samples else 1)

    @property
    def remarks(self) -> tuple[str, ...]:
        """One line for each thing that is wrong, with its numbers and what to do."""
        out = []
        if self.level_dbfs < QUIET_DBFS:
            out.append(
                f"it is quiet: speech at {self.level_dbfs:.0f} dBFS, {QUIET_DBFS:.0f} is the least: come nearer or turn it up"
            )
        if self.clipped_samples:
            out.append(f"{self.clipped_samples} samples are clipped: go further away, or turn it down")
        if self.speech_s < MIN_SPEECH_S:
            out.append(f"{self.speech_s:.1f} s of speech, {MIN_SPEECH_S:.1f} s are needed: talk for longer")
        elif self.noise_db < NOISY_DB:
            out.append(
                f"it is noisy: speech is {self.noise_db:.0f} dB above the pauses, {NOISY_DB:.0f} is the least: find a quiet place"
            )
        if self.similarity is not None and self.similarity < CHANGING:
            out.append(
                f"two people seem to talk: it is {self.similarity:.2f} alike within, one person {CHANGING:.2f} or more: record one"
            )
        return tuple(out)


def assess(model: VoiceModel, signal: Float, rate_hz: int) -> ClipQuality:
    """Of a recording ``[channels, n]`` at any rate."""
    frame = model.frame
    ear = better_ear(resample(signal, rate_hz, frame.sample_rate_hz))
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
    )
