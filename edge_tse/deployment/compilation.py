"""Compilation: an artifact becomes the file that a target loads, checked before it is made and proved before it is kept.

The order is the point: does it fit; emit; does the file itself, run here from its bytes, give the golden integers; does it still
fit now that its size is known; only then is it written, whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from edge_tse.artifact import Artifact, verify
from edge_tse.deployment.compiled_file import record_of, record_path
from edge_tse.deployment.fit import Fit, require_fit
from edge_tse.deployment.offers import lacking, load_offers
from edge_tse.deployment.runtime import Emitted, Replay, runtime_named
from edge_tse.deployment.target import Target
from edge_tse.errors import EngineError, TargetError
from edge_tse.files import check_output, write_bytes
from edge_tse.golden import Network, Parity
from edge_tse.install_line import install_line
from edge_tse.voice import Voice

__all__ = ["Compiled", "compile_for", "emit", "open_here", "patch_for"]


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compiled file, and the checks it has passed."""

    path: Path
    fit: Fit
    """Fit with the sizes of the finished file."""
    emitted: Emitted
    engine: str
    """Engine that replayed it."""
    replayed: str
    """Thing that was replayed: the file, or the emitter's input where nothing here runs the file."""
    parity: Parity
    target: Target
    artifact: Artifact

    def figures(self) -> dict[str, object]:
        """Figures by name, ready for a report."""
        graph, parity = self.artifact.graph, self.parity
        return {
            "output": self.path,
            "record": record_path(self.path),
            "target": self.target.name,
            "runtime": self.target.runtime,
            "evidence": self.target.evidence,
            "kind": self.emitted.kind,
            "bytes": len(self.emitted.content),
            "weight_bytes": graph.weight_bytes,
            "state_bytes": graph.state_bytes,
            "macs_per_hop": graph.macs,
            "personalized": self.artifact.personalized,
            "voice_inputs": list(graph.voice),
            "artifact": self.artifact.digest,
            "fit": self.fit.figures(),
            "estimate": self.emitted.estimate,
            "replayed": {
                "engine": self.engine,
                "what": self.replayed,
                "frames": parity.frames,
                "worst_lsb": parity.worst_lsb,
                "mismatch_rate": parity.mismatch_rate,
            },
        }

    def summary(self, target: str) -> str:
        """One line for people; ``target`` is the name that they gave."""
        voices, parity = self.artifact.graph.voice, self.parity
        whose = "with the voice folded in" if self.artifact.personalized else "for no particular voice (give --voice)"
        if voices:
            whose = f"for every voice ({len(voices)} inputs)"
        proved = f"{parity.frames} golden frames on {self.engine}: worst {parity.worst_lsb} LSB ({self.replayed})"
        size = len(self.emitted.content)
        return f"{self.path}: {self.emitted.kind}, {size} bytes for {target}, {whose}; {proved}"


def compile_for(
    target: Target,
    artifact: Artifact,
    to: Path,
    inputs: Iterable[Path] = (),
    *,
    bill: Path | None = None,
    tell: Callable[[str], None] = lambda step: None,
) -> Compiled:
    """Check, emit, replay and write the file ``to``, which is none of ``inputs``, and its record beside it.

    What it is made of goes to ``bill``. ``tell`` hears of each step as it begins.

    ``TargetError`` if the model does not fit or the target's runtime has no emitter in this build, ``EngineError`` if a package is
    missing or an operator is, ``ParityError`` if the file computes other integers than it states; nothing is written then.
    """
    inputs = tuple(inputs)
    check_output(to, inputs)
    check_output(record_path(to), inputs)
    if bill is not None:
        check_output(bill, inputs)
        if bill.absolute() == to.absolute():
            raise TargetError(f"{bill} is also the file to compile: choose another name for its bill of materials")
    check_suffix(target, to)
    require_fit(target, artifact)
    runtime = runtime_named(target.runtime)
    tell(f"writing for {target.name}: {runtime.description}")
    emitted = emit(target, artifact)
    if bill is not None and emitted.bill is None:
        raise TargetError(
            f"target {target.name}: what its {emitted.kind} is made of is not listed here: leave out --sbom, or choose a target of "
            "runtime native-c or plugin"
        )
    fit = require_fit(target, artifact, emitted)
    replay = _first(target, runtime.replays)
    tell(f"replaying {len(artifact.golden.features)} golden frames: {replay.what}")
    with replay.open(artifact, target, emitted.content) as network:
        parity = verify(artifact, network)
    write_bytes(to, emitted.content)
    record_of(artifact, target, emitted.content).save(record_path(to))
    if bill is not None and emitted.bill is not None:
        write_bytes(bill, emitted.bill.encode())
    return Compiled(
        path=to,
        fit=fit,
        emitted=emitted,
        engine=network.name,
        replayed=replay.what,
        parity=parity,
        target=target,
        artifact=artifact,
    )


def patch_for(target: Target, artifact: Artifact, voice: Voice) -> bytes:
    """The voice patch that a compiled ``artifact`` without a voice takes on this target.

    ``TargetError`` if its runtime has none, ``ArtifactError`` if the voice is another model's.
    """
    make = runtime_named(target.runtime).patch
    if make is None:
        raise TargetError(f"runtime {target.runtime} has no voice patches: leave out --patch, and the voice is folded in")
    return make(artifact, voice)


def check_suffix(target: Target, to: Path) -> None:
    """``TargetError`` if the name of a file promises another format than the target loads; one without a suffix promises none."""
    due = runtime_named(target.runtime).suffixes(target)
    if due and to.suffix and to.suffix.lower() not in due:
        raise TargetError(f"{to} ends in {to.suffix}, target {target.name} loads {due[0]}: name it {to.with_suffix(due[0]).name}")


def emit(target: Target, artifact: Artifact) -> Emitted:
    """Emit the file that a target loads. ``TargetError`` if this build cannot, ``EngineError`` if something is not installed."""
    runtime = runtime_named(target.runtime)
    for node in artifact.graph.nodes:
        if (operator := type(node).__name__) not in runtime.operators:
            raise TargetError(f"runtime {target.runtime} has no operator {operator} (layer {node.name}): choose another target")
    if missing := lacking(runtime.needs):
        raise EngineError(f"{missing[0]} is not installed, target {target.name} needs it: {install_line(runtime.extra)}")
    if lacking((runtime.emitter,)):
        raise _no_emitter(target)
    return runtime.write(artifact, target)


def open_here(target: Target, artifact: Artifact, content: bytes) -> AbstractContextManager[Network]:
    """The emitted file on the first engine of its runtime that is available here and whose time can be measured: no emulator."""
    here = tuple(replay for replay in runtime_named(target.runtime).replays if not replay.emulates)
    return _first(target, here).open(artifact, target, content)


def _first(target: Target, replays: tuple[Replay, ...]) -> Replay:
    for replay in replays:
        if replay.available(target):
            return replay
    if not replays:
        raise TargetError(f"target {target.name}: nothing on this machine runs a file for {target.runtime}: choose another target")
    lines = " or ".join(sorted({install_line(replay.extra) for replay in replays}))
    raise EngineError(f"nothing installed here can replay a file for {target.name}: {lines}")


def _no_emitter(target: Target) -> TargetError:
    able = [name for name in load_offers() if name != target.runtime and not lacking((runtime_named(name).emitter,))]
    return TargetError(
        f"target {target.name}: this build writes no file for runtime {target.runtime} yet: choose a target of {', '.join(able)}"
    )
