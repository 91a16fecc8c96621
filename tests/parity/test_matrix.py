"""Every engine that is installed, over 3000 frames of speech with state and a voice: the shipped model, integer by integer."""

from __future__ import annotations

import pytest

from benchmarks import parity
from edge_tse.artifact import Artifact
from edge_tse.errors import EngineError, TargetError
from edge_tse.golden import TOLERANCE_LSB

ENGINES = parity.engines()


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_engine_stays_within_what_it_states(engine: str) -> None:
    try:
        found = parity.integers(Artifact.shipped(), ENGINES[engine])
    except (EngineError, TargetError) as failure:
        pytest.skip(str(failure))
    assert found["frames"] > 2000
    assert found["worst_lsb"] <= TOLERANCE_LSB[str(found["runs_on"])]
    if not TOLERANCE_LSB[str(found["runs_on"])]:
        assert found["mismatch_rate"] == 0
