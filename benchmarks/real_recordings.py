"""What does a model do on real recordings, where nobody knows how the talker alone would have sounded?

python -m benchmarks.real_recordings --list FILE -o report.json [--rttm FILE]

FILE is a CSV, in one of two forms. With columns ``id, mixture, enrollment, segments, condition``: paths are relative to it,
segments are the seconds in which the talker talks, marked by hand, ``1.2-3.4;5-6.1``. Or the list of REAL-T (``NAME_meta.csv``,
with columns ``mixture_utterance``, ``enrolment_speakers_utterance``, ``speaker`` and ``source``), whose sounds lie in ``mixtures/``
and ``enrolment_speakers/`` beside the list or above it; its segments come from an RTTM file with the mixtures' names as file names
and the speakers' as names. Recordings with a reference (RealMAN's direct path is one) are a list of trials for `edge-tse evaluate`.

No SI-SDR, PESQ or ESTOI: they need the reference. Instead, by mixture:

- ``kept_db``: level of the output against the recording while the talker talks; 0 is best;
- ``others_down_db``: how much quieter the output is while the talker does not talk;
- ``contrast_i_db``: the sum of both, by which the talker was raised above the rest of the recording;
- ``similarity`` and ``similarity_mixture``: cosine between the enrolled voice and the output, or the recording, of the talker's
  segments (everything where there are none). The encoder is the model's own: it says whom the model took, not how well it sounds.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks import add_workers, one_line, workers_of
from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.cli.output import progress, result
from edge_tse.engines import open_network
from edge_tse.enrollment.recordings import enroll_clips
from edge_tse.errors import AudioError, DataError
from edge_tse.files import check_output, write_bytes
from edge_tse.report import environment, to_json, versions
from quantization.evaluate import personal_listener
from quantization.journal import open_journal
from quantization.trial_list import Trial, content_digest, read_sound
from quantization.workers import results

Float = NDArray[np.float32]
Segments = tuple[tuple[float, float], ...]
"""Beginnings and ends in seconds."""
METRICS = ("kept_db", "others_down_db", "contrast_i_db", "similarity", "similarity_mixture")
OWN = ("id", "mixture", "enrollment", "segments", "condition")
REAL_T = ("mixture_utterance", "enrolment_speakers_utterance", "speaker", "source")


def read_recordings(path: Path, rttm: Path | None = None) -> list[tuple[Trial, Segments]]:
    """The rows of a list, each a trial without a target, and when its talker talks (empty: nobody said).

    ``DataError`` names the row of what is missing or not understood.
    """
    spoken = {} if rttm is None else _read_rttm(rttm)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            there = set(reader.fieldnames or ())
            read = _own if set(OWN) <= there else _real_t if set(REAL_T) <= there else None
            if read is None:
                raise DataError(
                    f"{path} has columns {', '.join(sorted(there))}: needed are {', '.join(OWN)} or {', '.join(REAL_T)}"
                )
            if read is _own and rttm is not None:
                raise DataError(f"{path} has the segments in a column of its own: leave out --rttm {rttm}")
            rows = [read(path, reader.line_num, row, spoken) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as failure:
        raise DataError(f"cannot read the list {path}: {getattr(failure, 'strerror', None) or failure}") from failure
    if not rows:
        raise DataError(f"{path} holds 0 recordings: give at least one row under its header")
    if spoken and not any(segments for _, segments in rows):
        raise DataError(
            f"{rttm} tells of {len(spoken)} talkers in recordings, of none in the {len(rows)} rows of {path}: its files and names "
            "are to be those of the columns mixture_utterance and speaker"
        )
    if len({trial.id for trial, _ in rows}) < len(rows):
        raise DataError(f"{path}: {len(rows)} rows have {len({trial.id for trial, _ in rows})} ids: each needs one of its own")
    return rows


Row = dict[str, str]
Spoken = dict[tuple[str, str], Segments]
"""Segments by recording and speaker."""


def _own(path: Path, line: int, row: Row, spoken: Spoken) -> tuple[Trial, Segments]:
    enrollment = tuple(path.parent / name.strip() for name in row["enrollment"].split(";") if name.strip())
    segments: Segments = ()
    if row["segments"].strip():
        try:
            segments = tuple(_span(*part.split("-")) for part in row["segments"].split(";"))
        except (ValueError, TypeError) as failure:
            raise DataError(f"{path}, row {line}, column segments: {row['segments']} is not like 1.2-3.4;5-6.1") from failure
    return _trial(path, line, row["id"], path.parent / row["mixture"], enrollment, row["condition"]), segments


def _real_t(path: Path, line: int, row: Row, spoken: Spoken) -> tuple[Trial, Segments]:
    mixture, enrolled = row["mixture_utterance"], row["enrolment_speakers_utterance"]
    base = next((folder for folder in (path.parent, path.parent.parent) if (folder / "mixtures").is_dir()), path.parent)
    sounds = (base / "mixtures" / f"{mixture}.wav", base / "enrolment_speakers" / f"{enrolled}.wav")
    trial = _trial(path, line, f"{mixture}-{enrolled}", sounds[0], (sounds[1],), row["source"])
    return trial, spoken.get((mixture, row["speaker"]), ())


def _trial(path: Path, line: int, name: str, mixture: Path, enrollment: tuple[Path, ...], condition: str) -> Trial:
    for file in (mixture, *enrollment):
        if not file.is_file():
            raise DataError(f"{path}, row {line}: there is no file {file}")
    if not name or not enrollment:
        raise DataError(f"{path}, row {line}: id or enrollment is empty")
    return Trial(
        id=name, mixture=mixture, enrollment=enrollment, target=None, interferers=(), condition=condition, sexes=(), row=line
    )


def _span(begin: str, end: str) -> tuple[float, float]:
    span = float(begin), float(end)
    if not 0 <= span[0] < span[1] < float("inf"):
        raise ValueError("no span of time")
    return span


def _read_rttm(path: Path) -> Spoken:
    """Lines ``SPEAKER file channel begin duration ... name ...``, as the NIST evaluations of diarization write them."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    number, line = 0, ""
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):  # noqa: B007
            words = line.split()
            if words[:1] == ["SPEAKER"]:
                begin, duration = float(words[3]), float(words[4])
                found.setdefault((words[1], words[7]), []).append(_span(str(begin), str(begin + duration)))
    except OSError as failure:
        raise DataError(f"cannot read {path}: {failure.strerror}") from failure
    except (ValueError, IndexError) as failure:
        raise DataError(f"{path}, line {number}: not a line of an RTTM file, {line[:80]}") from failure
    return {key: tuple(sorted(spans)) for key, spans in found.items()}


class Judge:
    """Scores of one recording."""

    def __init__(self, artifact: Artifact, engine: str) -> None:
        self._artifact, self._engine = artifact, engine

    def __call__(self, task: tuple[Trial, Segments]) -> dict[str, Any]:
        trial, segments = task
        item: dict[str, Any] = {"id": trial.id, "condition": trial.condition, "scores": {}, "failed": None}
        voice, listener = personal_listener(trial, self._artifact, self._engine)
        if isinstance(listener, str) or voice is None:
            return {**item, "failed": listener}
        rate_hz = self._artifact.frame.sample_rate_hz
        signal, file_hz = read_sound(trial, "mixture", trial.mixture)
        mixture = audio.resample(signal, file_hz, rate_hz)[:2]  # of an array, the first two microphones
        seconds, last = mixture.shape[1] / rate_hz, max((begin for begin, _ in segments), default=0.0)
        if segments and last >= seconds:
            return {**item, "failed": f"{trial.mixture} has {seconds:.1f} s, a segment begins at {last:.1f} s: give seconds of it"}
        output = listener(mixture)
        talks = talking(segments, mixture.shape[1], rate_hz)
        scores: dict[str, float | None] = levels(mixture, output, talks)
        for name, heard in (("similarity", output), ("similarity_mixture", mixture)):
            try:
                other = enroll_clips(self._artifact.voice_model, [(name, heard[:, talks] if segments else heard, rate_hz)]).voice
                scores[name] = float(voice.embedding @ other.embedding)
            except AudioError:  # too little speech to say
                scores[name] = None
        return {**item, "scores": {name: value if value is None else round(value, 4) for name, value in scores.items()}}

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as a file's bytes, without a runtime."""
        return judge, (self._artifact.to_bytes(), self._engine)


def judge(content: bytes, engine: str) -> Judge:
    """A judge of the model in these bytes."""
    return Judge(Artifact.from_bytes(content), engine)


def talking(segments: Segments, samples: int, rate_hz: int) -> NDArray[np.bool_]:
    """Whether the talker talks, ``[samples]``."""
    talks = np.zeros(samples, bool)
    for begin, end in segments:
        talks[round(begin * rate_hz) : round(end * rate_hz)] = True
    return talks


def levels(mixture: Float, output: Float, talks: NDArray[np.bool_]) -> dict[str, float | None]:
    """What the segments tell of levels, in dB; None where the talker talks always, or never, or the recording is silent."""
    if not talks.any() or talks.all():
        return {"kept_db": None, "others_down_db": None, "contrast_i_db": None}
    change = []
    for part in (talks, ~talks):
        before, after = (float(np.mean(np.square(x[:, part], dtype=np.float64))) for x in (mixture, output))
        if before <= 0:
            return {"kept_db": None, "others_down_db": None, "contrast_i_db": None}
        change.append(10 * float(np.log10(max(after / before, 1e-10))))  # silence counts as 100 dB
    kept, others = change
    return {"kept_db": kept, "others_down_db": -others, "contrast_i_db": kept - others}


def summary(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians by condition, and how many recordings each is of."""
    found: dict[str, Any] = {}
    for condition in dict.fromkeys(item["condition"] for item in items):
        part = [item for item in items if item["condition"] == condition]
        found[condition] = {"n": len(part), "failed": sum(item["failed"] is not None for item in part)}
        for name in METRICS:
            values = [value for item in part if (value := item["scores"].get(name)) is not None]
            found[condition][name] = {"median": float(np.median(values)), "n": len(values)} if values else None
    return found


def condition_table(conditions: dict[str, Any]) -> Table:
    """The table for people."""
    shown = Table(title="Medians; no reference is needed for any of them", title_justify="left", title_style="bold")
    for heading in ("condition", "n", "failed", *METRICS):
        shown.add_column(heading, justify="left" if heading == "condition" else "right")
    for name, found in conditions.items():
        medians = ("-" if found[m] is None else f"{found[m]['median']:.2f}" for m in METRICS)
        shown.add_row(name, str(found["n"]), str(found["failed"]), *medians)
    return shown


@one_line
def main(arguments: list[str] | None = None) -> int:
    """Score, print, and write the report; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", type=Path, required=True, metavar="FILE", dest="listed")
    parser.add_argument("--rttm", type=Path, metavar="FILE", help="who talks when, for a list that does not say")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="JSON", help="report to write")
    parser.add_argument("--artifact", type=Path, metavar="NAME|FILE", help="model; `small` if left out")
    parser.add_argument("--engine", default="litert")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    add_workers(parser, folder=False)
    given = parser.parse_args(arguments)
    workers = workers_of(parser, given)
    journal = given.output.with_name(f"{given.output.name}.journal")
    check_output(given.output, [given.listed])
    model = Artifact.find(given.artifact)
    rows = read_recordings(given.listed, given.rttm)
    found = {
        "artifact": model.digest,
        "engine": open_network(model, given.engine).name,
        "list": {"file": given.listed.name, "sha256": hashlib.sha256(given.listed.read_bytes()).hexdigest(), "rows": len(rows)},
        "versions": versions(),
    }
    told = hashlib.sha256(repr([segments for _, segments in rows]).encode()).hexdigest()
    of = {**found, "segments": told, "sound": content_digest(trial for trial, _ in rows)}
    tasks = {row[0].id: row for row in rows}
    with open_journal(journal, of) as kept, progress("scoring", given.json) as tell:
        items = results(Judge(model, given.engine), tasks, workers, kept, tell)
    conditions = summary(items)
    figures = {"conditions": conditions, **found, "environment": environment(), "items": items}
    write_bytes(given.output, (to_json(figures) + "\n").encode())
    journal.unlink(missing_ok=True)
    result(figures, given.json, condition_table(conditions), f"{given.output}: the whole report")
    return 0


if __name__ == "__main__":
    from benchmarks.real_recordings import main as named  # a job is found on a worker by the name of its module

    sys.exit(named())
