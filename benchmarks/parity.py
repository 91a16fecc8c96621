"""Do all engines compute the same integers, and where they do not, can it be heard?

python -m benchmarks.parity --data DIR [--artifact FILE ...] [--trials 20]

Integers: each engine against the reference over the shipped mixtures in two ears, state carried from the first frame to the last,
in two forms of each model. *personalized*: the voice is folded into constants (`native, patched` is the same graph, its constants
replaced while it runs). *universal*: the voice is an input, another graph with integers of its own. A voice change is timed from
a voice to a network that is ready to step.

Sound: SI-SDR improvement on trials of talkers nobody trained on, as a difference to the reference engine on the same form; without
a single differing integer it is 0 and not run. The two forms are compared with each other on the reference engine. With several
workers every figure but the time of a voice change is the same; a run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import RESULTS, add_workers, mixtures, one_line, workers_of
from edge_tse.artifact import Artifact, shipped_names
from edge_tse.cli.output import open_quietly, progress, quietly
from edge_tse.demo.cases import shipped_cases
from edge_tse.engines import Engine, Network, open_network
from edge_tse.engines import engines as host_engines
from edge_tse.enrollment.recordings import enroll_files
from edge_tse.errors import EdgeTseError
from edge_tse.extraction import extract_signal
from edge_tse.front import features_of
from edge_tse.golden import TOLERANCE_LSB, Golden, UniversalNetwork, record, replay
from edge_tse.metrics import si_sdr
from edge_tse.personalization import personalize, universal, voice_inputs
from edge_tse.reference import ReferenceNetwork
from edge_tse.report import Report, environment, versions
from edge_tse.voice import Voice
from quantization.journal import open_journal
from quantization.trial_list import Trial, content_digest, read_trials
from quantization.trials import make_trials
from quantization.workers import results

Hear = Callable[[Voice], Network]
"""Function from a voice to a network that computes with it."""
Open = Callable[[Artifact], Hear]
"""Function from a model without a voice to a :data:`Hear`."""


class Board:
    """The compiled C as a network that is given a voice while it runs."""

    def __init__(self, artifact: Artifact) -> None:
        from firmware_bridge.native import NativeChain

        self._artifact = artifact
        self._chain = NativeChain(artifact, artifact.frame.ears)
        self.name = f"native/{self._chain.kernels}"

    def hear(self, voice: Voice) -> Board:
        """Take this voice from the next step on."""
        from firmware_bridge.codegen import voice_patch

        self._chain.set_voice(voice_patch(self._artifact, voice))
        return self

    def reset(self) -> None:
        """Reset the states; the voice stays."""
        self._chain.reset()

    def run(self, features: NDArray[np.int8]) -> tuple[NDArray[np.int8], ...]:
        """One step."""
        return self._chain.network(features)


def engines() -> dict[str, dict[str, Open]]:
    """Ways to run a graph on this machine, by form, without the reference itself: it would be compared with itself."""

    def builtin_ref(artifact: Artifact) -> Network:
        with quietly():
            return open_network(artifact, "litert", kernels="builtin_ref")

    def native(artifact: Artifact) -> Network:
        from firmware_bridge.native import NativeNetwork

        return NativeNetwork(artifact.graph)

    def by_name(name: str) -> Callable[[Artifact], Network]:
        return lambda artifact: open_quietly(artifact, name)

    known = {name: by_name(name) for name in host_engines() if name != "reference"} | {"litert builtin_ref": builtin_ref}
    personal = {name: open_per_voice(opened) for name, opened in (known | {"native": native}).items()}
    personal["native, patched"] = lambda artifact: Board(artifact).hear
    return {"personalized": personal, "universal": {name: open_once(opened) for name, opened in known.items()}}


def open_per_voice(opened: Callable[[Artifact], Network]) -> Open:
    """A network anew for every voice."""
    return lambda artifact: lambda voice: opened(personalize(artifact, voice))


def open_once(opened: Callable[[Artifact], Network]) -> Open:
    """One network, which is given its voices while it runs."""

    def model(artifact: Artifact) -> Hear:
        form = universal(artifact)
        network = opened(form)
        assert isinstance(network, UniversalNetwork)

        def hear(voice: Voice) -> Network:
            network.set_voice(voice_inputs(form, voice))
            return network

        return hear

    return model


FORMS: dict[str, Callable[[Artifact, Voice], Artifact]] = {"personalized": personalize, "universal": universal}
"""A model with a voice, in each form."""


def frames(artifact: Artifact) -> Iterator[tuple[Voice, NDArray[np.int8]]]:
    """The shipped mixtures as int8 features ``[frames, n]``, each with the voice to hear in it."""
    for case in shipped_cases():
        mono = case.mixture.signal[0]
        both = np.stack([mono, np.roll(mono, 5) * np.float32(0.8)])  # interaural features have something to say
        voice = case.voice(artifact.voice_model)
        network = ReferenceNetwork(personalize(artifact, voice).graph)
        yield voice, features_of(artifact.frame, artifact.graph.tensors, both, network)


@cache
def goldens(artifact: Artifact, form: str) -> list[tuple[Voice, Golden]]:
    """Outputs of the reference engine for the frames with each voice, in one form."""
    return [(voice, record(FORMS[form](artifact, voice).graph, rows)) for voice, rows in frames(artifact)]


def integers(artifact: Artifact, form: str, opened: Open) -> dict[str, object]:
    """Worst LSB and share of differing values over all frames, and the shortest voice change."""
    worst, differing, count, name, change_s = 0, 0.0, 0, "", []
    hear = opened(artifact)
    for voice, golden in goldens(artifact, form):
        start = time.perf_counter()
        network = hear(voice)
        change_s.append(time.perf_counter() - start)
        parity = replay(golden, network)
        worst = max(worst, parity.worst_lsb)
        differing += parity.mismatch_rate * parity.frames
        count += parity.frames
        name = network.name
    figures = {"runs_on": name, "worst_lsb": worst, "mismatch_rate": differing / count, "frames": count}
    return {**figures, "voice_change_ms": min(change_s) * 1e3}


def compare_sound(artifact: Artifact, trials: list[Trial], one: tuple[str, Open], other: tuple[str, Open]) -> dict[str, float]:
    """SI-SDR of one form on an engine against that of another, in dB."""
    differences = []
    hearing = [(FORMS[form], opened(artifact)) for form, opened in (other, one)]
    for trial in trials:
        voice = enroll_files(artifact.voice_model, list(trial.enrollment)).voice
        mixture, target = (_read(path) for path in (trial.mixture, trial.target))
        engines = (Engine(form(artifact, voice), hear(voice)) for form, hear in hearing)
        before, after = (si_sdr(extract_signal(mixture, 16000, engine).signal, target) for engine in engines)
        differences.append(after - before)
    figures = {"mean_db": np.mean(differences), "std_db": np.std(differences), "worst_db": np.max(np.abs(differences))}
    return {**{key: float(value) for key, value in figures.items()}, "trials": len(differences)}


def _reference(form: str) -> tuple[str, Open]:
    opened = {"personalized": open_per_voice, "universal": open_once}[form]
    return form, opened(lambda artifact: ReferenceNetwork(artifact.graph))


def _read(path: Path | None) -> NDArray[np.float32]:
    from edge_tse import audio

    assert path is not None
    return audio.read(path)[0]


@cache
def model_of(name: str) -> Artifact:
    """The model, once per process."""
    return Artifact.find(Path(name))


@dataclass(frozen=True)
class Rows:
    """A row for a model in one form on one engine, or without an engine how far its two forms are apart."""

    trials: tuple[Trial, ...]

    def __call__(self, task: tuple[str, str, str]) -> dict[str, object]:
        name, form, engine = task
        model, trials = model_of(name), list(self.trials)
        if not engine:
            return {**compare_sound(model, trials, _reference("universal"), _reference("personalized"))} if model.reach else {}
        opened = engines()[form][engine]
        row = {"model": model.provenance["recipe"], "artifact": model.digest, "form": form, "engine": engine}
        try:
            found = integers(model, form, opened)
        except EdgeTseError as failure:
            return {**row, "left_out": str(failure)}
        differs = bool(found["worst_lsb"])
        found["si_sdr_difference"] = compare_sound(model, trials, (form, opened), _reference(form)) if differs else None
        return {**row, **found}


@one_line
def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--artifact", type=Path, nargs="+", metavar="FILE", help="models; the shipped ones if left out")
    parser.add_argument("--trials", type=int, default=20)
    add_workers(parser)
    given = parser.parse_args()
    workers = workers_of(parser, given)
    names = [str(name) for name in given.artifact or shipped_names()]
    console = Console(highlight=False)
    result = RESULTS / "parity.json"
    journal = result.with_name(f"{result.name}.journal")
    tasks = {
        f"{name} {form} {engine}": (name, form, engine) for name in names for form, known in engines().items() for engine in known
    }
    tasks |= {f"{name} forms": (name, "", "") for name in names}
    with mixtures(given.folder) as folder:
        path = make_trials(given.data, folder, "choose", 1, given.trials)
        trials = tuple(trial for trial in read_trials(path) if trial.condition == "two_talkers")
        of = {"models": [model_of(name).digest for name in names], "sound": content_digest(trials), "versions": versions()}
        with open_journal(journal, of) as kept, progress("replaying", False) as tell:
            found = dict(zip(tasks, results(Rows(trials), tasks, workers, kept, tell), strict=True))
    rows = [row for name, row in found.items() if tasks[name][2]]
    for row in rows:
        console.print(f"left out: {row['engine']}, {row['form']}: {row['left_out']}" if "left_out" in row else row, markup=False)
    forms = {Path(name).stem: against for name in names if (against := found[f"{name} forms"])}
    console.print(f"universal against personalized: {forms}", markup=False)
    figures = {
        "rows": [row for row in rows if "left_out" not in row],
        "universal_against_personalized": forms,
        "tolerance_lsb": dict(TOLERANCE_LSB),
    }
    Report(question="Do all engines compute the same?", figures=figures, environment=environment()).save(result)
    journal.unlink(missing_ok=True)


if __name__ == "__main__":
    from benchmarks.parity import main as named  # a job is found on a worker by the name of its module

    sys.exit(named())
