"""Fixed validation trials from a data folder, the same bytes for the same seed: what :mod:`quantization.evaluate` scores.

    python -m quantization.trials --data DIR -o OUT --split choose

Talkers, noises and heads are those that training holds out. Decisions are taken on the split ``choose`` (every other validation
talker), figures are published for ``report`` (the ones between), so that no figure was picked by looking at its own talkers.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.errors import DataError, EdgeTseError
from edge_tse.files import write_bytes
from quantization.corpus import Corpus, mono_at, open_corpus
from quantization.trial_list import COLUMNS

__all__ = ["CONDITIONS", "HARDER", "SPLITS", "Condition", "make_trials"]

Float = NDArray[np.float32]

RATE_HZ = 16000
SPLITS = ("choose", "report")
LENGTH_S = (4.0, 6.0)
SIR_DB = (-5.0, 5.0)
SNR_DB = (5.0, 15.0)
LEVEL_DB = (-28.0, -20.0)
"""RMS of the mixture relative to full scale."""
APART_DEG = 30.0
"""Least angle between the target and each other talker around one head."""
ENROLLMENT_S = (4.0, 10.0)
PEAK = 0.98
_ACTIVE_SHARE = 0.7  # of 20 ms frames: with fewer, one talker often pauses and is not in the way
_SPEECH_S = 3.0  # in a file that enrolls: more than enrollment asks for
_DRAWS = 20


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Content of a mixture, besides the enrolled talker."""

    interferers: tuple[int, ...]
    """Talkers in the way, one of these numbers."""
    absent: bool = False
    """Whether the enrolled talker says nothing."""
    ears: int = 1
    noise: bool = False
    room: bool | None = None
    """With two ears: whether around a head in a measured room, or without one; None: any of them."""
    babble: bool = False
    """Whether several more talkers are heard at once, from everywhere, 5 to 15 dB below the talker."""
    like: str = ""
    """Name of the condition whose very mixtures these are, changed in one thing; empty: mixtures of its own."""
    narrow_hz: tuple[float, float] | None = None
    """Pass band of mixture and talkers; None: everything."""
    narrow_enrollment_hz: tuple[float, float] | None = None
    quieter_db: float = 0.0
    silence_s: float = 0.0
    """Silence before anybody speaks."""


CONDITIONS = {
    "two_talkers": Condition(interferers=(1,)),
    "two_talkers_binaural": Condition(interferers=(1,), ears=2),
    "two_talkers_noise": Condition(interferers=(1,), noise=True),
    "three_talkers": Condition(interferers=(2,)),
    "target_absent": Condition(interferers=(1, 2), absent=True),
    "target_alone": Condition(interferers=(0,)),
}


_TELEPHONE_HZ = (300.0, 3400.0)
HARDER = {
    "one_talker_noise": Condition(interferers=(0,), noise=True),
    "two_ears": Condition(interferers=(1,), ears=2, room=False),
    "two_ears_room": Condition(interferers=(1,), ears=2, room=True),
    "two_ears_room_babble": Condition(interferers=(1,), ears=2, room=True, babble=True),
    "three_talkers_two_ears": Condition(interferers=(2,), ears=2, room=False),
    "telephone": Condition(interferers=(1,), like="two_talkers", narrow_hz=_TELEPHONE_HZ),
    "telephone_enrollment": Condition(interferers=(1,), like="two_talkers", narrow_enrollment_hz=_TELEPHONE_HZ),
    "quiet": Condition(interferers=(1,), like="two_talkers", quieter_db=40.0),
    "after_silence": Condition(interferers=(1,), like="two_talkers", silence_s=1.0),
}
"""Conditions of harder rooms and talkers, and of noise alone: made where they are asked for by name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Item:
    """One trial in memory. Signals ``[ears, samples]``."""

    mixture: Float
    enrollment: Float
    target: Float | None
    interferers: tuple[Float, ...]
    facts: dict[str, str]
    """Facts of its making, for people."""


def make_trials(
    data: Path,
    out: Path,
    split: str,
    seed: int = 1,
    per_condition: int = 100,
    progress: Callable[[float], None] | None = None,
    conditions: Sequence[str] = tuple(CONDITIONS),
) -> Path:
    """Write WAV files and ``trials.csv`` into folder ``out``; returns the path of the CSV.

    An item depends on the seed, its condition and its number alone: more per condition adds items and changes none. Conditions for
    which the data hold no noise or no head are left out. ``DataError`` if the split has too few talkers with long enough files.
    """
    if split not in SPLITS:
        raise DataError(f"there is no split {split}: choose {' or '.join(SPLITS)}")
    if per_condition < 1:
        raise DataError(f"{per_condition} trials per condition: at least 1 is needed")
    every = CONDITIONS | HARDER
    if unknown := [name for name in conditions if name not in every]:
        raise DataError(f"there is no condition {unknown[0]}: choose of {', '.join(every)}")
    corpus = open_corpus(data)
    scene = _Scene(corpus, split, seed)
    for folder in ("mixture", "enrollment", "target", "interferer"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    noise = bool(corpus.noises_validation)
    possible = [name for name, c in every.items() if (noise or not c.noise) and (c.ears == 1 or scene.heads(c))]
    names = [name for name in possible if name in conditions]
    rows = []
    for name in names:
        for number, item in enumerate(scene.items(name, per_condition)):
            rows.append(_write(out, f"{name}-{number:03}", name, item))
            if progress is not None:
                progress(len(rows) / (len(names) * per_condition))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*COLUMNS, *_FACTS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path = out / "trials.csv"
    write_bytes(path, text.getvalue().encode())
    return path


_FACTS = ("talker", "others", "sexes", "sir_db", "snr_db", "head", "azimuths_deg")


class _Scene:
    """Talkers of one split, and items made of them."""

    def __init__(self, corpus: Corpus, split: str, seed: int) -> None:
        self._corpus = corpus
        self._seed = seed
        self._sexes = _sexes(corpus.root)
        self._files: dict[str, list[Float]] = {}
        for speaker in corpus.validation_speakers[SPLITS.index(split) :: len(SPLITS)]:
            files = [mono_at(path, RATE_HZ) for path in corpus.utterances(speaker)]
            if len(files) == 1:
                files = np.array_split(files[0], 2)
            files = [x for x in files if len(x) >= ENROLLMENT_S[0] * RATE_HZ and _active_share(x) * len(x) >= _SPEECH_S * RATE_HZ]
            # One long file gives the target, any other one enrolls.
            if len(files) >= 2 and any(_long(x) for x in files):
                self._files[speaker] = files
        if len(self._files) < 3:
            wanted = f"a file of {LENGTH_S[1]:.0f} s and another of {ENROLLMENT_S[0]:.0f} s"
            raise DataError(f"split {split} has {len(self._files)} talkers with {wanted}, 3 are needed: add talkers")

    def heads(self, condition: Condition) -> list[Path]:
        """Held-out heads that a condition may stand around."""
        every = self._corpus.hrirs_validation
        return every if condition.room is None else [p for p in every if ("room" in p.stem.lower()) == condition.room]

    def items(self, name: str, count: int) -> Iterator[_Item]:
        condition = (CONDITIONS | HARDER)[name]
        key = [self._seed, zlib.crc32((condition.like or name).encode())]
        speakers = list(self._files)
        for number in range(count):
            # Every talker is the target as often as any other, in an order of its own for each condition.
            turn, place = divmod(number, len(speakers))
            order = np.random.default_rng([*key, turn]).permutation(len(speakers))
            yield self._item(np.random.default_rng([*key, turn, place, 1]), speakers[order[place]], condition)

    def _item(self, rng: np.random.Generator, talker: str, condition: Condition) -> _Item:
        count = int(rng.choice(condition.interferers))
        others = [str(s) for s in rng.choice([s for s in self._files if s != talker], size=count, replace=False)]
        n = round(rng.uniform(*LENGTH_S) * RATE_HZ)
        used, speech = self._excerpt(rng, talker, n)
        voices = [speech, *(self._excerpt(rng, other, n)[1] for other in others)]
        images, facts = self._place(rng, voices, condition)
        target, interferers = images[0], images[1:]
        sir_db = rng.uniform(*SIR_DB)
        interferers = [x * _gain(target, x, sir_db + 10 * np.log10(count)) for x in interferers]
        mixture = sum(interferers, np.zeros_like(target) if condition.absent else target)
        if condition.noise:
            snr_db = rng.uniform(*SNR_DB)
            noise = self._noise(rng, n)
            mixture = mixture + noise * _gain(target, noise, snr_db)
            facts["snr_db"] = f"{snr_db:.2f}"
        if condition.babble:
            snr_db, babble = rng.uniform(*SNR_DB), self._babble(rng, n, condition.ears, {talker, *others})
            mixture = mixture + babble * _gain(target, babble, snr_db)
            facts["snr_db"] = f"{snr_db:.2f}"
        # No file of the item may clip, the target alone can be louder than the mixture where waves cancel.
        peak = max(float(np.abs(x).max()) for x in (mixture, target, *interferers))
        gain = np.float32(min(10 ** (rng.uniform(*LEVEL_DB) / 20) / _rms(mixture), PEAK / peak))
        enrollment = self._enrollment(rng, talker, used)
        if condition.narrow_enrollment_hz:
            enrollment = _narrow(enrollment, condition.narrow_enrollment_hz)
        gain *= np.float32(10 ** (-condition.quieter_db / 20))

        def finish(x: Float) -> Float:
            x = x * gain if condition.narrow_hz is None else _narrow(x * gain, condition.narrow_hz)
            return np.pad(x, ((0, 0), (round(condition.silence_s * RATE_HZ), 0)))

        return _Item(
            mixture=finish(mixture),
            enrollment=enrollment,
            target=None if condition.absent else finish(target),
            interferers=tuple(finish(x) for x in interferers),
            facts={
                "talker": talker,
                "others": ";".join(others),
                "sexes": ";".join(self._sexes.get(name, "") for name in (talker, *others)) if self._sexes else "",
                **({"sir_db": f"{sir_db:.2f}"} if count and not condition.absent else {}),
                **facts,
            },
        )

    def _excerpt(self, rng: np.random.Generator, talker: str, n: int) -> tuple[int, Float]:
        """``[n]`` samples of mostly speech, RMS 1, and which of the talker's files they are from."""
        files = self._files[talker]
        used = int(rng.choice([i for i, x in enumerate(files) if _long(x)]))
        signal = files[used]
        best, most = signal[:n], -1.0
        for _ in range(_DRAWS):
            start = int(rng.integers(len(signal) - n + 1))
            piece = signal[start : start + n]
            share = _active_share(piece)
            if share > most:
                best, most = piece, share
            if share >= _ACTIVE_SHARE:
                break
        return used, best / np.float32(_rms(best))

    def _enrollment(self, rng: np.random.Generator, talker: str, used: int) -> Float:
        """``[1, samples]`` from another file than the target's (the other half, where there is one file)."""
        files = [x for i, x in enumerate(self._files[talker]) if i != used]
        signal = files[rng.integers(len(files))][: round(ENROLLMENT_S[1] * RATE_HZ)]
        return signal[None] * np.float32(min(1.0, PEAK / float(np.abs(signal).max())))

    def _place(self, rng: np.random.Generator, voices: list[Float], condition: Condition) -> tuple[list[Float], dict[str, str]]:
        """``[ears, n]`` of each voice: as recorded, or around one head, the others at least :data:`APART_DEG` off the first."""
        if condition.ears == 1:
            return [voice[None] for voice in voices], {}
        heads = self.heads(condition)
        path = heads[rng.integers(len(heads))]
        with np.load(path) as file:
            responses, azimuths = file["ir"].astype(np.float32), file["azimuth_deg"]
        first = int(rng.integers(len(azimuths)))
        apart = np.abs((azimuths - azimuths[first] + 180) % 360 - 180)
        chosen = [first, *(int(rng.choice(np.flatnonzero(apart >= APART_DEG))) for _ in voices[1:])]
        images = [
            scipy.signal.oaconvolve(voice[None], responses[i], axes=1)[:, : len(voice)].astype(np.float32)
            for voice, i in zip(voices, chosen, strict=True)
        ]
        return images, {"head": path.stem, "azimuths_deg": ";".join(f"{azimuths[i]:g}" for i in chosen)}

    def _babble(self, rng: np.random.Generator, n: int, ears: int, here: set[str]) -> Float:
        """``[ears, n]`` of six other talkers, other stretches of them for each ear."""
        elsewhere = [name for name in self._files if name not in here] or list(self._files)
        names = rng.choice(elsewhere, size=(6, ears))
        babble: Float = np.stack([sum(self._excerpt(rng, str(name), n)[1] for name in ear) for ear in names.T])
        return babble

    def _noise(self, rng: np.random.Generator, n: int) -> Float:
        noises = self._corpus.noises_validation
        signal = mono_at(noises[rng.integers(len(noises))], RATE_HZ)
        start = int(rng.integers(len(signal)))
        stretch: Float = np.take(signal, np.arange(start, start + n), mode="wrap")[None]
        return stretch


def _sexes(root: Path) -> dict[str, str]:
    """Sex of each talker, as the data folder's ``manifest.csv`` says; empty where there is none."""
    manifest = root / "manifest.csv"
    if not manifest.is_file():
        return {}
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("speaker") and row.get("gender")]
    return {f"{row['set']}/{row['speaker']}": row["gender"] for row in rows}


def _write(out: Path, name: str, condition: str, item: _Item) -> dict[str, str]:
    """Write the files of an item and return its row."""

    def put(folder: str, stem: str, signal: Float) -> str:
        relative = f"{folder}/{stem}.wav"
        audio.write(out / relative, signal, RATE_HZ)
        return relative

    return {
        "id": name,
        "mixture": put("mixture", name, item.mixture),
        "enrollment": put("enrollment", name, item.enrollment),
        "target": "" if item.target is None else put("target", name, item.target),
        "interferer": ";".join(put("interferer", f"{name}-{i}", x) for i, x in enumerate(item.interferers)),
        "condition": condition,
        **item.facts,
    }


def _narrow(signal: Float, edges_hz: tuple[float, float]) -> Float:
    """The signal ``[channels, n]`` between two edges: steep, without delay."""
    sections = scipy.signal.butter(12, edges_hz, "bandpass", fs=RATE_HZ, output="sos")
    narrow: Float = scipy.signal.sosfiltfilt(sections, signal, axis=-1).astype(np.float32)
    return narrow


def _long(signal: Float) -> bool:
    """Whether any excerpt fits."""
    return len(signal) >= LENGTH_S[1] * RATE_HZ


def _rms(signal: Float) -> float:
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64)))) or 1.0


def _gain(target: Float, other: Float, db: float) -> np.float32:
    """Factor on ``other`` that puts it ``db`` below the target, all ears together."""
    return np.float32(_rms(target) / _rms(other) * 10 ** (-db / 20))


def _active_share(signal: Float) -> float:
    """Share of 20 ms frames within 30 dB of the loud ones."""
    n = RATE_HZ // 50
    frames = signal[: len(signal) // n * n].reshape(-1, n)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return float(np.mean(power > np.percentile(power, 95) * 1e-3))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from a shell; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m quantization.trials", description="Make fixed validation trials.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the speech corpus")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the sound files and trials.csv")
    parser.add_argument(
        "--split", choices=SPLITS, required=True, help="split of talkers: choose to take decisions, report to publish"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-condition", type=int, default=100, metavar="N")
    given = parser.parse_args(arguments)
    try:
        path = make_trials(given.data, given.output, given.split, given.seed, given.per_condition)
    except EdgeTseError as failure:
        sys.stderr.write(f"trials: {failure}\n")
        return 2
    sys.stdout.write(f"{path}: evaluate with `edge-tse evaluate --trials {path} -o report.json`\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
