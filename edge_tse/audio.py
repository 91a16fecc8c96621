"""Sound files in and out, and the checks that every signal passes before it meets a network.

Signals are float32 ``[channels, samples]`` with full scale 1.0. A file that cannot be processed as asked raises ``AudioError``;
a file that is merely poor (clipped, silent) is processed, and says so through a value.
"""

from __future__ import annotations

import importlib
import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError
from edge_tse.files import check_output, replacing
from edge_tse.install_line import install_line
from edge_tse.quiet import mute
from edge_tse.sound_check import SILENT_PEAK, Check, ClipCount
from edge_tse.sound_writer import SoundWriter
from edge_tse.stated_length import check_stated_length

__all__ = [
    "FOREIGN",
    "SUFFIXES",
    "Held",
    "Sound",
    "Stored",
    "StoredIntegers",
    "better_ear",
    "blocks_of",
    "check",
    "check_ears",
    "check_format",
    "clipped_samples",
    "encode",
    "flac_writer",
    "hold",
    "is_silent",
    "read",
    "resample",
    "resampled",
    "write",
    "writing",
]

Float = NDArray[np.float32]

_LONGEST = 2**40  # samples: two years
_MOST_VALUES = 2**30  # 4 GB, 3 hours of stereo at 48 kHz
_BLOCK = 2**16  # samples read at a time
_MPEG, _MPEG_SPARE = ("MP3", "MPEG"), 4 * 1152
_HEADERLESS = (".raw", ".pcm", ".s16", ".snd16")
_RAW = "convert it with `sox -t raw -r 16000 -e signed -b 16 -c 1 IN OUT.wav`, with its own rate and format"
_CONVERT = "convert it to WAV"
_DAMAGED = "it is damaged, or cut short"
_SUFFIXES = (".wav", ".flac")
SUFFIXES = (*_SUFFIXES, ".aif", ".aifc", ".aiff", ".au", ".caf", ".mp3", ".oga", ".ogg", ".rf64", ".snd", ".w64", ".wave")
"""Suffixes of sound files that libsndfile opens."""
FOREIGN = (".3gp", ".aac", ".ac3", ".amr", ".m4a", ".mka", ".mkv", ".mov", ".mp4", ".opus", ".webm", ".wma")
"""Suffixes of containers of which libsndfile opens none or few: :mod:`edge_tse.transcoding` does."""
_PART = 4096  # samples of a frame of FLAC as libsndfile writes them
_FLAC_MOST_HZ = 655_350


class Sound(Protocol):
    """Sound that is read in blocks, from its beginning and as often as needed: however long it is, a block is held."""

    @property
    def name(self) -> str:
        """Name for messages."""

    @property
    def rate_hz(self) -> int:
        """Samples per second."""

    @property
    def channels(self) -> int:
        """Rows of a block."""

    def blocks(self) -> Iterator[Float]:
        """Blocks ``[channels, any]``, none of them empty."""


@dataclass(frozen=True, eq=False)
class Held:
    """A :class:`Sound` that is in memory."""

    signal: Float
    """``[channels, samples]``"""
    rate_hz: int
    name: str

    @property
    def channels(self) -> int:
        return len(self.signal)

    def blocks(self) -> Iterator[Float]:
        """The signal in blocks of about a second."""
        return blocks_of(self.signal, self.rate_hz)


class Stored:
    """A :class:`Sound` in a file, of any format that libsndfile knows."""

    def __init__(self, path: Path, name: str = "") -> None:
        """``AudioError`` if it is no sound file, or states no length; messages call it ``name``, its path if that is empty."""
        self.path, self.name = path, name or str(path)
        with _open_file(path, _CONVERT, self.name) as file:
            self.rate_hz, self.channels = int(file.samplerate), int(file.channels)
            if file.frames > _LONGEST:
                raise AudioError(f"{self.name} does not state its length: it is truncated or was streamed; convert it to WAV")

    def blocks(self) -> Iterator[Float]:
        """Blocks as they are read; ``AudioError`` at the end if less is there than the file states, with both numbers."""
        taken = 0
        with _open_file(self.path, _CONVERT, self.name) as file:
            for part in _parts(file, "float32", self.name, _CONVERT, _MOST_VALUES):
                taken += len(part)
                yield np.ascontiguousarray(part.T)
            # Decoders of MPEG only estimate how much will come, to a few frames.
            if taken < file.frames - (_MPEG_SPARE if file.format in _MPEG else 0):
                raise AudioError(
                    f"{self.name} states {file.frames} samples and gives {taken}: it is cut short, or of another format than "
                    f"its first bytes state; copy it again, or {_RAW}"
                )


def read(path: Path) -> tuple[Float, int]:
    """The signal ``[channels, samples]`` and its rate in Hz, from any format libsndfile knows, checked by :func:`check`.

    ``AudioError`` too if less is there than the file states, with both numbers.
    """
    return hold(Stored(path))


def hold(sound: Sound) -> tuple[Float, int]:
    """The signal ``[channels, samples]`` of a sound and its rate in Hz, as a whole. ``AudioError`` as of :func:`read`."""
    signal: Float = np.concatenate([np.zeros((sound.channels, 0), np.float32), *sound.blocks()], axis=1)
    check(signal, sound.rate_hz, sound.name)
    return signal, sound.rate_hz


def blocks_of(signal: Float, size: int = _BLOCK) -> Iterator[Float]:
    """``[channels, samples]`` in blocks of ``size`` samples; the last may be shorter."""
    return (signal[:, at : at + size] for at in range(0, signal.shape[1], size))


def _parts(file: Any, dtype: str, name: str, advice: str, most: int | None) -> Iterator[NDArray[Any]]:
    """Blocks ``[any, channels]`` to the end of a file, of so many values at most: not every decoder knows its length before."""
    values = 0
    while True:
        with _refused(name, advice):
            part = file.read(_BLOCK, dtype=dtype, always_2d=True)
        if not len(part):
            return
        values += part.size
        if most is not None and values > most:
            raise AudioError(f"{name} holds more than {most:,} values, the most that is read at once: cut it into parts")
        yield part


def write(path: Path, signal: Float, rate_hz: int, inputs: Iterable[Path] = ()) -> int:
    """Write ``[channels, samples]``, whole or not at all; returns how many samples were clipped to full scale.

    As :func:`writing`.
    """
    with writing(path, rate_hz, signal.shape[0], inputs) as file:
        for block in blocks_of(signal):
            file.write(block)
    return file.clipped


@contextmanager
def writing(path: Path, rate_hz: int, channels: int, inputs: Iterable[Path] = ()) -> Iterator[SoundWriter]:
    """A sound file to write in blocks, whole or not at all: it takes its name when the ``with`` block ends well.

    The suffix chooses WAV or FLAC, 24 bits. ``AudioError`` if it is another one or a rate that FLAC cannot state, if the disk is
    full, or if ``path`` is one of ``inputs``.
    """
    check_format(path)
    if path.suffix.lower() == ".flac" and (rate_hz > _FLAC_MOST_HZ or (rate_hz >= 2**16 and rate_hz % 10)):
        raise AudioError(f"{path}: FLAC cannot state {rate_hz} samples per second: write a .wav")
    check_output(path, inputs, AudioError)
    with replacing(path, AudioError) as temporary, temporary.open("r+b") as file:
        writer = SoundWriter(_module("soundfile"), file, rate_hz, channels, path.suffix[1:].upper())
        try:
            yield writer
        finally:
            writer.close()
        writer.check()


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


class StoredIntegers:
    """24-bit samples in a file, read in blocks as often as needed, and the comment of the file."""

    def __init__(self, path: Path) -> None:
        """``AudioError`` if it is no sound file."""
        self.path = path
        with _open_file(path, _DAMAGED, str(path)) as file:
            self.rate_hz, self.channels, self.comment = int(file.samplerate), int(file.channels), str(file.comment)
            self._whole = file.frames <= _LONGEST

    def blocks(self) -> Iterator[NDArray[np.int32]]:
        """Blocks ``[any, channels]``, none of them empty.

        A file whose writer was killed does not state its length: then they end with what had reached the disk.
        """
        with _open_file(self.path, _DAMAGED, str(self.path)) as file:
            if self._whole:
                # No session is too long for it: nothing is held, and a part of one cannot be replayed.
                yield from (part >> 8 for part in _parts(file, "int32", str(self.path), _DAMAGED, None))
                return
            with suppress(_module("soundfile").LibsndfileError):  # where the file breaks off
                while len(part := file.read(_PART, dtype="int32", always_2d=True)):
                    yield part >> 8


@contextmanager
def _open_file(path: Path, advice: str, name: str) -> Iterator[Any]:
    """Open a sound file; ``AudioError`` if it is none."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError as failure:
        raise AudioError(f"{name}: there is no such file") from failure
    except (OSError, ValueError) as failure:  # ValueError: a zero byte in the name
        raise AudioError(f"{name} cannot be read: {getattr(failure, 'strerror', None) or failure}; give another file") from failure
    if not stat.S_ISREG(kind):
        raise AudioError(f"{name} is not a file: give the name of a sound file")
    check_stated_length(path, name)
    if path.suffix.lower() in _HEADERLESS and not _has_header(path):
        raise AudioError(f"{name} has no header that states its rate and format: {_RAW}")
    if path.stat().st_size == 0:
        raise AudioError(f"{name} is empty, it has 0 bytes: copy it again, or record it again")
    with _refused(name, _advice(path, advice)):
        file = _module("soundfile").SoundFile(os.fsencode(path))  # soundfile refuses a name that is not UTF-8
    with file:
        yield file


def _advice(path: Path, advice: str) -> str:
    """What to do with a file that libsndfile does not open."""
    if path.suffix.lower() in FOREIGN:
        return f"convert it with `ffmpeg -i {path.name} {path.stem}.wav`"
    if path.suffix.lower() in _SUFFIXES:  # to become what it claims to be is no help
        return "it is damaged, or of another format than its name says: copy it again"
    return advice


@contextmanager
def _refused(name: str, advice: str) -> Iterator[None]:
    """``AudioError`` for everything that a decoder finds wrong with a file, and nothing of what it writes itself."""
    soundfile = _module("soundfile")
    try:
        with mute():
            yield
    # Whatever soundfile finds wrong is about the file: it is given no options.
    except (soundfile.LibsndfileError, soundfile.SoundFileRuntimeError, OSError, ValueError, TypeError) as failure:
        reason = str(getattr(failure, "error_string", failure)).rstrip(".")
        raise AudioError(f"{name} is not a readable sound file ({reason}): {advice}") from failure


def _has_header(path: Path) -> bool:
    """Whether a file named as headerless does begin as sound files do."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(4) in (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b".snd", b"caff")
    return True


def check_format(path: Path) -> None:
    """``AudioError`` unless the suffix names a format that can be written."""
    if not path.suffix:
        raise AudioError(
            f"{path} is no folder that is there, and no name of a sound file: make it, or choose {' or '.join(_SUFFIXES)}"
        )
    if path.suffix.lower() not in _SUFFIXES:
        raise AudioError(f"{path}: cannot write {path.suffix}, choose {' or '.join(_SUFFIXES)}")


def check(signal: Float, rate_hz: int, name: str) -> None:
    """``AudioError`` for an unusable signal: no samples, an implausible rate, values that are not sound."""
    checked = Check(rate_hz, name)
    checked.push(signal)
    checked.done()


def check_ears(channels: int, ears: int, name: str) -> None:
    """``AudioError`` for more channels than ears."""
    if channels > ears:
        raise AudioError(
            f"{name} has {channels} channels, at most {ears} (left, right) are possible: "
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
    """Whether every sample is below -90 dBFS."""
    return bool(np.abs(signal).max() < SILENT_PEAK)


def clipped_samples(signal: Float) -> int:
    """Count samples in runs of three or more at full scale; in floats that exceed it, at the largest value."""
    clips = ClipCount(signal.shape[0], float(np.abs(signal).max(initial=0.0)))
    clips.push(signal)
    return clips.total


def resample(signal: Float, from_hz: int, to_hz: int) -> Float:
    """``[channels, n] -> [channels, ceil(n * to / from)]``, linear phase: nothing moves in time."""
    if from_hz == to_hz:
        return signal
    blocks = resampled(blocks_of(signal), from_hz, to_hz)
    out: Float = np.concatenate([np.zeros((signal.shape[0], 0), signal.dtype), *blocks], axis=1)
    return out


def resampled(blocks: Iterable[Float], from_hz: int, to_hz: int) -> Iterator[Float]:
    """:func:`resample` of sound in blocks ``[channels, any]``, however it is cut, to the same bits."""
    if from_hz == to_hz:
        yield from blocks
        return
    stream: Any = None
    taken = given = 0
    for block in blocks:
        if stream is None:
            silence = np.zeros((-(-from_hz // to_hz), block.shape[0]), block.dtype)
            stream = _module("soxr").ResampleStream(from_hz, to_hz, block.shape[0], block.dtype, quality="VHQ")
        taken += block.shape[1]
        part = stream.resample_chunk(np.ascontiguousarray(block.T))
        given += len(part)
        if len(part):
            yield np.ascontiguousarray(part.T)
    if stream is not None:
        # soxr rounds the length to nearest and would drop the last sample: it is given silence to drop instead.
        part = stream.resample_chunk(silence, last=True)[: -(-taken * to_hz // from_hz) - given]
        yield np.ascontiguousarray(part.T)


def _module(name: str) -> ModuleType:
    """The module of this name (soundfile, soxr), imported by the first file and not by ``import edge_tse``."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as failure:  # OSError: soundfile without its shared library
        raise AudioError(f"{name} is not installed, sound files need it: {install_line('audio')}") from failure
