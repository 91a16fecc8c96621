"""Profiles for people, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from edge_tse.cli.output import table
from edge_tse.profiling.page import beginning

__all__ = ["estimate_table", "tables"]


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Tables of parts, operators, sizes and the comparison, as far as the profile has them."""
    figures = report["figures"]
    shown = [_parts(figures), _beginning(figures["initialisation"]), _operators(figures["operators"]), _sizes(figures)]
    if figures.get("estimate"):
        shown.append(estimate_table(figures["estimate"]))
    if figures.get("counted"):
        shown.append(_instructions(figures["counted"]))
    if figures.get("against"):
        shown.append(_comparison_table(figures["against"]))
    return shown


def _parts(figures: Mapping[str, Any]) -> Table:
    period_ms = figures["step"]["hop_period_ms"]
    out = _empty(f"{figures['engine']}, {figures['ears']} ears: microseconds per step of {period_ms:g} ms, this machine")
    _columns(out, "part", "p50", "p90", "p99", "max", "late")
    for name in ("step", "front_end", "network", "marshalling", "inference"):
        part = figures[name]
        cells = ["unavailable", *[""] * 4]
        if part is not None:
            cells = [f"{part[k] * 1e3:.1f}" for k in ("p50_ms", "p90_ms", "p99_ms", "max_ms")] + [str(part["deadline_misses"])]
        out.add_row(name.replace("_", " "), *cells)
    return out


def _beginning(times: Mapping[str, float | None]) -> Table:
    """What comes before the steps above, once."""
    return table("before the first steady step", {name: f"{ms:.2f} ms" for name, ms in beginning(times).items() if ms is not None})


def _operators(operators: Mapping[str, Any]) -> Table:
    if not operators["nodes"]:
        return table("operators", {"": operators["method"]})
    out = _empty(f"operators: {operators['method']}")
    _columns(out, "operator", "nodes", "MAC", "alone, us", "scaled, us", "share")
    for entry in operators["by_operator"]:
        cells = (
            f"{entry['nodes']}",
            f"{entry['macs']:,}",
            f"{entry['alone_us']:.2f}",
            f"{entry['scaled_us']:.2f}",
            f"{entry['share']:.0%}",
        )
        out.add_row(entry["operator"], *cells)
    return out


def _sizes(figures: Mapping[str, Any]) -> Table:
    memory, model = figures["memory"], figures["model"]
    sizes = {
        "model file": model["file_bytes"],
        "constants": model["weight_bytes"],
        "state": memory["state_bytes"],
        "arena, planned": memory["arena_planned_bytes"],
        "arena, reported": memory["arena_reported_bytes"],
        "peak resident": memory.get("peak_rss_bytes"),
    }
    rows = {name: "unavailable" if size is None else f"{size:,} B" for name, size in sizes.items()}
    rows["MACs per step"] = f"{model['macs_per_hop']:,}"
    if figures["remark"]:
        rows["note"] = figures["remark"]
    return table("sizes", rows)


def estimate_table(estimate: Mapping[str, Any]) -> Table:
    """Estimated cycles by kind of operator, dearest first; the report has every layer."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for layer in estimate["layers"]:
        kinds.setdefault(layer["operator"], []).append(layer)
    out = _empty(
        f"estimate of {estimate['tool']}, not measured: {estimate['inference_ms']:.3f} ms a step, {estimate['cycles']:,} cycles"
    )
    _columns(out, "operator", "layers", "MAC", "cycles", "share")
    for kind, of in sorted(kinds.items(), key=lambda item: -sum(layer["cycles"] for layer in item[1])):
        macs, cycles, share = (sum(layer[key] for layer in of) for key in ("macs", "cycles", "share"))
        out.add_row(kind, str(len(of)), f"{macs:,}", f"{cycles:,}", f"{share:.0%}")
    return out


def _instructions(counted: Mapping[str, Any]) -> Table:
    if "unavailable" in counted:
        return table("instructions", {"unavailable": counted["unavailable"]})
    whole = counted["instructions_per_hop"]
    out = _empty(f"instructions of a hop, {counted['evidence']} on {counted['core']}: {whole:,}, no time")
    _columns(out, "function", "instructions", "share")
    for name, mean in counted["functions"].items():
        out.add_row(name, f"{mean:,}", f"{mean / whole:.1%}")
    if (deadline := counted["deadline"]) is not None:
        out.add_row(f"of {deadline['cycles_per_hop']:,.0f} cycles", deadline["evidence"], f"{deadline['share']:.0%}")
    return out


def _comparison_table(comparison: Mapping[str, Any]) -> Table:
    out = _empty("; ".join(["against", *comparison["different"]]))
    _columns(out, "figure", "before", "now", "ratio")
    for row in comparison["rows"]:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        out.add_row(row["what"], f"{row['before']:,.4g}", f"{row['after']:,.4g}", ratio)
    return out


def _empty(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)


def _columns(out: Table, first: str, *others: str) -> None:
    out.add_column(first, style="cyan", no_wrap=True)
    for heading in others:
        out.add_column(heading, justify="right")
