"""Every engine that is installed x the shipped models and a `nano` x personalized and universal, integer by integer.

Over 3000 frames of speech, with state and a voice.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from benchmarks import parity
from edge_tse.artifact import Artifact, shipped_names
from edge_tse.errors import EngineError, TargetError
from edge_tse.golden import TOLERANCE_LSB
from edge_tse.universal import reaches
from tests import graphs

SLOW = {"executorch"}
"""Making a program takes tens of seconds."""


@cache
def model(name: str) -> Artifact:
    """A shipped model, or one of its size with random weights; its reach is that of these voices unless it ships with its own."""
    shipped = name in shipped_names()
    artifact = Artifact.shipped(name) if shipped else graphs.artifact({"nano": graphs.NANO}[name])
    if shipped and artifact.reach:
        return artifact
    heard = [(artifact.voice_model.modulation(voice.embedding), rows[:300]) for voice, rows in parity.frames(artifact)]
    return replace(artifact, reach=reaches(artifact.graph, [modulation for modulation, _ in heard], heard))


MATRIX = [
    pytest.param(name, form, engine, marks=pytest.mark.slow if engine in SLOW else (), id=f"{name}-{form}-{engine}")
    for name in sorted({*shipped_names(), "nano"})
    for form, known in parity.engines().items()
    for engine in known
]


@pytest.mark.parametrize(("name", "form", "engine"), MATRIX)
def test_engine_stays_within_what_it_states(name: str, form: str, engine: str) -> None:
    try:
        found = parity.integers(model(name), form, parity.engines()[form][engine])
    except (EngineError, TargetError) as failure:
        pytest.skip(str(failure))
    tolerance = TOLERANCE_LSB[str(found["runs_on"])]
    assert found["frames"] > 2000
    assert found["worst_lsb"] <= tolerance
    if not tolerance:
        assert found["mismatch_rate"] == 0
