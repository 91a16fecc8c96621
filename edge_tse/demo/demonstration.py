"""The demonstration: enroll a talker, extract that talker from a mixture hop by hop, and show it.

The shipped clips are synthetic voices that no model here was trained on (edge_tse/assets/README.md). Their mixtures are made here
from clips of one talker each, so that the wanted signal is known and an SI-SDR can be stated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.demo.cases import Case, Outcome, Shown
from edge_tse.engines import Engine, Network
from edge_tse.errors import AudioError
from edge_tse.extraction import Extraction, extract_signal
from edge_tse.files import check_output, write_bytes
from edge_tse.metrics import si_sdr
from edge_tse.personalization import personalize
from edge_tse.report import Report, busy, environment, memory
from edge_tse.voice import save_voice

__all__ = ["run"]

Float = NDArray[np.float32]


def run(
    cases: Sequence[Case],
    artifact: Artifact,
    opened: Callable[[Artifact], Network],
    out: Path,
    progress: Callable[[float], None] = lambda fraction: None,
    *,
    heading: str = "One talker out of two",
) -> Shown:
    """Extract every case; write sound, pictures, ``figures.json`` and ``index.html`` to ``out``, later cases to folders in it.

    ``opened`` puts a personalized artifact on a runtime, for instance :func:`edge_tse.engines.open_network`.
    """
    from edge_tse.demo.page import page
    from edge_tse.demo.picture import picture

    artifact_bytes = len(artifact.to_bytes())
    folders = [out if i == 0 else out / case.name for i, case in enumerate(cases)]
    inputs = [s.path for c in cases for s in (c.mixture, *c.enrollments, c.reference) if s is not None and s.path is not None]
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise AudioError(f"{folder} cannot be made: {failure.strerror}; choose another folder") from failure
        for name in ("mixture.wav", "estimate.wav", "reference.wav", "picture.png", "talker.voice"):
            check_output(folder / name, inputs, AudioError)

    def part(i: int) -> Callable[[float], None]:
        return lambda fraction: progress((i + fraction) / len(cases))

    opened(artifact)  # loads the runtime, so that a change of voice is measured and not an import
    outcomes, pictures = [], []
    for i, (case, folder) in enumerate(zip(cases, folders, strict=True)):
        outcome = _extract(case, artifact, artifact_bytes, opened, folder, inputs, part(i))
        light, dark = picture(outcome), picture(outcome, dark=True)
        write_bytes(folder / "picture.png", light)
        outcomes.append(outcome)
        pictures.append((light, dark))

    shown = Shown(outcomes=tuple(outcomes), page=out / "index.html")
    circumstances = environment()
    write_bytes(shown.page, page(heading, outcomes, pictures, circumstances).encode())
    figures = {**shown.figures(), "memory": memory()}
    Report(question="what does the demonstration extract, and how fast?", figures=figures, environment=circumstances).save(
        out / "figures.json"
    )
    return shown


def _extract(
    case: Case,
    artifact: Artifact,
    artifact_bytes: int,
    opened: Callable[[Artifact], Network],
    folder: Path,
    inputs: Sequence[Path],
    progress: Callable[[float], None],
) -> Outcome:
    """Extract one case, leaving its sounds and its voice in ``folder``."""
    voice, mixture = case.voice(artifact.voice_model), case.mixture
    began = time.perf_counter()
    personal = personalize(artifact, voice)
    network = opened(personal)
    engine = Engine(personal, network)
    voice_switch_s = time.perf_counter() - began
    got = extract_signal(mixture.signal, mixture.rate_hz, engine, keep_gains=True, name=mixture.name, progress=progress)
    audio.write(folder / "mixture.wav", mixture.signal, mixture.rate_hz, inputs)
    audio.write(folder / "estimate.wav", got.signal, got.rate_hz, inputs)
    if case.reference is not None:
        audio.write(folder / "reference.wav", case.reference.signal, case.reference.rate_hz, inputs)
    save_voice(voice, folder / "talker.voice")
    return Outcome(
        case=case,
        extraction=got,
        artifact=personal,
        artifact_bytes=artifact_bytes,
        engine=network.name,
        voice_switch_s=voice_switch_s,
        si_sdr_db=_scores(case, got),
        folder=folder,
        busy=busy(),
    )


def _scores(case: Case, got: Extraction) -> tuple[float, float] | None:
    """SI-SDR in dB of the mixture and of the estimate."""
    if case.reference is None:
        return None
    target = case.reference.signal
    return si_sdr(case.mixture.signal, target), si_sdr(got.signal, target)
