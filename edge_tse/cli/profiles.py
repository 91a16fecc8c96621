"""Profiles for people: which network is measured, and the tables of what was found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich import box
from rich.table import Table

from edge_tse.cli.output import open_quietly, quietly, table
from edge_tse.deployment.compilation import emit, open_here
from edge_tse.deployment.runtime import Emitted, Runtime, runtime_named, runtime_of
from edge_tse.deployment.target import Target, find_target
from edge_tse.errors import DataError, TargetError
from edge_tse.files import write_bytes
from edge_tse.profiling.operator_times import OperatorTime
from edge_tse.profiling.page import page
from edge_tse.profiling.profile import compare, load_profile, profile
from edge_tse.report import to_json

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.engines import Network
    from edge_tse.graph import IntegerGraph

__all__ = ["Asked", "asked", "earlier", "estimate_table", "measure", "save", "tables"]

_SUFFIXES = (".json", ".html")


class Asked(NamedTuple):
    """What is to be measured."""

    engine: str
    target: Target | None


def asked(engine: str | None, target: str | None, to: Path | None) -> Asked:
    """From the options, checked before any work: one of engine and target at most, a suffix that says what to write."""
    if engine is not None and target is not None:
        raise TargetError(f"--engine {engine} and --target {target}: a target has its engine, give one of them")
    if to is not None and to.suffix not in _SUFFIXES:
        raise DataError(f"{to}: a report ends in {' or '.join(_SUFFIXES)}, not in {to.suffix or 'nothing'}")
    if target is None:
        return Asked(engine or "litert", None)
    board = find_target(target)
    return Asked(runtime_named(board.runtime).engine, board)


def earlier(path: Path | None) -> dict[str, Any] | None:
    """The report to compare with."""
    return None if path is None else load_profile(path)


def measure(model: Artifact, what: Asked, hops: int, ears: int, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The report as JSON has it, compared with ``before``."""
    board = what.target if what.target is not None else _target_of(what.engine)
    emitted = None
    with ExitStack() as opened:
        if board is None:
            network = open_quietly(model, what.engine)
        else:
            with quietly():
                emitted = emit(board, model)
                network = opened.enter_context(open_here(board, model, emitted.content))
        made = profile(
            model,
            network,
            time.perf_counter,
            hops=hops,
            ears=ears,
            open_graph=_opener(what.engine),
            trace=_tracer(what.engine, model, emitted),
            quiet=quietly,
            emitted=emitted,
            arena_bytes=None if board is None else runtime_named(board.runtime).needs_bytes(model)["arena"],
            target=what.target,
        )
    report: dict[str, Any] = json.loads(made.to_json())
    report["figures"]["counted"] = _counted(model, board, ears)
    if before is not None:
        report["figures"]["against"] = compare(before, report)
    return report


def _counted(model: Artifact, board: Target | None, ears: int) -> dict[str, Any] | None:
    """Instructions of a hop on the board's kind of core, or why they are unavailable; None where C is not what runs."""
    count = None if board is None else runtime_named(board.runtime).count
    if board is None or count is None:
        return None
    try:
        return count(model, board, ears)
    except TargetError as failure:
        return {"unavailable": str(failure)}


def save(report: Mapping[str, Any], before: Mapping[str, Any] | None, to: Path) -> None:
    """As JSON or as a page, by the suffix."""
    text = page(report, report["figures"].get("against"), before) if to.suffix == ".html" else to_json(report) + "\n"
    write_bytes(to, text.encode())


def _target_of(engine: str) -> Target | None:
    """This machine with the runtime of ``engine``."""
    name = runtime_of(engine)
    return None if name is None else find_target(name)


def _runtime(engine: str) -> Runtime | None:
    name = runtime_of(engine)
    return None if name is None else runtime_named(name)


def _opener(engine: str) -> Callable[[IntegerGraph], Network] | None:
    """What opens any graph on ``engine`` in well under a second; None if nothing does."""
    if engine == "reference":
        from edge_tse.reference import ReferenceNetwork

        return ReferenceNetwork
    runtime = _runtime(engine)
    if runtime is None or not runtime.opens_quickly or not runtime.replays:
        return None
    network = runtime.replays[0].load()
    return lambda graph: network(graph, None)


def _tracer(engine: str, model: Artifact, emitted: Emitted | None) -> Callable[[Any], list[OperatorTime]] | None:
    """What gives the runtime's own times of its operators; None where it keeps none."""
    runtime = _runtime(engine)
    traced = None if runtime is None else runtime.trace
    if traced is None:
        return None

    def trace(features: Any) -> list[OperatorTime]:
        with quietly():
            found = traced(model.graph, features, None if emitted is None else emitted.content)
        # It names them `Kind of kernel #number`.
        kinds = [name.rpartition(" #")[0] or name for name, _ in found]
        return [
            OperatorTime(node=name, operator=kind, shape="", macs=0, alone_s=us / 1e6)
            for kind, (name, us) in zip(kinds, found, strict=True)
        ]

    return trace


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Parts, operators, sizes and the comparison, as far as they are there."""
    figures = report["figures"]
    shown = [_parts(figures), _operators(figures["operators"]), _sizes(figures)]
    if figures.get("estimate"):
        shown.append(estimate_table(figures["estimate"]))
    if figures.get("counted"):
        shown.append(_instructions(figures["counted"]))
    if figures.get("against"):
        shown.append(_compared(figures["against"]))
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
    """By kind of operator, dearest first; the report has every layer."""
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


def _compared(comparison: Mapping[str, Any]) -> Table:
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
