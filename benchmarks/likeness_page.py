"""``docs/trust.md`` and its drawings, from what :mod:`benchmarks.likeness` measured.

python -m benchmarks.likeness_page
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import RESULTS
from benchmarks.readme_figures import table
from edge_tse.trust import ASSET, Calibration, LikenessCost, Trust, read_trust

__all__ = ["ASSETS", "drawing", "page", "write_page", "written"]

PAGE = Path(__file__).parent.parent / "docs" / "trust.md"
ASSETS = PAGE.parent.parent / "edge_tse" / "assets"


def page(reports: Mapping[str, dict[str, Any]], trusts: Mapping[str, Trust]) -> str:
    """Markdown of what is on file, by model."""
    parts = ["# Likeness and trust", _PREFACE]
    for name, report in reports.items():
        figures, trust = report["figures"], trusts[report["figures"]["artifact"]]
        parts += [
            f"## {name}",
            _source(name, report),
            *(
                _likeness_part(figures["likeness"][ears], getattr(trust, ears), title)
                for ears, title in (("one_ear", "one ear"), ("two_ears", "two ears, no room"))
            ),
            _caught_part(figures, trust.confidence),
            f"![stated and true share of right seconds]({_drawing(name).name})",
            _cost_part(report),
        ]
    return "\n\n".join(parts) + "\n"


def _source(name: str, report: Mapping[str, Any]) -> str:
    figures, counts = report["figures"], report["figures"]["trials"]
    command = f"python -m benchmarks.likeness --data DIR --artifact {name} --per-condition {figures['per_condition']}"
    return (
        f"Fitted to {counts['choose']} mixtures of talkers of split `choose`, tested on {counts['report']} of talkers of `report`; "
        f"training heard none of them (seed {figures['seed']}; `{command}`, measured {report['environment']['measured'][:10]})."
    )


def _cost_part(report: Mapping[str, Any]) -> str:
    figures, cpu = report["figures"], report["environment"]["cpu"]
    return (
        f"The confidence costs {figures['cost_ms_per_s']:.0f} ms of processor time per second of sound, beside the extraction "
        f"(hardware: one core of {cpu}). In {figures['not_judged']:.0%} of the seconds nobody is heard in the output, "
        "or too little, and there is none."
    )


_PREFACE = """\
Written by `python -m benchmarks.likeness` from `benchmarks/results/likeness-*.json` and `edge_tse/assets/trust.json`; none of it
is typed. `edge-tse enroll --against`, `likeness` and `live` say what likeness costs; `extract` and `live` state a confidence for
each second.

Likeness is the cosine of two enrolled voices. A second is **confused** where, with the second before and the one after it, the
output is nearer in SI-SDR to an interferer than to the target, or gains less than -3 dB, or the target is not in the mixture. The
confidence is the probability that it is not; **doubtful** is what lies below the probability that 95 % of the right seconds of
`choose` exceed. A recording is confused as a whole by the same rule, and doubtful by the mean of its seconds."""


def _likeness_part(found: Mapping[str, Any], line: LikenessCost, title: str) -> str:
    what = (
        f"**Gain of SI-SDR by likeness, {title}.** Expected: {line.gain_db:.1f} dB at a typical likeness ({line.typical:.2f}), "
        f"{-line.slope_db / 10:.2f} dB less for each 0.1; the most alike measured are {line.most:.2f}. Correlation on `report` "
        f"{found['correlation']:.2f}: a mean, and no promise for one mixture."
    )
    rows = [
        (
            f"{row['from']:.2f} to {row['to']:.2f}",
            str(row["n"]),
            f"{row['gain_db']:.1f}" + ("" if row["half"] is None else f" ± {row['half']:.1f}"),
            f"{row['expected_db']:.1f}",
        )
        for row in found["rows"]
    ]
    return f"{what}\n\n{table(('likeness', 'n', 'gain, dB (95 %)', 'expected, dB'), rows)}"


_TITLES = {
    "two_talkers": "two talkers, one ear",
    "two_ears": "two talkers, two ears, no room",
    "alike": "of these, voices that are 0.2 alike or more",
    "target_absent": "the talker is absent",
    "target_alone": "the talker alone",
}


def _caught_part(figures: Mapping[str, Any], chosen: Calibration) -> str:
    rows = []
    for title, found in [(title, figures["conditions"][name]) for name, title in _TITLES.items()] + [("**together**", figures)]:
        cells = [title]
        for kind in ("seconds", "recordings"):
            one = found[kind]
            cells += [f"{one['confused']} of {one['n']}", _share(one["caught"]), _share(one["false_alarms"])]
        rows.append(tuple(cells))
    head = ("", "confused seconds", "caught", "false alarms", "confused recordings", "caught", "false alarms")
    fewer = ", ".join(f"{share:.0%} by {names.replace('_db', '')}" for names, share in figures["alternatives"].items())
    return (
        f"**What the confidence catches** below {chosen.doubtful:.2f} for a second, {figures['recording_threshold']:.2f} for the "
        f"mean of a recording of 4 to 6 s:\n\n{table(head, rows)}\n\n"
        f"On the talkers of `choose`, to whom they are fitted, are caught: {fewer}. Voice: cosine of output and enrolled voice; "
        "change: of output and mixture; level: of the output relative to the mixture."
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def drawing(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """SVG: share of right seconds over the probability that was stated; on the diagonal it is what it claims to be."""
    size, left, top = 300, 60, 40
    marks = []
    for row in rows:
        x, y = left + size * row["stated"], top + size * (1 - row["right"])
        radius = 2 + float(np.sqrt(row["n"])) / 4
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#3a6ea5" fill-opacity="0.7"/>')
        marks.append(f'<text x="{x + radius + 3:.1f}" y="{y + 4:.1f}">{row["n"]}</text>')
    for tenth in range(0, 11, 2):
        at = size * tenth / 10
        marks.append(f'<text x="{left - 8}" y="{top + size - at + 4:.1f}" text-anchor="end">{tenth / 10:g}</text>')
        marks.append(f'<text x="{left + at:.1f}" y="{top + size + 16}" text-anchor="middle">{tenth / 10:g}</text>')
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 420 390" font-family="sans-serif" font-size="10">',
            '<rect width="420" height="390" fill="#fff"/>',
            f'<text x="12" y="18" font-size="13">{escape(title)}</text>',
            f'<rect x="{left}" y="{top}" width="{size}" height="{size}" fill="none" stroke="#999"/>',
            f'<line x1="{left}" y1="{top + size}" x2="{left + size}" y2="{top}" stroke="#b3541e" stroke-dasharray="4 3"/>',
            _text(f'x="{left + size / 2}" y="{top + size + 34}"', "confidence stated; beside each point its number of seconds"),
            _text(f'transform="translate(18 {top + size / 2}) rotate(-90)"', "share that is the talker"),
            *marks,
            "</svg>\n",
        ]
    )


def _text(place: str, what: str) -> str:
    return f'<text {place} text-anchor="middle">{escape(what)}</text>'


def _drawing(name: str) -> Path:
    return PAGE.parent / f"trust-{name}.svg"


def written() -> dict[Path, str]:
    """The page and its drawings, by their paths."""
    paths = sorted(RESULTS.glob("likeness-*.json"), reverse=True)  # small before nano
    trusts = read_trust((ASSETS / ASSET).read_bytes())
    reports = {path.stem.removeprefix("likeness-"): json.loads(path.read_text()) for path in paths}
    # Where several models are new, the asset has dropped those that are still to be measured.
    reports = {name: report for name, report in reports.items() if report["figures"]["artifact"] in trusts}
    out = {PAGE: page(reports, trusts)}
    for name, report in reports.items():
        out[_drawing(name)] = drawing(f"Confidence of {name} on split report", report["figures"]["reliability"])
    return out


def write_page() -> None:
    """Write the page and its drawings from what is on file."""
    for path, text in written().items():
        path.write_text(text)


if __name__ == "__main__":
    write_page()
