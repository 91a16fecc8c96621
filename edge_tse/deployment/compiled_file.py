"""A compiled file and its record: the artifact that it was compiled from, kept beside it, by which it is verified and timed.

The file is what a device loads and holds nothing more. ``FILE.etse``, its record, is an artifact like any other; its provenance
names target, artifact and the SHA-256 of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edge_tse.artifact import Artifact
from edge_tse.deployment.offers import load_offers
from edge_tse.deployment.runtime import runtime_named, runtime_of
from edge_tse.deployment.target import Target, find_target, load_target, targets
from edge_tse.errors import ArtifactError, EngineError
from edge_tse.files import read_bytes
from edge_tse.golden import Network
from edge_tse.install_line import install_line
from edge_tse.table import quote, read_table

__all__ = ["CompiledFile", "find_compiled", "record_of", "record_path"]

_SUFFIX = ".etse"
_MOST_BYTES = 2**30
_AGAIN = "compile it again"


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What the provenance of a record states under ``compiled``."""

    target: str
    runtime: str
    artifact: str
    """Digest of the artifact that was compiled."""
    sha256: str
    """Digest of the compiled file."""


@dataclass(frozen=True, kw_only=True)
class CompiledFile:
    """A file that ``edge-tse compile`` wrote, and what it was compiled from."""

    path: Path
    content: bytes
    target: Target
    artifact: Artifact
    """The artifact that was compiled, to the last bit."""

    @property
    def engine(self) -> str:
        """Name of the engine of this machine that runs the file, or would."""
        return runtime_named(self.target.runtime).engine

    def check_engine(self, engine: str | None) -> None:
        """``EngineError`` if this engine loads another format."""
        if engine is None or engine == self.engine:
            return
        other = runtime_of(engine)
        if other is None or runtime_named(other).emitter != runtime_named(self.target.runtime).emitter:
            raise EngineError(f"{self.path} is for {self.engine}, --engine {engine} does not load it: leave --engine out")

    def check_timed(self) -> None:
        """``EngineError`` if no engine of this machine loads the file, so that its time cannot be measured here."""
        if not any(replay.of_file and not replay.emulates for replay in runtime_named(self.target.runtime).replays):
            instead = f"`edge-tse profile {record_path(self.path)} --target {self.target.name}`"
            raise EngineError(f"{self.path} runs on no engine of this machine: {instead} times what it was made of")

    @contextmanager
    def open(self, engine: str | None = None) -> Iterator[Network]:
        """Open this very file on its engine, emulated where the target is, or on another ``engine`` that loads its format.

        ``EngineError`` if nothing here runs it.
        """
        self.check_engine(engine)
        runtime = runtime_named((runtime_of(engine) if engine is not None else None) or self.target.runtime)
        whole = [replay for replay in runtime.replays if replay.of_file]
        if not whole:
            raise EngineError(
                f"nothing on this machine runs {self.path}: what it was made of is {record_path(self.path)}, verify that"
            )
        usable = [replay for replay in whole if replay.available(self.target)]
        if not usable:
            install = f"or {install_line(whole[0].extra)}"
            raise EngineError(f"nothing here runs {self.path} for {self.target.name}: verify {record_path(self.path)}, {install}")
        with usable[0].open(self.artifact, self.target, self.content) as network:
            yield network


def record_path(file: Path) -> Path:
    """Place of the record of a compiled file."""
    return file.with_name(file.name + _SUFFIX)


def record_of(artifact: Artifact, target: Target, content: bytes) -> Artifact:
    """The record of a file: the artifact, whose provenance names the file and the target."""
    digest = hashlib.sha256(content).hexdigest()
    stated = _Record(target=target.name, runtime=target.runtime, artifact=artifact.digest, sha256=digest)
    return replace(artifact, provenance={**artifact.provenance, "compiled": vars(stated)})


def find_compiled(path: Path | None) -> CompiledFile | None:
    """The compiled file, None if there is no record beside it. ``ArtifactError`` if the record is another file's, or damaged."""
    if path is None or path.suffix == _SUFFIX or not path.is_file():
        return None
    place = record_path(path)
    if not place.is_file():
        return None
    kept, content = Artifact.load(place), read_bytes(path, _MOST_BYTES, ArtifactError, "compiled file")
    provenance = dict(kept.provenance)
    if not isinstance(stated := provenance.pop("compiled", None), dict):
        raise ArtifactError(f"{place} names no compiled file, its provenance states {quote(stated)}: {_AGAIN}")
    record = read_table(_Record, stated, f"{place}: compiled", ArtifactError)
    if (found := hashlib.sha256(content).hexdigest()) != record.sha256:
        raise ArtifactError(
            f"{path} is not the file that {place} is about: its SHA-256 is {found[:12]}, {record.sha256[:12]} was written: {_AGAIN}"
        )
    artifact = replace(kept, provenance=provenance)
    if artifact.digest != record.artifact:
        raise ArtifactError(f"{place} holds artifact {artifact.digest[:12]}, it names {quote(record.artifact[:12])}: {_AGAIN}")
    return CompiledFile(path=path, content=content, target=_target_of(record, place), artifact=artifact)


def _target_of(record: _Record, place: Path) -> Target:
    """The target by its name; one that somebody described, and may have moved, is this machine with its runtime."""
    if record.target in targets() and (known := load_target(record.target)).runtime == record.runtime:
        return known
    if record.runtime not in load_offers():
        raise ArtifactError(f"{place}: this build has no runtime {quote(record.runtime)}: {_AGAIN}")
    return find_target(record.runtime)
