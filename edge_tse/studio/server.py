"""The studio's server: one page, a few questions, and a socket for the browser, for this machine and whoever knows the token.

Another page that is open in the same browser must not reach it: every request states the host that it means, an origin that is ours
if it has one, and the token, which is in nobody's history but the address that was printed.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

from edge_tse.errors import AudioError, EdgeTseError, EngineError
from edge_tse.files import write_bytes
from edge_tse.hearing.prescription import BANDS_HZ, nal_r_db, parse_audiogram
from edge_tse.install_line import install_line
from edge_tse.studio.program import Program, Sitting
from edge_tse.table import parse_json, quote

try:
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ModuleNotFoundError as failure:
    raise EngineError(f"{failure.name} is not installed, the studio needs it: {install_line('studio')}") from failure

__all__ = ["Studio", "application", "serve"]

_EVERY_S = 0.1
_NAME = re.compile(r"[\w][\w .-]{0,39}")
_MOST_BYTES = 2**26
"""Largest file that a browser may bring."""
_FILES = {
    "index.html": ("studio/index.html", "text/html"),
    "studio.js": ("studio/studio.js", "text/javascript"),
    "studio.css": ("studio/studio.css", "text/css"),
    "page.css": ("page.css", "text/css"),
}
"""Files of the page: where they lie in the package's assets, and their types."""
_NOTHING_ELSE = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'"
_OPTIONS: dict[str, tuple[type, ...]] = {
    "input": (str,),
    "output": (str,),
    "channels": (str,),
    "artifact": (str,),
    "audiogram": (str,),
    "margin-ms": (int, float),
    "ambient-db": (int, float),
    "rate": (int,),
    "block": (int,),
}
"""Options of ``live`` that the page may state, and their types."""


class Studio:
    """State behind the page: a folder of voices, and at most one session."""

    def __init__(self, program: Program, presets: Path | None = None, calibration: Path | None = None) -> None:
        self._program, self._presets, self._calibration = program, presets, calibration
        self.sitting: Sitting | None = None
        self._last: dict[str, Any] = {}
        self._turn = asyncio.Lock()

    async def state(self) -> dict[str, Any]:
        """Devices, models and voices to choose from, and whether a session runs."""
        from edge_tse.artifact import shipped_names

        found = await self._program.run("devices")
        voices = sorted(path.stem for path in self._program.folder.glob("*.voice"))
        running = self.sitting is not None and self.sitting.running
        return {"devices": found["devices"], "models": shipped_names(), "voices": voices, "running": running}

    async def start(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Start a session with voices by name and options of ``live``."""
        async with self._turn:
            if self.sitting is not None and self.sitting.running:
                raise AudioError("a session is running: stop it before another is started")
            options = self._options(asked)
            sitting = Sitting(self._program, options)
            await sitting.start()
            self.sitting = sitting
            return {"running": True}

    def _options(self, asked: dict[str, Any]) -> list[str]:
        names = asked.pop("voices", None)
        if not isinstance(names, list) or not names:
            raise AudioError("no voice was chosen: record or import one, then choose it")
        options = [part for name in names for part in ("--voice", str(self._path(name)))]
        for name, value in asked.items():
            if name not in _OPTIONS or not isinstance(value, _OPTIONS[name]) or isinstance(value, bool):
                raise AudioError(f"a session has no option {quote(name)} = {quote(value)}: {', '.join(_OPTIONS)} can be stated")
            options += [f"--{name}={value}"]
        for name, path in (("presets", self._presets), ("calibration", self._calibration)):
            options += [f"--{name}={path}"] if path is not None else []
        return options

    async def stop(self, _: dict[str, Any]) -> dict[str, Any]:
        """Stop the session, if one runs, and return the figures of the last: every window asks once it is over."""
        async with self._turn:
            if self.sitting is not None:
                sitting, self.sitting = self.sitting, None
                self._last = await sitting.stop()
            return {"running": False, "report": self._last}

    def terminate(self) -> None:
        """Ask whatever still runs to end."""
        self._program.terminate()

    async def record_voice(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Record somebody and keep the voice."""
        path, seconds = self._path(asked.get("name")), asked.get("seconds", 8)
        if not isinstance(seconds, int | float) or not 2 <= seconds <= 60:
            raise AudioError(f"a voice is recorded for 2 to 60 s, not {quote(seconds)}")
        chosen = [f"--{name}={asked[name]}" for name in ("input", "artifact") if isinstance(asked.get(name), str)]
        return await self._enroll(path, f"--record={seconds}", *chosen)

    async def import_voice(self, name: str, content: bytes, suffix: str, artifact: str = "") -> dict[str, Any]:
        """Make a voice of a sound file that the browser brought, for the shipped model unless another is named."""
        path = self._path(name)
        brought = self._program.folder / f".{secrets.token_hex(8)}{suffix}"
        try:
            write_bytes(brought, content, AudioError, private=True)
            return await self._enroll(path, str(brought), *([f"--artifact={artifact}"] if artifact else []))
        finally:
            brought.unlink(missing_ok=True)

    async def _enroll(self, path: Path, *source: str) -> dict[str, Any]:
        if path.exists():
            raise AudioError(f"there is a voice {path.stem} already: delete it first, or choose another name")
        made = await self._program.run("enroll", *source, "-o", str(path))
        return {"voice": path.stem, "remarks": made["remarks"], "quality": made.get("quality")}

    async def delete_voice(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Overwrite and remove a voice."""
        path = self._path(asked.get("name"))
        await self._program.run("voice", str(path), "--delete")
        return {"deleted": path.stem}

    async def prescribe(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Gains by NAL-R for an audiogram, as text."""
        ears = parse_audiogram(str(asked.get("audiogram", "")))
        return {"hz": list(BANDS_HZ), "gain_db": [nal_r_db(ear).round(1).tolist() for ear in ears]}

    def _path(self, name: object) -> Path:
        """Path of a voice in the folder, and nowhere else."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise AudioError(f"a voice is named by 1 to 40 letters, digits, spaces, dots or hyphens, not {quote(name)}")
        return self._program.folder / f"{name}.voice"


class _Door:
    """Who may come in."""

    def __init__(self, token: str, port: int) -> None:
        self._token = token
        self._hosts = {f"{host}:{port}" for host in ("127.0.0.1", "localhost")}

    def refusal(self, asks: HTTPConnection, *, needs_token: bool = True) -> tuple[int, str] | None:
        """HTTP status and reason why a request is refused; None if it may come in."""
        if asks.headers.get("host", "") not in self._hosts:
            return 421, f"this studio answers to {', '.join(sorted(self._hosts))} alone"
        origin = asks.headers.get("origin")
        if origin is not None and origin.removeprefix("http://") not in self._hosts:
            return 403, f"the page {origin[:80]} may not use this studio"
        given = asks.query_params.get("token") or asks.headers.get("x-token", "")
        if needs_token and not secrets.compare_digest(given.encode(), self._token.encode()):
            return 403, "the token is missing or wrong: open the address that `edge-tse studio` printed"
        return None


def application(studio: Studio, token: str, port: int) -> Starlette:
    """The studio as an ASGI application that answers on this port of this machine."""
    door = _Door(token, port)

    def answer(ask: Callable[[Request], Awaitable[dict[str, Any]]]) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            if refused := door.refusal(request):
                return JSONResponse({"error": refused[1]}, refused[0])
            try:
                return JSONResponse(await ask(request))
            except EdgeTseError as failure:
                return JSONResponse({"error": str(failure)}, 409)

        return respond

    def told(ask: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> dict[str, Any]:
            return await ask(parse_json(await _body(request), "the request", AudioError, "send one JSON object"))

        return answer(respond)

    async def page(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if refused := door.refusal(request, needs_token=name == "index.html"):
            return Response(refused[1] + "\n", refused[0], media_type="text/plain")
        if name not in _FILES:
            return Response("there is no such page\n", 404, media_type="text/plain")
        place, kind = _FILES[name]
        content = (resources.files("edge_tse") / "assets" / place).read_text(encoding="utf-8")
        headers = {"content-security-policy": _NOTHING_ELSE, "referrer-policy": "no-referrer", "cache-control": "no-store"}
        return Response(content, media_type=kind, headers=headers)

    async def bring(request: Request) -> dict[str, Any]:
        name, suffix = request.query_params.get("name", ""), Path(request.query_params.get("file", "x.wav")).suffix.lower()
        if not re.fullmatch(r"\.\w{1,5}", suffix):
            raise AudioError(f"{quote(suffix)} is no ending of a sound file: bring a WAV or FLAC file")
        return await studio.import_voice(name, await _body(request), suffix, request.query_params.get("artifact", ""))

    @asynccontextmanager
    async def while_open(_: Starlette) -> AsyncIterator[None]:
        yield
        if studio.sitting is not None:  # here, in the loop that it was started in
            await studio.sitting.stop()
        studio.terminate()  # a session that does not answer yet, a voice that is being recorded

    async def watch(socket: WebSocket) -> None:
        if refused := door.refusal(socket):
            await socket.close(1008, refused[1])
            return
        await socket.accept()
        with suppress(WebSocketDisconnect, RuntimeError):  # the browser has gone; the session goes on
            await _talk(socket, studio)

    return Starlette(
        lifespan=while_open,
        routes=[
            Route("/", page),
            Route("/api/state", answer(lambda _: studio.state())),
            Route("/api/start", told(studio.start), methods=["POST"]),
            Route("/api/stop", told(studio.stop), methods=["POST"]),
            Route("/api/record-voice", told(studio.record_voice), methods=["POST"]),
            Route("/api/import-voice", answer(bring), methods=["POST"]),
            Route("/api/delete-voice", told(studio.delete_voice), methods=["POST"]),
            Route("/api/prescribe", told(studio.prescribe), methods=["POST"]),
            WebSocketRoute("/api/session", watch),
            Route("/{name}", page),
        ],
    )


async def _talk(socket: WebSocket, studio: Studio) -> None:
    """Tell a browser ten times a second how the session is, and carry out what it asks."""

    async def hear() -> None:
        while True:
            asked = await socket.receive_text()
            try:
                command = parse_json(asked, "the command", AudioError, "send one JSON object")
                if studio.sitting is None:
                    raise AudioError("no session is running: start one")
                await socket.send_json({"answer": await studio.sitting.do(command)})
            except EdgeTseError as failure:
                await socket.send_json({"answer": {"ok": False, "error": str(failure)}})

    hearing = asyncio.create_task(hear())
    told, said = studio.sitting, 0
    try:
        while not hearing.done():
            sitting = studio.sitting
            status: dict[str, Any] = {"running": False}
            if sitting is not None:
                lines = sitting.lines
                if sitting is not told:
                    told, said = sitting, 0
                status = {"running": sitting.running, "lines": lines[said:]}
                said = len(lines)
                with suppress(AudioError):
                    status |= {"status": await sitting.do({"status": True})}
            await socket.send_text(json.dumps(status))
            await asyncio.sleep(_EVERY_S)
        hearing.result()
    finally:
        hearing.cancel()


async def _body(request: Request) -> bytes:
    """The body of a request; ``AudioError`` if it is larger than any that the page sends."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > _MOST_BYTES:
            raise AudioError(f"more than {_MOST_BYTES // 2**20} MiB were sent: cut the recording")
    return content


def serve(studio: Studio, port: int, *, tell: Callable[[str], None], opens: bool) -> None:
    """Serve the page on a port of this machine until Ctrl-C; ``tell`` is given its address. ``AudioError`` if the port is taken."""
    import socket as sockets

    import uvicorn

    listening = sockets.socket(sockets.AF_INET)
    listening.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as failure:
        raise AudioError(
            f"port {port} cannot be used ({failure.strerror}): end the other studio, or choose another with --port"
        ) from failure
    token, port = secrets.token_urlsafe(24), listening.getsockname()[1]
    address = f"http://127.0.0.1:{port}/?token={token}"
    tell(address)
    if opens:
        webbrowser.open(address)
    config = uvicorn.Config(
        application(studio, token, port), log_level="critical", lifespan="on", ws="websockets-sansio", timeout_graceful_shutdown=2
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        studio.terminate()  # Ctrl-C twice: nobody waits for a session
