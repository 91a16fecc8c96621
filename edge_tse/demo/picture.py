"""The picture of a demonstration: mixture, applied gain, estimate and reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.drawing import colours, norm_around_zero, sheet, small_png

if TYPE_CHECKING:
    from edge_tse.demo.cases import Outcome
    from edge_tse.frame import FrameSpec

__all__ = ["picture"]

Float = NDArray[np.float32]

SHOWN_S = 20.0
"""Longest stretch of a mixture that is drawn: beyond it nothing can be seen on a page."""
_FLOOR_DB, _TOP_DB = -85.0, -25.0
_GAIN_DB = (-30.0, 6.0)
_LEVELS, _GAINS = "cividis", "PuOr_r"


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

    figure, canvas = sheet((10, 2.35 * len(panels)), paper)
    axes = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (title, values, is_gain) in zip(axes, panels, strict=True):
        seconds = values.shape[0] * frame.period_s
        image = axis.imshow(
            values.T,
            origin="lower",
            aspect="auto",
            interpolation="nearest" if is_gain else "antialiased",
            extent=(0, seconds, 0, frame.sample_rate_hz / 2000),
            cmap=_GAINS if is_gain else _LEVELS,
            norm=norm_around_zero(*_GAIN_DB) if is_gain else None,
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
    return small_png(canvas.buffer_rgba(), colours(ink, paper, _LEVELS, _GAINS))


def _levels_db(frame: FrameSpec, signal: Float, rate_hz: int) -> Float:
    """``[frames, bins]`` in dB relative to a full-scale sine, mean over ears."""
    shown = signal[:, : round(SHOWN_S * rate_hz)]
    spectra = frame.analyze(audio.resample(shown, rate_hz, frame.sample_rate_hz))
    power = (np.abs(spectra) ** 2).mean(axis=1) * frame.power_unit
    levels: Float = 10 * np.log10(power + np.float32(1e-12))
    return levels


def _gain_db(frame: FrameSpec, gains: Float | None) -> Float:
    """Gain in dB, ``[hops, bins]``."""
    assert gains is not None, "a demonstration keeps its gains"
    shown = frame.bin_gains(gains[: round(SHOWN_S / frame.period_s)])
    decibels: Float = 20 * np.log10(np.maximum(shown, np.float32(1e-3)))
    return decibels
