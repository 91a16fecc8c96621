"""What does the window pair give? Resolution, leakage, latency and reconstruction, computed from ``FrameSpec``."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import RESULTS, one_line
from edge_tse.frame import FrameSpec
from edge_tse.report import Report, environment

_FFT = 1 << 18


def line(window: NDArray[Any], rate_hz: int) -> dict[str, float]:
    """Spectral line of a pure tone through a window: width at -3 dB, and the largest rest at distances and beyond."""
    level_db = 20 * np.log10(np.abs(np.fft.rfft(window, _FFT)) / np.sum(window) + 1e-12)
    first_null = int(np.argmax(np.diff(level_db) > 0))
    beyond = {f"beyond_{hz}_hz_db": float(level_db[round(hz / rate_hz * _FFT) :].max()) for hz in (125, 250, 500)}
    return {
        "width_3db_hz": 2 * int(np.argmax(level_db < -3.0103)) * rate_hz / _FFT,
        "highest_side_lobe_db": float(level_db[first_null:].max()),
        **beyond,
    }


def root_hann(n: int) -> NDArray[Any]:
    """Root-Hann window, symmetric, for analysis and synthesis both."""
    return np.sin(np.pi * (np.arange(n) + 0.5) / n)


def figures(frame: FrameSpec) -> dict[str, object]:
    """Figures by window."""
    noise = np.random.default_rng(0).standard_normal((2, 10 * frame.sample_rate_hz)).astype(np.float32)
    rebuilt = frame.synthesize(frame.analyze(noise))
    error = np.abs(rebuilt[:, frame.delay :] - noise[:, : -frame.delay]).max()
    ms = 1e3 / frame.sample_rate_hz
    return {
        "asymmetric": {"latency_ms": frame.algorithmic_latency_s * 1e3, **line(frame.analysis_window, frame.sample_rate_hz)},
        "root_hann_long": {"latency_ms": frame.window * ms, **line(root_hann(frame.window), frame.sample_rate_hz)},
        "root_hann_short": {"latency_ms": frame.synthesis * ms, **line(root_hann(frame.synthesis), frame.sample_rate_hz)},
        "reconstruction": {"largest_error": float(error), "largest_sample": float(np.abs(noise).max())},
    }


@one_line
def main() -> None:
    """Measure, print, and write the file."""
    report = Report(question="What does the window pair give?", figures=figures(FrameSpec()), environment=environment())
    report.save(RESULTS / "geometry.json")
    print(report.to_json())


if __name__ == "__main__":
    sys.exit(main())
