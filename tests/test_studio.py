"""The studio without a browser: who may come in, what it makes of requests, and one line for everything that is wrong."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from edge_tse.errors import AudioError
from edge_tse.studio.program import Program, Sitting
from edge_tse.studio.server import Studio, application
from tests.speech import utterance

PORT, TOKEN = 8123, "token"
HERE = {"host": f"127.0.0.1:{PORT}", "x-token": TOKEN}


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(Program(tmp_path, {"JACK_NO_START_SERVER": "1"}))


@pytest.fixture
def browser(studio: Studio) -> Iterator[TestClient]:
    with TestClient(application(studio, TOKEN, PORT), base_url=f"http://127.0.0.1:{PORT}", headers=HERE) as client:
        yield client


class TestDoor:
    @pytest.mark.parametrize(
        ("headers", "status", "why"),
        [
            ({"x-token": "wrong"}, 403, "the token is missing or wrong"),
            ({"x-token": ""}, 403, "the token is missing or wrong"),
            ({"host": "evil.example"}, 421, "answers to 127.0.0.1:8123, localhost:8123 alone"),
            ({"host": "127.0.0.1:9"}, 421, "alone"),
            ({"origin": "http://evil.example"}, 403, "the page http://evil.example may not use this studio"),
            ({"origin": "null"}, 403, "the page null may not"),
            ({"origin": f"https://127.0.0.1:{PORT}"}, 403, "may not use this studio"),
        ],
    )
    def test_everybody_else_stays_outside(self, browser: TestClient, headers: dict[str, str], status: int, why: str) -> None:
        for method, path in (("GET", "/api/state"), ("POST", "/api/start"), ("POST", "/api/import-voice")):
            answer = browser.request(method, path, headers=headers)
            assert (answer.status_code, why in answer.json()["error"]) == (status, True), answer.text
        with pytest.raises(WebSocketDisconnect), browser.websocket_connect("/api/session", headers=headers):
            pass

    def test_the_page_itself_needs_the_token_and_loads_from_nowhere_else(self, browser: TestClient) -> None:
        assert browser.get("/", headers={"x-token": ""}).status_code == 403
        page = browser.get(f"/?token={TOKEN}", headers={"x-token": ""})
        assert page.status_code == 200
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert "http://" not in page.text
        for name in ("studio.js", "studio.css", "page.css"):
            assert browser.get(f"/{name}", headers={"x-token": ""}).status_code == 200
        assert browser.get("/../pyproject.toml").status_code == 404
        assert browser.get("/nothing.js").status_code == 404

    def test_our_own_page_comes_in(self, browser: TestClient) -> None:
        assert (
            browser.post("/api/prescribe", json={"audiogram": "500:30"}, headers={"origin": f"http://localhost:{PORT}"}).status_code
            == 200
        )


class TestRequests:
    def refused(self, answer: Any) -> str:
        assert answer.status_code == 409, answer.text
        line: str = answer.json()["error"]
        assert "\n" not in line
        return line

    def test_what_there_is(self, browser: TestClient, studio: Studio, tmp_path: Path) -> None:
        (tmp_path / "bob.voice").write_text("{}")
        state = browser.get("/api/state").json()
        assert state["voices"] == ["bob"]
        assert {"small", "nano"} <= set(state["models"])
        assert state["running"] is False
        assert isinstance(state["devices"], list)

    def test_a_voice_is_brought_kept_private_and_deleted(self, browser: TestClient, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        soundfile.write(buffer, utterance(3, 0, 4.0), 16000, format="WAV")
        made = browser.post("/api/import-voice?name=alice&file=clip.wav", content=buffer.getvalue())
        assert made.status_code == 200, made.text
        assert made.json()["voice"] == "alice"
        path = tmp_path / "alice.voice"
        assert path.stat().st_mode & 0o777 == 0o600
        assert sorted(tmp_path.iterdir()) == [path], "the recording is not kept"
        again = browser.post("/api/import-voice?name=alice&file=clip.wav", content=buffer.getvalue())
        assert "there is a voice alice already" in self.refused(again)
        assert browser.post("/api/delete-voice", json={"name": "alice"}).json() == {"deleted": "alice"}
        assert not path.exists()

    def test_sound_that_is_none_is_said_as_the_command_line_says_it(self, browser: TestClient, tmp_path: Path) -> None:
        said = self.refused(browser.post("/api/import-voice?name=alice&file=clip.wav", content=b"no sound"))
        assert "format" in said.lower()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 41, 3, None])
    def test_a_voice_lies_in_the_folder_and_nowhere_else(self, browser: TestClient, name: object) -> None:
        for path in ("/api/delete-voice", "/api/record-voice"):
            assert "a voice is named by 1 to 40 letters" in self.refused(browser.post(path, json={"name": name}))

    @pytest.mark.parametrize(
        ("asked", "why"),
        [
            ({}, "no voice was chosen"),
            ({"voices": ["nobody"]}, "nobody.voice"),
            ({"voices": ["bob"], "engine": "device"}, "a session has no option 'engine'"),
            ({"voices": ["bob"], "input": ["--record=/etc/passwd"]}, "a session has no option 'input'"),
            ({"voices": ["bob"], "margin-ms": True}, "a session has no option 'margin-ms'"),
            ({"voices": ["bob"], "input": "a\0b"}, "live cannot be started in"),
        ],
    )
    def test_a_session_that_cannot_begin(self, browser: TestClient, asked: dict[str, object], why: str) -> None:
        assert why in self.refused(browser.post("/api/start", json=asked))
        assert browser.post("/api/stop", json={}).json() == {"running": False, "report": {}}

    def test_a_folder_that_is_gone_is_one_line(self, browser: TestClient, tmp_path: Path) -> None:
        tmp_path.rmdir()
        assert "devices cannot be started in" in self.refused(browser.get("/api/state"))
        assert str(tmp_path) in self.refused(browser.post("/api/import-voice?name=a&file=a.wav", content=b"sound"))

    def test_every_window_is_given_the_report(self, browser: TestClient, studio: Studio) -> None:
        """Each is told that the session is over, and asks: the second is not refused."""

        class Over:
            running = False

            async def stop(self) -> dict[str, Any]:
                return {"seconds": 3.0}

        studio.sitting = Over()  # type: ignore[assignment]
        for _ in range(2):
            assert browser.post("/api/stop", json={}).json() == {"running": False, "report": {"seconds": 3.0}}

    def test_what_is_no_json_is_one_line(self, browser: TestClient) -> None:
        assert "send one JSON object" in self.refused(browser.post("/api/start", content=b"\xff{"))

    def test_more_than_any_page_sends(self, browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edge_tse.studio.server._MOST_BYTES", 2**20)
        assert "more than 1 MiB" in self.refused(browser.post("/api/import-voice?name=a&file=a.wav", content=bytes(2**21)))

    def test_gains_of_an_audiogram(self, browser: TestClient) -> None:
        found = browser.post("/api/prescribe", json={"audiogram": "500:40,2000:60 / 500:0,2000:0"}).json()
        assert found["hz"] == [250, 500, 1000, 1500, 2000, 3000, 4000, 6000]
        assert max(found["gain_db"][0]) > 15
        assert found["gain_db"][1] == [0.0] * 8
        assert "is not an audiogram" in self.refused(browser.post("/api/prescribe", json={"audiogram": "loud"}))

    def test_a_browser_without_a_session_is_told_so_and_stays(self, browser: TestClient) -> None:
        with browser.websocket_connect(f"/api/session?token={TOKEN}") as session:
            assert session.receive_json() == {"running": False}
            session.send_text('{"status": true}')
            session.send_text("nonsense")
            answers: list[dict[str, Any]] = []
            while len(answers) < 2:
                told = session.receive_json()
                answers += [told["answer"]] if "answer" in told else []
        assert answers[0] == {"ok": False, "error": "no session is running: start one"}
        assert "send one JSON object" in answers[1]["error"]

    def test_another_session_is_heard_from_its_first_line(self, browser: TestClient, studio: Studio) -> None:
        """Lines that it says while it starts are there before the browser knows of it, as many as the one before had."""

        class Said:
            running = True

            def __init__(self, *lines: str) -> None:
                self.lines = list(lines)

            async def do(self, command: object) -> dict[str, Any]:
                return {"ok": True}

            async def stop(self) -> dict[str, Any]:
                return {}

        heard: list[str] = []
        with browser.websocket_connect(f"/api/session?token={TOKEN}") as session:
            for lines in (("a", "b"), ("c", "d")):
                studio.sitting = Said(*lines)  # type: ignore[assignment]
                for _ in range(3):
                    heard += session.receive_json().get("lines", [])
        assert heard == ["a", "b", "c", "d"]


class TestVerb:
    def command(self, folder: Path, *options: str) -> list[str]:
        return [sys.executable, "-m", "edge_tse", "studio", "--no-browser", "--folder", str(folder), *options]

    def test_a_port_that_is_taken_is_one_line(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            ended = subprocess.run(
                self.command(tmp_path, "--port", str(port)), capture_output=True, text=True, timeout=60, check=False
            )
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"edge-tse: port {port} cannot be used")
        assert ended.stderr.count("\n") == 1

    def test_a_folder_that_is_none(self, tmp_path: Path) -> None:
        ended = subprocess.run(self.command(tmp_path / "no"), capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, "is no folder" in ended.stderr) == (2, True)

    def test_it_prints_its_address_and_ends_with_ctrl_c(self, tmp_path: Path) -> None:
        import urllib.request

        process = subprocess.Popen(self.command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        for _ in range(100):
            try:
                with urllib.request.urlopen(address, timeout=5) as page:  # of this machine
                    assert b"edge-tse studio" in page.read()
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail("nobody answers")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert "Traceback" not in err
        assert process.returncode in (0, 130)


def test_an_answer_that_comes_late_is_not_the_next_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr("edge_tse.studio.program._ANSWER_S", 0.3)

    class Slow(Program):
        async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while line := await reader.readline():
                    await asyncio.sleep(0.5 if b"slow" in line else 0)
                    writer.write(line)
                writer.close()
                await writer.wait_closed()

            self.server = await asyncio.start_unix_server(answer, arguments[-1])
            return await asyncio.create_subprocess_exec("sleep", "60", stdout=-1, stderr=-1)

    async def talk() -> dict[str, Any]:
        program = Slow(tmp_path)
        sitting = Sitting(program, [])
        await sitting.start()
        with pytest.raises(AudioError, match="the session does not answer"):
            await sitting.do({"mark": "slow"})
        await asyncio.sleep(0.4)
        got = await sitting.do({"mark": "quick"})
        sitting.terminate()
        await sitting.stop()
        program.server.close()
        await asyncio.sleep(0.2)  # until both connections are closed
        return got

    assert asyncio.run(talk()) == {"mark": "quick"}


LIVE = """
import json, socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[sys.argv.index("--control") + 1])
listening.listen()
lines = listening.accept()[0].makefile("rwb")
for line in lines:
    lines.write(b'{"ok": true}\\n')
    lines.flush()
    if "end" in json.loads(line):
        open("ended", "w").close()
        break
"""
STUDIO = """
import sys
from pathlib import Path
from edge_tse.studio.program import Program
from edge_tse.studio.server import Studio, serve

program = Program(Path.cwd(), command=(sys.executable, "live.py"))
serve(Studio(program), 0, tell=lambda address: print(address, flush=True), opens=False)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_session_ends_with_the_studio(tmp_path: Path, how: signal.Signals) -> None:
    """Also where the signal goes to the studio alone: microphone and earphones would stay open, and the page be gone."""
    import urllib.error
    import urllib.request

    (tmp_path / "live.py").write_text(LIVE)
    (tmp_path / "alice.voice").touch()
    process = subprocess.Popen([sys.executable, "-c", STUDIO], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address, _, token = process.stdout.readline().strip().partition("/?token=")
    start = urllib.request.Request(f"{address}/api/start", data=b'{"voices": ["alice"]}', headers={"x-token": token})
    for _ in range(100):
        try:
            with urllib.request.urlopen(start, timeout=10) as answer:  # of this machine
                assert b"true" in answer.read()
            break
        except urllib.error.URLError:  # it does not listen yet
            time.sleep(0.1)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize(("ask", "told"), [("start", b'{"voices": ["alice"]}'), ("record-voice", b'{"name": "alice"}')])
def test_what_has_only_begun_ends_with_the_studio(tmp_path: Path, ask: str, told: bytes) -> None:
    """A session that does not answer yet, and a voice that is being recorded: nobody else knows of either."""
    import http.client

    (tmp_path / "live.py").write_text("import os, time\nos.symlink(str(os.getpid()), 'begun')\ntime.sleep(20)\n")
    process = subprocess.Popen([sys.executable, "-c", STUDIO], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address, _, token = process.stdout.readline().strip().partition("/?token=")
    for _ in range(100):
        asking = http.client.HTTPConnection(address.removeprefix("http://"))
        try:
            asking.request("POST", f"/api/{ask}", told, {"x-token": token})
            break
        except ConnectionRefusedError:  # it does not listen yet
            time.sleep(0.1)
    for _ in range(100):
        if (tmp_path / "begun").is_symlink():
            break
        time.sleep(0.1)
    begun = int((tmp_path / "begun").readlink().name)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    asking.close()
    for _ in range(20):
        status = Path(f"/proc/{begun}/status")
        if not status.exists() or "(zombie)" in status.read_text():  # as where nobody is there to take it away
            return
        time.sleep(0.1)
    pytest.fail("it goes on")


def test_a_verb_that_refuses_says_its_line(tmp_path: Path) -> None:
    import asyncio

    with pytest.raises(AudioError, match=r"^missing.wav: there is no such file"):
        asyncio.run(Program(tmp_path).run("enroll", "missing.wav", "-o", "a.voice"))
