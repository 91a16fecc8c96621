"""Look for input that is neither taken nor refused: ``python -m tests.fuzz [--seconds 600] [--tries N] [DOOR ...]``.

Prints for each door how many of how many tries ended in anything but a value or an ``EdgeTseError``, and where; what fails is kept
in ``--keep``, a file for each place.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random

from edge_tse.table import nearest, quote
from tests.fuzz.doors import DOORS, Door

_SLOW_S = 10.0
_STUCK_S = 120.0
_MEMORY_BYTES = 24 * 2**30


def search(door: Door, seconds: float, tries: int, first: int, keep: Path | None) -> tuple[int, Counter[str]]:
    """Tries made, and findings by place."""
    found: Counter[str] = Counter()
    began, number = time.monotonic(), 0
    while number < tries and time.monotonic() - began < seconds:
        content = door.make(Random(f"{door.name} {first + number}"))
        report = ""
        try:
            spent_s, passed_s = _timed(door, content)
            # The first one makes what all need. A machine that is busy makes everybody wait, and nobody compute.
            if number and (spent_s > _SLOW_S or passed_s > _STUCK_S):
                place = "took long"
                report = where = f"{place}: {spent_s:.0f} s of processors, {passed_s:.0f} s in all"
        except Exception as failure:  # that is what is looked for
            last = traceback.extract_tb(failure.__traceback__)[-1]
            place = f"{type(failure).__name__} {Path(last.filename).name}:{last.lineno}"
            where = f"{place}: {str(failure)[:90]!r}"
            report = "".join(traceback.format_exception(failure))
        if report:
            if keep is not None and not any(place in key for key in found):
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{door.name}-{first + number}").write_bytes(content)
                (keep / f"{door.name}-{first + number}.txt").write_text(report)
            found[where] += 1
        number += 1
    return number, found


def _timed(door: Door, content: bytes) -> tuple[float, float]:
    """Seconds of processors, those of ended child processes too, and seconds on the clock."""
    began, clock_s = os.times(), time.monotonic()
    door.survives(content)
    ended = os.times()
    return sum(ended[:4]) - sum(began[:4]), time.monotonic() - clock_s


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=", ".join(DOORS))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each door")
    parser.add_argument("--tries", type=int, default=10**9, help="for each door, at most")
    parser.add_argument("--first", type=int, default=0, help="number of the first try: each number is always the same input")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    if unknown := next((name for name in given.doors if name not in DOORS), None):
        parser.error(f"there is no door {quote(unknown)}{nearest(unknown, DOORS)}")
    # The soft limit: what a sanitizer reserves is no memory, and its programs take the limit off.
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    warnings.simplefilter("error")
    total = 0
    for name in given.doors or DOORS:
        tries, found = search(DOORS[name], given.seconds, given.tries, given.first, given.keep)
        total += found.total()
        sys.stdout.write(f"{name}: {found.total()} of {tries}\n")
        for where, count in found.most_common(12):
            sys.stdout.write(f"    {count:5d}  {where}\n")
        sys.stdout.flush()
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
