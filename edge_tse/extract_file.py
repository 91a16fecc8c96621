"""Extraction from a recording in a file: examined, corrected where it can be, and written in blocks, however long it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.condition import Condition, survey
from edge_tse.extraction import Hops, Passage, extract_blocks
from edge_tse.frame import FrameSpec
from edge_tse.mix import TALKER_ALONE, Mix
from edge_tse.stream import AnyEngine

__all__ = ["Examined", "extract_file"]

Float = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Examined(Passage):
    """An extraction from a recording, its condition, and the corrections that were applied."""

    condition: Condition
    gain: float
    """Factor applied to the mixture first: below 1 if its floats were above full scale."""
    clipped_output: int
    """Samples of the talker that were over full scale and are clipped."""

    def figures(self, frame: FrameSpec) -> dict[str, object]:
        """Figures by name, ready for a report; ``frame`` as for :meth:`Passage.figures`."""
        found = self.condition
        condition = {**asdict(found), "dead_ear": found.dead_ear, "inverted": found.inverted}
        return {**super().figures(frame), "input_gain": self.gain, "input_condition": condition}

    def remarks(self, level_invariant: bool = False) -> tuple[str, ...]:
        """One line for each thing that is wrong with the mixture, and for what was done about it."""
        out = () if self.silent else self.condition.remarks(level_invariant)
        if self.condition.dead_ear is not None:
            out += ("taken as mono, and the talker is written to both ears",)
        if self.gain < 1:
            louder_db = -20 * np.log10(self.gain)
            remark = f"the samples reach {1 / self.gain:.2f}, {louder_db:.1f} dB over full scale; nothing is lost, they are taken,"
            out += (f"{remark} and the talker written, {louder_db:.1f} dB quieter",)
        return out


def extract_file(
    sound: audio.Sound,
    to: Path,
    engine: AnyEngine,
    *,
    trim: bool = True,
    mix: Mix = TALKER_ALONE,
    progress: Callable[[float], None] | None = None,
    inputs: Iterable[Path] = (),
) -> Examined:
    """Examine a recording and extract from it into a sound file of the same channels and rate, written whole or not at all.

    Mono where one ear is dead, and within full scale: a dead ear is no second one, its noise would be taken for where sound comes
    from. ``AudioError`` as of :func:`.extraction.extract_signal`, and as of :func:`.audio.writing`.
    """
    audio.check_ears(sound.channels, engine.frame.ears, sound.name)
    found = survey(sound)
    dead, gain = found.condition.dead_ear, np.float32(found.gain)
    heard = (block if dead is None else block[[1 - dead]] for block in sound.blocks())
    ears = sound.channels if dead is None else 1
    hops = Hops(engine.frame, found.samples, sound.rate_hz, progress=progress)
    samples = 0
    with audio.writing(to, sound.rate_hz, sound.channels, inputs) as file:
        blocks = (block * gain for block in heard)
        for talker in extract_blocks(blocks, sound.rate_hz, engine, ears, hops, trim=trim, mix=mix):
            file.write(np.repeat(talker, sound.channels // ears, axis=0))
            samples += talker.shape[1]
    return Examined(
        channels=sound.channels,
        samples=samples,
        rate_hz=sound.rate_hz,
        timing=hops.timing,
        clipped_samples=found.clipped_samples,
        silent=found.silent,
        condition=found.condition,
        gain=found.gain,
        clipped_output=file.clipped,
    )
