"""The page of ``make try`` in Chromium: the integers and samples of C, the voices of Python, and what a person does with it."""

from __future__ import annotations

import base64
import io
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from benchmarks.try_page import SOURCES, extract_with_c, round_to_16_bits, write_page
from edge_tse import Artifact
from edge_tse.audio import read
from edge_tse.demo.cases import shipped_cases
from edge_tse.enrollment import enroll_clips
from edge_tse.metrics import si_sdr
from edge_tse.voice import Voice
from firmware_bridge.build import wasm_module
from firmware_bridge.codegen import generate, voice_patch
from firmware_bridge.native import NativeChain
from tests import graphs

pytest.importorskip("ziglang", reason="compiling to WebAssembly needs ziglang: pip install '.[firmware]'")

RATE = 16000
SAME_VOICE = 0.9999
"""Least cosine of the embeddings that the page and Python make of one recording at the model's rate."""
RESAMPLED = 0.9999
"""The same where the page resamples first."""
PATIENCE_MS = 180_000
SOUNDS = [case.name for case in shipped_cases()]

Float = NDArray[np.float32]


class TestModule:
    def test_imports_nothing_and_is_small(self, tmp_path: Path) -> None:
        path = tmp_path / "engine.wasm"
        wasm_module(generate(graphs.artifact()), path)
        content = path.read_bytes()
        assert content.startswith(b"\0asm\1\0\0\0")
        sections = dict(_sections(content))
        assert 2 not in sections, "section 2 is what a module imports"
        assert b"etse_process" in sections[7]
        assert b"web_measure" in sections[7]
        assert len(content) < 200_000


class TestSources:
    def test_name_no_address(self) -> None:
        """Nothing is fetched: no URL is in them, and the page's own policy forbids connections."""
        for path in SOURCES.iterdir():
            assert not re.search(r"https?://|//[a-z]+\.|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", path.read_text()), path.name
        assert "connect-src 'none'" in (SOURCES / "index.html").read_text()

    def test_every_script_is_loaded_and_there(self) -> None:
        loaded = re.findall(r'src="([^"]+)"', (SOURCES / "index.html").read_text())
        assert {path.name for path in SOURCES.glob("*.js")} | {"model.js", "golden.js", "sounds.js"} == set(loaded)


def _sections(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Sections of a WebAssembly module by number; sizes are LEB128."""
    at = 8
    while at < len(content):
        number, size, shift = content[at], 0, 0
        while True:
            at += 1
            size |= (content[at] & 0x7F) << shift
            shift += 7
            if content[at] < 0x80:
                break
        yield number, content[at + 1 : at + 1 + size]
        at += 1 + size


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return Artifact.shipped()


@pytest.fixture(scope="module")
def folder(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "try"
    write_page(artifact, out)
    return out


@pytest.fixture(scope="module")
def clip() -> Float:
    with resources.as_file(resources.files("edge_tse") / "assets" / "demo" / "slt-enroll.flac") as path:
        return read(path)[0]


@pytest.fixture(scope="module")
def browser(clip: Float, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window, whose microphone hears the woman's enrollment."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install '.[dev]'")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: .ci/system browser, or apt-get install chromium")
    heard = tmp_path_factory.mktemp("microphone") / "heard.wav"
    soundfile.write(heard, clip.T, RATE, "PCM_16")
    flags = [
        "--no-sandbox",  # tests run as root in containers
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={heard}",
    ]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=flags)
        yield opened
        opened.close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The page on a plain web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()
        thread.join()


Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Open]:
    """``opened(...)``: the page with its first mixture extracted; options are the context's. It may make no mistake."""
    contexts, mistakes = [], []

    def call(url: str = address, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.on("console", lambda message: mistakes.append(message.text) if message.type == "error" else None)
        page.goto(url)
        ready(page)
        return page

    yield call
    for context in contexts:
        context.close()
    assert mistakes == []


def ready(page: Any) -> None:
    """Wait until an extraction is done."""
    page.get_by_text("ready. Press Play").wait_for()


def wav(signal: Float, rate_hz: int = RATE) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, signal.T, rate_hz, "PCM_16", format="WAV")
    return content.getvalue()


def give(page: Any, field: str, name: str, content: bytes) -> None:
    page.set_input_files(field, {"name": name, "mimeType": "application/octet-stream", "buffer": content})


def said(page: Any) -> str:
    """The line with which the page refuses something, once it does."""
    line = page.locator("#refusal")
    line.wait_for(state="visible")
    return str(line.inner_text())


def floats(text: str) -> Float:
    return np.frombuffer(base64.b64decode(text), "<f4")


ENCODE = "(v) => btoa(Array.from(new Uint8Array(v.buffer, v.byteOffset, v.byteLength), (b) => String.fromCharCode(b)).join(''))"
"""JavaScript: an array of numbers as base64."""


@pytest.mark.slow
class TestIntegers:
    @pytest.mark.parametrize("place", ["server", "disk"])
    def test_page_finds_no_difference(self, opened: Open, folder: Path, address: str, place: str) -> None:
        page = opened(address if place == "server" else (folder / "index.html").as_uri())
        page.click("#check")
        page.locator("#check:not([disabled])").wait_for()
        rows = page.locator("#checks tr")
        texts = {row.locator("td").nth(0).inner_text(): row.locator("td").nth(1).inner_text() for row in rows.all()}
        assert re.fullmatch(r"0 of [4-9],\d{3} frames differ on this browser", texts["Together"])
        assert texts["Golden frames"].startswith("0 of 512 ")
        assert re.match(r"0 of 46\d,\d{3} samples differ", texts["Sound of the C library"])
        assert page.locator("#checks tr.no").count() == 0

    def test_check_can_fail(self, opened: Open) -> None:
        """One golden integer, one sample and one voice changed: the page counts each."""
        page = opened()
        page.evaluate("""() => {
            const change = (text, at) => {
                const bytes = bytesOf(text);
                bytes[at] ^= 1;
                return btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""));
            };
            GOLDEN.moves = change(GOLDEN.moves, 1000);
            SOUNDS.mixtures[0].made_by_c = change(SOUNDS.mixtures[0].made_by_c, 4000);
            SOUNDS.talkers[0].embedding = SOUNDS.talkers[1].embedding;
        }""")
        page.click("#check")
        page.locator("#check:not([disabled])").wait_for()
        assert page.locator("#checks tr.no").count() == 4
        assert page.get_by_text("2 of ").first.inner_text().endswith("frames differ on this browser")

    def test_levels_are_those_of_python_to_the_bit(self, opened: Open, artifact: Artifact, clip: Float) -> None:
        page = opened()
        sound = clip[:, :20000]
        made = page.evaluate(
            "async (text) => (" + ENCODE + ")(await bandLevels([floatsOf(text)]))",
            base64.b64encode(sound.astype("<f4").tobytes()).decode(),
        )
        frame = artifact.frame
        wanted = frame.band_levels(frame.analyze(sound))
        np.testing.assert_array_equal(floats(made).reshape(wanted.shape), wanted)

    def test_scores_are_those_of_python(self, opened: Open, artifact: Artifact) -> None:
        page = opened()
        for case in shipped_cases()[:2]:
            page.get_by_label(case.title, exact=True).check()
            ready(page)
            shown = page.locator("#figures strong").first.inner_text()
            assert case.reference is not None
            mixture, alone = round_to_16_bits(case.mixture.signal), round_to_16_bits(case.reference.signal)
            made = extract_with_c(artifact, case.voice(artifact.voice_model), mixture)
            gain = si_sdr(made.astype(np.float64), alone.astype(np.float64)) - si_sdr(
                mixture.astype(np.float64), alone.astype(np.float64)
            )
            assert shown.replace("−", "-") == f"{gain:+.1f} dB"


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [graphs.TINY, graphs.BEAM, graphs.SMALL], ids=["tiny", "beam", "small"])
def test_kernels_give_the_integers_of_the_reference(opened: Open, tmp_path: Path, sizes: graphs.Sizes) -> None:
    """Random networks and features over all of int8, as no speech reaches it."""
    made = graphs.artifact(sizes, seed=1)
    width = sizes.frame.features
    features = np.random.default_rng(2).integers(-128, 128, (200, width)).astype(np.int8)
    golden = made.record(features).golden.outputs
    assert golden is not None
    wanted = np.concatenate([golden[name] for name in made.graph.outputs], axis=1)
    wasm_module(generate(made), tmp_path / "engine.wasm")
    run = f"""async ([wasm, features, width, moves]) => {{
        const {{ instance: {{ exports: c }} }} = await WebAssembly.instantiate(bytesOf(wasm), {{}}), rows = bytesOf(features);
        const [into, out] = ["web_features", "web_moves"].map((name, i) =>
            new Uint8Array(c.memory.buffer, c[name].value, i ? moves : width));
        const text = new Uint8Array(c.memory.buffer, c.etse_kernels(), 4), all = new Uint8Array((rows.length / width) * moves);
        c.etse_init(1);
        for (let t = 0; t < rows.length / width; t++) {{
            into.set(rows.subarray(t * width, (t + 1) * width));
            c.etse_network(into.byteOffset, out.byteOffset);
            all.set(out, t * moves);
        }}
        return [String.fromCharCode(...text), ({ENCODE})(all)];
    }}"""
    arguments = [base64.b64encode((tmp_path / "engine.wasm").read_bytes()).decode(), base64.b64encode(features.tobytes()).decode()]
    kernels, outputs = opened().evaluate(run, [*arguments, width, wanted.shape[1]])
    assert kernels == "wasm"
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(outputs), np.int8).reshape(wanted.shape), wanted)


@pytest.mark.slow
class TestOwnSound:
    def test_own_files_give_the_samples_of_c(self, opened: Open, artifact: Artifact, clip: Float) -> None:
        """A talker enrolled in the page, a mixture of two ears: with the page's patch, C gives the page's samples."""
        page = opened()
        give(page, "#talker-file", "her.wav", wav(clip))
        page.get_by_text("A voice from").wait_for()
        mixture = round_to_16_bits(shipped_cases()[1].mixture.signal)[:, :40000]
        content = io.BytesIO()
        soundfile.write(content, mixture.T, RATE, "PCM_16", format="FLAC")
        give(page, "#sound-file", "dinner.flac", content.getvalue())
        page.get_by_text("her.wav out of “dinner.flac”: ready").wait_for()
        patch = base64.b64decode(page.evaluate(f"() => ({ENCODE})(chosen.talker.patch)"))
        chain = NativeChain(artifact, 2)
        chain.set_voice(patch)
        hop, delay = artifact.frame.hop, artifact.frame.delay
        padded = np.pad(mixture, ((0, 0), (0, 2 * hop - 40000 % hop)))
        made = np.concatenate([chain(part) for part in np.split(padded, padded.shape[1] // hop, axis=1)], axis=1)
        ears = [np.frombuffer(base64.b64decode(page.evaluate(f"(e) => ({ENCODE})(shown.made[e])", e)), "<i2") for e in (0, 1)]
        np.testing.assert_array_equal(np.stack(ears), made[:, delay : delay + 40000])

    def test_what_is_saved_is_what_is_heard(self, opened: Open, tmp_path: Path) -> None:
        page = opened()
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / "talker.wav")
        samples, rate_hz = soundfile.read(tmp_path / "talker.wav", dtype="int16", always_2d=True)
        made = np.frombuffer(base64.b64decode(page.evaluate(f"() => ({ENCODE})(shown.made[0])")), "<i2")
        assert rate_hz == RATE
        np.testing.assert_array_equal(samples[:, 0], made)

    @pytest.mark.parametrize(
        ("field", "name", "content", "line"),
        [
            ("#sound-file", "notes.txt", b"no sound at all", "notes.txt is not a sound file that this browser reads"),
            ("#sound-file", "empty.wav", b"", "empty.wav is empty: 0 bytes"),
            (
                "#sound-file",
                "muted.wav",
                wav(np.zeros((1, RATE), np.float32)),
                "muted.wav is silent: every sample is below -90 dBFS",
            ),
            ("#sound-file", "four.wav", wav(np.full((4, RATE), 0.1, np.float32)), "four.wav has 4 channels, at most 2"),
            ("#talker-file", "hum.wav", wav(np.full((1, 4 * RATE), 1e-6, np.float32)), "hum.wav is silent"),
            ("#talker-file", "long.wav", wav(np.full((1, 61 * RATE), 0.1, np.float32)), "long.wav has 61 s, at most 60 s"),
        ],
    )
    def test_what_cannot_be_used_is_said_in_one_line(self, opened: Open, field: str, name: str, content: bytes, line: str) -> None:
        page = opened()
        give(page, field, name, content)
        answer = said(page)
        assert answer.startswith(line)
        assert "\n" not in answer
        page.get_by_label("Two men").check()  # and the page goes on
        page.get_by_text("“Two men”: ready").wait_for()
        assert page.locator("#refusal").is_hidden()


@pytest.mark.slow
class TestEnrollment:
    def _embedding(self, page: Any, content: bytes) -> Float:
        call = f"async (text) => ({ENCODE})((await enroll((await decode(bytesOf(text), 'clip')).channels, 'clip')).embedding)"
        return floats(page.evaluate(call, base64.b64encode(content).decode()))

    def test_voices_are_those_of_python(self, opened: Open, artifact: Artifact, clip: Float) -> None:
        """Also of recordings that are prepared first: with hum, with long pauses, with two ears of which one is better."""
        rng, page = np.random.default_rng(0), opened()
        seconds = np.arange(clip.shape[1]) / RATE
        hum = (clip + 0.2 * np.sin(2 * np.pi * 50 * seconds)).astype(np.float32)
        rare = np.pad(clip[:, : 4 * RATE], ((0, 0), (7 * RATE, 9 * RATE))).astype(np.float32)
        rare += rng.normal(0, 1e-4, rare.shape).astype(np.float32)
        ears = np.concatenate([0.5 * clip, clip])
        for name, signal in {"plain": clip, "hum": hum, "rare": rare, "ears": ears, "short": clip[:, : 3 * RATE]}.items():
            content = wav(signal)
            stored = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0].T
            wanted = enroll_clips(artifact.voice_model, [("clip", stored, RATE)]).voice.embedding
            assert float(self._embedding(page, content) @ wanted) >= SAME_VOICE, name

    def test_other_rates_are_resampled(self, opened: Open, artifact: Artifact, clip: Float) -> None:
        soxr = pytest.importorskip("soxr", reason="soxr is not installed: pip install '.[audio]'")
        page = opened()
        for rate_hz in (48000, 22050, 44100):
            content = wav(soxr.resample(clip.T, RATE, rate_hz).T, rate_hz)
            stored = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0].T
            wanted = enroll_clips(artifact.voice_model, [("clip", stored, rate_hz)]).voice.embedding
            assert float(self._embedding(page, content) @ wanted) >= RESAMPLED, rate_hz
        give(page, "#talker-file", "her.wav", content)
        page.get_by_text("resampled from 44100 to 16000 Hz").wait_for()

    def test_patch_is_that_of_python(self, opened: Open, artifact: Artifact) -> None:
        """The same embedding: float32 exponentials differ in their last bit between libraries, and biases by one step with them."""
        page = opened()
        voice = Voice(embedding=graphs.embedding(3), encoder_digest=artifact.voice_model.encoder_digest, created="", source="")
        text = base64.b64encode(voice.embedding.astype("<f4").tobytes()).decode()
        made = base64.b64decode(page.evaluate(f"async (text) => ({ENCODE})(await voicePatch(floatsOf(text)))", text))
        wanted = voice_patch(artifact, voice)
        assert len(made) == len(wanted)
        assert made[:24] == wanted[:24]
        half = (len(wanted) - 28) // 2
        factors = [np.frombuffer(patch[24 : 24 + half], "<f4") for patch in (made, wanted)]
        biases = [np.frombuffer(patch[24 + half : -4], "<i4") for patch in (made, wanted)]
        np.testing.assert_allclose(*factors, rtol=1e-6)
        assert np.abs(biases[0] - biases[1]).max() <= 1

    def test_too_little_speech_and_none(self, opened: Open, clip: Float) -> None:
        page = opened()
        give(page, "#talker-file", "hello.wav", wav(clip[:, :RATE]))
        assert re.match(r"hello\.wav: \d\.\d s of speech, at least 2\.0 s are needed", said(page))
        noise = (0.1 * np.random.default_rng(0).normal(size=(1, 5 * RATE))).astype(np.float32)
        give(page, "#talker-file", "noise.wav", wav(noise))
        page.get_by_text("noise.wav: no speech found").wait_for()

    def test_two_people_are_remarked(self, opened: Open, clip: Float) -> None:
        with resources.as_file(resources.files("edge_tse") / "assets" / "demo" / "rms-enroll.flac") as path:
            other = read(path)[0]
        page = opened()
        give(page, "#talker-file", "both.wav", wav(np.concatenate([clip[:, : 4 * RATE], other[:, : 4 * RATE]], axis=1)))
        page.get_by_text("two people seem to talk").wait_for()


@pytest.mark.slow
class TestPage:
    def test_takes_change_while_it_plays(self, opened: Open) -> None:
        page = opened()
        page.keyboard.press("b")
        assert page.get_by_label("B: talker").is_checked()
        page.click("h1")
        page.keyboard.press("Space")
        page.get_by_role("button", name="Pause").wait_for()
        page.wait_for_timeout(700)
        before = page.evaluate("() => player.positionS")
        page.keyboard.press("a")
        page.wait_for_timeout(300)
        assert page.evaluate("() => [player.heard, player.playing]") == ["mixture", True]
        assert page.evaluate("() => player.positionS") > before > 0
        page.keyboard.press("Space")
        page.get_by_role("button", name="Play", exact=True).wait_for()

    def test_what_reaches_the_earphones_is_the_chosen_take(self, opened: Open) -> None:
        """One take is a tone and the other is silent: what goes to the destination is measured."""
        page = opened()
        page.evaluate("""() => {
            const connect = AudioNode.prototype.connect;
            AudioNode.prototype.connect = function (to, ...rest) {
                if (to instanceof AudioDestinationNode) connect.call(this, globalThis.tap ??= this.context.createAnalyser());
                return connect.call(this, to, ...rest);
            };
            globalThis.peak = () => {
                const now = new Float32Array(tap.fftSize);
                tap.getFloatTimeDomainData(now);
                return Math.max(...now.map(Math.abs));
            };
            const tone = Int16Array.from({ length: 60 * MODEL.rate_hz }, (_, i) => 8000 * Math.sin(i / 5));
            player.load({ mixture: [tone], talker: [new Int16Array(tone.length)] }, "mixture");
        }""")
        page.click("#play")
        for key, loud in (("a", True), ("b", False), ("a", True)):
            page.keyboard.press(key)
            page.wait_for_timeout(600)
            assert (page.evaluate("() => peak()") > 0.2) is loud, key

    def test_keyboard_alone_reaches_everything(self, opened: Open) -> None:
        page = opened()
        reached = []
        for _ in range(16):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("() => document.activeElement.id || document.activeElement.name"))
        assert reached[:12] == [
            *("sound", "sound-file", "talker", "talker-file", "record", "play", "take", "save", "position", "live"),
            *("live-talker", "live-ears"),
        ]
        assert "check" in reached

    def test_arrow_keys_go_on_from_choice_to_choice(self, opened: Open) -> None:
        """The choices are drawn anew with each: the one that had the focus must not take it away."""
        page = opened()
        page.locator("#sounds input").first.focus()
        chosen = []
        for _ in SOUNDS:
            page.keyboard.press("ArrowDown")
            chosen.append(page.evaluate("() => [document.activeElement.name, document.activeElement.value]"))
        assert chosen == [["sound", name] for name in (*SOUNDS[1:], SOUNDS[0])]

    def test_play_pressed_twice_plays_once(self, opened: Open) -> None:
        """A second set of takes would be heard beside the first, and no key would change it."""
        page = opened()
        page.evaluate("""() => {
            const start = AudioBufferSourceNode.prototype.start;
            globalThis.started = 0;
            AudioBufferSourceNode.prototype.start = function (...when) { started++; start.apply(this, when); };
            document.getElementById("play").click();
            document.getElementById("play").click();
        }""")
        page.wait_for_timeout(500)
        assert page.evaluate("() => [started, player.playing]") == [3, True]

    def test_one_follower_however_often_the_position_is_moved(self, opened: Open) -> None:
        page = opened()
        page.click("#play")
        page.get_by_role("button", name="Pause").wait_for()
        calls = page.evaluate("""async () => {
            const frame = () => new Promise(requestAnimationFrame), own = showPosition;
            for (let i = 0; i < 20; i++) {
                $("position").dispatchEvent(new Event("input"));
                do await new Promise((resolve) => setTimeout(resolve, 5)); while (!player.playing);
            }
            let calls = 0;
            showPosition = () => { calls++; own(); };
            for (let i = 0; i < 10; i++) await frame();
            return calls;
        }""")
        assert 5 <= calls <= 15

    def test_talker_who_is_absent_is_said(self, opened: Open) -> None:
        page = opened()
        page.get_by_label("Two men").check()
        assert page.get_by_label("The American man").is_checked()
        page.get_by_label("The woman", exact=True).check()
        page.get_by_text("The woman is not in this sound").wait_for()

    def test_files_can_be_dropped(self, opened: Open, clip: Float) -> None:
        page = opened()
        page.evaluate(
            """(text) => {
            const data = new DataTransfer();
            data.items.add(new File([bytesOf(text)], "dropped.wav"));
            const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
            document.getElementById("sounds").dispatchEvent(drop);
        }""",
            base64.b64encode(wav(clip[:, :RATE])).decode(),
        )
        page.get_by_text("“dropped.wav”: ready").wait_for()

    def test_nothing_is_asked_for_but_the_files_of_the_folder(self, browser: Any, folder: Path, address: str) -> None:
        asked: list[str] = []
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        ready(page)
        page.click("#check")
        page.locator("#check:not([disabled])").wait_for()
        page.click("#live")
        page.get_by_text("from the engine to the headphones").wait_for()
        root = address.rpartition("/")[0]
        names = {url.removeprefix(f"{root}/") for url in asked if not url.startswith("data:")}
        assert names == {path.name for path in folder.iterdir()}
        refused = "() => fetch('/index.html').then(() => 'sent', () => 'refused')"
        assert page.evaluate(refused) == "refused"
        page.close()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize(("width", "zoom"), [(1280, 1), (1280, 2), (390, 1)])
    def test_fits_its_window(self, opened: Open, tmp_path: Path, scheme: str, width: int, zoom: int) -> None:
        """A zoom of 200 % halves the window in the page's own pixels."""
        page = opened(viewport={"width": width // zoom, "height": 844 // zoom}, device_scale_factor=zoom, color_scheme=scheme)
        wide, window = page.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= window
        page.evaluate("() => { document.documentElement.style.fontSize = '200%'; }")  # larger text alone
        if width > 390:
            assert page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        assert (tmp_path / "page.png").stat().st_size > 20_000


@pytest.mark.slow
class TestMicrophone:
    def test_is_heard_through_the_engine(self, opened: Open) -> None:
        page = opened()
        page.click("#live")
        page.get_by_text("one ear; this browser states").wait_for()
        page.wait_for_timeout(1500)
        into, out = (page.evaluate(f"() => document.getElementById('meter-{end}').value") for end in ("in", "out"))
        assert into > -40
        assert out > -50
        page.get_by_label("only the talker").uncheck()
        page.click("#live")
        page.get_by_role("button", name="Start listening").wait_for()

    def test_is_opened_once_and_closed(self, opened: Open) -> None:
        """Also where the button is pressed again while the browser asks, and another talker is chosen meanwhile."""
        page = opened()
        page.evaluate("""() => {
            const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            globalThis.streams = [];
            globalThis.patches = [];
            navigator.mediaDevices.getUserMedia = async (what) => {
                await new Promise((resolve) => setTimeout(resolve, 300));
                return streams[streams.push(await ask(what)) - 1];
            };
            const start = startLive;
            startLive = async (...given) => {
                const session = await start(...given);
                return { ...session, setVoice(patch) { patches.push(patch); session.setVoice(patch); } };
            };
            document.getElementById("live").click();
            document.getElementById("live").click();
        }""")
        page.get_by_label("The American man").check()
        page.get_by_text("this browser states").wait_for()
        assert page.evaluate("() => patches.at(-1) === talkers[1].patch && chosen.talker === talkers[1]")
        page.click("#live")
        page.get_by_role("button", name="Start listening").wait_for()
        page.wait_for_timeout(300)
        states = "() => streams.map((stream) => stream.getTracks().map((track) => track.readyState))"
        assert page.evaluate(states) == [["ended"]]

    def test_recording_says_once_that_it_records(self, opened: Open) -> None:
        """A status is read aloud whenever it changes: seconds and peak stand beside it."""
        page = opened()
        page.evaluate("""() => {
            globalThis.told = [];
            new MutationObserver(() => told.push($("status").textContent)).observe($("status"), { childList: true });
        }""")
        page.click("#record")
        page.get_by_text("s left, peak -").wait_for()
        page.wait_for_timeout(1000)
        assert page.evaluate("() => told") == ["Recording: talk as usual, alone and near the microphone."]
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="Record 10 s").wait_for()
        page.evaluate("() => { $('record').click(); $('record').click(); }")  # before it began: nothing is wrong
        page.wait_for_function("() => recording === null")
        assert page.locator("#refusal").is_hidden()

    @pytest.mark.parametrize("place", ["server", "disk"])
    def test_enrolls(self, opened: Open, artifact: Artifact, folder: Path, address: str, clip: Float, place: str) -> None:
        page = opened(address if place == "server" else (folder / "index.html").as_uri())
        page.evaluate("""() => {
            const own = enroll;
            globalThis.kept = [];
            enroll = async (...clip) => kept[kept.push(await own(...clip)) - 1];
        }""")
        page.click("#record")
        page.get_by_text("in my recording 1, enrolled here").wait_for()
        made = floats(page.evaluate(f"() => ({ENCODE})(kept[0].embedding)"))
        wanted = enroll_clips(artifact.voice_model, [("clip", clip, RATE)]).voice.embedding
        assert float(made @ wanted) > 0.8  # the microphone begins anywhere, and runs at a rate of its own

    def test_nothing_to_play_on_is_said(self, opened: Open) -> None:
        """Browsers then never say that the context runs, nor that it does not."""
        page = opened()
        page.evaluate("() => { AudioContext.prototype.resume = () => new Promise(() => {}); }")
        for button in ("#play", "#live"):
            page.click(button)
            assert said(page).startswith("the sound output did not open within 5 s: connect headphones")
            assert page.evaluate("() => [player.playing, live, opening]") == [False, None, False]
            page.evaluate("() => refuse('')")

    def test_that_is_refused_is_said(self, opened: Open) -> None:
        page = opened()
        page.evaluate(
            "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); }; }"
        )
        page.click("#live")
        assert said(page).startswith("the microphone was not allowed")
