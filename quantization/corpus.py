"""Speech, noise and head-related responses on disk to seeded training mixtures.

Two layouts are read. The *pack*: ``speech/<set>/<speaker>/<utterance>``, ``noise/<set>/<name>``, ``hrir/<name>.npz``. *Plain
folders*: ``speaker/utterance``, and the LibriSpeech tree ``.../speaker/chapter/utterance``; then noise and responses are absent and
mixtures are of talkers alone. Speech is decoded once into one int16 array and cached.

Every item is a function of (seed, index), so a run resumes bit for bit and any number of processes share one sequence.
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
import scipy.fft
import scipy.signal
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.errors import DataError
from edge_tse.frame import FrameSpec

__all__ = ["SPEEDS", "SUFFIXES", "Batch", "Corpus", "Mixer", "Scene", "Speech", "decode", "mono_at", "open_corpus"]

Float = NDArray[np.float32]

SUFFIXES = frozenset({".wav", ".flac", ".opus", ".ogg"})
SPEEDS = (1.0, 0.82, 0.88, 0.94, 1.06, 1.12, 1.2)
"""Speed changes pitch and formants together: each speed of a talker counts as another talker."""
_VALIDATION_SHARE = 0.18
_COLOUR_KNOTS_HZ = (100.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)
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
        """Held-out talkers with a name, sorted. Of one with a single utterance one half is the target and the other enrolls."""
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
    files = sorted(p for p in (pack if pack.is_dir() else root).rglob("*") if p.suffix.lower() in SUFFIXES)
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
        noises=tuple(sorted(p for p in (root / "noise").rglob("*") if p.suffix.lower() in SUFFIXES)),
        hrirs=tuple(sorted((root / "hrir").glob("*.npz"))),
    )


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

    def cut(self, span: tuple[int, int], start: int, length: int) -> Float:
        """``length`` samples from ``start`` within a span, zero padded, as float in [-1, 1)."""
        out = np.zeros(length, np.float32)
        piece = self.samples[span[0] + start : min(span[0] + start + length, span[1])]
        out[: len(piece)] = piece
        return out * np.float32(1 / 32768)


def decode(
    corpus: Corpus,
    speakers: Sequence[str],
    rate: int,
    speeds: Sequence[float] = SPEEDS,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Speech:
    """Decode talkers into memory at each speed. ``cache`` names a folder that keeps the result between runs."""
    key = _hash(
        json.dumps([sorted(speakers), rate, list(speeds), [str(p.stat().st_size) for s in speakers for p in corpus.speakers[s]]])
    )[:16]
    stored = cache / f"speech-{key}.npy" if cache else None
    index = stored.with_suffix(".json") if stored else None
    if stored and index and stored.exists() and index.exists():
        spans = {k: tuple((a, b) for a, b in v) for k, v in json.loads(index.read_text()).items()}
        return _speech(np.load(stored, mmap_mode="r"), spans, corpus, rate)

    def one(speaker: str) -> list[list[NDArray[np.int16]]]:
        """Utterances of a talker at each speed."""
        recordings = [_mono(path) for path in corpus.speakers[speaker]]
        return [_spoken(recordings, speed, rate) for speed in speeds]

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


def _append(to: Path, pieces: Iterable[NDArray[np.int16]]) -> None:
    """An ``.npy`` file of all pieces, of which no two need be in memory: seven hours at seven speeds are gigabytes."""

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


def _spoken(recordings: Sequence[tuple[Float, int]], speed: float, rate: int) -> list[NDArray[np.int16]]:
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


@dataclass(frozen=True)
class Scene:
    """What mixtures are made of: probabilities and ranges, uniform unless said."""

    seconds: float = 4.0
    sir_db: tuple[float, float] = (-6.0, 6.0)
    snr_db: tuple[float, float] = (0.0, 20.0)
    noisy: float = 0.25
    """Share of items with noise."""
    talkers: tuple[float, ...] = (0.10, 0.10, 0.68, 0.12)
    """Shares of: target absent, target alone, two talkers, three talkers."""
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


@dataclass(frozen=True, eq=False)
class Batch:
    """One training batch."""

    mixture: Float
    """``[items, ears, samples]``"""
    target: Float
    """``[items, ears, samples]``; zeros where the target is absent."""
    talker: list[str]
    """Whose voice to enroll (``talker@speed``), also where that talker is absent."""
    utterance: NDArray[np.int64]
    """Index of the talker's span that the target was cut from; -1 where absent. Enrollment must use another."""


class Mixer:
    """Seeded mixtures without end: ``batch(step)`` is a pure function of the seed and the step."""

    def __init__(
        self,
        speech: Speech,
        scene: Scene,
        frame: FrameSpec,
        seed: int,
        noises: Sequence[Path] = (),
        hrirs: Sequence[Path] = (),
    ) -> None:
        people = {name.rpartition("@")[0] for name in speech.spans}
        self._known = len(people - speech.unlabelled)
        usable = self._known + bool(people & speech.unlabelled)
        needed = max(n for n, share in zip((2, 1, 2, 3), scene.talkers, strict=True) if share)
        if not speech.targets or usable < needed:
            raise DataError(
                f"{usable} talkers, {len(speech.targets)} with two utterances: these mixtures need {needed}, at least 1 with two"
            )
        self._speech, self._scene, self._frame, self._seed = speech, scene, frame, seed
        self._unlabelled = tuple(n for n in speech.spans if n.rpartition("@")[0] in speech.unlabelled)
        self._labelled = tuple(n for n in speech.spans if n.rpartition("@")[0] not in speech.unlabelled)
        self._noises = [mono_at(p, frame.sample_rate_hz) for p in noises]
        self._heads = [_head(p) for p in hrirs]
        self.length = round(scene.seconds * frame.sample_rate_hz) // frame.hop * frame.hop

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        """``size`` items of step ``step`` for process ``rank`` of ``ranks``: together they are one batch of ``size * ranks``."""
        every = self._scene.binaural_every
        ears = 2 if every and self._heads and step % every == every - 1 else 1
        items = [self._item(np.random.default_rng([self._seed, step, rank * size + i]), ears) for i in range(size)]
        mixture, target, talker, utterance = zip(*items, strict=True)
        return Batch(np.stack(mixture), np.stack(target), list(talker), np.array(utterance))

    def _item(self, rng: np.random.Generator, ears: int) -> tuple[Float, Float, str, int]:
        scene, speech = self._scene, self._speech
        talker = str(rng.choice(speech.targets))
        kind = rng.choice(4, p=scene.talkers)
        others = self._others(rng, talker, (1, 0, 1, 2)[kind])
        head = self._heads[rng.integers(len(self._heads))] if ears == 2 else None
        room = self._room(rng) if head is None and rng.random() < scene.reverberant else None

        utterance = int(rng.integers(len(speech.spans[talker])))
        target = self._place(rng, self._excerpt(rng, talker, utterance), head, room)
        parts = [self._place(rng, self._excerpt(rng, name, None), head, room) for name in others]
        interference = np.zeros((ears, self.length), np.float32)
        for part in parts:
            interference += part * _ratio(target, part, rng.uniform(*scene.sir_db) + 10 * np.log10(len(parts)))
        if self._noises and rng.random() < scene.noisy:
            noise = self._noise(rng, ears)
            interference += noise * _ratio(target, noise, rng.uniform(*scene.snr_db))
        if kind == 0:
            target, utterance = np.zeros_like(target), -1
        mixture = target + interference
        rms = float(np.sqrt(np.mean(mixture**2))) + 1e-9
        gain = np.float32(10 ** (rng.uniform(*scene.level_db) / 20) / rms)
        gain = min(gain, np.float32(0.99 / (np.abs(mixture).max() + 1e-9)))
        return mixture * gain, target * gain, talker, utterance

    def _others(self, rng: np.random.Generator, talker: str, count: int) -> list[str]:
        """Interfering talkers: other people than the target (at any speed), at most one unlabelled."""
        chosen: list[str] = []
        people = {talker.rpartition("@")[0]}
        if count and self._unlabelled and (count > self._known - 1 or rng.random() < count * self._scene.unlabelled):
            chosen.append(str(self._unlabelled[rng.integers(len(self._unlabelled))]))
        while len(chosen) < count:
            name = str(self._labelled[rng.integers(len(self._labelled))])
            if name.rpartition("@")[0] not in people:
                people.add(name.rpartition("@")[0])
                chosen.append(name)
        return chosen

    def _excerpt(self, rng: np.random.Generator, talker: str, utterance: int | None) -> Float:
        spans = self._speech.spans[talker]
        span = spans[rng.integers(len(spans)) if utterance is None else utterance]
        room = span[1] - span[0] - self.length
        x = self._speech.cut(span, int(rng.integers(room + 1)) if room > 0 else 0, self.length)
        if room < 0:
            x = np.roll(x, int(rng.integers(-room)))
        tilt = np.float32(rng.uniform(-self._scene.tilt, self._scene.tilt))
        x[1:] += tilt * x[:-1]
        if self._scene.colour_db:
            x = self._coloured(rng, x)
        return x / np.float32(np.sqrt(np.mean(x**2)) + 1e-6)

    def _coloured(self, rng: np.random.Generator, x: Float) -> Float:
        """Through a random response, linear in dB between knots spaced logarithmically, without delay."""
        spectrum = scipy.fft.rfft(x)
        hz = np.arange(len(spectrum)) * (self._frame.sample_rate_hz / len(x))
        knots = rng.uniform(-self._scene.colour_db, self._scene.colour_db, len(_COLOUR_KNOTS_HZ))
        db = np.interp(np.log(hz + 1), np.log(_COLOUR_KNOTS_HZ), knots)
        coloured: Float = scipy.fft.irfft(spectrum * (10 ** (db / 20)).astype(np.float32), len(x))
        return coloured

    def _place(self, rng: np.random.Generator, x: Float, head: tuple[Float, Float] | None, room: Float | None) -> Float:
        """``[samples] -> [ears, samples]``: through a head from a random direction, a room, or neither."""
        if head is not None:
            response = head[0][rng.integers(len(head[0]))]
        elif room is not None:
            response = room
        else:
            return x[None]
        return scipy.signal.oaconvolve(x[None], response, axes=1)[:, : len(x)].astype(np.float32)

    def _room(self, rng: np.random.Generator) -> Float:
        """A direct path and an exponentially decaying tail of noise, ``[1, taps]``."""
        rate, t60 = self._frame.sample_rate_hz, rng.uniform(*self._scene.t60_s)
        n = np.arange(round(t60 * rate))
        tail = rng.standard_normal(len(n)) * 10 ** (-3 * n / len(n))
        tail[: round(0.003 * rate)] = 0
        tail *= 10 ** (-rng.uniform(0, 12) / 20) / (np.sqrt(np.sum(tail**2)) + 1e-9)
        tail[0] = 1.0
        return tail[None].astype(np.float32)

    def _noise(self, rng: np.random.Generator, ears: int) -> Float:
        """A stretch of one recording, another stretch per ear: diffuse, as most noise is."""
        x = self._noises[rng.integers(len(self._noises))]
        starts = rng.integers(len(x), size=ears)
        return np.stack([np.take(x, np.arange(s, s + self.length), mode="wrap") for s in starts])


def _ratio(target: Float, part: Float, db: float) -> np.float32:
    """Gain on ``part`` that puts it ``db`` below the target, by RMS over all ears."""
    power = float(np.mean(part**2))
    return np.float32(np.sqrt(float(np.mean(target**2)) / (power + 1e-12)) * 10 ** (-db / 20)) if power > 0 else np.float32(0)


def _head(path: Path) -> tuple[Float, Float]:
    """Responses ``[directions, 2, taps]`` and azimuths in degrees of one head."""
    with np.load(path) as file:
        return file["ir"].astype(np.float32), file["azimuth_deg"].astype(np.float32)


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
