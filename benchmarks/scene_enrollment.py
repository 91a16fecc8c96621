"""How good is a voice that was enrolled in a crowd, by looking at the talker?

python -m benchmarks.scene_enrollment --data DIR [--per-condition 40]

Held-out talkers through held-out heads. A recording of six seconds has the talker in front and another one, with an SIR of -5 to
5 dB, at 30 to 90 degrees; it enrolls as it is (naive), after :func:`edge_tse.enrollment.in_front` (scene), and without the others
(clean). Each voice then extracts the same talker, at other words, from a mixture with the same other talker, made alike. Decisions
were taken on the split ``choose``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.signal
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import RESULTS, one_line
from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, open_network
from edge_tse.enrollment.likeness import likeness
from edge_tse.enrollment.recordings import enroll_clips
from edge_tse.enrollment.scene import in_front
from edge_tse.errors import AudioError, DataError
from edge_tse.extraction import extract_signal
from edge_tse.metrics import si_sdr
from edge_tse.personalization import personalize
from edge_tse.report import Report, environment
from edge_tse.voice import Voice
from quantization.corpus import Corpus, mono_at, open_corpus
from quantization.trials import SPLITS

Float = NDArray[np.float32]

RATE_HZ = 16000
SECONDS = 6.0
SIR_DB, ASIDE_DEG, SNR_DB = (-5.0, 5.0), (30.0, 90.0), (5.0, 15.0)
LEVEL = 0.06  # RMS of what is recorded
CONDITIONS = ("a talker aside", "a talker aside, noise", "a talker aside, in a room")
WAYS = ("clean", "naive", "scene")
OTHER = "the other talker"
ROOM = "room"
"""Mark in the name of a head that was measured in a room."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Signals of a scene, ``[2, n]`` each."""

    talker: Float
    other: Float
    noise: Float

    @property
    def all(self) -> Float:
        return self.talker + self.other + self.noise


class Scenes:
    """Pairs of scenes, the same for the same seed and number: one to enroll in, one to extract from."""

    def __init__(self, corpus: Corpus, split: str, seed: int) -> None:
        self._corpus, self._seed = corpus, seed
        held = corpus.validation_speakers[SPLITS.index(split) :: len(SPLITS)]
        self._files = {}
        for name in held:
            files = [mono_at(path, RATE_HZ) for path in corpus.utterances(name)]
            files = [x for x in (files if len(files) > 1 else np.array_split(files[0], 2)) if len(x) >= SECONDS * RATE_HZ]
            if len(files) > 1:
                self._files[name] = files
        if len(self._files) < 2:
            raise DataError(f"split {split} has {len(self._files)} talkers with two files of {SECONDS:g} s, 2 are needed")

    def pairs(self, condition: str, count: int) -> Iterator[tuple[Scene, Scene]]:
        room = condition.endswith("room")
        heads = [path for path in self._corpus.hrirs_validation if (ROOM in path.stem.lower()) == room]
        for number in range(count):
            rng = np.random.default_rng([self._seed, CONDITIONS.index(condition), number])
            who = [str(name) for name in rng.choice(sorted(self._files), 2, replace=False)]
            with np.load(heads[rng.integers(len(heads))]) as head:
                responses, azimuth_deg, level = (
                    head["ir"].astype(np.float32),
                    head["azimuth_deg"],
                    np.abs(head["elevation_deg"]) <= 5,
                )
            said = [rng.permutation(len(self._files[name]))[:2] for name in who]
            ahead = int(np.flatnonzero(level & (np.abs(azimuth_deg) < 2.5))[0])
            aside = np.flatnonzero(level & (np.abs(azimuth_deg) >= ASIDE_DEG[0]) & (np.abs(azimuth_deg) <= ASIDE_DEG[1]))
            scenes = []
            for take in range(2):
                talker, other = (self._excerpt(rng, name, files[take]) for name, files in zip(who, said, strict=True))
                noisy = condition.endswith("noise")
                scenes.append(self._scene(rng, talker, other, responses[ahead], responses[rng.choice(aside)], noisy))
            yield scenes[0], scenes[1]

    def _excerpt(self, rng: np.random.Generator, name: str, file: int) -> Float:
        n, signal = round(SECONDS * RATE_HZ), self._files[name][file]
        start = int(rng.integers(len(signal) - n + 1))
        return signal[start : start + n]

    def _scene(self, rng: np.random.Generator, talker: Float, other: Float, ahead: Float, aside: Float, noisy: bool) -> Scene:
        front, side = _through(talker, ahead), _through(other, aside)
        side = side * np.float32(_rms(front) / _rms(side) * 10 ** (-rng.uniform(*SIR_DB) / 20))
        noise = np.zeros_like(front)
        if noisy:
            noise = self._noise(rng, front.shape[1])
            noise = noise * np.float32(_rms(front) / _rms(noise) * 10 ** (-rng.uniform(*SNR_DB) / 20))
        gain = np.float32(LEVEL / _rms(front + side + noise))
        return Scene(talker=front * gain, other=side * gain, noise=noise * gain)

    def _noise(self, rng: np.random.Generator, n: int) -> Float:
        """Noise that takes another stretch of one recording at each ear: from everywhere."""
        noises = self._corpus.noises_validation
        while True:
            signal = mono_at(noises[rng.integers(len(noises))], RATE_HZ)
            ears = np.stack(
                [np.take(signal, np.arange(start, start + n), mode="wrap") for start in rng.integers(len(signal), size=2)]
            )
            if _rms(ears) > 1e-4:
                return ears


def voice_of(artifact: Artifact, clip: Float) -> Voice | None:
    """Voice of a clip, None where the clip holds too little speech."""
    try:
        return enroll_clips(artifact.voice_model, [("clip", clip, RATE_HZ)]).voice
    except AudioError:
        return None


def front_of(artifact: Artifact, recording: Float) -> Float | None:
    """Sound from in front, None where nobody is there."""
    try:
        return in_front(artifact.frame, recording, RATE_HZ).signal
    except AudioError:
        return None


def measure(artifact: Artifact, engine: str, scenes: Scenes, condition: str, count: int) -> dict[str, object]:
    """Figures of one condition: similarity of each voice to the clean one, and the gain of its extraction."""
    alike: dict[str, list[float]] = {way: [] for way in (*WAYS, OTHER)}
    gained: dict[str, list[float]] = {way: [] for way in WAYS}
    wrong = dict.fromkeys(WAYS, 0)
    missed = mistaken = 0
    for enrolled, mixed in scenes.pairs(condition, count):
        front = front_of(artifact, enrolled.all)
        clips = {"clean": enrolled.talker, "naive": enrolled.all, "scene": front, OTHER: enrolled.other}
        made = {way: None if clip is None else voice_of(artifact, clip) for way, clip in clips.items()}
        clean = made["clean"]
        if clean is None:
            continue  # six seconds with too little speech in them
        missed += front is None
        mistaken += front_of(artifact, enrolled.other + enrolled.noise) is not None
        before = si_sdr(mixed.all, mixed.talker)
        for way, voice in made.items():
            if voice is None:
                continue
            alike[way].append(likeness(artifact.voice_model, voice, clean))
            if way == OTHER:
                continue
            own = personalize(artifact, voice)
            heard = extract_signal(mixed.all, RATE_HZ, Engine(own, open_network(own, engine))).signal
            after = si_sdr(heard, mixed.talker)
            gained[way].append(after - before)
            wrong[way] += si_sdr(heard, mixed.other) > after
    return {
        "n": len(alike["clean"]),
        "nobody_found_in_front": missed,
        "somebody_found_where_nobody_is": mistaken,
        "cosine": {way: _spread(values) for way, values in alike.items()},
        "si_sdr_i": {way: _spread(values) for way, values in gained.items()},
        "nearer_to_the_other": wrong,
    }


def _spread(values: list[float]) -> dict[str, float]:
    low, middle = np.percentile(values, (10, 50))
    return {"median": round(float(middle), 4), "p10": round(float(low), 4), "n": len(values)}


def _through(signal: Float, response: Float) -> Float:
    heard: Float = scipy.signal.oaconvolve(signal[None], response, axes=1)[:, : len(signal)].astype(np.float32)
    return heard


def _rms(signal: Float) -> float:
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))


@one_line
def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--artifact", type=Path, metavar="FILE", help="model; the shipped one if left out")
    parser.add_argument("--engine", default="litert")
    parser.add_argument("--split", choices=SPLITS, default="report")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-condition", type=int, default=40)
    parser.add_argument("--to", type=Path, default=RESULTS / "scene_enrollment.json", metavar="FILE")
    given = parser.parse_args()
    artifact = Artifact.shipped() if given.artifact is None else Artifact.load(given.artifact)
    scenes = Scenes(open_corpus(given.data), given.split, given.seed)
    conditions = {name: measure(artifact, given.engine, scenes, name, given.per_condition) for name in CONDITIONS}
    figures = {
        "conditions": conditions,
        "artifact": artifact.digest,
        "engine": given.engine,
        "trials": {"split": given.split, "seed": given.seed, "per_condition": given.per_condition, "seconds": SECONDS},
    }
    question = "How good is a voice that was enrolled in a crowd, by looking at the talker?"
    Report(question=question, figures=figures, environment=environment()).save(given.to)
    shown = Table(title="median (p10)", title_justify="left")
    for heading in ("condition", "enrolled", "cosine to clean", "SI-SDR improvement, dB", "nearer to the other"):
        shown.add_column(heading)
    for name, found in conditions.items():
        for way in WAYS:
            cosine, gain = (found[key][way] for key in ("cosine", "si_sdr_i"))  # type: ignore[index]
            cells = [f"{each['median']:.2f} ({each['p10']:.2f})" for each in (cosine, gain)]
            shown.add_row(name, way, *cells, f"{found['nearer_to_the_other'][way]} of {gain['n']}")  # type: ignore[index]
    Console(highlight=False, width=120).print(shown)


if __name__ == "__main__":
    sys.exit(main())
