"""docs/scale.md from ``results/streams.json`` and ``results/firmware-*.json``: ``python -m benchmarks.scale_page`` writes it.

With ``--check`` nothing is written; exit code 1 says that the page is out of date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from benchmarks.readme_figures import renew, table
from benchmarks.streams import FLEET_CORE

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
WEARERS = 1_000_000
BUSY = 0.7
"""Share of a core that is planned with: an assumption, and the only one."""
GIGABIT_S = 1e9 / 8
"""Bytes that a line of 1 Gbit/s carries in a second."""
LABELS = {"native": "C", "litert": "LiteRT"}


def wearers_per_core(step_us: float, period_s: float, busy: float = 1.0) -> int:
    """Streams whose steps, one after another, fit into a period."""
    return int(busy * period_s * 1e6 / step_us)


INTRODUCTION = """\
Written by `python -m benchmarks.scale_page` from `benchmarks/results/`; none of it is typed. Measured inputs come from
`python -m benchmarks.streams` and `python -m benchmarks.firmware`; what follows from them by arithmetic says how."""
HOW = """\
Whole steps, sound in to sound out, every stream with its own voice and past, in turns of one hop or of {burst} (hardware: one core
of {cpu}, {day}; microseconds of the processor for a step, not of the clock; median of
{rounds} rounds, in brackets the least)."""
BESIDE = """\
Other programs ran beside it (load {load:g}): what they took of the core is not in these figures, what they took of its caches is,
so the least is nearer to a quiet machine."""
WHAT_FOLLOWS = """\
Wearers are `{busy:g} * period / step` with {most} streams, in turns of one hop and of {burst}: a core busier than {busy:.0%}
answers late now and then. Cores are for as many wearers who all listen at once, in turns of one hop. Memory is the growth of the
process, per stream.

A stream alone keeps its weights in the cache; many read each its own copy from memory at every hop. On LiteRT that is most of the
cost: `small` with two ears takes {alone:.0f} µs alone, {among:.0f} among {most} streams, and {longer:.0f} in turns of {burst} hops,
which read the weights once for {burst} and answer {later:g} ms later. The portable C kernels compute longer than they read. Here
each stream has a copy because the C library keeps one stream and LiteRT packs the weights for each interpreter; weights that
streams share would need no longer turns, and no engine here does that."""
COUNTED = """\
Instructions are those of an emulated Cortex-M55 with Helium (exact). A second is `per hop * hops per second`: the same network
with twice the hop would cost half as much a second, and answer a hop later. A second ear costs its analysis, synthesis and beam,
and no second network."""
OF_A_FLEET = """\
An image is the same for all wearers; what differs is the voice, a patch that the board checks by its CRC-32 and by the model it
was made for. It is personal: who sends it encrypts it. With the voice built into the image there would be as many images as
wearers, which is what the last two rows say. An image is signed once, and verified by each device whenever it starts
([0036](decisions/0036-the-boot-code-decides.md) counts that in instructions); the time here is the host's, digest included, as a
server or a phone checks before it sends. Stored means one copy; a line of 1 Gbit/s is taken as full."""


def page(results: Path) -> str:
    """Markdown of the results on file."""
    report = json.loads((results / "streams.json").read_text())
    figures, environment = report["figures"], report["environment"]
    firmware = {name: json.loads((results / f"firmware-{name}.json").read_text())["figures"] for name in figures["models"]}
    where = {"cpu": environment["cpu"], "day": environment["measured"][:10]}
    steps = {
        (row["streams"], row["burst"]): row["step_us"]
        for row in figures["rows"]
        if (row["model"], row["engine"], row["ears"]) == ("small", "litert", 2)
    }
    most, burst = (max(row[key] for row in figures["rows"]) for key in ("streams", "burst"))
    later = (burst - 1) * 1e3 * max(model["period_s"] for model in figures["models"].values())
    parts = [
        "# What it costs at scale",
        INTRODUCTION,
        "## Wearers on one core of a server",
        HOW.format(rounds=figures["rounds"], burst=burst, **where),
        *([BESIDE.format(load=environment["load_1min"])] if figures["remark"] else []),
        _streams(figures),
        WHAT_FOLLOWS.format(
            busy=BUSY,
            most=most,
            burst=burst,
            later=later,
            alone=steps[1, 1],
            among=steps[most, 1],
            longer=steps[most, burst],
        ),
        "## Cost against model, hop and ears",
        _models(figures, firmware),
        COUNTED,
        _ears(figures, firmware),
        f"## A fleet of {WEARERS:,}",
        _fleet(figures["fleet"]),
        OF_A_FLEET,
    ]
    return "\n\n".join(parts) + "\n"


def _streams(figures: Mapping[str, Any]) -> str:
    ways = sorted({(row["burst"], row["streams"]) for row in figures["rows"]})
    rows = []
    for name, model in figures["models"].items():
        for engine, label in LABELS.items():
            for ears in (1, 2):
                of = {
                    (r["burst"], r["streams"]): r
                    for r in figures["rows"]
                    if (r["model"], r["engine"], r["ears"]) == (name, engine, ears)
                }
                by_hop, by_burst = (of[way] for way in ways[-2:])
                steps = (f"{of[way]['step_us']:.0f} ({of[way]['step_us_least']:.0f})" for way in ways)
                carried, later = (wearers_per_core(row["step_us"], model["period_s"], BUSY) for row in (by_hop, by_burst))
                cells = (f"{carried:,}", f"{later:,}", f"{-(-WEARERS // carried):,}")
                kernels = by_hop["runs_on"].rpartition("/")[2]
                memory = f"{by_hop['memory_bytes_per_stream'] / 1e6:.1f}"
                rows.append((name, f"{label} ({kernels})", str(ears), *steps, *cells, memory))
    heads = (f"{n} stream{'s' if n > 1 else ''}, turns of {burst}" for burst, n in ways)
    counts = [f"wearers, turns of {burst}" for burst in sorted({burst for burst, _ in ways})]
    return table(("model", "engine", "ears", *heads, *counts, f"cores for {WEARERS:,}", "MB each"), rows)


def _models(figures: Mapping[str, Any], firmware: Mapping[str, Any]) -> str:
    rows = []
    for name, model in figures["models"].items():
        hops = 1 / model["period_s"]
        core = firmware[name]["cores"][FLEET_CORE]
        cells = (
            f"{model['macs_per_hop']:,}",
            f"{model['macs_per_hop'] * hops / 1e6:,.0f} M",
            f"{model['weight_bytes'] / 1e3:,.0f}",
        )
        counted = (f"{core['instructions_per_hop']:,}", f"{core['instructions_per_hop'] * hops / 1e6:,.1f} M")
        rows.append((name, f"{model['period_s'] * 1e3:g} ms", *cells, f"{model['state_bytes'] / 1e3:,.0f}", *counted))
    head = ("model", "hop", "MAC a hop", "MAC/s", "weights, kB", "state, kB", "instructions a hop, two ears", "a second")
    return table(head, rows)


def _ears(figures: Mapping[str, Any], firmware: Mapping[str, Any]) -> str:
    rows = []
    for name in figures["models"]:
        core = firmware[name]["cores"][FLEET_CORE]
        one, two = core["instructions_per_hop_one_ear"], core["instructions_per_hop"]
        rows.append((name, f"{one:,}", f"{two:,}", f"{two / one:.2f}"))
    return table(("model", "instructions a hop, one ear", "two ears", "ratio"), rows)


def _fleet(fleet: Mapping[str, Any]) -> str:
    names = list(fleet)

    def line(label: str, value: str) -> tuple[str, ...]:
        return (label, *(value.format(**arithmetic(fleet[name])) for name in names))

    return table(
        ("", *names),
        [
            line("a voice patch (`.etsv`)", "{patch_bytes:,} bytes"),
            line("a signed image", "{image_bytes:,} bytes"),
            line("processor time to enroll one wearer", "{enroll_cpu_ms:.0f} ms"),
            line("... and to make the patch", "{patch_cpu_ms:.1f} ms"),
            line("... of all wearers, on one core", "{voices_cpu_h:,.1f} h"),
            line("voice patches of all wearers, stored or sent", "{patches_gb:,.1f} GB"),
            line("... over one line of 1 Gbit/s", "{patches_line_min:,.1f} min"),
            line("an update, stored", "{image_mb:,.2f} MB"),
            line("... signed, once", "{sign_cpu_ms:.2f} ms"),
            line("... verified, once", "{verify_cpu_ms:.1f} ms"),
            line("... sent to all wearers", "{images_tb:,.2f} TB"),
            line("... over one line of 1 Gbit/s", "{images_line_h:,.1f} h"),
            line("images with the voice built in, stored", "{images_tb:,.2f} TB"),
            line("... signed and verified, on one core", "{signatures_cpu_h:,.1f} h"),
        ],
    )


def arithmetic(one: Mapping[str, float], wearers: int = WEARERS) -> dict[str, float]:
    """What was measured for one wearer, and what follows for all."""
    return {
        **one,
        "image_mb": one["image_bytes"] / 1e6,
        "voices_cpu_h": wearers * (one["enroll_cpu_ms"] + one["patch_cpu_ms"]) / 3.6e6,
        "patches_gb": wearers * one["patch_bytes"] / 1e9,
        "patches_line_min": wearers * one["patch_bytes"] / GIGABIT_S / 60,
        "images_tb": wearers * one["image_bytes"] / 1e12,
        "images_line_h": wearers * one["image_bytes"] / GIGABIT_S / 3600,
        "signatures_cpu_h": wearers * (one["sign_cpu_ms"] + one["verify_cpu_ms"]) / 3.6e6,
    }


def main() -> int:
    """Write, or check."""
    return renew(PAGE, page(RESULTS))


if __name__ == "__main__":
    sys.exit(main())
