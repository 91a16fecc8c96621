"""Values of a live session: its blocks, the parts of its latency, its counters and events."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from edge_tse.errors import AudioError

__all__ = ["Event", "Fate", "Health", "Latency", "Loop"]


CHANGE, ENGINE, DEVICE = "change", "engine", "device"
"""Kinds of events."""

LONGEST_BLOCK_S = 0.5
MOST_BACKLOG = 10_000


class Fate(IntEnum):
    """Fate of a hop in the engine's hands; all but the first are heard dry."""

    EXTRACTED = 0
    SKIPPED = 1
    """The engine was too far behind and was not asked."""
    FAILED = 2
    """The engine raised, returned samples that are not sound, or rests after having done so."""
    SETTLING = 3
    """The first after a gap, which still holds sound from before it."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Blocks of a session, and the time it leaves for accidents."""

    rate_hz: int
    """Sample rate of the device."""
    ears: int
    block: int
    """Largest number of samples that the device asks for at once."""
    steady: bool = True
    """Whether every block has that size; if not, a session waits up to one hop longer."""
    margin_s: float = 0.004
    """Time that a hop may be late before it is heard."""
    fade_s: float = 0.001
    """Length of the change between the talker and the dry signal; part of the margin."""
    backlog: int = 8
    """Hops that may wait; behind that the engine is not asked until it has caught up."""
    ceiling: float = 1.0
    """Largest sample that is played, relative to full scale."""

    def __post_init__(self) -> None:
        if self.block < 1 or self.ears < 1:
            raise ValueError(f"a block of {self.block} samples for {self.ears} ears: each must be at least 1")
        if self.block > self.rate_hz * LONGEST_BLOCK_S:
            raise AudioError(
                f"a block of {self.block} samples at {self.rate_hz} Hz is heard {self.block / max(self.rate_hz, 1):.2g} s later: "
                f"choose one of at most {LONGEST_BLOCK_S:g} s, {int(self.rate_hz * LONGEST_BLOCK_S)} samples"
            )
        if not 0 <= self.backlog <= MOST_BACKLOG or not 0 < self.ceiling <= 1:
            raise AudioError(
                f"a backlog of {self.backlog} hops, a ceiling of {self.ceiling:g}: 0 to {MOST_BACKLOG}, and up to 1, are possible"
            )
        if not 0 < self.fade_s <= self.margin_s <= 1:
            raise AudioError(
                f"a margin of {self.margin_s * 1e3:g} ms cannot hold a fade of {self.fade_s * 1e3:g} ms: "
                f"choose a margin from {self.fade_s * 1e3:g} to 1000 ms"
            )

    @property
    def fade(self) -> int:
        """Samples of the device in a fade."""
        return max(1, round(self.fade_s * self.rate_hz))

    @property
    def calm(self) -> int:
        """Samples by which blocks that are hops are early while nothing is late."""
        return round(self.margin_s * self.rate_hz) - self.fade


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Parts of the way from microphone to ear, in seconds; the device itself states what it adds outside of its blocks."""

    algorithmic_s: float
    resampling_s: float
    turnaround_s: float
    """Time in which a block is computed while the next one is captured, rounded to whole samples."""
    margin_s: float
    device_s: float = 0.0
    """Input and output latency as the device states them; 0 where there is none."""

    @property
    def total_s(self) -> float:
        return self.algorithmic_s + self.resampling_s + self.turnaround_s + self.margin_s + self.device_s

    def figures(self) -> dict[str, float]:
        parts = ("device", "resampling", "algorithmic", "turnaround", "margin", "total")
        return {f"{part}_ms": getattr(self, f"{part}_s") * 1e3 for part in parts}


@dataclass(frozen=True, kw_only=True)
class Health:
    """Counters since the start of a session: every figure only grows."""

    blocks: int
    samples: int
    hops: int
    late_blocks: int
    """Blocks in which the engine's output was not there in time."""
    dry_samples: int
    """Samples in which the talker was not wholly heard because the output was late."""
    skipped_hops: int
    failed_hops: int
    settling_hops: int
    lost_samples: int
    """Input that was overwritten before the engine took it."""
    input_overruns: int
    """Blocks that the device flagged: sound from the microphone was lost before it came here."""
    output_underruns: int
    """Blocks that the device flagged: it had no samples to play."""
    longest_exchange_s: float

    @property
    def flawless(self) -> bool:
        return not any(
            (self.late_blocks, self.skipped_hops, self.failed_hops, self.lost_samples, self.input_overruns, self.output_underruns)
        )


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that people should read."""

    at_s: float
    """Time by the session's clock at which it was over."""
    what: str
    kind: str = ""
    """:data:`CHANGE`, :data:`ENGINE` or :data:`DEVICE` where it may have made blocks late; else empty."""
    took_s: float = 0.0
