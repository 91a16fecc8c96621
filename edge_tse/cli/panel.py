"""The panel of a live session in a terminal: levels, time in reserve, and keys that steer."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from rich.console import Console as Terminal
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from edge_tse.live.console import Console
    from edge_tse.live.loop import Event
    from edge_tse.live.session import Session

__all__ = ["Panel"]

_EVERY_S = 0.1
_STEP_DB, _QUIETEST_DB = 3.0, -60.0
_BARS = 30
_ESCAPE, _MOST_KEYS = "\x1b", 64
_KEYS = "1-9 voice   + - room   ] [ talker   b bypass   m mute   p preset   space mark   r record   q end"


class Panel:
    """Tells a session's events, a line each; on a terminal also a panel, and it takes keys.

    ``panel(session)`` is called about twenty times a second; :meth:`of` gives it the console that keys use.
    """

    def __init__(self, as_json: bool) -> None:
        self._watched = sys.stderr.isatty() and not as_json
        self._keyed = self._watched and sys.stdin.isatty()
        self._live = Live(console=Terminal(stderr=True, highlight=False), auto_refresh=False, transient=True)
        self._console: Console | None = None
        self._told: Event | None = None
        self._shown_s, self._answer, self._next, self._marks = 0.0, "", 0, 0

    @contextmanager
    def of(self, console: Console) -> Iterator[None]:
        """Show this session and steer it by keys until the end of the block."""
        self._console = console
        with _single_keys(self._keyed), self._live if self._watched else _nothing():
            yield

    def __call__(self, session: Session) -> None:
        # By the last one, not by their number: a session keeps a thousand, and a long one has more.
        for event in reversed(tuple(takewhile(lambda event: event is not self._told, reversed(session.events)))):
            self._say(event.what)
            self._told = event
        if self._console is None or not self._watched:
            return
        if self._keyed and select.select([sys.stdin], [], [], 0)[0]:
            # Past Python's buffer, of which select knows nothing. An arrow comes as an escape and letters, "[" among them.
            for key in os.read(sys.stdin.fileno(), _MOST_KEYS).decode(errors="ignore").partition(_ESCAPE)[0]:
                self._press(key)
        if (now := time.monotonic()) - self._shown_s > _EVERY_S:
            self._shown_s = now
            self._live.update(drawn(self._console.status(), self._answer), refresh=True)

    def _say(self, what: str) -> None:
        if self._watched:
            self._live.console.print(f"edge-tse: {what}", markup=False, soft_wrap=True)
        else:
            sys.stderr.write(f"edge-tse: {what}\n")

    def _press(self, key: str) -> None:
        assert self._console is not None, "keys are read once there is a console"
        command = self._command(key, self._console)
        if command is not None:
            answer = self._console.do(command)
            self._answer = "" if answer["ok"] else str(answer["error"])

    def _command(self, key: str, console: Console) -> dict[str, Any] | None:
        """The command that a key stands for; None for any other key."""
        settings = console.session.steering.settings
        voices, presets = console.session.steering.voices, list(console.presets)
        if key in "123456789" and int(key) <= len(voices):  # "²" is a key of a French keyboard, and a digit to Python
            return {"set": {"voice": voices[int(key) - 1]}}
        if key == "p" and presets:
            self._next += 1
            return {"preset": presets[(self._next - 1) % len(presets)]}
        if key == " ":
            self._marks += 1
            return {"mark": f"{self._marks}"}
        if key == "r":
            return {"record": None if console.recording else time.strftime("session-%Y%m%d-%H%M%S.flac")}
        room = settings.ambient_db
        louder = _QUIETEST_DB if room < _QUIETEST_DB else min(room + _STEP_DB, 20.0)
        softer: float | str = "off" if room - _STEP_DB < _QUIETEST_DB else room - _STEP_DB
        keys: dict[str, dict[str, Any]] = {
            "+": {"set": {"ambient_db": max(louder, -30.0) if room < _QUIETEST_DB else louder}},
            "-": {"set": {"ambient_db": softer}},
            "]": {"set": {"talker_db": min(settings.talker_db + _STEP_DB, 20.0)}},
            "[": {"set": {"talker_db": max(settings.talker_db - _STEP_DB, _QUIETEST_DB)}},
            "b": {"set": {"bypass": not settings.bypass}},
            "m": {"set": {"mute": not settings.mute}},
            "q": {"end": True},
        }
        return keys.get(key)


def drawn(status: Mapping[str, Any], answer: str) -> Group:
    """The panel for a console's status, and the last refusal."""
    table = Table.grid(padding=(0, 2))
    for name in ("heard", "played"):
        levels = status["levels_db"][name]
        bars = (Text(_bar(db), style="green" if db < -6 else "red") for db in levels)
        table.add_row(name, *bars, "  ".join(f"{db:.0f} dB" for db in levels))
    health, settings = status["health"], status["settings"]
    xruns = health["input_overruns"] + health["output_underruns"]
    late = f"late {health['late_blocks']}  failed {health['failed_hops']}  xruns {xruns}"
    reserve = f"{status['reserve_ms']:.1f} of {status['margin_ms']:.0f} ms in reserve"
    room = settings["ambient_db"] if isinstance(settings["ambient_db"], str) else f"{settings['ambient_db']:+.0f} dB"
    state = [f"talker {settings['talker_db']:+.0f} dB", f"room {room}", *(name for name in ("bypass", "mute") if settings[name])]
    if len(status["voices"]) > 1:
        state.insert(0, f"voice {settings['voice']}")
    if status["recording"]:
        state.append("recording")
    return Group(
        table,
        Text(f"{status['seconds']:7.1f} s   {reserve}   {late}"),
        Text("   ".join(state), style="bold"),
        Text(answer or _KEYS, style="yellow" if answer else "dim"),
    )


def _bar(db: float) -> str:
    filled = round(_BARS * min(1.0, max(0.0, 1 - db / _QUIETEST_DB)))
    return "█" * filled + "·" * (_BARS - filled)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _single_keys(wanted: bool) -> Iterator[None]:
    """Let a terminal give keys one by one and unseen; Ctrl-C stays what it is."""
    if not wanted:
        yield
        return
    try:
        import termios
        import tty
    except ImportError:  # no such terminal on this system: the session goes on without keys
        yield
        return
    kept = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, kept)
