"""Fit: whether a model has room and time on a target, before anything is made for it.

Room: code, weights, arena and state are put into the regions that may hold them, in the order that the target lists. Time:
multiply-accumulates and weight bytes of a step against what core and memory do in a hop. Both are necessary, neither is a
measurement: a model that does not fit cannot run, one that does has still to be timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from edge_tse.artifact import Artifact, shipped_names
from edge_tse.deployment.runtime import Emitted, runtime_named
from edge_tse.deployment.target import Region, Target
from edge_tse.errors import TargetError

__all__ = ["Fit", "Row", "count", "fits", "require_fit"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One resource: needed and available."""

    what: str
    need: float
    have: float | None
    """None where the target states nothing: the resource is not checked."""
    unit: str
    detail: str = ""

    @property
    def fits(self) -> bool | None:
        """Whether the resource suffices; None if it was not checked."""
        return None if self.have is None else self.need <= self.have


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Needs of a model on a target."""

    target: str
    evidence: str
    needs_bytes: Mapping[str, int]
    """Bytes needed by content (:data:`edge_tse.deployment.target.CONTENTS`); code only if the target states its size."""
    placed: Mapping[str, str]
    """Region that holds each content; empty where no memory is stated."""
    rows: tuple[Row, ...]

    @property
    def fits(self) -> bool:
        """Whether everything that was checked is large enough."""
        return all(row.fits is not False for row in self.rows)

    def check(self, remedy: str = "take a smaller model or another target") -> None:
        """``TargetError`` listing the resources that do not suffice, and what to do."""
        wrong = [
            f"{row.what} needs {count(row.need)} {row.unit}, has {count(row.have or 0)}" for row in self.rows if row.fits is False
        ]
        if wrong:
            raise TargetError(f"the model does not fit {self.target}: {'; '.join(wrong)}: {remedy}")

    def figures(self) -> dict[str, object]:
        """Figures by name, ready for a report."""
        return {
            "target": self.target,
            "evidence": self.evidence,
            "fits": self.fits,
            "needs_bytes": dict(self.needs_bytes),
            "placed": dict(self.placed),
            "rows": [{**vars(row), "fits": row.fits} for row in self.rows],
        }


def require_fit(target: Target, artifact: Artifact, emitted: Emitted | None = None) -> Fit:
    """:func:`fits`, and ``TargetError`` if it does not, which names the shipped model that does."""
    fit = fits(target, artifact, emitted)
    if not fit.fits:
        fit.check(_remedy(target, artifact))
    return fit


def _remedy(target: Target, artifact: Artifact) -> str:
    """What to do about a model that does not fit: the largest shipped model that does, or how far the smallest is from it."""
    models = sorted(((name, Artifact.shipped(name)) for name in shipped_names()), key=lambda item: item[1].graph.macs)
    others = [(name, fits(target, model)) for name, model in models if model.digest != artifact.digest]
    for name, fit in reversed(others):
        if fit.fits:
            compute = next(row for row in fit.rows if row.what == "compute")
            of = "" if compute.have is None else f": {count(compute.need)} of {count(compute.have)} {compute.unit}"
            return f"`{name}` fits{of}"
    if not others:
        return "take another target"
    name, fit = others[0]
    row = next(row for row in fit.rows if row.fits is False)
    return f"no shipped model fits, `{name}` needs {count(row.need)} {row.unit} of {row.what}: take another target"


def fits(target: Target, artifact: Artifact, emitted: Emitted | None = None) -> Fit:
    """Compare the needs of ``artifact`` with what ``target`` has.

    The sizes are those that the target's runtime plans, or those of the file once one is ``emitted``. A runtime's own bookkeeping
    comes on top.
    """
    graph, frame = artifact.graph, artifact.frame
    needs = runtime_named(target.runtime).needs_bytes(artifact) | ({} if emitted is None else dict(emitted.needs_bytes))
    if target.code_bytes is not None:
        needs["code"] = target.code_bytes
    placed = _place(needs, target.memory)
    rows = [_region_row(region, {c: n for c, n in needs.items() if placed.get(c) == region.name}) for region in target.memory]
    if not target.memory:
        rows = [Row(what=content, need=need, have=None, unit="B") for content, need in needs.items()]
    clock, rate = target.clock_hz, target.macs_per_cycle
    rows.append(
        Row(
            what="compute",
            need=graph.macs,
            have=None if clock is None or rate is None else clock * frame.period_s * rate,
            unit="MAC per hop",
            detail=""
            if clock is None or rate is None
            else f"{clock / 1e6:g} MHz x {frame.period_s * 1e3:g} ms x {rate:g} MAC a cycle",
        )
    )
    home = next((region for region in target.memory if region.name == placed.get("weights")), None)
    if home is not None and home.bytes_per_s is not None:
        have = home.bytes_per_s * frame.period_s
        detail = f"weights once from {home.name} at {home.bytes_per_s / 1e6:g} MB/s"
        rows.append(Row(what="weight traffic", need=needs["weights"], have=have, unit="B per hop", detail=detail))
    if emitted is not None and emitted.estimate is not None:
        spent_ms, period_ms = emitted.estimate["inference_ms"], frame.period_s * 1e3
        rows.append(Row(what="step", need=spent_ms, have=period_ms, unit="ms", detail=f"{emitted.estimate['tool']}'s estimate"))
    latency_ms = frame.algorithmic_latency_s * 1e3
    rows.append(Row(what="algorithmic latency", need=latency_ms, have=target.latency_budget_ms, unit="ms"))
    return Fit(target=target.name, evidence=target.evidence, needs_bytes=needs, placed=placed, rows=tuple(rows))


def _place(needs: Mapping[str, int], regions: tuple[Region, ...]) -> dict[str, str]:
    """Content to region: the first choice, in the order of the regions, in which the least is over."""
    if not regions:
        return {}
    contents = list(needs)
    choices = [[i for i, region in enumerate(regions) if content in region.holds] for content in contents]

    def over(chosen: tuple[int, ...]) -> int:
        full = [0] * len(regions)
        for content, i in zip(contents, chosen, strict=True):
            full[i] += needs[content]
        return sum(max(0, used - region.size_bytes) for used, region in zip(full, regions, strict=True))

    best = min(product(*choices), key=lambda chosen: (over(chosen), sum(chosen), chosen))
    return {content: regions[i].name for content, i in zip(contents, best, strict=True)}


def _region_row(region: Region, inside: Mapping[str, int]) -> Row:
    detail = " + ".join(f"{content} {count(need)}" for content, need in inside.items()) or "left free"
    return Row(what=region.name, need=sum(inside.values()), have=region.size_bytes, unit="B", detail=detail)


def count(value: float) -> str:
    """Format a figure for display: no decimals from 100 up, or for integers."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.4g}"
