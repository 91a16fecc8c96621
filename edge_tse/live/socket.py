"""A socket of this machine on which programs steer a session: a JSON object a line, and an answer a line."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_tse.errors import AudioError
from edge_tse.live.console import Console
from edge_tse.table import parse_json

__all__ = ["serve"]

MOST_BYTES = 2**16
"""Longest line of a command."""


@contextmanager
def serve(path: Path, console: Console) -> Iterator[None]:
    """Carry out what comes in on a Unix socket, which only its owner may open, until the end of the block.

    ``AudioError`` if another session answers there, or the path cannot be one.
    """
    _free(path)
    try:
        kept = os.umask(0o177)
        try:
            server = _Server(str(path), _Client)
        finally:
            os.umask(kept)
    except OSError as failure:
        raise AudioError(f"{path} cannot be a socket ({failure.strerror or failure}): choose another with --control") from failure
    server.console = console
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="edge-tse control", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        with suppress(OSError):
            path.unlink()


def _free(path: Path) -> None:
    """Remove what a killed session left. ``AudioError`` if a session answers there, or it is something else."""
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket():
        raise AudioError(f"{path} exists and is no socket: choose another path for --control")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise AudioError(f"another session answers on {path}: end it, or choose another path for --control")


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    console: Console


class _Client(socketserver.StreamRequestHandler):
    """One program; what it sends wrong is answered, and it may go on."""

    server: _Server

    def handle(self) -> None:
        with suppress(ConnectionError):
            while line := self.rfile.readline(MOST_BYTES):
                self.wfile.write(json.dumps(self._answer(line)).encode() + b"\n")
                if not line.endswith(b"\n"):  # too long, or cut off: where the next begins is not known
                    return

    def _answer(self, line: bytes) -> dict[str, object]:
        if not line.endswith(b"\n") and len(line) >= MOST_BYTES:
            return {"ok": False, "error": f"a command of more than {MOST_BYTES} bytes: send one JSON object a line"}
        try:
            command = parse_json(line, "the command", AudioError, "send one JSON object a line")
        except AudioError as failure:
            return {"ok": False, "error": str(failure)}
        return self.server.console.do(command)
