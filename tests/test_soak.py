"""Long and under load: a paced device, an engine on its thread, a client that never stops asking, and another process that wants
the same core.

A minute by default, half an hour with ``EDGE_TSE_SOAK_S=1800``.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from edge_tse.engines import Engine, open_network
from edge_tse.hearing.chain import Chain, Hearing
from edge_tse.live import socket
from edge_tse.live.console import Console
from edge_tse.live.loop import Fate, Loop
from edge_tse.live.session import Session
from edge_tse.live.steering import Change
from edge_tse.live.supervision import supervise
from edge_tse.report import memory
from tests import graphs
from tests.test_session import HOP, RATE, sound

SECONDS = float(os.environ.get("EDGE_TSE_SOAK_S", "60"))
MARGIN_S = 0.008
CEILING = 0.25
_FATES = tuple(Fate)


CLIENT = """
import json, socket, sys, time
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
lines = link.makefile("rw")
asked = 0
while True:
    lines.write(json.dumps({"mark": str(asked)} if asked % 20 == 19 else {"status": True}) + "\\n")
    lines.flush()
    answer = lines.readline()
    if not answer:
        break
    assert json.loads(answer)["ok"], answer
    asked += 1
    time.sleep(0.1)
"""
"""As the studio: ten looks a second at levels, spectra and counters, now and then a mark."""


class Journal:
    """What replaying needs, in memory that is all there before the run."""

    def __init__(self, blocks: int) -> None:
        self.shortage, self.flags = np.full(blocks, -1, np.int32), np.zeros(blocks, np.int8)
        self.sums = np.full(blocks, 1, np.uint32)
        self.kinds = np.full(blocks + 250, -1, np.int8)
        self.blocks = 0
        self.worst = 0.0

    def block(self, heard: np.ndarray, played: np.ndarray, shortage: int, flags: int) -> None:
        if self.blocks < len(self.sums):
            self.shortage[self.blocks], self.sums[self.blocks] = shortage, zlib.crc32(played)
        self.worst = max(self.worst, float(np.abs(played).max()))
        self.blocks += 1

    def hop(self, index: int, fate: Fate) -> None:
        self.kinds[index] = _FATES.index(fate)

    @property
    def fates(self) -> dict[int, Fate]:
        """Hops that were not extracted, and what became of each."""
        return {int(index): _FATES[self.kinds[index]] for index in np.flatnonzero(self.kinds >= 0)}

    def change(self, index: int, change: Change) -> None:
        """A mark of the client: nothing that is heard."""


class Paced:
    """A device that asks for a block when its time has come, and for those it missed at once, as a driver does."""

    failure = None
    active = True
    latency_s = 0.0

    def __init__(self, session: Session, room: np.ndarray) -> None:
        self.session, self.room = session, room
        self.out = np.zeros((HOP, room.shape[1]), np.float32)
        self.began, self.at = time.monotonic(), 0

    def close(self) -> None: ...

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            due = int((now - self.began) * RATE / HOP)
            if due - self.at > 25:  # as a driver whose buffers have run over
                self.began += (due - self.at) * HOP / RATE
                continue
            while self.at < due:
                start = self.at * HOP % len(self.room)
                self.session.exchange(self.room[start : start + HOP], self.out)
                self.at += 1
            time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.alone
def test_hours_pass_and_nothing_grows_or_goes_unsaid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ai_edge_litert", reason="the engine that keeps up: pip install '.[litert]'")
    artifact = graphs.artifact(graphs.NANO, frames=4)

    def engine() -> Engine:
        return Engine(artifact, open_network(artifact, "litert"))

    room = sound(20 * RATE // HOP * HOP, 2)
    loop = Loop(rate_hz=RATE, ears=2, block=HOP, margin_s=MARGIN_S, ceiling=CEILING)
    journal = Journal(round((SECONDS + 30) * RATE / HOP))
    hearing = Hearing(ambient_db=-20, max_output_db_spl=98)
    session = Session(engine(), loop, shape=Chain(hearing, artifact.frame, 2), tap=journal)
    rival = subprocess.Popen([sys.executable, "-c", f"import time; t = time.time()\nwhile time.time() < t + {SECONDS + 60}: pass"])
    settled: dict[str, int] = {}
    last: dict[str, int] = {}

    def tell(current: Session) -> None:
        """Memory as the session runs; the figures of its end are made once, however long it was."""
        if not settled and current.health.hops > 10 * 250:
            gc.collect()
            settled.update(memory())
        last.update(memory())

    control = tmp_path / "control"
    with socket.serve(control, Console(session)):
        client = subprocess.Popen([sys.executable, "-c", CLIENT, str(control)])
        try:
            device = Paced(session, room)
            run = supervise(session, lambda current: device, seconds=SECONDS, wait=device.wait, tell=tell)
            grown = last["rss_bytes"] - settled["rss_bytes"]
            assert client.poll() is None, "the client was not served to the end"
        finally:
            for process in (client, rival):
                process.kill()
                process.wait()

    health = run.health
    with capsys.disabled():
        figures = run.timing.figures() if run.timing else {}
        marks = sum("mark" in str(event) for event in session.events)
        sys.stdout.write(f"\nsoak of {SECONDS:.0f} s: grown {grown} bytes; {marks} marks; {health}; {figures}\n")
    assert grown < 2**20
    assert health.failed_hops == 0
    assert journal.worst <= CEILING
    late = int(np.count_nonzero(journal.shortage[: journal.blocks] > 0))
    assert (health.late_blocks == 0) == (late == 0)

    # Every block once more, with what timing did to it told: all of it is explained, to the bit.
    again = Session(engine(), loop, shape=Chain(hearing, artifact.frame, 2), fates=journal.fates)
    out = np.zeros((HOP, 2), np.float32)
    fade = round(loop.fade_s * RATE)
    replayed = min(journal.blocks, len(journal.sums), 250 * 300)
    for i in range(replayed):
        start = i * HOP % len(room)
        again.exchange(room[start : start + HOP], out, 0, fade - int(journal.shortage[i]))
        again.work()
        assert zlib.crc32(out) == journal.sums[i], f"block {i} of {replayed}"
