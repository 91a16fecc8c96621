"""Output of verbs: results on stdout, as a table or as one JSON object; warnings and progress on stderr."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from edge_tse.errors import EdgeTseError
from edge_tse.quiet import quietly
from edge_tse.report import busy, to_json

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.engines import Network
    from edge_tse.frame import FrameSpec
    from edge_tse.report import Timing

__all__ = [
    "compute_rows",
    "open_quietly",
    "phases",
    "progress",
    "quietly",
    "result",
    "steps",
    "table",
    "unwritten",
    "warn",
    "warn_of_mixture",
]


def unwritten(failure: OSError) -> str:
    """What to say where standard output takes nothing more."""
    return f"standard output could not be written: {failure.strerror or failure}; give it another place"


def result(figures: Mapping[str, object], as_json: bool, *shown: Table | str) -> None:
    """Print ``figures`` as JSON, or else the text for people. ``EdgeTseError`` where standard output takes nothing more."""
    console = Console(highlight=False)
    try:
        if as_json:
            sys.stdout.write(to_json(figures) + "\n")
        for item in () if as_json else shown:
            # A path may hold square brackets: it is text, not markup.
            console.print(item, markup=False, soft_wrap=isinstance(item, str))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has read enough
        raise
    except OSError as failure:
        raise EdgeTseError(unwritten(failure)) from failure


def table(title: str, rows: Mapping[str, str]) -> Table:
    """A table of two columns: name and value."""
    out = Table(title=title, show_header=False, title_justify="left", title_style="bold")
    out.add_column("figure", style="cyan", no_wrap=True)
    out.add_column("value", overflow="fold")
    for name, value in rows.items():
        out.add_row(name, value)
    return out


def warn(message: str) -> None:
    """Write one line on stderr and go on with the work."""
    sys.stderr.write(f"edge-tse: warning: {message}\n")


def warn_of_mixture(name: str, clipped: int, silent: bool) -> None:
    """Warn about a mixture from which not everything can come back."""
    if clipped:
        warn(f"{name}: {clipped} samples are clipped; record at a lower level")
    if silent:
        warn(f"{name} is silent: there is nothing to extract")


@contextmanager
def progress(label: str, as_json: bool) -> Iterator[Callable[..., None]]:
    """A bar on stderr for work of known length, told the fraction done and, if it changes, another label.

    Nothing with JSON or when nobody is watching.
    """
    if as_json or not sys.stderr.isatty():
        yield lambda fraction, label="": None
        return
    # The name of a file may hold square brackets: it is text, not markup.
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1.0)
        yield lambda fraction, now=label: bar.update(task, completed=fraction, description=now)


@contextmanager
def steps(as_json: bool, every_s: float = 30.0) -> Iterator[Callable[[str], None]]:
    """Tell which step of unknown length is under way, and for how long: on a terminal at once, else a line now and then.

    Written to a copy of stderr, since :func:`quietly` takes the original away from noisy runtimes meanwhile.
    """
    if as_json:
        yield lambda step: None
        return
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as stderr:
        if stderr.isatty():
            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            with Progress(*columns, console=Console(file=stderr), transient=True) as shown:
                task = shown.add_task("", total=None)
                yield lambda step: shown.reset(task, description=step)
            return
        ended, began = threading.Event(), time.monotonic()
        current = [""]

        def log() -> None:
            while not ended.wait(every_s):
                stderr.write(f"edge-tse: {current[0]}, {time.monotonic() - began:.0f} s\n")
                stderr.flush()

        watcher = threading.Thread(target=log, daemon=True)
        watcher.start()
        try:
            yield lambda step: current.__setitem__(0, step)
        finally:
            ended.set()
            watcher.join()


@contextmanager
def phases(as_json: bool) -> Iterator[Callable[[Any], None]]:
    """Watch a long run, told values with ``phase``, ``step``, ``steps`` and ``figures``: a bar for each phase.

    Without a terminal, a line goes to stderr every half minute for the log; with JSON, nothing. A value with a ``note`` is a line
    of its own.
    """
    if as_json:
        yield lambda told: None
        return
    if not sys.stderr.isatty():
        yield _log_lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, TextColumn("{task.fields[figures]}"), console=Console(stderr=True))
    tasks: dict[str, TaskID] = {}

    def watch(told: Any) -> None:
        bar.start()
        if told.note:
            bar.console.print(f"edge-tse: {told.note}", markup=False, soft_wrap=True)
            return
        if told.phase not in tasks:
            tasks[told.phase] = bar.add_task(told.phase, total=told.steps, figures="")
        bar.update(tasks[told.phase], completed=told.step, total=told.steps, figures=_short(told.figures))

    try:
        yield watch
    finally:
        bar.stop()


def _log_lines(every_s: float = 30.0) -> Callable[[Any], None]:
    """A watcher that writes a line when a phase begins or ends, and one now and then in between."""
    last: dict[str, float] = {}

    def watch(told: Any) -> None:
        if told.note:
            sys.stderr.write(f"edge-tse: {told.note}\n")
            return
        now = time.monotonic()
        if told.phase in last and told.step != told.steps and now - last[told.phase] < every_s:
            return
        last[told.phase] = now
        sys.stderr.write(f"{told.phase} {told.step}{f'/{told.steps}' if told.steps else ''}  {_short(told.figures)}\n")

    return watch


def _short(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())


def compute_rows(timing: Timing, frame: FrameSpec) -> dict[str, str]:
    """Rows of both latencies, never mixed, and of whether the machine keeps up."""
    rows = {
        "algorithmic latency": f"{frame.algorithmic_latency_s * 1e3:.1f} ms",
        "compute per hop": f"p50 {timing.percentile_s(50) * 1e3:.3f} ms, p99 {timing.percentile_s(99) * 1e3:.3f} ms"
        f" (deadline {timing.period_s * 1e3:.1f} ms, missed {timing.misses} of {len(timing.hop_s)})",
        "real-time factor": f"{timing.real_time_factor:.4f}",
    }
    remark = busy()
    return rows if remark is None else {**rows, "note": remark}


def open_quietly(artifact: Artifact, engine: str) -> Network:
    """``open_network`` without the runtime's greeting."""
    from edge_tse.engines import open_network

    with quietly():
        return open_network(artifact, engine)
