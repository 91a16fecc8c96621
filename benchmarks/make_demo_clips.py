"""Synthesise the demo clips in edge_tse/assets/demo, and make their room: ``python -m benchmarks.make_demo_clips [FOLDER]``.

Needs Debian 12's package ``flite`` (2.2). The same version makes the same samples, so the clips in the repository can be checked:
``--check`` compares instead of writing and exits 1 on a difference.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.simulated_room import Room, Sphere, head_responses

TEXTS = {
    "slt-enroll": "Good morning. My name is not important, but please remember my voice. "
    "I will read you the weather, and perhaps a short story about a lighthouse near the sea.",
    "slt-speech": "The old bridge was closed on Monday, so we walked along the river and had lunch under the trees.",
    "rms-enroll": "Hello, this is the voice you should follow. I usually talk about trains, coffee, and the price of books, "
    "and I never hurry.",
    "rms-speech": "Every evening the baker counts the loaves he sold, and writes the number in a thin blue notebook.",
    "awb-speech": "Nobody expected the snow to stay so long, but by Friday the whole valley was white and very quiet.",
}
"""Texts by file name: voice and role. A target's words are not in its enrollment."""

ROOM = Room(t60_s=0.3)
PLACES = ((40.0, 1.0), (-50.0, 1.3))
"""Azimuth in degrees (positive: left) and distance in metres of the talker to be heard and of the other."""
RMS = 10 ** (-26 / 20)
RATE_HZ = 16000
_FOLDER = Path(__file__).resolve().parent.parent / "edge_tse" / "assets" / "demo"


def synthesise(voice: str, text: str) -> tuple[NDArray[Any], int]:
    """16-bit samples without the silence around them, at the level of a recording (-26 dBFS), and the rate."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(file)], check=True)
        samples, rate_hz = soundfile.read(file)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    margin = rate_hz // 10
    samples = samples[max(loud[0] - margin, 0) : loud[-1] + margin]
    samples = samples * (RMS / np.sqrt(np.mean(samples**2)))
    return np.rint(np.clip(samples, -1, 1 - 2**-15) * 2**15).astype(np.int16), rate_hz


def room() -> tuple[NDArray[np.int16], int]:
    """16-bit responses ``[samples, 4]``: of the first place, left and right ear of a sphere, then of the second; and the rate."""
    azimuths = np.arange(-180.0, 180.0, 5.0)
    responses = head_responses(ROOM, PLACES, Sphere().responses(azimuths, RATE_HZ), azimuths, RATE_HZ).reshape(4, -1)
    return np.rint(responses.T * (0.9 / np.abs(responses).max()) * 2**15).astype(np.int16), RATE_HZ


def main(arguments: list[str]) -> int:
    check = "--check" in arguments
    folders = [a for a in arguments if a != "--check"]
    folder = Path(folders[0]) if folders else _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    different = 0
    made = [(name, *synthesise(name.partition("-")[0], text)) for name, text in TEXTS.items()]
    for name, samples, rate_hz in [*made, ("room", *room())]:
        path = folder / f"{name}.flac"
        if check:
            stored, stored_hz = soundfile.read(path, dtype="int16")
            same = (
                stored_hz == rate_hz
                and stored.shape == samples.shape
                and np.abs(stored.astype(int) - samples).max() <= (name == "room")
            )
            different += not same
            print(f"{path.name}: {'equal' if same else 'DIFFERENT'}")
        else:
            soundfile.write(path, samples, rate_hz, subtype="PCM_16")
            print(f"{path.name}: {len(samples) / rate_hz:.2f} s, {path.stat().st_size} bytes")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
