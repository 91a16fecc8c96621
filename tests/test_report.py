"""Figures come from raw times, and JSON holds them."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import numpy as np
import pytest

from edge_tse import __version__
from edge_tse.report import Report, Timing, busy, environment, memory, to_json, versions


def timing(*milliseconds: float, period_ms: float = 4.0) -> Timing:
    return Timing(hop_s=np.array(milliseconds) / 1e3, period_s=period_ms / 1e3)


def test_percentiles_are_times_that_occurred() -> None:
    times = np.random.default_rng(0).permutation(np.arange(1, 1001)).astype(float)
    figures = timing(*times).figures()
    assert [figures[k] for k in ("p50_ms", "p90_ms", "p99_ms", "max_ms")] == pytest.approx([500, 900, 990, 1000])
    assert timing(1, 100).figures()["p50_ms"] == pytest.approx(1)


def test_misses_and_real_time_factor() -> None:
    figures = timing(1, 2, 3, 4, 4.001, 10).figures()
    assert figures["deadline_misses"] == 2
    assert figures["real_time_factor"] == pytest.approx(24.001 / 6 / 4)
    assert figures["hops"] == 6
    assert figures["hop_period_ms"] == pytest.approx(4)


def test_no_times_are_no_timing() -> None:
    with pytest.raises(ValueError, match="no step"):
        timing()


def test_json_of_what_reports_hold() -> None:
    value = {
        "a": np.float32(0.5),
        "b": [np.int64(3), (1, None)],
        "c": float("nan"),
        "d": -np.inf,
        "e": np.arange(2),
        "f": Path("x/y"),
    }
    assert json.loads(to_json(value)) == {"a": 0.5, "b": [3, [1, None]], "c": None, "d": None, "e": [0, 1], "f": "x/y"}
    assert json.loads(to_json({"t": True, "n": np.bool_(False)})) == {"t": True, "n": False}
    with pytest.raises(TypeError, match="cannot hold set"):
        to_json({"a": {1}})


def test_environment_says_what_figures_depend_on() -> None:
    found = environment()
    assert found["versions"] == versions()
    assert versions()["edge-tse"] == __version__
    assert versions()["numpy"] == np.__version__
    assert {"cpu", "cpus", "machine", "system", "python", "measured", "load_1min"} <= set(found)
    json.loads(to_json(found))


def test_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (9999.0, 0, 0))
    assert "load 9999.0" in str(busy())
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0, 0))
    assert busy() is None


def test_memory_grows_when_memory_is_used() -> None:
    size = 2**27
    grown = []
    for _ in range(3):  # the system may take other pages of this process back meanwhile
        before = memory()
        with mmap.mmap(-1, size) as block:  # pages of its own: an allocator may have kept some that were used before
            block.write(b"\1" * size)
            after = memory()
        grown.append(after["rss_bytes"] - before["rss_bytes"])
        assert after["peak_rss_bytes"] >= after["rss_bytes"] * 0.99
    assert max(grown) > 0.5 * size


def test_report_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    Report(question="how fast?", figures=timing(1, 2).figures(), environment=environment()).save(path)
    read = json.loads(path.read_text())
    assert read["question"] == "how fast?"
    assert read["figures"]["max_ms"] == pytest.approx(2)
    assert list(tmp_path.iterdir()) == [path]
