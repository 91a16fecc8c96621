"""Questions with answers on file: ``python -m benchmarks.NAME`` measures and writes ``results/NAME.json``.

A figure in the README or in a decision record comes from one of these files, never from memory.
"""

import argparse
import inspect
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import EdgeTseError
from quantization.workers import Workers

__all__ = ["RESULTS", "add_workers", "interval", "mixtures", "one_line", "workers_of"]

P = ParamSpec("P")
R = TypeVar("R")

RESULTS = Path(__file__).parent / "results"


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Mean of differences over the same mixtures, and half its 95 % interval."""
    return float(differences.mean()), float(1.96 * differences.std(ddof=1) / math.sqrt(len(differences)))


def add_workers(parser: argparse.ArgumentParser, *, folder: bool = True) -> None:
    """Options that say who computes, and where the files are (``folder``) that are made first."""
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the work")
    parser.add_argument("--scheduler", default="", metavar="ADDRESS", help="Dask scheduler whose workers compute: tcp://host:8786")
    if not folder:
        return
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="folder for what is made first, the same for every worker; a temporary one if left out",
    )


def workers_of(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Workers:
    """Workers that the options name; exit code 2 where they contradict themselves."""
    if given.workers < 1:
        parser.error(f"argument --workers: {given.workers} processes, at least 1 is needed")
    if given.scheduler and getattr(given, "folder", given) is None:
        parser.error("argument --scheduler: other machines do not see a temporary folder, give --folder on a disk they share")
    return Workers(count=given.workers, scheduler=given.scheduler)


def one_line(main: Callable[P, R]) -> Callable[P, R | int]:
    """A benchmark's ``main``: what it refuses (:class:`EdgeTseError`) is one line on standard error, and exit code 2."""
    name = Path(inspect.getfile(main)).stem

    @wraps(main)
    def exit_code(*given: P.args, **named: P.kwargs) -> R | int:
        try:
            return main(*given, **named)
        except EdgeTseError as failure:
            sys.stderr.write(f"{name}: {failure}\n")
            return 2

    return exit_code


@contextmanager
def mixtures(folder: Path | None) -> Iterator[Path]:
    """The folder for what is made first, or a temporary one."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
