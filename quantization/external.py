"""Embeddings that another model made (ECAPA, WavLM, whatever gives vectors of one size), from a folder.

The folder mirrors the corpus: ``<talker>/<utterance>.npy``, the talker named as in the corpus (``librispeech/ls19``), the utterance
without its suffix; a file holds ``[size]`` or ``[crops, size]``, an ``.npz`` any number of such arrays. Of a talker with a single
recording each half enrolls for the other: ``<utterance>-1.npy`` and ``<utterance>-2.npy``. Speed-perturbed talkers are others:
``<talker>@0.88/<utterance>.npy``; only speeds that are there are trained on. A talker without embeddings of two utterances can
interfere, and is never the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse.embeddings import read_embeddings
from edge_tse.errors import DataError
from quantization.corpus import SPEEDS, Corpus, Speech
from quantization.encoder_training import Enrollments

__all__ = ["Embeddings", "enrollable", "open_embeddings"]


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """A folder of them."""

    folder: Path
    size: int
    speeds: tuple[float, ...]
    """Speeds of training talkers; 1.0 is always one of them."""

    def of(self, corpus: Corpus, speech: Speech) -> Enrollments:
        """Unit vectors of every utterance that has some. ``DataError`` names a file whose size is not that of the others."""
        by_talker = {}
        for name, spans in speech.spans.items():
            talker, _, speed = name.rpartition("@")
            stems = [path.stem for path in corpus.speakers[talker]]
            if len(stems) < len(spans):
                stems = [f"{stems[0]}-1", f"{stems[0]}-2"]
            folder = self.folder / (talker if speed == "1" else name)
            by_talker[name] = [self._read(folder / stem) for stem in stems]
        return Enrollments(by_talker)

    def _read(self, stem: Path) -> NDArray[np.float32]:
        for path in (stem.with_name(f"{stem.name}{suffix}") for suffix in (".npy", ".npz")):
            if path.exists():
                vectors = read_embeddings(path, DataError)
                if vectors.shape[1] != self.size:
                    raise DataError(
                        f"{path} holds embeddings of {vectors.shape[1]} values, the first file of {self.folder} of {self.size}: "
                        "make all of them with one model"
                    )
                return vectors
        return np.zeros((0, self.size), np.float32)


def open_embeddings(folder: Path) -> Embeddings:
    """Look at a folder. ``DataError`` if it holds none."""
    first = min((path for path in Path(folder).rglob("*") if path.suffix in {".npy", ".npz"}), default=None)
    if first is None:
        raise DataError(f"{folder}: 0 embeddings found: lay them out as talker/utterance.npy, one for each file of the corpus")
    there = {path.name.rpartition("@")[2] for path in Path(folder).rglob("*@*") if path.is_dir()}
    return Embeddings(
        folder=Path(folder),
        size=read_embeddings(first, DataError).shape[1],
        speeds=tuple(speed for speed in SPEEDS if speed == 1 or f"{speed:g}" in there),
    )


def enrollable(speech: Speech, enrollments: Enrollments, whose: str) -> Speech:
    """Speech whose targets are the talkers with embeddings of two utterances. ``DataError`` if there is none."""
    targets: Sequence[str] = [t for t in speech.targets if sum(bool(len(clip)) for clip in enrollments.by_talker.get(t, ())) > 1]
    if not targets:
        raise DataError(f"0 of {len(speech.targets)} {whose} talkers have embeddings of two utterances, 1 is needed: make more")
    return replace(speech, targets=tuple(targets))
