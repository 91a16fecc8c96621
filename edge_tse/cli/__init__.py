"""The command line: ``edge-tse VERB``.

The verbs are thin: they read files, call one function and show what it returns. Exit codes: 0 done, 2 the caller or the world is
wrong (one line on stderr says what), 130 interrupted. Anything else is our bug and shows its traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from edge_tse.errors import EdgeTseError

__all__ = ["main"]

USER_ERROR = 2
VERBS = tuple(
    f"edge_tse.cli.{name}"
    for name in ("verbs", "voices", "studio", "live", "measure", "deploy", "board", "lab", "analysis", "installation")
)
"""Modules that register verbs when they are imported, in the order of the help page."""
INTERRUPTED = 130  # as shells report SIGINT
_UNREACHABLE = (errno.EACCES, errno.ENAMETOOLONG)
"""A folder that this user may not enter, a name that no file can have."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, ``sys.argv`` if None, and return the exit code."""
    try:
        result = _run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        result = INTERRUPTED
    except Exception as failure:
        # An import that Ctrl-C cuts short may call it its own failure.
        if not _is_interrupt(failure):
            raise
        result = INTERRUPTED
    if result == INTERRUPTED:
        sys.stderr.write("edge-tse: interrupted\n")
    return result


def _run(arguments: list[str]) -> int:
    try:
        from edge_tse.cli.options import COMMAND, COMPLETION_VARIABLE, app

        if COMPLETION_VARIABLE in os.environ:
            from typer.completion import completion_init  # type: ignore[attr-defined]  # used as typer uses it itself

            completion_init()
        for module in VERBS:
            import_module(module)
        result = app(arguments or ["--help"], prog_name=COMMAND, standalone_mode=False)
    except EdgeTseError as failure:
        if _is_interrupt(failure):
            raise
        return _complain(str(failure))
    except OSError as failure:
        # What verbs print is told by themselves, and what they write; pages of help are not.
        if failure.errno in _FULL and {"--help", "-h"} & set(arguments or ["--help"]):
            from edge_tse.cli.output import unwritten

            return _complain(unwritten(failure))
        # To ask pathlib whether such a file is there is an error of its own, wherever it is asked.
        if failure.errno not in _UNREACHABLE or failure.filename is None:
            raise
        return _complain(f"{os.fsdecode(failure.filename)} cannot be reached: {failure.strerror}; give another name")
    except Exception as failure:
        # Typer carries its own copy of click, so its usage errors have no import path that holds for all its versions.
        message = getattr(failure, "format_message", None)
        if message is None:
            raise
        context = getattr(failure, "ctx", None)
        file = next((word for word in arguments if word.startswith("-") and word != "-" and Path(word).exists()), None)
        meant = "" if file is None else f", {file} is also a file: write ./{file} if you mean it"
        return _complain(f"{message()}{meant} (see `{context.command_path if context else 'edge-tse'} --help`)")
    return result if isinstance(result, int) else 0


def _is_interrupt(failure: BaseException | None) -> bool:
    """Whether Ctrl-C caused this exception."""
    while failure is not None and not isinstance(failure, KeyboardInterrupt):
        failure = failure.__cause__ or failure.__context__
    return failure is not None


def _complain(message: str) -> int:
    # Names and texts in it may be somebody else's: nothing of them works on a terminal.
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(message.split()))
    sys.stderr.write(f"edge-tse: {line}\n")
    return USER_ERROR
