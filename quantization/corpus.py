"""Corpus on disk: speech, noise and head-related responses, to be mixed by :mod:`quantization.mixing`.

Two layouts are read. The *pack*: ``speech/<set>/<speaker>/<utterance>``, ``noise/<set>/<name>``, ``hrir/<name>.npz``. *Plain
folders*: ``speaker/utterance``, and the LibriSpeech tree ``.../speaker/chapter/utterance``; then noise and responses are absent and
mixtures are of talkers alone. Speech is decoded once into one int16 array and cached.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.errors import DataError

__all__ = ["SPEEDS", "SUFFIXES", "Corpus", "Speech", "decode", "mono_at", "open_corpus"]

Float = NDArray[np.float32]

SUFFIXES = frozenset({".wav", ".flac", ".opus", ".ogg"})
SPEEDS = (1.0, 0.88, 1.12)
"""Speed changes pitch and formants together: each speed of a talker counts as another talker."""
_VALIDATION_SHARE = 0.18
_MIN_HALF_S = 3.5
"""A talker with one utterance is a target only if each half of it is at least this long: one half enrolls."""


@dataclass(frozen=True)
class Corpus:
    """Files by talker; talkers of train and validation are disjoint, chosen by a hash of their names."""

    root: Path
    speakers: dict[str, tuple[Path, ...]]
    """Talker -> utterances, sorted. Talker names carry their set: ``librispeech/ls19``."""
    unlabelled: frozenset[str]
    """Talkers whose name is only a file's: interferers, never targets."""
    noises: tuple[Path, ...]
    hrirs: tuple[Path, ...]

    def _held_out(self) -> set[str]:
        by_set: dict[str, list[str]] = {}
        for name in self.speakers:
            by_set.setdefault(name.rpartition("/")[0], []).append(name)
        held: set[str] = set()
        for names in by_set.values():
            ranked = sorted(names, key=_hash)
            held.update(ranked[: max(min(2, len(ranked) // 3), round(len(ranked) * _VALIDATION_SHARE))])
        return held

    @property
    def validation_speakers(self) -> list[str]:
        """Held-out talkers with a name, sorted. Where one has a single utterance, one half is the target and the other enrolls."""
        return sorted(s for s in self._held_out() if s not in self.unlabelled)

    @property
    def train_speakers(self) -> list[str]:
        """All talkers that training may hear, sorted."""
        return sorted(set(self.speakers) - self._held_out())

    def utterances(self, speaker: str) -> list[Path]:
        """Files of a talker, sorted."""
        return list(self.speakers[speaker])

    @property
    def noises_validation(self) -> list[Path]:
        """Held-out noise files (chosen by source, so clips cut from one recording stay on one side)."""
        return [p for p in self.noises if _fraction(_source(p)) < _VALIDATION_SHARE]

    @property
    def noises_train(self) -> list[Path]:
        """Noise files that training may hear."""
        return [p for p in self.noises if _fraction(_source(p)) >= _VALIDATION_SHARE]

    @property
    def hrirs_validation(self) -> list[Path]:
        """Held-out heads."""
        return [p for p in self.hrirs if _fraction(p.stem) < _VALIDATION_SHARE]

    @property
    def hrirs_train(self) -> list[Path]:
        """Heads that training may hear."""
        return [p for p in self.hrirs if _fraction(p.stem) >= _VALIDATION_SHARE]


def open_corpus(data: Path) -> Corpus:
    """Index a data folder. ``DataError`` if it holds fewer than two talkers."""
    root = Path(data)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder: give --data a folder of speaker/utterance files")
    pack = root / "speech"
    files = _recordings(pack if pack.is_dir() else root)
    speakers: dict[str, list[Path]] = {}
    for path in files:
        folder = path.parent
        if folder.name.isdigit() and folder.parent.name.isdigit():  # LibriSpeech: speaker/chapter/utterance
            folder = folder.parent
        speakers.setdefault(folder.relative_to(pack if pack.is_dir() else root).as_posix(), []).append(path)
    if len(speakers) < 2:
        raise DataError(f"{root}: {len(speakers)} talkers found, at least 2 are needed: lay speech out as speaker/utterance.wav")
    return Corpus(
        root=root,
        speakers={name: tuple(paths) for name, paths in sorted(speakers.items())},
        unlabelled=frozenset(name for name in speakers if "unlabelled" in name),
        noises=tuple(_recordings(root / "noise")),
        hrirs=tuple(sorted((root / "hrir").glob("*.npz"))),
    )


def _recordings(folder: Path) -> list[Path]:
    """All recordings below a folder, sorted; linked folders are followed, once each."""
    found, seen = [], set()
    for at, folders, names in os.walk(folder, followlinks=True):
        where = os.path.realpath(at)
        if where in seen:  # a link to what holds it
            folders.clear()
            continue
        seen.add(where)
        found += [Path(at, name) for name in names if Path(name).suffix.lower() in SUFFIXES]
    return sorted(found)


@dataclass(frozen=True, eq=False)
class Speech:
    """Decoded utterances: one int16 array, and where in it each utterance of each talker (at each speed) lies."""

    samples: NDArray[np.int16]
    spans: dict[str, tuple[tuple[int, int], ...]]
    """``talker@speed`` -> (start, stop) of utterances."""
    unlabelled: frozenset[str]
    """Talkers (without speed) of whom two may be the same person: at most one in a mixture."""
    targets: tuple[str, ...]
    """Talkers with at least two spans: one to extract, another to enroll with."""

    def cut(self, start: int, stop: int) -> Float:
        """Samples as float in [-1, 1)."""
        return self.samples[start:stop] * np.float32(1 / 32768)


def decode(
    corpus: Corpus,
    speakers: Sequence[str],
    rate: int,
    speeds: Sequence[float] = SPEEDS,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    reused: Callable[[Path], None] = lambda path: None,
) -> Speech:
    """Decode talkers into memory at each speed. ``cache`` names a folder that keeps the result between runs.

    A cached result is used for the same files alone: the same places, sizes and times of their last change. ``reused`` is told
    which file that was.
    """
    files = [_stamp(path) for speaker in speakers for path in corpus.speakers[speaker]] if cache else []
    key = _hash(json.dumps([sorted(speakers), rate, list(speeds), files]))[:16]
    stored = cache / f"speech-{key}.npy" if cache else None
    index = stored.with_suffix(".json") if stored else None
    if stored and index and stored.exists() and index.exists():
        spans = {k: tuple((a, b) for a, b in v) for k, v in json.loads(index.read_text()).items()}
        reused(stored)
        return _speech(np.load(stored, mmap_mode="r"), spans, corpus, rate)

    def one(speaker: str) -> list[list[NDArray[np.int16]]]:
        """Utterances of a talker at each speed."""
        recordings = [_mono(path) for path in corpus.speakers[speaker]]
        return [_at_speed(recordings, speed, rate) for speed in speeds]

    spans = {}

    def pieces() -> Iterator[NDArray[np.int16]]:
        at = 0
        # Decoding and resampling release the interpreter lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, (speaker, spoken) in enumerate(zip(speakers, pool.map(one, speakers), strict=True)):
                for speed, utterances in zip(speeds, spoken, strict=True):
                    ends = at + np.cumsum([len(q) for q in utterances])
                    spans[f"{speaker}@{speed:g}"] = tuple(
                        (int(end) - len(q), int(end)) for q, end in zip(utterances, ends, strict=True)
                    )
                    yield from utterances
                    at = int(ends[-1])
                if progress:
                    progress(done + 1, len(speakers))

    if stored and index:
        stored.parent.mkdir(parents=True, exist_ok=True)
        _append(stored, pieces())
        index.write_text(json.dumps(spans))
        return _speech(np.load(stored, mmap_mode="r"), spans, corpus, rate)
    return _speech(np.concatenate(list(pieces())), spans, corpus, rate)


def _stamp(path: Path) -> list[str | int]:
    """Key that tells a recording from another of the same name and size, without reading it."""
    found = path.stat()
    return [str(path.resolve()), found.st_size, found.st_mtime_ns]


def _append(to: Path, pieces: Iterable[NDArray[np.int16]]) -> None:
    """Write all pieces as one ``.npy`` file, of which no two need be in memory: seven hours at seven speeds are gigabytes."""

    def head(samples: int) -> None:
        file.seek(0)
        write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": (samples,)})

    with to.open("wb") as file:
        head(0)
        total = 0
        for piece in pieces:
            file.write(piece.astype("<i2").tobytes())
            total += len(piece)
        head(total)  # as long as the first one: NumPy leaves room for the shape to grow


def _at_speed(recordings: Sequence[tuple[Float, int]], speed: float, rate: int) -> list[NDArray[np.int16]]:
    """A talker's recordings at one speed; the halves of a single one take the parts of target and enrollment."""
    out = []
    for signal, file_rate in recordings:
        x = audio.resample(signal[None], round(file_rate * speed), rate)[0]
        out.append(np.clip(np.rint(x * 32767), -32768, 32767).astype(np.int16))
    return out if len(out) > 1 else [out[0][: len(out[0]) // 2], out[0][len(out[0]) // 2 :]]


def _speech(samples: NDArray[np.int16], spans: dict[str, tuple[tuple[int, int], ...]], corpus: Corpus, rate: int) -> Speech:
    halved = {name for name, paths in corpus.speakers.items() if len(paths) == 1}
    targets = tuple(
        k
        for k, v in spans.items()
        if len(v) > 1
        and k.rpartition("@")[0] not in corpus.unlabelled
        and (k.rpartition("@")[0] not in halved or max(b - a for a, b in v) >= _MIN_HALF_S * rate)
    )
    return Speech(samples, spans, corpus.unlabelled, targets)


def _mono(path: Path) -> tuple[Float, int]:
    signal, rate = audio.read(path)
    return signal.mean(axis=0), rate


def mono_at(path: Path, rate: int) -> Float:
    """A recording, its channels averaged, ``[samples]`` at ``rate``."""
    signal, file_rate = _mono(path)
    return audio.resample(signal[None], file_rate, rate)[0]


def _source(path: Path) -> str:
    """Recording that a noise clip was cut from: the name without its trailing number."""
    return path.stem.rpartition("_")[0] or path.stem


def _hash(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _fraction(text: str) -> float:
    return int(_hash(text)[:8], 16) / 0xFFFFFFFF
