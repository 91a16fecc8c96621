"""``python -m edge_tse`` is ``edge-tse``: the process around the command line, from its first line to its last."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from threading import Timer

from edge_tse.version import __version__

__all__ = ["run"]


def run() -> None:
    """Run the command that was typed and end the process. Ctrl-C prints one line, whenever it is pressed."""
    # Closed by whoever started this: what would be told goes nowhere, and the work is done all the same.
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.argv[1:] == ["--version"]:
        # Asked by scripts, often: without the second that all verbs take to load.
        sys.stdout.write(f"edge-tse {__version__}\n")
        return
    code = 130  # as shells report SIGINT
    try:
        sys.unraisablehook = _interrupt_anywhere
        from edge_tse.cli import main

        if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
            # A file may have a name that this terminal has no letters for: it is told as on stderr, after the work of an hour.
            sys.stdout.reconfigure(errors="backslashreplace")
        code = main()
        # Only the end is left: nobody has to be told that it was interrupted.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stderr.write("edge-tse: interrupted\n")
    sys.exit(code)


def _interrupt_anywhere(told: sys.UnraisableHookArgs) -> None:
    """Raise Ctrl-C again where it fell into a destructor or a callback, in which Python prints and forgets it."""
    if isinstance(told.exc_value, KeyboardInterrupt):
        # From beside, and late enough on a busy machine: what is raised while this function runs is forgotten just the same.
        Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(told)


if __name__ == "__main__":
    run()
