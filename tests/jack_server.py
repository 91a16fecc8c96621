"""A JACK server of a test's own, with a dummy driver instead of a sound card, and the harness beside it."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

__all__ = ["Server", "jack", "play_through"]

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Server:
    name: str
    rate_hz: int
    process: subprocess.Popen[bytes]
    apps: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"JACK_DEFAULT_SERVER": self.name, "JACK_NO_START_SERVER": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def jack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of one's own, at the rate asked for."""
    if shutil.which("jackd") is None or ctypes.util.find_library("jack") is None:
        pytest.skip("no JACK here: apt-get install jackd2")
    rate_hz, period = getattr(request, "param", (16000, 64))
    name = f"etse{os.getpid()}"
    # -S: the server waits for its clients. Without real-time rights on a busy machine it would play on without them.
    command = ["jackd", "-r", "-S", "-t", "5000", "--no-mlock", "-n", name, "-d", "dummy"]
    command += ["-r", str(rate_hz), "-p", str(period), "-C", "2", "-P", "2"]
    quiet = os.environ | {"JACK_NO_AUDIO_RESERVATION": "1"}
    with (tmp_path / "jackd.log").open("wb") as log:
        process = subprocess.Popen(command, env=quiet, stdout=log, stderr=log)
        server = Server(name, rate_hz, process)
        for _ in range(100):
            ready = subprocess.run(["jack_lsp"], env=server.environment, capture_output=True, check=False)
            if ready.returncode == 0:
                break
            time.sleep(0.1)
        else:
            process.kill()
            pytest.skip(f"jackd does not start here: {(tmp_path / 'jackd.log').read_text()[-300:]}")
        try:
            yield server
        finally:
            for app in server.apps:  # those that a failed test left running
                app.kill()
                app.wait(10)
            process.terminate()
            process.wait(10)


def play_through(server: Server, folder: Path, signal: np.ndarray, seconds: float, client: str) -> np.ndarray:
    """Play ``[channels, n]`` into a client as its microphone, and record as many channels of what it gives."""
    np.save(folder / "play.npy", signal)
    command = [sys.executable, ROOT / "tests" / "jack.py", folder / "play.npy", folder / "record.npy", str(seconds), client]
    # The server waits for its clients: on a busy machine its seconds are longer.
    subprocess.run(command, env=server.environment, check=True, timeout=5 * seconds + 90)
    return np.load(folder / "record.npy")
