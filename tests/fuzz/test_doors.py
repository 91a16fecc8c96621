"""What comes from outside is taken or refused in one line, whatever it is; what was found once is tried first."""

from __future__ import annotations

import re
from random import Random

import pytest

pytest.importorskip("hypothesis", reason="needs hypothesis, which makes the input")
pytest.importorskip("torch", reason="needs torch: a checkpoint is one of the doors")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.doors import DOORS

SEEDS = {
    "answers": (17,),
    "artifact": (20, 122, 166, 167, 181, 190, 277, 308, 1015486),
    "calibration": (0, 14, 17, 150, 273, 1676),
    "checkpoint": (1, 3, 11, 15, 48, 104, 160),
    "elf": (0, 1, 3, 22, 40, 55, 62, 77),
    "embedding": (0, 17, 22, 31, 47, 70, 76, 294),
    "foreign": (12, 23, 31, 36, 111, 222, 881, 938),
    "hearing": (0, 7, 29, 67, 224, 225),
    "profile": (4, 6, 9, 13, 47, 413),
    "recording": (4, 5, 6, 8, 15, 24, 29, 38),
    "sound": (37, 332),
    "target": (26, 38, 41, 50, 60, 128),
    "trials": (146,),
    "voice": (13,),
}
"""Numbers of tries (of ``python -m tests.fuzz``) that a door once answered with a traceback, the first for each place."""
EXAMPLES = {"recording": 30, "server": 100, "target": 60, "artifact": 100, "checkpoint": 40, "sound": 100}


def test_a_try_is_the_same_input_every_time() -> None:
    for name, door in DOORS.items():
        if name not in ("checkpoint", "recording"):  # which hold the moment they were made
            assert door.make(Random("7")) == door.make(Random("7")), name


def test_most_of_what_is_tried_gets_past_the_first_check() -> None:
    """Noise would be refused at the first byte and find nothing: of what is tried, some is taken and some refused."""
    for name in ("artifact", "hearing", "trials", "elf", "image"):
        taken = [DOORS[name].survives(DOORS[name].make(Random(f"{name} {i}"))) for i in range(60)]
        assert 0 < sum(taken) < 60, (name, sum(taken))


@pytest.mark.parametrize(("name", "number"), [(name, number) for name, numbers in SEEDS.items() for number in numbers])
def test_what_was_found_once(name: str, number: int) -> None:
    DOORS[name].survives(DOORS[name].make(Random(f"{name} {number}")))


@pytest.mark.slow
@pytest.mark.parametrize("name", DOORS)
def test_a_door_takes_or_refuses(name: str) -> None:
    @settings(max_examples=EXAMPLES.get(name, 300), deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.integers(0, 2**32))
    def tried(number: int) -> None:
        DOORS[name].survives(DOORS[name].make(Random(number)))

    tried()


def test_every_door_has_a_name_of_its_own() -> None:
    assert all(re.fullmatch("[a-z]+", name) for name in DOORS)
