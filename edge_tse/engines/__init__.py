"""Engines: hop in, hop out.

A runtime gives a :class:`Network` (int8 frames in and out); an :class:`Engine` puts the front end around it. One module per
runtime, each the only importer of it, loaded when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_tse.deployment.runtime import host_engines
from edge_tse.errors import AudioError, EngineError
from edge_tse.frame import FrameSpec
from edge_tse.front import Moves, gains, open_front
from edge_tse.golden import Network, UniversalNetwork
from edge_tse.personalization import voice_inputs
from edge_tse.reference import ReferenceNetwork

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.voice import Voice

__all__ = ["Engine", "EngineInfo", "Network", "Step", "engines", "open_network"]

Float = NDArray[np.float32]


class EngineInfo(NamedTuple):
    """Description of a runtime, and the extra of edge-tse that installs it (empty if none is needed)."""

    description: str
    extra: str


def engines() -> dict[str, EngineInfo]:
    """Names that ``--engine`` takes on this machine, in alphabetical order: the reference, and what the runtimes offer."""
    found = {name: EngineInfo(host.description, host.extra) for name, host in host_engines().items()}
    found["reference"] = EngineInfo("NumPy, the golden integers; needs nothing else", "")
    return dict(sorted(found.items()))


def open_network(artifact: Artifact, engine: str = "litert", *, kernels: str = "xnnpack", threads: int = 1) -> Network:
    """The artifact's graph on a runtime, in its reset state.

    ``kernels`` (``xnnpack`` or ``builtin_ref``) is LiteRT's. ``EngineError`` if the engine is unknown, not
    installed (with the command that installs it), or refuses the graph.
    """
    if engine == "reference":
        return ReferenceNetwork(artifact.graph)
    host = host_engines().get(engine)
    if host is None:
        raise EngineError(f"there is no engine {engine}: choose one of {', '.join(engines())}")
    return host.open(artifact.graph, kernels=kernels, threads=threads)


class Engine:
    """An artifact on a running network.

    A network has one state, so an engine has one step at a time: :meth:`start` ends the one before.
    """

    def __init__(self, artifact: Artifact, network: Network) -> None:
        self.artifact = artifact
        self.network = network
        self._step: Step | None = None

    @property
    def frame(self) -> FrameSpec:
        """Geometry of a step."""
        return self.artifact.frame

    def start(self, ears: int) -> Step:
        """Begin a stream of ``ears`` channels. ``AudioError`` if the model cannot hear that many."""
        if not 1 <= ears <= self.frame.ears:
            raise AudioError(f"{ears} channels, this model takes 1 to {self.frame.ears}: choose channels")
        self._step = Step(self, ears)
        return self._step

    def set_voice(self, voice: Voice) -> None:
        """Hear this talker from the next step on, with the past kept: the network goes on, and nothing is built anew.

        For the :func:`~edge_tse.personalization.universal` form. ``ArtifactError`` if the artifact is not in it, or the voice is
        another encoder's, ``EngineError`` if this network cannot.
        """
        self.switch_to(voice)()

    def switch_to(self, voice: Voice) -> Callable[[], None]:
        """Prepare :meth:`set_voice`, which then only copies bytes: for a switch while sound is running. Errors as there."""
        inputs, network = voice_inputs(self.artifact, voice), self.network
        if not isinstance(network, UniversalNetwork):
            raise EngineError(f"{network.name} takes no voice while it runs: choose one of {', '.join(engines())}")
        return partial(network.set_voice, inputs)

    def _current(self, step: Step) -> bool:
        return self._step is step


class Step:
    """One stream: a hop of samples in, a hop of the talker out, ``frame.delay`` samples later."""

    def __init__(self, engine: Engine, ears: int) -> None:
        self.ears = ears
        self._engine = engine
        self._network = engine.network
        self._tensors = engine.artifact.graph.tensors
        self._front = open_front(engine.frame, ears, self._tensors)
        self._shape = (ears, engine.frame.hop)
        self._names = engine.frame.moves
        self._outputs = np.empty((len(self._names), engine.frame.bands), np.int8)
        self._network.reset()
        self._forget_gains()

    def __call__(self, hop: Float) -> Float:
        """float32 ``[ears, frame.hop]`` to the same shape. ``AudioError`` on another shape, ``EngineError`` once superseded."""
        if hop.shape != self._shape:
            raise AudioError(f"a step takes {list(self._shape)} samples, not {list(hop.shape)}")
        if not self._engine._current(self):
            raise EngineError("this stream ended when the engine started another: start one stream per engine")
        for kept, output in zip(self._outputs, self._network.run(self._front.analyze(hop)), strict=True):
            kept[:] = output
        return self._front.synthesize(*self._outputs)

    @property
    def mask(self) -> Float:
        """Mask of the last step, ``[bands]`` in [0, 1): the share of each band that it kept."""
        return self._moves().mask

    @property
    def velocity(self) -> Float:
        """Velocity of the last step, ``[bands]`` in [-1, 1): the amount it put back (positive) or took further."""
        return self._moves().velocity

    @property
    def gain(self) -> Float:
        """Gain applied by the last step, ``[bands]``: ``max(0, mask + velocity)``."""
        return self._moves().gain

    @property
    def share(self) -> Float | None:
        """Share of the beam in the last step, ``[bands]``; None for a model without one. One ear hears nothing of it."""
        return self._moves().share

    def reset(self) -> None:
        """Forget the past: the next hop is the first."""
        self._network.reset()
        self._front.reset()
        self._forget_gains()

    def _forget_gains(self) -> None:
        for name, q in zip(self._names, self._outputs, strict=True):
            q[:] = self._tensors[name].zero_point

    def _moves(self) -> Moves:
        return gains(self._tensors, *self._outputs)
