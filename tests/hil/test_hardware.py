"""Hardware in the loop: what emulated boards prove in the other tests, on a board that you have.

Flash it first (``edge-tse flash --target NAME ...``), without a voice, then run the command in ``conftest.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_tse.artifact import Artifact, verify
from edge_tse.deployment.target import Target, find_target
from edge_tse.personalization import personalize
from edge_tse.voice import Voice
from firmware_bridge.board import open_board
from firmware_bridge.codegen import voice_patch
from firmware_bridge.device import Device, DeviceEngine, DeviceNetwork

pytestmark = pytest.mark.hil


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest) -> Target:
    name = request.config.getoption("--target", default=None)
    if name is None:
        pytest.skip("needs a board: pytest tests/hil -m hil --target NAME --port PORT")
    return find_target(name)


@pytest.fixture(scope="module")
def artifact(request: pytest.FixtureRequest) -> Artifact:
    path = request.config.getoption("--artifact", default=None)
    return Artifact.find(path)


@pytest.fixture(scope="module")
def device(request: pytest.FixtureRequest, target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    state: Path = tmp_path_factory.mktemp("state")
    opened = Device(open_board(target, request.config.getoption("--port"), state), timeout_s=5.0)
    yield opened
    opened.close()


def test_it_is_the_board(target: Target, device: Device) -> None:
    assert (device.hello.target, device.hello.core) == (target.name, target.core)


def test_sound_is_processed_the_same_after_every_reset(artifact: Artifact, device: Device) -> None:
    rng = np.random.default_rng(1)
    hops = rng.uniform(-0.3, 0.3, (50, artifact.frame.ears, artifact.frame.hop)).astype(np.float32)
    step = DeviceEngine(device, artifact).start(artifact.frame.ears)
    first = np.array([step(hop) for hop in hops])
    step.reset()
    again = np.array([step(hop) for hop in hops])
    assert first.any()
    np.testing.assert_array_equal(first, again)


def test_a_deadline_is_kept_where_the_board_can_tell(artifact: Artifact, device: Device) -> None:
    step = DeviceEngine(device, artifact).start(artifact.frame.ears)
    for _ in range(50):
        step(np.zeros((artifact.frame.ears, artifact.frame.hop), np.float32))
    stats = device.stats()
    if not stats.counter or not stats.counts_per_s:
        pytest.skip("nothing on this board counts time")
    assert stats.deadline_misses == 0


def test_golden_frames_for_nobody_and_then_for_a_voice(artifact: Artifact, device: Device) -> None:
    """In one test: there is no way back to nobody in particular but a restart."""
    assert verify(artifact, DeviceNetwork(device, artifact)).worst_lsb == 0
    assert device.damaged == device.stats().damaged_frames == 0
    model = artifact.voice_model
    levels = np.random.default_rng(2).uniform(-1, 1, (200, artifact.frame.bands)).astype(np.float32)
    voice = Voice(embedding=model.describe(levels), encoder_digest=model.encoder_digest, created="", source="nobody")
    device.set_voice(voice_patch(artifact, voice))
    assert verify(personalize(artifact, voice), DeviceNetwork(device, artifact)).worst_lsb == 0
