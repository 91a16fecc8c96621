"""The benchmark of two clocks: what it measures of links that lose nothing is what the links are."""

from __future__ import annotations

import pytest

pytest.importorskip(
    "torch", reason="the measures of cues are those of benchmarks.two_ears, which needs PyTorch: pip install '.[train]'"
)
from benchmarks import clocks
from edge_tse.demo.cases import shipped_cases


def test_cues_over_links_that_lose_nothing_stay() -> None:
    case = next(case for case in shipped_cases() if case.mixture.signal.shape[0] == 2)
    assert case.reference is not None
    found = clocks.cues(clocks._CLEAN, case.reference.signal, seconds=9)
    assert found["seconds"] >= 2
    assert found["ild_db_max"] < 0.05
    assert found["itd_us_max"] < 20


def test_a_lost_moment_is_better_made_out_of_the_other_ear() -> None:
    case = next(case for case in shipped_cases() if case.mixture.signal.shape[0] == 2)
    found = clocks.made_up_db(case.mixture.signal, trials=60)
    assert found["other"] < found["own"] - 2 < 0
