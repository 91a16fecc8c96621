"""Pictures: the demonstration (what went in, what was applied, what came out, what was wanted), and what stages move."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.analysis import FlowStep
from edge_tse.errors import EdgeTseError

if TYPE_CHECKING:
    from edge_tse.analysis import Moves
    from edge_tse.demo import Outcome
    from edge_tse.frame import FrameSpec

__all__ = ["moves_picture", "picture"]

Float = NDArray[np.float32]

SHOWN_S = 20.0
"""A longer mixture is shown up to here: beyond it nothing can be seen on a page."""
_FLOOR_DB, _TOP_DB = -85.0, -25.0
_GAIN_DB = (-30.0, 6.0)


def picture(outcome: Outcome, dark: bool = False) -> bytes:
    """PNG of the spectrograms of mixture, estimate and (if known) reference, and of the applied gain, over one time axis.

    Colours are perceptually even and safe for colour blindness: cividis for levels; for the gain purple where the network deletes
    and orange where it inserts.
    """
    case, frame, got = outcome.case, outcome.artifact.frame, outcome.extraction
    ink, paper = ("#d8dee6", "#12161c") if dark else ("#1f2630", "#ffffff")
    panels: list[tuple[str, Any, bool]] = [
        (f"Mixture: {case.mixture.name}", _levels_db(frame, case.mixture.signal, case.mixture.rate_hz), False),
        ("Gain applied by the network (purple deletes, orange inserts)", _gain_db(frame, got.gains), True),
        ("Extracted talker", _levels_db(frame, got.signal, got.rate_hz), False),
    ]
    if case.reference is not None:
        panels.append(("Reference: the talker alone", _levels_db(frame, case.reference.signal, case.reference.rate_hz), False))

    figure, canvas = _sheet((10, 2.35 * len(panels)), paper)
    axes = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (title, values, is_gain) in zip(axes, panels, strict=True):
        seconds = values.shape[0] * frame.period_s
        image = axis.imshow(
            values.T,
            origin="lower",
            aspect="auto",
            interpolation="nearest" if is_gain else "antialiased",
            extent=(0, seconds, 0, frame.sample_rate_hz / 2000),
            cmap="PuOr_r" if is_gain else "cividis",
            norm=_centred(*_GAIN_DB) if is_gain else None,
            **({} if is_gain else {"vmin": _FLOOR_DB, "vmax": _TOP_DB}),
        )
        axis.set_title(title, loc="left", fontsize=11, fontweight="bold", color=ink)
        axis.set_ylabel("frequency (kHz)", color=ink)
        bar = figure.colorbar(image, ax=axis, pad=0.012, aspect=14, ticks=[-30, -20, -10, 0, 3, 6] if is_gain else None)
        bar.set_label("gain (dB)" if is_gain else "level (dB FS)", color=ink)
        bar.ax.tick_params(colors=ink)
        bar.outline.set_visible(False)
        axis.tick_params(colors=ink)
        for spine in axis.spines.values():
            spine.set_visible(False)
    axes[-1].set_xlabel("time (s)", color=ink)
    canvas.draw()
    return _small_png(canvas.buffer_rgba())


def moves_picture(found: Mapping[str, Mapping[str, Moves]]) -> bytes:
    """PNG of what is deleted and inserted, ``{condition: {stage: moves}}``: to the left what goes, to the right what comes.

    Where there are steps of a flow, a panel a condition follows: how far it has come after each of them.
    """
    ink = "#1f2630"
    rows = [
        (f"{condition}: {stage}", moved)
        for condition, stages in found.items()
        for stage, moved in stages.items()
        if FlowStep.parse(stage) is None
    ]
    flows = {condition: flow for condition, stages in found.items() if (flow := _flows(stages))}
    heights = [0.9 + 0.42 * len(rows), *[2.6] * len(flows)]
    figure, canvas = _sheet((9, sum(heights)), "#ffffff")
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
    return _small_png(canvas.buffer_rgba())


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


def _sheet(inches: tuple[float, float], paper: str) -> tuple[Any, Any]:
    """An empty figure and its canvas."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as failure:
        raise EdgeTseError("matplotlib is not installed, the picture needs it: pip install 'edge-tse[litert]'") from failure
    figure = Figure(figsize=inches, dpi=110, layout="constrained", facecolor=paper)
    return figure, FigureCanvasAgg(figure)


def _small_png(pixels: Any) -> bytes:
    """A palette of 256 colours: nothing visible is lost in two colour maps, and the page is less than half as long."""
    from PIL import Image  # matplotlib brings it

    image = Image.fromarray(np.asarray(pixels)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _levels_db(frame: FrameSpec, signal: Float, rate_hz: int) -> Float:
    """``[frames, bins]`` in dB relative to a full-scale sine, mean over ears."""
    shown = signal[:, : round(SHOWN_S * rate_hz)]
    spectra = frame.analyze(audio.resample(shown, rate_hz, frame.sample_rate_hz))
    power = (np.abs(spectra) ** 2).mean(axis=1) * frame.power_unit
    levels: Float = 10 * np.log10(power + np.float32(1e-12))
    return levels


def _gain_db(frame: FrameSpec, gains: Float | None) -> Float:
    """``[hops, bins]``"""
    assert gains is not None, "a demonstration keeps its gains"
    shown = frame.bin_gains(gains[: round(SHOWN_S / frame.period_s)])
    decibels: Float = 20 * np.log10(np.maximum(shown, np.float32(1e-3)))
    return decibels


def _centred(low: float, high: float) -> Any:
    from matplotlib.colors import TwoSlopeNorm

    return TwoSlopeNorm(0.0, low, high)
