"""Sound files in and out, and the checks that every signal passes before it meets a network.

Signals are float32 ``[channels, samples]`` with full scale 1.0. A file that cannot be processed as asked raises ``AudioError``;
a file that is merely poor (clipped, silent) is processed, and says so through a value.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError
from edge_tse.files import check_output, write_bytes
from edge_tse.quiet import mute

__all__ = [
    "better_ear",
    "check",
    "check_ears",
    "check_format",
    "clipped_samples",
    "encode",
    "flac_writer",
    "is_silent",
    "read",
    "read_integers",
    "resample",
    "write",
]

Float = NDArray[np.float32]

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 768_000
LARGEST_PEAK = 100.0
"""Largest sample taken for sound, 40 dB over full scale: no recording reaches it, but integers stored as floats do."""

_LONGEST = 2**40  # samples: two years
_MOST_VALUES = 2**30  # 4 GB, 3 hours of stereo at 48 kHz
_BLOCK = 2**16  # samples read at a time
_UNKNOWN_LENGTH = 0x7FFF0000  # bytes: from here on, what streams write who do not know
_MPEG, _MPEG_SPARE = ("MP3", "MPEG"), 4 * 1152
_HEADERLESS = (".raw", ".pcm", ".s16", ".snd16")
_RAW = "convert it with `sox -t raw -r 16000 -e signed -b 16 -c 1 IN OUT.wav`, with its own rate and format"
_CONVERT = "convert it to WAV"
_CLIP_LEVEL = np.float32(1 - 2**-15)  # the largest positive int16
_CLIP_RUN = 3  # one or two samples at full scale are how a normalised file looks, three in a row are not
_SUFFIXES = (".wav", ".flac")
_PART = 4096  # samples of a frame of FLAC as libsndfile writes them
_SUBTYPE = "PCM_24"  # holds everything a recording does, and every player opens it, which is not so for float WAV


def read(path: Path) -> tuple[Float, int]:
    """The signal ``[channels, samples]`` and its rate in Hz, from any format libsndfile knows, checked by :func:`check`.

    ``AudioError`` too if less is there than the file states, with both numbers.
    """
    with _open_file(path, _CONVERT) as file:
        if file.frames > _LONGEST:
            raise AudioError(f"{path} does not state its length: it is truncated or was streamed; convert it to WAV")
        samples, rate_hz, stated = _read_all(file, "float32", path), file.samplerate, file.frames
        # Decoders of MPEG only estimate how much will come, to a few frames.
        spare = _MPEG_SPARE if file.format in _MPEG else 0
    if len(samples) < stated - spare:
        raise AudioError(
            f"{path} states {stated} samples and gives {len(samples)}: it is cut short, or of another format than "
            f"its first bytes state; copy it again, or {_RAW}"
        )
    signal: Float = np.ascontiguousarray(samples.T)
    check(signal, rate_hz, str(path))
    return signal, int(rate_hz)


def _read_all(file: Any, dtype: str, path: Path) -> NDArray[Any]:
    """Read ``[n, channels]`` to the end of the file: not every decoder knows its length before."""
    parts = [np.zeros((0, file.channels), dtype)]
    values = 0
    while len(part := file.read(_BLOCK, dtype=dtype, always_2d=True)):
        values += part.size
        if values > _MOST_VALUES:
            raise AudioError(f"{path} holds more than {_MOST_VALUES:,} values, the most that is read at once: cut it into parts")
        parts.append(part)
    return np.concatenate(parts)


def write(path: Path, signal: Float, rate_hz: int, inputs: Iterable[Path] = ()) -> int:
    """Write ``[channels, samples]``, whole or not at all; returns how many samples were clipped to full scale.

    The suffix chooses WAV or FLAC, 24 bits. ``AudioError`` if it is another one, if the disk is full, or if ``path`` is one of
    ``inputs``.
    """
    check_format(path)
    check_output(path, inputs, AudioError)
    # Encoded in memory: libsndfile, given a file, loses the last block of a full disk in close() and reports nothing.
    write_bytes(path, encode(signal, rate_hz, path.suffix[1:].upper(), _SUBTYPE), AudioError)
    return int(np.count_nonzero(np.abs(signal) > 1))


def encode(signal: Float, rate_hz: int, container: str = "WAV", subtype: str = "PCM_16") -> memoryview:
    """The content of a sound file holding ``[channels, samples]``, in libsndfile's names; samples over full scale are clipped."""
    encoded = io.BytesIO()
    _module("soundfile").write(encoded, signal.T, rate_hz, format=container, subtype=subtype)
    return encoded.getbuffer()


def flac_writer(file: object, rate_hz: int, channels: int, comment: str) -> Any:
    """A soundfile.SoundFile for int32 ``[n, channels]``, of which FLAC keeps the upper 24 bits; ``comment`` is written first."""
    writer = _module("soundfile").SoundFile(file, "w", rate_hz, channels, "PCM_24", format="FLAC")
    writer.comment = comment
    return writer


def read_integers(path: Path) -> tuple[NDArray[np.int32], int, str]:
    """24-bit samples ``[n, channels]``, their rate and the file's comment. ``AudioError`` as :func:`read`.

    A file whose writer was killed does not state its length: the samples that had reached the disk are returned.
    """
    with _open_file(path, "it is damaged, or cut short") as file:
        rate_hz, comment = file.samplerate, file.comment
        if file.frames <= _LONGEST:
            return _read_all(file, "int32", path) >> 8, rate_hz, comment
        parts = [np.zeros((0, file.channels), np.int32)]
        with suppress(_module("soundfile").LibsndfileError):  # where the file breaks off
            while len(part := file.read(_PART, dtype="int32", always_2d=True)):
                parts.append(part)
        return np.concatenate(parts) >> 8, rate_hz, comment


@contextmanager
def _open_file(path: Path, advice: str) -> Iterator[Any]:
    """Open a sound file; ``AudioError`` for everything that is wrong with it."""
    soundfile = _module("soundfile")
    if not path.exists():
        raise AudioError(f"{path}: there is no such file")
    if not path.is_file():
        raise AudioError(f"{path} is not a file: give the name of a sound file")
    _check_stated_length(path)
    if path.suffix.lower() in _HEADERLESS and not _has_header(path):
        raise AudioError(f"{path} has no header that states its rate and format: {_RAW}")
    try:
        with mute(), soundfile.SoundFile(str(path)) as file:
            yield file
    # Whatever soundfile finds wrong is about the file: it is given no options.
    except (soundfile.LibsndfileError, soundfile.SoundFileRuntimeError, OSError, ValueError, TypeError) as failure:
        reason = str(getattr(failure, "error_string", failure)).rstrip(".")
        raise AudioError(f"{path} is not a readable sound file ({reason}): {advice}") from failure


def _has_header(path: Path) -> bool:
    """Whether a file named as headerless does begin as sound files do."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(4) in (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b".snd", b"caff")
    return True


def _check_stated_length(path: Path) -> None:
    """``AudioError`` with both numbers if a WAV file states another length than it holds: libsndfile reads whatever is there.

    A length that says that nobody knew it, as streams have, is none.
    """
    with suppress(OSError), path.open("rb") as file:  # what cannot be read is said by who opens it
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        end, at, frame_bytes = path.stat().st_size, 12, 1
        while len(head := file.read(8)) == 8:
            at += 8
            name, size = head[:4], int.from_bytes(head[4:], "little")
            if name == b"data":
                _compare_lengths(path, size, end - at, frame_bytes, file.read(4))
                return
            if name == b"fmt ":
                frame_bytes = max(1, int.from_bytes(file.read(16)[12:14], "little"))
            at += size + size % 2
            if at > end:
                return
            file.seek(at)


def _compare_lengths(path: Path, stated: int, there: int, frame_bytes: int, first: bytes) -> None:
    repair = f"repair it with `sox --ignore-length {path.name} repaired.wav`"
    if stated == 0 and there >= max(frame_bytes, 4) and not first.isalpha():  # letters: the name of another chunk
        raise AudioError(
            f"{path} states 0 bytes of sound and {there} are there: its recorder was stopped before it wrote the length; {repair}"
        )
    if there + frame_bytes <= stated < _UNKNOWN_LENGTH:
        raise AudioError(
            f"{path} is cut short: it states {stated} bytes of sound and {there} are there; copy it again, or {repair}"
        )


def check_format(path: Path) -> None:
    """``AudioError`` unless the suffix names a format that can be written."""
    if path.suffix.lower() not in _SUFFIXES:
        raise AudioError(f"{path}: cannot write {path.suffix or 'a name without suffix'}, choose {' or '.join(_SUFFIXES)}")


def check(signal: Float, rate_hz: int, name: str) -> None:
    """``AudioError`` for an unusable signal: no samples, an implausible rate, values that are not sound."""
    if signal.shape[-1] == 0:
        raise AudioError(f"{name} is empty: 0 samples; record it again")
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise AudioError(
            f"{name} has {rate_hz} samples per second, {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} are accepted: resample it first"
        )
    bad = ~np.isfinite(signal)
    if bad.any():
        at_s = int(np.argmax(bad.any(axis=0))) / rate_hz
        raise AudioError(
            f"{name}: {np.count_nonzero(bad)} of {signal.size} samples are NaN or infinite (first at {at_s:.3f} s); export it again"
        )
    peak = float(np.abs(signal).max())
    if peak > LARGEST_PEAK:
        raise AudioError(
            f"{name} peaks at {peak:.4g} where full scale is 1: it holds integers stored as floats, divide it by their full scale"
        )


def check_ears(signal: Float, ears: int, name: str) -> None:
    """``AudioError`` for more channels than ears."""
    if signal.shape[0] > ears:
        raise AudioError(
            f"{name} has {signal.shape[0]} channels, at most {ears} (left, right) are possible: "
            "keep two, for instance with `sox in.wav out.wav remix 1 2`"
        )


def better_ear(signal: Float) -> Float:
    """The channel with the most energy, ``[channels, samples] -> [samples]``.

    Not the mean of both: ears hear the same talker at different times, and their sum is a comb filter.
    """
    energy = np.einsum("cn,cn->c", signal, signal, dtype=np.float64)
    chosen: Float = signal[int(np.argmax(energy))]
    return chosen


def is_silent(signal: Float) -> bool:
    """Whether every sample is below -90 dBFS: a muted microphone, not a quiet talker."""
    return bool(np.abs(signal).max() < 10 ** (-90 / 20))


def clipped_samples(signal: Float) -> int:
    """Count samples in runs of three or more at full scale; in floats that exceed it, at the largest value."""
    total = 0
    full_scale = max(_CLIP_LEVEL, np.abs(signal).max(initial=0.0) * _CLIP_LEVEL)
    edged = np.zeros(signal.shape[1] + 2, bool)
    for channel in signal:
        for full in (channel >= full_scale, channel <= -full_scale):
            edged[1:-1] = full
            edges = np.flatnonzero(edged[1:] != edged[:-1])
            runs = edges[1::2] - edges[::2]
            total += int(runs[runs >= _CLIP_RUN].sum())
    return total


def resample(signal: Float, from_hz: int, to_hz: int) -> Float:
    """``[channels, n] -> [channels, ceil(n * to / from)]``, linear phase: nothing moves in time."""
    if from_hz == to_hz:
        return signal
    wanted = -(-signal.shape[1] * to_hz // from_hz)
    # soxr rounds the length to nearest and would drop the last sample: give it silence to drop instead.
    padded = np.pad(signal, ((0, 0), (0, -(-from_hz // to_hz)))).T
    out: Float = np.ascontiguousarray(
        _module("soxr").resample(np.ascontiguousarray(padded), from_hz, to_hz, quality="VHQ").T[:, :wanted]
    )
    return out


def _module(name: str) -> ModuleType:
    """The module of this name (soundfile, soxr), imported by the first file and not by ``import edge_tse``."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as failure:  # OSError: soundfile without its shared library
        raise AudioError(f"{name} is not installed, sound files need it: pip install 'edge-tse[audio]'") from failure
