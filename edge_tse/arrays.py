"""Extraction and enrollment for programs: arrays and paths in, arrays out, and models and voices by name.

Arrays are taken as other libraries give them: ``[n]``, ``[n, channels]`` (soundfile) or ``[channels, n]`` (torchaudio), NumPy's or
PyTorch's. A recording has at most two channels and more samples than that, which tells both apart; what it does not tell apart is
refused with its shape.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.audio import Held
from edge_tse.engines import Engine, open_network
from edge_tse.enrollment.recordings import Clip, enroll_clips, load_clip
from edge_tse.errors import ArtifactError, AudioError
from edge_tse.extraction import extract_blocks, extract_signal
from edge_tse.frame import FrameSpec
from edge_tse.mix import Mix
from edge_tse.personalization import personalize
from edge_tse.sound_check import Check
from edge_tse.transcoding import opened
from edge_tse.voice import Voice, load_voice

__all__ = ["enroll", "extract", "extract_stream"]

Float = NDArray[np.float32]
Array = TypeVar("Array")

_EARS = 2
_KEPT = 8
"""Models, voices and engines that are kept between calls."""


def extract(
    mixture: Array,
    rate: int,
    *,
    voice: Voice | str | Path,
    artifact: Artifact | str | Path = "small",
    engine: str = "litert",
    strength: float = 1.0,
) -> Array:
    """Extract one enrolled talker from a mixture.

    ``mixture`` is ``[n]``, ``[n, channels]`` or ``[channels, n]`` of floats with full scale 1, mono or left and right, at any
    ``rate`` in Hz: ``extract(*soundfile.read("dinner.wav"), voice="alice.voice")``. Gives the talker in the same form and type,
    aligned sample for sample; a tensor is on the device of the one that was given.

    ``voice`` comes from :func:`enroll`, or is the path of a voice file; ``artifact`` is a shipped model by its name, a path, or an
    :class:`.Artifact`; ``engine`` is a runtime that ``edge-tse doctor`` lists. ``strength`` goes from 0, the mixture, to 1, the
    talker alone: the talker keeps its level, everything else falls to ``1 - strength``.

    The model with its voice stays open for the next call of the same thread. To hold one yourself, see :class:`.Engine` and
    :func:`.extract_signal`.

    ``AudioError`` for what is no sound, or a shape that is none of these; ``ArtifactError`` for a model or a voice that cannot be
    used; ``EngineError`` for a runtime that is not installed.
    """
    form = _form_of(mixture, "the mixture")
    mix = Mix.of_strength(strength)
    running = _open_engine(_find_model(artifact), _find_voice(voice), engine, threading.get_ident())
    return form.back(extract_signal(form.signal(mixture), _rate(rate), running, mix=mix).signal, mixture)


def extract_stream(
    chunks: Iterable[Array],
    rate: int,
    *,
    voice: Voice | str | Path,
    artifact: Artifact | str | Path = "small",
    engine: str = "litert",
    strength: float = 1.0,
) -> Iterator[Array]:
    """Extract one enrolled talker from a stream: chunks of any length in, the talker out as soon as it is known.

    Takes and gives what :func:`extract` does, in pieces of other lengths: together they are the same to the last bit. The first
    chunk decides the form of all. Each stream has an engine of its own, so several can run beside each other. Errors as of
    :func:`extract`, when the chunk that is wrong is reached.
    """
    mix = Mix.of_strength(strength)
    model = _fold_voice(_find_model(artifact), _find_voice(voice))
    running = Engine(model, open_network(model, engine))
    return _stream(iter(chunks), _rate(rate), running, mix)


def _stream(chunks: Iterator[Array], rate_hz: int, running: Engine, mix: Mix) -> Iterator[Array]:
    first = next(chunks, None)
    if first is None:
        return
    form, check = _form_of(first, "the first chunk"), Check(rate_hz, "the stream")

    def blocks() -> Iterator[Float]:
        chunk: Array | None = first
        while chunk is not None:
            block = form.signal(chunk)
            check.push(block)
            if block.shape[1]:
                check.done()
                yield block
            chunk = next(chunks, None)

    for talker in extract_blocks(blocks(), rate_hz, running, form.channels, mix=mix):
        if talker.shape[1]:
            yield form.back(talker, first)


def enroll(recordings: Any, rate: int | None = None, *, artifact: Artifact | str | Path = "small") -> Voice:
    """Make a voice of recordings of one talker alone, together 2 s of speech or more.

    ``recordings`` is a path, an array as :func:`extract` takes it, or a sequence of these; ``rate`` in Hz is that of the arrays.
    The voice is for every model with the same encoder: all that are shipped. :func:`.save_voice` keeps it,
    :func:`.enroll_judged` also says how good each recording is.

    ``AudioError`` for a recording that cannot be used, too little speech, or an array without a rate.
    """
    one = isinstance(recordings, (str, Path)) or hasattr(recordings, "shape")
    every = [recordings] if one else list(recordings) if isinstance(recordings, Iterable) else []
    if not every:
        raise AudioError("nothing to enroll from: give the path of a recording, an array, or several of them")
    model = _find_model(artifact).voice_model
    clips = [_load(each, rate, f"recording {i}", model.frame) for i, each in enumerate(every, 1)]
    return enroll_clips(model, [(clip.name, clip.signal, clip.rate_hz) for clip in clips]).voice


def _load(recording: Any, rate: int | None, name: str, frame: FrameSpec) -> Clip:
    if isinstance(recording, (str, Path)):
        with opened(Path(recording)) as sound:
            return load_clip(sound, frame)
    if not hasattr(recording, "shape"):
        raise AudioError(f"{name} is {type(recording).__name__}, neither a path nor an array: give one of both")
    if rate is None:
        raise AudioError(f"{name} is an array of shape {list(recording.shape)} at no rate: give its samples per second")
    return load_clip(Held(_form_of(recording, name).signal(recording), _rate(rate), name), frame)


@dataclass(frozen=True)
class _Form:
    """How an array holds sound."""

    name: str
    dimensions: int
    channels: int
    last: bool
    """Whether channels are the last dimension."""

    def signal(self, given: Any) -> Float:
        """``[channels, n]`` of an array in this form. ``AudioError`` if it is in another one."""
        shape = tuple(given.shape)
        if len(shape) != self.dimensions or (len(shape) == 2 and shape[1 if self.last else 0] != self.channels):
            raise AudioError(f"a chunk of the stream has shape {list(shape)}, the first one had {self.name}: keep to one form")
        array = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
        if array.dtype.kind != "f":
            raise AudioError(f"samples are {array.dtype}, floats with full scale 1 are taken: divide by the full scale")
        rows = array[None] if self.dimensions == 1 else array.T if self.last else array
        return np.ascontiguousarray(rows, np.float32)

    def back(self, signal: Float, given: Array) -> Array:
        """``[channels, n]`` in this form, of the type of ``given``."""
        shaped = signal[0] if self.dimensions == 1 else np.ascontiguousarray(signal.T) if self.last else signal
        like: Any = given
        return cast(Array, like.new_tensor(shaped) if hasattr(like, "new_tensor") else shaped.astype(like.dtype, copy=False))


def _form_of(given: Any, name: str) -> _Form:
    """The form of an array. ``AudioError`` with its shape if it cannot be told."""
    if not hasattr(given, "shape"):
        path = ", for a file soundfile.read gives one" if isinstance(given, (str, Path)) else ""
        raise AudioError(f"{name} is {type(given).__name__}, an array is taken: NumPy's or PyTorch's{path}")
    shape = tuple(given.shape)
    stated = f"{name} has shape {list(shape)}"
    if len(shape) not in (1, 2):
        raise AudioError(f"{stated}: give [n], [n, channels] or [channels, n]")
    if len(shape) == 1:
        return _Form(str(list(shape)), 1, 1, last=False)
    few = [axis for axis in (0, 1) if shape[axis] <= _EARS]
    if not few:
        raise AudioError(f"{stated}, neither [n, channels] nor [channels, n] of at most {_EARS} channels: choose the ears")
    if len(few) == 2:
        raise AudioError(f"{stated}, which may be [n, channels] or [channels, n]: give [n], or more samples")
    if not shape[few[0]]:
        raise AudioError(f"{stated}: it has no channels")
    return _Form(str(list(shape)), 2, shape[few[0]], last=few[0] == 1)


def _rate(rate: Any) -> int:
    number = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
    if not number or not float(rate).is_integer() or rate < 1:
        raise AudioError(f"the rate is {rate!r}: give samples per second, a whole number")
    return int(rate)


def _find_model(artifact: Artifact | str | Path) -> Artifact:
    if isinstance(artifact, Artifact):
        return artifact
    if not isinstance(artifact, (str, Path)):
        raise ArtifactError(f"the model is {type(artifact).__name__}: give the name of a shipped one, a path, or an Artifact")
    return _read_model(artifact, _state(Path(artifact)))


def _find_voice(voice: Voice | str | Path) -> Voice:
    if isinstance(voice, Voice):
        return voice
    if not isinstance(voice, (str, Path)):
        raise ArtifactError(f"the voice is {type(voice).__name__}: give what edge_tse.enroll returns, or the path of a voice file")
    return _read_voice(voice, _state(Path(voice)))


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written anew; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(_KEPT)
def _read_model(what: str | Path, state: tuple[int, int, int] | None) -> Artifact:
    return Artifact.find(what)


@lru_cache(_KEPT)
def _read_voice(path: str | Path, state: tuple[int, int, int] | None) -> Voice:
    return load_voice(path)


@lru_cache(_KEPT)
def _fold_voice(artifact: Artifact, voice: Voice) -> Artifact:
    return personalize(artifact, voice)


@lru_cache(_KEPT)
def _open_engine(artifact: Artifact, voice: Voice, engine: str, thread: int) -> Engine:
    """An engine has one state: each thread has its own."""
    model = _fold_voice(artifact, voice)
    return Engine(model, open_network(model, engine))
