"""How often does the room's path open without reason, and how often does it stay shut where there is one?

python -m benchmarks.passing --data DIR

False alarms are counted on what was recorded: held-out talkers, and all noises of the data, for no detector was trained on any.
There is no recording of an alarm in the data, so alarms are made as the standards and common practice describe them, and laid
over recorded noise. The wearer's own voice is simulated, too: a held-out talker in front of a held-out head, as loud as one's own
voice is at one's ear. Levels are in dB SPL, over all of a recording, pauses included.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from benchmarks import RESULTS, one_line
from edge_tse.frame import FrameSpec
from edge_tse.hearing.calibration import UNCALIBRATED
from edge_tse.hearing.openings import Openings
from edge_tse.report import Report, environment
from quantization.corpus import Corpus, mono_at, open_corpus
from quantization.trials import SPLITS

Float = NDArray[np.float32]

RATE_HZ = 16000
FRAME = FrameSpec(hop=128, window=512, synthesis=256)
"""Geometry with one hop per look."""
FULL_DB_SPL = UNCALIBRATED.microphones_db_spl[0]
SPEECH_DB, NOISE_DB, OWN_DB = (65.0, 75.0), 70.0, (70.0, 75.0)
BED_DB, SNR_DB = 65.0, (10, 5, 0, -5)
LEAD_S, LASTS_S = 0.25, 8.0
FILES = 5


def wants_open(room: Float, **wanted: float) -> NDArray[np.bool_]:
    """Whether the path is wanted open at each look, for ``[ears, n]``."""
    openings = Openings(FRAME, len(room), np.full(len(room), FULL_DB_SPL), **wanted)
    found = np.zeros(room.shape[1] // FRAME.hop, bool)
    for i in range(len(found)):
        openings(room[:, i * FRAME.hop : (i + 1) * FRAME.hop])
        found[i] = any(openings.found)
    return found


def rate(rooms: Iterable[Float], **wanted: float) -> dict[str, float]:
    """Number and duration of the openings."""
    events = looks = open_ = 0
    for room in rooms:
        found = wants_open(room, **wanted)
        events += int(np.count_nonzero(np.diff(found.astype(np.int8), prepend=0) == 1))
        looks, open_ = looks + len(found), open_ + int(found.sum())
    seconds = looks * FRAME.period_s
    return {"seconds": round(seconds), "events": events, "open": round(open_ / max(looks, 1), 4)}


def while_talking(voices: Iterable[Float], heard: Callable[[Float], Float]) -> dict[str, float]:
    """Share of the time in which the wearer talks that the path is open, and share of the pauses."""
    counts = np.zeros((2, 2), int)  # [pause, talk] x [shut, open]
    for voice in voices:
        looks = voice.shape[1] // FRAME.hop
        rms = np.array([_rms(part) for part in np.split(voice[:, : looks * FRAME.hop], looks, axis=1)])
        talks = (rms > np.percentile(rms, 95) * 0.1).astype(int)
        np.add.at(counts, (talks, wants_open(heard(voice), own_voice_db=0).astype(int)), 1)
    pauses, talk = (round(float(open_ / max(shut + open_, 1)), 4) for shut, open_ in counts)
    return {"seconds": round(float(counts[1].sum()) * FRAME.period_s), "open": talk, "open_in_pauses": pauses}


def alarms() -> dict[str, Float]:
    """Alarms by name, :data:`LASTS_S` each, RMS of the sounding part 1."""
    t = np.arange(round(LASTS_S * RATE_HZ)) / RATE_HZ

    def sweep(hz: NDArray[np.float64] | float, harmonics: int = 1) -> NDArray[np.float64]:
        phase = 2 * np.pi * np.cumsum(np.broadcast_to(hz, t.shape)) / RATE_HZ
        return np.sum([np.sin(k * phase) / k for k in range(1, 2 * harmonics, 2)], axis=0)

    def between(low: float, high: float, period_s: float) -> NDArray[np.float64]:
        up = t / period_s % 1
        return low * (high / low) ** (2 * np.minimum(up, 1 - up))

    three = (t % 4 < 3) & (t % 1 < 0.5)
    four = (t % 5.7 < 0.7) & (t % 5.7 % 0.2 < 0.1)
    made = {
        "smoke alarm, 3.1 kHz (ISO 8201)": sweep(3100) * three,
        "smoke alarm, 520 Hz square (NFPA 72)": sweep(520, 6) * three,
        "carbon monoxide alarm, 3.4 kHz (temporal-four)": sweep(3400) * four,
        "siren, wail 0.6 to 1.5 kHz": sweep(between(600, 1500, 4), 3),
        "siren, yelp 0.6 to 1.5 kHz": sweep(between(600, 1500, 0.35), 3),
        "siren, two tones 435 / 580 Hz": sweep(np.where(t / 0.75 % 2 < 1, 435.0, 580.0), 3),
        "reversing signal, 1.25 kHz": sweep(1250) * (t % 1 < 0.5),
    }
    return {name: (x / np.sqrt(np.mean(x[x != 0] ** 2))).astype(np.float32) for name, x in made.items()}


def misses(alarm: Float, beds: Mapping[str, Float]) -> dict[str, dict[str, float | None]]:
    """Misses by SNR: share of beds in which an alarm was missed, and the median delay where it was found."""
    out = {}
    lead = round(LEAD_S * RATE_HZ)
    for snr_db in SNR_DB:
        delays = []
        for bed in beds.values():
            room = np.resize(bed, lead + len(alarm)).copy()
            room[lead:] += alarm * np.float32(_rms(bed) * 10 ** (snr_db / 20))
            found = wants_open(room[None], alarm_db=0)
            first = int(np.argmax(found)) * FRAME.period_s - LEAD_S if found.any() else np.nan
            delays.append(first)
        heard = [delay for delay in delays if np.isfinite(delay)]
        out[f"{snr_db} dB"] = {
            "missed": len(delays) - len(heard),
            "of": len(delays),
            "delay_s": round(float(np.median(heard)), 2) if heard else None,
        }
    return out


def figures(corpus: Corpus, split: str, talkers: int) -> dict[str, object]:
    """Figures of the page."""
    rng = np.random.default_rng(1)
    names = corpus.validation_speakers[SPLITS.index(split) :: len(SPLITS)][:talkers]
    speech = [mono_at(corpus.utterances(name)[0], RATE_HZ) for name in names]
    kinds: dict[str, list[Path]] = defaultdict(list)
    for path in corpus.noises:
        kinds[path.stem.rpartition("_")[0] or path.stem].append(path)
    noise = {kind: [mono_at(path, RATE_HZ) for path in paths[:FILES]] for kind, paths in sorted(kinds.items())}
    babble = np.sum([np.resize(_at(x, 0), round(LASTS_S * RATE_HZ)) for x in speech[:6]], axis=0)
    beds = {"babble of six": babble} | {
        kind: noise[kind][0] for kind in noise if kind.startswith(("coffee", "rain", "train", "doing"))
    }
    beds = {kind: _at(bed, BED_DB) for kind, bed in beds.items()}
    heads = [_head(path) for path in corpus.hrirs_validation]

    def around(signal: Float, ahead: bool, db_spl: float) -> Float:
        responses, azimuths = heads[rng.integers(len(heads))]
        at = np.flatnonzero(np.abs(azimuths) < 2.5) if ahead else np.flatnonzero(np.abs(np.abs(azimuths) - 90) <= 60)
        heard = scipy.signal.oaconvolve(signal[None], responses[rng.choice(at)], axes=1).astype(np.float32)
        return _at(heard, db_spl)

    false_own = {}
    for db_spl in SPEECH_DB:
        for ahead in (True, False):
            where = "in front" if ahead else "30 degrees and more aside"
            false_own[f"a partner {where}, {db_spl:g} dB"] = rate((around(x, ahead, db_spl) for x in speech), own_voice_db=0)
    return {
        "alarm_false": {f"speech, {db:g} dB": rate((_at(x, db)[None] for x in speech), alarm_db=0) for db in SPEECH_DB}
        | {f"{kind}, {NOISE_DB:g} dB": rate((_at(x, NOISE_DB)[None] for x in files), alarm_db=0) for kind, files in noise.items()},
        "alarm_missed": {name: misses(alarm, beds) for name, alarm in alarms().items()},
        "own_voice_false": false_own,
        "own_voice_found": {
            f"simulated, {db_spl:g} dB in babble of 60 dB": while_talking(
                (around(x, True, db_spl) for x in speech), lambda voice: _in_babble(voice, babble, rng)
            )
            for db_spl in OWN_DB
        },
    }


def _in_babble(voice: Float, babble: Float, rng: np.random.Generator) -> Float:
    n = voice.shape[1]
    starts = rng.integers(len(babble), size=2)
    return voice + _at(np.stack([np.take(babble, np.arange(s, s + n), mode="wrap") for s in starts]), 60.0)


def _at(signal: Float, db_spl: float) -> Float:
    """The signal at this level, of the louder ear."""
    rms = max(_rms(ear) for ear in np.atleast_2d(signal))
    return (signal * (10 ** ((db_spl - FULL_DB_SPL) / 20) / rms)).astype(np.float32)


def _rms(signal: Float) -> float:
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64)))) + 1e-12


def _head(path: Path) -> tuple[Float, NDArray[np.float64]]:
    with np.load(path) as file:
        level = np.abs(file["elevation_deg"]) <= 5
        return file["ir"][level].astype(np.float32), file["azimuth_deg"][level]


@one_line
def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--split", choices=SPLITS, default="report")
    parser.add_argument("--talkers", type=int, default=30)
    parser.add_argument("--to", type=Path, default=RESULTS / "passing.json", metavar="FILE")
    given = parser.parse_args()
    found = figures(open_corpus(given.data), given.split, given.talkers)
    question = "How often does the room's path open without reason, and how often does it stay shut where there is one?"
    report = Report(question=question, figures=found | {"split": given.split, "talkers": given.talkers}, environment=environment())
    report.save(given.to)
    print(report.to_json())


if __name__ == "__main__":
    sys.exit(main())
