"""Extraction as it was asked for on the command line: of one recording, or of many, of which some may fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.cli import output
from edge_tse.cli.options import artifact_of, given_paths
from edge_tse.cli.standard import STANDARD, incoming, outgoing
from edge_tse.destinations import destinations
from edge_tse.engines import Engine
from edge_tse.errors import AudioError
from edge_tse.extract_file import Examined, extract_file
from edge_tse.files import check_outputs
from edge_tse.mix import TALKER_ALONE, Mix
from edge_tse.personalization import personalize
from edge_tse.recognition import Recognizer
from edge_tse.stream import AnyEngine
from edge_tse.trace import traced
from edge_tse.transcoding import opened
from edge_tse.voice import load_voice

__all__ = ["Asked", "extract_one", "extract_several", "remark_on"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What holds for each recording."""

    voice: Path
    artifact: Path | None
    engine: str
    mix: Mix
    trim: bool
    trace: Path | None
    """File for a trace of the last steps."""

    @classmethod
    def of(
        cls,
        voice: Path,
        artifact: Path | None,
        engine: str,
        strength: float | None,
        ambient_db: float | None,
        *,
        trim: bool,
        trace: Path | None,
    ) -> Asked:
        """Options as they were typed. ``AudioError`` for those that exclude each other."""
        mix = TALKER_ALONE
        if strength is not None and ambient_db is not None:
            raise AudioError("--strength and --ambient-db both say how much of the rest stays: give one of them")
        if strength is not None:
            mix = Mix.of_strength(strength)
        if ambient_db is not None:
            mix = Mix.of_ambient(ambient_db)
        if not trim and mix != TALKER_ALONE:
            raise AudioError("--no-trim keeps the latency, and a mix is aligned with the mixture: leave one of both out")
        return cls(voice=voice, artifact=artifact, engine=engine, mix=mix, trim=trim, trace=trace)

    @property
    def inputs(self) -> list[Path]:
        """Files that are read for every recording."""
        return [self.voice, *given_paths(self.artifact)]

    @contextmanager
    def open(self) -> Iterator[tuple[Artifact, AnyEngine, Mapping[str, object], Recognizer | None]]:
        """The model with its voice, on its engine, both by name for a report, and who judges beside them, if that was measured.

        A trace is written at the end of the block.
        """
        universal, voice = artifact_of(self.artifact), load_voice(self.voice)
        model, recognizer = personalize(universal, voice), Recognizer.of(universal, voice)
        network = output.open_quietly(model, self.engine)
        named = {
            "trimmed": self.trim,
            "mix": {"talker": self.mix.talker, "room": self.mix.room},
            "engine": network.name,
            "artifact": model.digest,
            "trace": self.trace,
        }
        with traced(Engine(model, network), self.trace, {"engine": network.name, "artifact": model.digest}) as running:
            yield model, running if recognizer is None else recognizer.beside(running), named, recognizer


def extract_one(mixture: Path, to: Path, asked: Asked, as_json: bool) -> None:
    """Extract from a recording, or standard input, into a sound file, or standard output."""
    if to != STANDARD:
        audio.check_format(to)
    check_outputs(given_paths(None if to == STANDARD else to, asked.trace), [mixture, *asked.inputs], AudioError)
    with (
        outgoing(to, as_json) as written,
        incoming(mixture) as recording,
        asked.open() as (model, running, named, recognizer),
        output.progress("extracting", as_json) as tell,
    ):
        told = _between(recognizer, tell)
        got = extract_file(recording, written, running, trim=asked.trim, mix=asked.mix, progress=told, inputs=[mixture])
    confidence = None if recognizer is None else recognizer.close()
    remark_on(got, recording.name, to, model.frame.level_invariant)
    if to == STANDARD:
        return
    rows = {
        "talker": f"{to} ({got.seconds:.2f} s, {got.channels} ch, {got.rate_hz} Hz)",
        "confidence": confidence.said if confidence else "not measured for this model",
        "engine": str(named["engine"]),
        **output.compute_rows(got.timing, model.frame),
    }
    figures = {"output": to, **named, **got.figures(model.frame), "output_clipped_samples": got.clipped_output}
    figures["confidence"] = confidence.figures() if confidence else None
    output.result(figures, as_json, output.table("extracted", rows))


def extract_several(mixtures: list[Path], folder: Path, asked: Asked, as_json: bool) -> None:
    """Extract from each recording into a folder. ``AudioError`` at the end that names those that failed; the rest is done."""
    if STANDARD in (*mixtures, folder):
        raise AudioError("standard input and output carry one sound: give one mixture, and one sound file or -")
    planned = destinations(mixtures, folder, asked.inputs)
    check_outputs(given_paths(asked.trace), [*(each.source for each in planned), *asked.inputs], AudioError)
    files: list[dict[str, object]] = []
    rows: dict[str, str] = {}
    failed: dict[Path, str] = {}
    seconds = 0.0
    with asked.open() as (model, running, named, recognizer), output.progress("extracting", as_json) as tell:
        for i, each in enumerate(planned):
            source, to = each.source, each.to

            def share(done: float, i: int = i, source: Path = source) -> None:
                tell((i + done) / len(planned), f"{i + 1}/{len(planned)} {source.name}")

            share(0.0)
            try:
                _make_folder(to.parent)
                with opened(source) as recording:
                    got = extract_file(
                        recording,
                        to,
                        running,
                        trim=asked.trim,
                        mix=asked.mix,
                        progress=_between(recognizer, share),
                        inputs=[source],
                    )
            except AudioError as failure:
                failed[source] = str(failure)
                files.append({"mixture": source, "output": None, "error": str(failure)})
                rows[str(source)] = "failed"
                continue
            remark_on(got, str(source), to, model.frame.level_invariant)
            confidence = None if recognizer is None else recognizer.close()
            figures = {**got.figures(model.frame), "output_clipped_samples": got.clipped_output}
            figures["confidence"] = confidence.figures() if confidence else None
            files.append({"mixture": source, "output": to, "error": None, **figures})
            rate = f"real-time factor {got.timing.real_time_factor:.4f}"
            rows[str(source)] = f"{to} ({got.seconds:.2f} s, {got.channels} ch, {got.rate_hz} Hz, {rate})"
            if confidence is not None and confidence.doubtful:
                output.warn(f"{to}: confidence {confidence.said}")
            seconds += got.seconds
    done = len(planned) - len(failed)
    summary = {"output": folder, **named, "extracted": done, "failed": len(failed), "seconds": seconds, "files": files}
    title = f"extracted {done} of {len(planned)} recordings, {seconds:.1f} s, with {named['engine']}"
    output.result(summary, as_json, output.table(title, rows))
    if failed:
        reasons = "; ".join(failed.values())
        raise AudioError(f"{len(failed)} of {len(planned)} recordings failed, the others are in {folder}: {reasons}")


def _between(recognizer: Recognizer | None, tell: Callable[[float], None]) -> Callable[[float], None]:
    return tell if recognizer is None else recognizer.between(tell)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise AudioError(f"the folder {folder} cannot be made: {failure.strerror or failure}; choose another place") from failure


def remark_on(got: Examined, name: str, to: Path, level_invariant: bool) -> None:
    """Warn about a mixture, and about the talker that was extracted from it."""
    output.warn_of_mixture(name, got.clipped_samples, silent=got.silent)
    for remark in got.remarks(level_invariant):
        output.warn(f"{name}: {remark}")
    if got.clipped_output:
        output.warn(f"{to}: {got.clipped_output} samples were over full scale and are clipped: lower the level of the mixture")
