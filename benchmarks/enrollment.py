"""How much does it take to know a talker? Equal-error rate of an encoder by length of the enrollment and noise in it.

python -m benchmarks.enrollment --data DIR

Talkers are all of those that training holds out who have a clip to be recognized by and enough others to enroll from, the same ones
for every length. An enrollment is the beginning of a talker's joined clips, with another clip, clean, to be recognized by; it is
compared with that one and with those of all other talkers. Noise is a held-out recording, added at a ratio of RMS values.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks import RESULTS, one_line
from benchmarks.readme_figures import table
from edge_tse.artifact import Artifact
from edge_tse.enrollment.recordings import enroll_clips
from edge_tse.errors import AudioError, DataError
from edge_tse.report import Report, environment
from edge_tse.voice import VoiceModel
from quantization.corpus import Corpus, mono_at, open_corpus
from quantization.encoder_training import error_rate

__all__ = ["LENGTHS_S", "SNRS_DB", "Comparison", "comparisons", "equal_error_rates", "page"]

Float = NDArray[np.float32]

STORED = RESULTS / "enrollment.json"
PAGE = Path(__file__).parent.parent / "docs" / "enrollment.md"
LENGTHS_S = (2.0, 3.0, 5.0, 10.0, 15.0)
SNRS_DB = (None, 20.0, 10.0, 5.0, 0.0)
"""Signal-to-noise ratios; None: as recorded."""
TEST_S = 5.0
_RATE_HZ = 16000


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """One talker, enrolled once, ``[samples]`` each at 16 kHz."""

    talker: str
    enrollment: Float
    """Enrollment ``[samples]`` of the longest length; shorter ones are its beginning."""
    test: Float
    noise: Float | None
    """Noise, as long as the enrollment."""

    def clip(self, seconds: float, snr_db: float | None) -> Float:
        """The enrollment of this length, with noise."""
        clean = self.enrollment[: round(seconds * _RATE_HZ)]
        if snr_db is None:
            return clean
        assert self.noise is not None
        noise = self.noise[: len(clean)]
        gain = np.sqrt(np.mean(clean**2, dtype=np.float64) / (np.mean(noise**2, dtype=np.float64) + 1e-20)) * 10 ** (-snr_db / 20)
        mixed = clean + noise * np.float32(gain)
        return mixed * np.float32(min(1.0, 0.98 / float(np.abs(mixed).max())))  # no clipping: level says nothing to the encoder


def comparisons(corpus: Corpus, seed: int, draws: int) -> list[Comparison]:
    """``draws`` for each talker who has enough clips. ``DataError`` if fewer than two talkers do."""
    noises = [mono_at(path, _RATE_HZ) for path in corpus.noises_validation]
    longest = round(LENGTHS_S[-1] * _RATE_HZ)
    out = []
    for talker in corpus.validation_speakers:
        clips = [mono_at(path, _RATE_HZ) for path in corpus.utterances(talker)]
        for draw in range(draws):
            rng = np.random.default_rng([seed, draw, *talker.encode()])
            order = rng.permutation(len(clips))
            tests = [i for i in order if len(clips[i]) >= 2 * _RATE_HZ]
            if not tests:
                break
            rest = np.concatenate([np.zeros(0, np.float32), *(clips[i] for i in order if i != tests[0])])
            if len(rest) < longest:
                break
            noise = None
            if noises:
                chosen = noises[rng.integers(len(noises))]
                start = int(rng.integers(len(chosen)))
                noise = np.take(chosen, np.arange(start, start + longest), mode="wrap")
            test = clips[tests[0]][: round(TEST_S * _RATE_HZ)]
            out.append(Comparison(talker=talker, enrollment=rest[:longest], test=test, noise=noise))
    if len({one.talker for one in out}) < 2:
        raise DataError(
            f"{corpus.root}: fewer than 2 held-out talkers have {LENGTHS_S[-1]:.0f} s of speech and a clip besides: add talkers"
        )
    return out


def equal_error_rates(
    model: VoiceModel, compared: Sequence[Comparison], lengths_s: Sequence[float], snrs_db: Sequence[float | None]
) -> list[dict[str, Any]]:
    """One row for each length and noise: the rate over the enrollments that were accepted, and the share that was refused."""
    tests = [_embedding(model, one.test) for one in compared]
    known = [i for i, test in enumerate(tests) if test is not None]
    rows = []
    for seconds, snr_db in track([(s, n) for n in snrs_db for s in lengths_s], "enrolling", transient=True):
        voices = [_embedding(model, compared[i].clip(seconds, snr_db)) for i in known]
        scores, same = [], []
        for i, voice in zip(known, voices, strict=True):
            if voice is None:
                continue
            for j in known:
                # Another draw of the same talker may test with a clip that this one enrolls from.
                test = tests[j]
                if test is not None and (i == j or compared[i].talker != compared[j].talker):
                    scores.append(float(voice @ test))
                    same.append(i == j)
        rate = error_rate(np.array(scores), np.array(same)) if any(same) and not all(same) else None
        refused = sum(voice is None for voice in voices) / len(voices)
        rows.append({"seconds": seconds, "snr_db": snr_db, "eer": rate, "refused": refused, "enrollments": len(voices)})
    return rows


def _embedding(model: VoiceModel, signal: Float) -> Float | None:
    """The unit vector of a signal at 16 kHz, None where it cannot be enrolled."""
    try:
        voice = enroll_clips(model, [("clip", signal[None], _RATE_HZ)]).voice
    except AudioError:
        return None
    return voice.embedding[: model.dimension]


def page(report: dict[str, Any]) -> str:
    """Markdown of what is on file."""
    figures, here = report["figures"], report["environment"]
    lengths = sorted({row["seconds"] for row in figures["rows"]})
    by_noise: dict[float | None, dict[float, dict[str, Any]]] = {}
    for row in figures["rows"]:
        by_noise.setdefault(row["snr_db"], {})[row["seconds"]] = row
    lines = [
        (
            "as recorded" if snr_db is None else f"noise, SNR {snr_db:g} dB",
            *("-" if found[s]["eer"] is None else f"{found[s]['eer']:.1%}" + _refusals(found[s]) for s in lengths),
        )
        for snr_db, found in by_noise.items()
    ]
    what = (
        f"Equal-error rate of the encoder of {figures['model']} (`{figures['encoder'][:12]}`) by seconds of enrollment, with pauses"
    )
    who = f"{figures['talkers']} talkers that training held out, {figures['draws']} enrollments each"
    against = f"{TEST_S:g} s of another clip of the same talker and of every other one"
    refused = any(row["refused"] for row in figures["rows"])
    parts = [
        "# How much it takes to know a talker",
        "Written by `python -m benchmarks.enrollment` from `benchmarks/results/enrollment.json`; none of it is typed.",
        f"{what}: {who}, compared with {against}. A talker's clips share a microphone and a room, which flatters the rate.",
        table(("enrollment", *(f"{s:g} s" for s in lengths)), lines),
        "In brackets: enrollments that were refused, because too little of them was found to be speech; the rate is of the others."
        if refused
        else "",
        f"Seed {figures['seed']}, measured {here['measured'][:10]}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _refusals(row: dict[str, Any]) -> str:
    return f" ({row['refused']:.0%})" if row["refused"] else ""


@one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write result and page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.enrollment", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--artifact", default="small", metavar="NAME|FILE", help="model: a shipped one or a file")
    parser.add_argument("--draws", type=int, default=2, metavar="N", help="enrollments for each talker")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--render", action="store_true", help="only write the page, from the result on file")
    given = parser.parse_args(arguments)
    if not given.render:
        if not given.data:
            parser.error("--data is needed, or --render")
        artifact = Artifact.find(given.artifact)
        compared = comparisons(open_corpus(given.data), given.seed, given.draws)
        snrs_db = SNRS_DB if compared[0].noise is not None else SNRS_DB[:1]
        rows = equal_error_rates(artifact.voice_model, compared, LENGTHS_S, snrs_db)
        figures = {
            "model": artifact.provenance.get("recipe", "unknown"),
            "encoder": artifact.voice_model.encoder_digest,
            "seed": given.seed,
            "draws": given.draws,
            "talkers": len({one.talker for one in compared}),
            "rows": rows,
        }
        Report(question="How much does it take to know a talker?", figures=figures, environment=environment()).save(STORED)
    if not STORED.exists():
        sys.stderr.write(f"enrollment: {STORED} is not there: measure first, with --data\n")
        return 2
    PAGE.write_text(page(json.loads(STORED.read_text())))
    print(f"written to {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
