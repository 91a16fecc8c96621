"""A picture of what each stage of a model deletes and inserts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_tse.analysis import FlowStep, Moves
from edge_tse.drawing import colours, sheet, small_png

__all__ = ["moves_picture"]

_SIDES = "PuOr_r"
"""Map between whose ends deleted (purple) and inserted (orange) are."""


def moves_picture(found: Mapping[str, Mapping[str, Moves]]) -> bytes:
    """PNG of shares deleted (to the left) and inserted (to the right), ``{condition: {stage: moves}}``.

    Steps of a flow, if there are any, follow in a panel per condition: how far the flow has come after each of them.
    """
    ink, paper = "#1f2630", "#ffffff"
    rows = [
        (f"{condition}: {stage}", moved)
        for condition, stages in found.items()
        for stage, moved in stages.items()
        if FlowStep.parse(stage) is None
    ]
    flows = {condition: flow for condition, stages in found.items() if (flow := _flows(stages))}
    heights = [0.9 + 0.42 * len(rows), *[2.6] * len(flows)]
    figure, canvas = sheet((9, sum(heights)), paper)
    axis, *panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (condition, flow) in zip(panels, flows.items(), strict=True):
        _draw_flows(panel, condition, flow, ink)
    places = range(len(rows), 0, -1)
    axis.barh(places, [-100 * moved.deleted for _, moved in rows], color="#5e3c99", label="deleted")
    axis.barh(places, [100 * moved.inserted for _, moved in rows], color="#e66101", label="inserted")
    axis.set_yticks(list(places), [name for name, _ in rows])
    axis.axvline(0, color=ink, linewidth=0.8)
    axis.set_xlabel("share of the mixture's energy (%)", color=ink)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    canvas.draw()
    return small_png(canvas.buffer_rgba(), colours(ink, paper, _SIDES))


def _flows(stages: Mapping[str, Moves]) -> dict[tuple[str, int], list[Moves]]:
    """Moves from the mixture along each flow, by solver and number of steps, beginning where the mask ends."""
    flows: dict[tuple[str, int], list[Moves]] = {}
    for stage, moved in stages.items():
        at = FlowStep.parse(stage)
        if at is not None:
            flows.setdefault((at.solver, at.steps), [stages["mask"]]).append(moved)
    return flows


def _draw_flows(axis: Any, condition: str, flows: Mapping[tuple[str, int], list[Moves]], ink: str) -> None:
    """Lines over the time of the flow: Euler's full, Heun's dashed, the more steps the darker."""
    for (solver, steps), path in flows.items():
        times = [k / steps for k in range(steps + 1)]
        style = {"linestyle": "-" if solver == "euler" else "--", "marker": "o", "markersize": 3, "linewidth": 1.2}
        style["alpha"] = 0.35 + 0.65 * steps / max(n for _, n in flows)
        axis.plot(times, [-100 * moved.deleted for moved in path], color="#5e3c99", **style)
        axis.plot(times, [100 * moved.inserted for moved in path], color="#e66101", **style)
    axis.axhline(0, color=ink, linewidth=0.8)
    axis.set_title(f"{condition}: along the flow (dashed: Heun, darker: more steps)", loc="left", fontsize=9, color=ink)
    axis.set_xlabel("time of the flow", color=ink)
    axis.set_ylabel("deleted / inserted (%)", color=ink)
