"""How far apart are two ears that send over links and clocks of their own, and what does that do to cues and to the talker?

Links are simulated (:mod:`edge_tse.live.clocks.simulation`), the receiver is the real one. The talker is that of the shipped
two-eared case, in a room; cues are those of :mod:`benchmarks.two_ears`, of each second of her sound after against before.

python -m benchmarks.clocks
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import RESULTS, one_line
from benchmarks.two_ears import _ild_db, _itd_us
from edge_tse.artifact import Artifact
from edge_tse.demo.cases import Case, shipped_cases
from edge_tse.engines import Engine, open_network
from edge_tse.extraction import extract_signal
from edge_tse.files import check_output
from edge_tse.live.clocks import EARS, Air, Crystal, Heard, receive, simulate
from edge_tse.live.clocks.concealment import AROUND, HISTORY, Gap
from edge_tse.live.resampling import REACH, interpolate
from edge_tse.metrics import si_sdr
from edge_tse.personalization import personalize
from edge_tse.report import Report, environment

__all__ = ["CASES", "Link", "cues", "figures", "gain_db", "made_up_db", "timing"]

Float = NDArray[np.float32]
RATE_HZ, BLOCK = 16000, 64
SECONDS, SETTLED_S = 60.0, 5.0
"""Length of a trial, and the time from which it counts."""


class Link(NamedTuple):
    """What an ear has: a clock and a link, and the times at which its sender begins to count."""

    crystal: Crystal
    air: Air
    starts_s: tuple[float, ...] = (0.0,)


def _pair(left: Link, **right: Any) -> tuple[Link, Link]:
    return left, Link(Crystal(ppm=-100), Air(anchor_s=564e-6, **right))


_FAST = Crystal(ppm=100)
CASES: dict[str, tuple[Link, Link]] = {
    "+100 and -100 ppm, 1 % lost": _pair(Link(_FAST, Air())),
    "the same, packets of 7.5 ms": _pair(Link(_FAST, Air(interval_s=0.0075)), interval_s=0.0075),
    "the same, losses in bursts": _pair(Link(_FAST, Air(burst=0.7)), burst=0.7),
    "rates that wander by 10 ppm a minute": _pair(Link(Crystal(ppm=100, swing_ppm=5, swing_s=60), Air())),
    "jitter of one ear 20 times as large after 30 s": _pair(Link(_FAST, Air(host_changes=((30, 1e-3),)))),
    "way of one ear 2 ms longer after 30 s": _pair(Link(_FAST, Air(way_changes=((30, 2e-3),)))),
    "one ear silent for 200 ms after 30 s": _pair(Link(_FAST, Air(outages=((30, 30.2),)))),
    "one sender begins anew after 30 s": _pair(Link(_FAST, Air(), (0.0, 30.00437))),
}
_CLEAN = _pair(Link(Crystal(ppm=100), Air(loss=0.0, stall=0.0)), loss=0.0, stall=0.0)


def _heard(links: tuple[Link, Link], sound: Callable[[int], Callable[[NDArray[np.float64]], Float]], seconds: float) -> Heard:
    packets = [
        simulate(sound(i), link.crystal, link.air, seconds=seconds, seed=11 + i, starts_s=link.starts_s)
        for i, link in enumerate(links)
    ]
    starts = [link.starts_s for link in links]
    return receive(packets, [link.crystal for link in links], starts_s=starts, block=BLOCK, seconds=seconds, late_s=2e-4)


def _silence(i: int) -> Callable[[NDArray[np.float64]], Float]:
    return lambda times: np.zeros(len(times), np.float32)


def timing(links: tuple[Link, Link]) -> dict[str, Any]:
    """Misalignment in microseconds after the first five seconds, and what the receiver says of itself."""
    heard = _heard(links, _silence, SECONDS)
    us = heard.apart_s * 1e6
    restarted = [start for link in links for start in link.starts_s[1:]]
    counts = (heard.asked_s >= SETTLED_S) & np.isfinite(us)
    for start_s in restarted:  # what is known two seconds later
        counts &= (heard.asked_s < start_s) | (heard.asked_s >= start_s + 2)
    size = np.abs(us[counts])
    within = np.abs(us) <= 20
    outside = np.flatnonzero(~within & (heard.asked_s < 20))
    health = heard.aligner.health
    return {
        "p99_us": round(float(np.percentile(size, 99)), 1),
        "max_us": round(float(size.max()), 1),
        "mean_us": round(float(us[counts].mean()), 1),
        "within_20_us_after_s": round(float(heard.asked_s[outside[-1] + 1]), 2) if len(outside) else 0.0,
        "converged_s": {ear: round(each.converged_s or math.inf, 2) for ear, each in health.items()},
        "lost": {ear: each.lost for ear, each in health.items()},
        "late": {ear: each.late for ear, each in health.items()},
        "concealed_s": {ear: round(each.concealed_samples / RATE_HZ, 3) for ear, each in health.items()},
        "buffer_needed_ms": {ear: round(each.buffer_ms or 0.0, 1) for ear, each in health.items()},
        "latency_ms": round(heard.aligner.latency_s * 1e3, 2),
    }


def _played(signal: Float) -> Callable[[int], Callable[[NDArray[np.float64]], Float]]:
    """Sound of a room ``[2, n]``, over and over, at any time."""
    n = signal.shape[1]
    padded = np.concatenate([signal[:, -REACH:], signal, signal[:, :REACH]], axis=1)

    def ear(i: int) -> Callable[[NDArray[np.float64]], Float]:
        return lambda times: interpolate(padded[i], (times * RATE_HZ) % n + REACH)

    return ear


def _aligned(heard: Heard, room: Float, seconds: float) -> tuple[Float, Float]:
    """What was played after the first seconds, and the room at the same moments, both ``[2, n]``."""
    settled = heard.asked_s >= SETTLED_S
    taken = heard.taken_s[settled].mean(axis=1)
    first, n = taken[0] * RATE_HZ, int((seconds - SETTLED_S - 1) * RATE_HZ)
    ear = _played(room)
    # The listener's clock is true here, so the room goes on sample by sample from the first moment.
    times = (first + np.arange(n)) / RATE_HZ
    at = int(np.flatnonzero(settled)[0]) * BLOCK
    return heard.sound[at : at + n].T, np.stack([ear(i)(times) for i in (0, 1)])


def cues(links: tuple[Link, Link], talker: Float, seconds: float = 30.0) -> dict[str, float]:
    """Medians and largest of how far level (dB) and time (us) between the ears are moved, of seconds in which she talks."""
    after, before = _aligned(_heard(links, _played(talker), seconds), talker, seconds)
    moved = []
    for at in range(0, after.shape[1] - RATE_HZ + 1, RATE_HZ):
        a, b = after[:, at : at + RATE_HZ], before[:, at : at + RATE_HZ]
        if np.mean(b**2) > 0.1 * np.mean(before**2):
            moved.append((abs(_ild_db(a) - _ild_db(b)), abs(_itd_us(a, RATE_HZ) - _itd_us(b, RATE_HZ))))
    level, late = np.array(moved).T
    return {
        "seconds": len(moved),
        "ild_db_median": round(float(np.median(level)), 3),
        "ild_db_max": round(float(level.max()), 3),
        "itd_us_median": round(float(np.median(late)), 1),
        "itd_us_max": round(float(late.max()), 1),
    }


def gain_db(links: tuple[Link, Link] | None, case: Case, seconds: float = 30.0) -> float:
    """SI-SDR improvement of the shipped model, mean of both ears, on the case over these links; None: without any."""
    assert case.reference is not None
    model = Artifact.shipped()
    own = personalize(model, case.voice(model.voice_model))
    engine = Engine(own, open_network(own, "litert"))
    mixture, talker = case.mixture.signal, case.reference.signal
    crystals = _CLEAN if links is None else links
    heard = _heard(crystals, _played(mixture), seconds)
    sound, _ = _aligned(heard, mixture, seconds)
    _, room = _aligned(heard, mixture, seconds)
    _, wanted = _aligned(heard, talker, seconds)
    given = room if links is None else sound
    found = extract_signal(given, RATE_HZ, engine).signal
    skipped = 2 * RATE_HZ
    # The mixture that counts is the room's: what the links did to it is theirs to answer for.
    each = [si_sdr(found[i, skipped:], wanted[i, skipped:]) - si_sdr(room[i, skipped:], wanted[i, skipped:]) for i in (0, 1)]
    return round(float(np.mean(each)), 2)


def made_up_db(signal: Float, trials: int = 300) -> dict[str, float]:
    """Error of 10 ms that the right ear lost against that sound, in dB, median over places with sound, by how they are made up."""
    rng, n = np.random.default_rng(0), round(0.01 * RATE_HZ)
    errors: dict[str, list[float]] = {"other": [], "own": []}
    for at in rng.integers(HISTORY + AROUND, signal.shape[1] - n - AROUND, trials):
        lost, own = signal[1, at : at + n], signal[1, at - HISTORY : at]
        if np.mean(lost**2) < 1e-6:
            continue
        gap = Gap(RATE_HZ, own, signal[0, at - HISTORY - AROUND : at + AROUND])
        made = {"other": gap.more(0, n, signal[0, at - AROUND : at + n + AROUND]), "own": Gap(RATE_HZ, own, None).more(0, n, None)}
        for way, found in made.items():
            errors[way].append(10 * math.log10(float(np.sum((found - lost) ** 2) / np.sum(lost**2))))
    return {way: round(float(np.median(each)), 1) for way, each in errors.items()}


def figures() -> dict[str, Any]:
    """Figures of the page."""
    case = next(case for case in shipped_cases() if case.mixture.signal.shape[0] == 2)
    assert case.reference is not None
    first = next(iter(CASES.values()))
    return {
        "seconds": SECONDS,
        "settled_s": SETTLED_S,
        "block": BLOCK,
        "ears": list(EARS),
        "cases": {name: timing(links) for name, links in CASES.items()},
        "cues": {"1 % lost": cues(first, case.reference.signal), "nothing lost": cues(_CLEAN, case.reference.signal)},
        "gain_db": {"without links": gain_db(None, case), "nothing lost": gain_db(_CLEAN, case), "1 % lost": gain_db(first, case)},
        "made_up_db": made_up_db(case.mixture.signal),
    }


@one_line
def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=RESULTS / "clocks.json", metavar="FILE")
    given = parser.parse_args()
    check_output(given.to)
    question = "How far apart are two ears by two clocks, and what does that do to cues and to the talker?"
    report = Report(question=question, figures=figures(), environment=environment())
    report.save(given.to)
    print(report.to_json())


if __name__ == "__main__":
    sys.exit(main())
