"""The demonstration leaves sound, a picture and a page that stand on their own. Quality is tested where the shipped model is."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_tse import demo
from edge_tse.artifact import Artifact
from edge_tse.cli import main
from edge_tse.engines import Network, open_network
from edge_tse.errors import AudioError
from edge_tse.metrics import si_sdr
from edge_tse.voice import MIN_SPEECH_S, load_voice
from tests import graphs
from tests.speech import utterance

ROOT = Path(__file__).parent.parent
CLIPS = ROOT / "edge_tse" / "assets" / "demo"


def opened(artifact: Artifact) -> Network:
    return open_network(artifact, "litert")


class Page(HTMLParser):
    """What a page would load, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sources: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "srcset") or (tag == "link" and name == "href"):
                self.sources.append((tag, value or ""))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="session")
def artifact() -> Artifact:
    return graphs.artifact(graphs.NANO, frames=4)


@pytest.fixture(scope="session")
def shown(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> demo.Shown:
    return demo.run(demo.shipped_cases(), artifact, opened, tmp_path_factory.mktemp("demo") / "new")


@pytest.fixture(scope="session")
def page(shown: demo.Shown) -> Page:
    return Page(shown.page.read_text(encoding="utf-8"))


class TestClips:
    def test_are_small_and_at_16_khz(self) -> None:
        clips = sorted(CLIPS.glob("*.flac"))
        assert len(clips) == 6
        assert sum(p.stat().st_size for p in clips) < 620_000
        assert {p.stem: soundfile.info(p).channels for p in clips if soundfile.info(p).channels > 1} == {"room": 4}
        assert {soundfile.info(p).samplerate for p in clips} == {16000}

    def test_are_what_the_script_makes(self) -> None:
        if shutil.which("flite") is None:
            pytest.skip("flite is not installed (Debian package flite)")
        pytest.importorskip("pyroomacoustics", reason="pyroomacoustics is not installed (extra [dev])")
        command = [sys.executable, "-m", "benchmarks.make_demo_clips", "--check"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.stdout.count("equal") == 6, done

    def test_mixtures_are_at_0_db_and_add_up(self) -> None:
        for case in demo.shipped_cases():
            assert case.reference is not None
            wanted, mixed = case.reference.signal, case.mixture.signal
            interferer = mixed - wanted
            assert 10 * np.log10(np.sum(wanted**2) / np.sum(interferer**2)) == pytest.approx(0, abs=1e-3)
            assert np.abs(mixed).max() < 1
            assert abs(si_sdr(mixed, wanted)) < 1

    def test_a_telephone_has_its_band_and_who_is_on_it_was_enrolled_without(self) -> None:
        wide, narrow = (next(case for case in demo.shipped_cases() if case.name == name) for name in ("mixed-gender", "telephone"))
        hz = np.fft.rfftfreq(narrow.mixture.signal.shape[1], 1 / narrow.mixture.rate_hz)
        power = np.abs(np.fft.rfft(narrow.mixture.signal[0])) ** 2
        assert power[(hz < 290) | (hz > 3410)].sum() < 1e-6 * power.sum()
        assert np.array_equal(wide.enrollments[0].signal, narrow.enrollments[0].signal)

    def test_enrollment_is_long_enough_and_other_words(self) -> None:
        for case in demo.shipped_cases():
            assert case.reference is not None
            (clip,) = case.enrollments
            assert clip.signal.shape[1] / clip.rate_hz > 3 * MIN_SPEECH_S
            n = min(clip.signal.shape[1], case.reference.signal.shape[1])
            assert si_sdr(clip.signal[:, :n], case.reference.signal[:1, :n]) < -10


class TestFiles:
    def test_sound_of_each_case(self, shown: demo.Shown) -> None:
        assert [o.folder.name for o in shown.outcomes] == ["new", "two-ears", "same-gender", "telephone"]
        assert [o.extraction.signal.shape[0] for o in shown.outcomes] == [1, 2, 1, 1]
        for outcome in shown.outcomes:
            sounds = {name: soundfile.read(outcome.folder / f"{name}.wav") for name in ("mixture", "estimate", "reference")}
            assert {(len(signal), rate_hz) for signal, rate_hz in sounds.values()} == {
                (outcome.case.mixture.signal.shape[1], 16000)
            }
            assert np.abs(sounds["mixture"][0] - sounds["estimate"][0]).max() > 0.01
            voice = load_voice(outcome.folder / "talker.voice")
            assert voice.source == outcome.case.enrollments[0].name

    def test_pictures(self, shown: demo.Shown) -> None:
        for outcome in shown.outcomes:
            content = (outcome.folder / "picture.png").read_bytes()
            assert content.startswith(b"\x89PNG\r\n")
            assert len(content) < 10**6
            width, height = (int.from_bytes(content[i : i + 4]) for i in (16, 20))
            assert width >= 1000
            assert height >= 800

    def test_figures_are_those_of_the_files(self, shown: demo.Shown) -> None:
        report = json.loads((shown.page.parent / "figures.json").read_text())
        for stated, outcome in zip(report["figures"]["cases"], shown.outcomes, strict=True):
            wanted = soundfile.read(outcome.folder / "reference.wav", always_2d=True)[0].T
            for name in ("mixture", "estimate"):
                measured = si_sdr(soundfile.read(outcome.folder / f"{name}.wav", always_2d=True)[0].T, wanted)
                assert stated["si_sdr_db"][name] == pytest.approx(measured, abs=1e-3)
            assert stated["algorithmic_latency_ms"] == 8.0
            assert stated["compute"]["hops"] == len(outcome.extraction.timing.hop_s)
            assert stated["model"]["weight_bytes"] == outcome.artifact.graph.weight_bytes
        assert report["environment"]["versions"]["numpy"] == np.__version__


class TestPage:
    def test_nothing_is_fetched(self, page: Page) -> None:
        assert "link" not in page.tags
        assert page.tags.count("script") == 1
        assert page.sources
        assert [source[:40] for _, source in page.sources if not source.startswith("data:")] == []

    def test_players_hold_the_sound(self, page: Page, shown: demo.Shown) -> None:
        players = [source for tag, source in page.sources if tag == "audio"]
        assert len(players) == 16
        content = base64.b64decode(players[1].removeprefix("data:audio/wav;base64,"))
        heard, rate_hz = soundfile.read(io.BytesIO(content))
        wanted = soundfile.read(shown.page.parent / "estimate.wav")[0]
        assert rate_hz == 16000
        assert np.abs(heard - wanted).max() < 2**-14

    def test_light_and_dark_picture(self, page: Page) -> None:
        images = [source for tag, source in page.sources if tag in ("img", "source")]
        assert len(images) == len(set(images)) == 8
        assert all(base64.b64decode(i.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG") for i in images)

    def test_figures_voices_and_machine(self, page: Page, shown: demo.Shown) -> None:
        for outcome in shown.outcomes:
            for name, value in outcome.rows().items():
                assert name in page.text
                assert value in page.text
        for words in ("Synthetic speech", "flite", "voice slt", "A woman and a man", "Two men", "numpy " + np.__version__):
            assert words in page.text
        assert "$" not in page.text


class TestOwnFiles:
    @pytest.fixture
    def own(self, tmp_path: Path) -> tuple[Path, Path, Path]:
        """Two ears at 48 kHz, under a name that is not HTML."""
        rng = np.random.default_rng(0)
        mix, clip, alone = tmp_path / "<b>mix & me.wav", tmp_path / "clip.flac", tmp_path / "alone.wav"
        signal = rng.normal(0, 0.1, (48000, 2))
        soundfile.write(mix, signal, 48000)
        soundfile.write(alone, signal * 0.5, 48000)
        soundfile.write(clip, utterance(3, 0, 3.0, 8000), 8000)
        return mix, clip, alone

    def test_without_a_reference(self, own: tuple[Path, Path, Path], artifact: Artifact, tmp_path: Path) -> None:
        shown = demo.run(demo.own_case(own[0], own[1]), artifact, opened, tmp_path / "out")
        assert {p.name for p in (tmp_path / "out").iterdir()} == {
            "mixture.wav",
            "estimate.wav",
            "picture.png",
            "talker.voice",
            "figures.json",
            "index.html",
        }
        assert soundfile.info(tmp_path / "out" / "estimate.wav").channels == 2
        html = shown.page.read_text()
        assert "<b>mix" not in html
        assert "&lt;b&gt;mix &amp; me.wav" in html
        assert "Synthetic" not in html
        assert shown.outcomes[0].si_sdr_db is None
        assert "not known" in shown.outcomes[0].rows()["SI-SDR"]

    def test_with_a_reference(self, own: tuple[Path, Path, Path], artifact: Artifact, tmp_path: Path) -> None:
        shown = demo.run(demo.own_case(*own), artifact, opened, tmp_path / "out")
        assert shown.outcomes[0].si_sdr_db is not None
        assert shown.outcomes[0].si_sdr_db[0] > 60

    def test_a_reference_that_is_not_aligned(self, own: tuple[Path, Path, Path]) -> None:
        mix, clip, alone = own
        soundfile.write(alone, np.ones((100, 2)), 48000)
        with pytest.raises(AudioError, match="2 ch, 100 samples at 48000 Hz, the mixture 2 ch, 48000 at 48000 Hz"):
            demo.own_case(mix, clip, alone)
        soundfile.write(alone, np.zeros((48000, 2)), 48000)
        with pytest.raises(AudioError, match="silent channel"):
            demo.own_case(mix, clip, alone)

    def test_never_over_the_users_file(self, own: tuple[Path, Path, Path], artifact: Artifact, tmp_path: Path) -> None:
        mine = tmp_path / "mixture.wav"
        own[0].rename(mine)
        before = mine.read_bytes()
        with pytest.raises(AudioError, match="is also the input"):
            demo.run(demo.own_case(mine, own[1]), artifact, opened, tmp_path)
        assert mine.read_bytes() == before


def test_the_command(artifact: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One JSON object on stdout, nothing on stderr; without --json, tables and where the page is."""
    artifact.save(tmp_path / "model.etse")
    line = ["demo", "--artifact", str(tmp_path / "model.etse"), "--out", str(tmp_path / "out")]
    assert main([*line, "--json"]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    titles = [case["title"] for case in json.loads(captured.out)["cases"]]
    assert titles == [
        "A woman and a man",
        "The same two in a room, for two ears",
        "Two men",
        "The woman and the man over a telephone",
    ]
    soundfile.write(tmp_path / "mix.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 16000)
    own = ["--mix", str(tmp_path / "mix.wav"), "--enroll", str(CLIPS / "slt-enroll.flac"), "--engine", "reference"]
    assert main([*line, *own]) == 0
    captured = capfd.readouterr()
    assert "algorithmic latency" in captured.out
    assert "index.html in a browser" in captured.out
