"""The figures in docs/live.md, from ``results/``: ``python -m benchmarks.live_figures`` writes them.

With ``--check`` nothing is written; exit code 1 says that the page is out of date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from benchmarks.readme_figures import fill, renew, table

PAGE = Path(__file__).parent.parent / "docs" / "live.md"
WAYS = {"naive": "the scene as it is", "scene": "with `--scene`", "clean": "the talker alone"}


def block(results: Path) -> str:
    """Text between the marks."""
    names = ("scene_enrollment", "passing", "clocks")
    scene, passing, clocks = (json.loads((results / f"{name}.json").read_text())["figures"] for name in names)
    return "\n\n".join([*_scene(scene), *_passing(passing), *_clocks(clocks)])


def _scene(figures: Mapping[str, Any]) -> list[str]:
    rows = []
    for condition, found in figures["conditions"].items():
        for way, name in WAYS.items():
            gain = found["si_sdr_i"][way]
            cells = (f"{found['cosine'][way]['median']:.2f}", f"{gain['median']:.1f} dB", f"{gain['p10']:.1f} dB")
            rows.append((condition, name, *cells, f"{found['nearer_to_the_other'][way]} of {gain['n']}"))
    each, seconds = figures["trials"]["per_condition"], figures["trials"]["seconds"]
    missed, mistaken, count = (
        sum(found[key] for found in figures["conditions"].values())
        for key in ("nobody_found_in_front", "somebody_found_where_nobody_is", "n")
    )
    head = ("beside the talker", "enrolled from", "cosine to the clean voice", "SI-SDR gain: median", "p10", "nearer to the other")
    who = f"held-out talkers and heads, another talker at 30 to 90 degrees, SIR -5 to 5 dB, {seconds:g} s"
    return [
        f"**Enrolled out of a scene** ({who}; `python -m benchmarks.scene_enrollment --data DIR --per-condition {each}`)",
        table(head, rows),
        f"Nobody was found in front in {missed} of {count} scenes with a talker there, somebody in {mistaken} of {count} without.",
    ]


def _passing(figures: Mapping[str, Any]) -> list[str]:
    missed = figures["alarm_missed"]
    snrs = tuple(next(iter(missed.values())))
    alarms = [(name, *(_missed_alarms(at) for at in found.values())) for name, found in missed.items()]
    false = figures["alarm_false"]
    opening = [(name, *_rate(found)) for name, found in false.items() if found["events"]]
    quiet = [found["seconds"] for found in false.values() if not found["events"]]
    opening.append((f"{len(quiet)} other kinds of noise", *_rate({"seconds": sum(quiet), "events": 0, "open": 0.0})))
    own = [(name, f"{found['seconds']} s", f"{found['open']:.1%}") for name, found in figures["own_voice_false"].items()]
    own += [
        (f"the wearer ({name}), while talking", f"{found['seconds']} s", f"{found['open']:.1%}")
        for name, found in figures["own_voice_found"].items()
    ]
    how = "`python -m benchmarks.passing --data DIR`"
    return [
        f"**Alarms missed**, by level over noise of 65 dB SPL, and the median delay until they were found (simulated; {how})",
        table(("", *snrs), alarms),
        f"**Taken for an alarm** (recorded; {how})",
        table(("", "heard", "openings a minute", "open"), opening),
        f"**Own voice** (simulated with measured heads; {how})",
        table(("", "heard", "open"), own),
    ]


def _clocks(figures: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, found in figures["cases"].items():
        lost, late, made = (sum(found[key].values()) for key in ("lost", "late", "concealed_s"))
        apart = (f"{found['p99_us']:g} us", f"{found['max_us']:g} us", f"{found['within_20_us_after_s']:.1f} s")
        rows.append((name, *apart, f"{lost} lost, {late} late", f"{made:.1f} s", f"{found['latency_ms']:.1f} ms"))
    head = ("links", "apart: p99", "largest", "within 20 us after", "packets", "made up", "latency")
    cues, error = figures["cues"], figures["made_up_db"]
    moved = [
        (name, *(f"{found[f'ild_db_{which}']:.2f} dB, {found[f'itd_us_{which}']:.0f} us" for which in ("median", "max")))
        for name, found in cues.items()
    ]
    how = "`python -m benchmarks.clocks`"
    timed = (
        f"**Two links, two clocks**: how far the ears are apart in trials of {figures['seconds']:g} s after the first "
        f"{figures['settled_s']:g}, but for the 2 s after a sender began anew (simulated; {how})"
    )
    gains = ", ".join(f"{db:.1f} dB ({name})" for name, db in figures["gain_db"].items())
    closing = (
        f"SI-SDR gain of `small` on that case: {gains}. Ten milliseconds that one ear lost: error {error['other']:.1f} dB at the "
        f"median where they are made out of the other ear, {error['own']:.1f} dB where the last period is repeated."
    )
    heading = (
        f"**Cues of the talker** over such links, each second after against before (simulated, the demo's talker in a room; {how})"
    )
    return [timed, table(head, rows), heading, table(("", "median", "largest"), moved), closing]


def _missed_alarms(at: Mapping[str, Any]) -> str:
    return f"{at['missed']} of {at['of']}" + ("" if at["delay_s"] is None else f", {at['delay_s']:.1f} s")


def _rate(found: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{found['seconds']} s", f"{found['events'] / found['seconds'] * 60:.1f}", f"{found['open']:.1%}"


def main() -> int:
    """Write, or check."""
    return renew(PAGE, fill(PAGE.read_text(), block(RESULTS)))


if __name__ == "__main__":
    sys.exit(main())
