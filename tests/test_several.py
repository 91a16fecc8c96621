"""Extraction from several recordings and folders: names, failures of some, and how much of the rest stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_tse import audio
from edge_tse.destinations import Destination, destinations
from edge_tse.errors import AudioError
from edge_tse.voice import save_voice
from tests import graphs
from tests.command import Run

pytest.importorskip("soundfile")
pytest.importorskip("soxr")

RATE = 16000
MODEL = graphs.artifact(graphs.NANO, frames=4)


def noise(n: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (channels, n)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a model, a voice, and recordings in places."""
    MODEL.save(tmp_path / "model.etse")
    save_voice(graphs.voice(MODEL.voice_model), tmp_path / "alice.voice")
    for i, name in enumerate(("one.wav", "day/two.wav", "day/late/three.flac", "day/.hidden.wav")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        audio.write(tmp_path / name, noise(2000 + i, 1 + i % 2, i), RATE)
    (tmp_path / "day" / "notes.txt").write_text("no sound")
    monkeypatch.chdir(tmp_path)
    return tmp_path


REST = ("--voice", "alice.voice", "--artifact", "model.etse", "--engine", "reference")


def names(made: list[Destination]) -> dict[str, str]:
    return {str(each.source): str(each.to) for each in made}


class TestDestinations:
    def test_files_by_their_name_and_folders_as_they_are(self, folder: Path) -> None:
        assert names(destinations([Path("one.wav"), Path("day")], Path("out"))) == {
            "one.wav": "out/one.wav",
            "day/late/three.flac": "out/late/three.wav",
            "day/two.wav": "out/two.wav",
        }

    def test_the_same_file_counts_once(self, folder: Path) -> None:
        given = [Path("day/two.wav"), folder / "day" / "two.wav", Path("day")]
        assert list(names(destinations(given, Path("out"))).values()) == ["out/two.wav", "out/late/three.wav"]

    def test_what_an_earlier_run_made_is_no_recording(self, folder: Path) -> None:
        before = names(destinations([Path("day")], Path("day/out")))
        audio.write(Path("day/two.wav"), noise(100), RATE)
        (folder / "day" / "out").mkdir()
        audio.write(Path("day/out/two.wav"), noise(100), RATE)
        assert names(destinations([Path("day")], Path("day/out"))) == before

    def test_two_that_would_become_one(self, folder: Path) -> None:
        shutil.copy("one.wav", "day/one.wav")
        with pytest.raises(AudioError, match=r"^one\.wav and day/one\.wav would both become out/one\.wav: give each a folder"):
            destinations([Path("one.wav"), Path("day")], Path("out"))

    @pytest.mark.parametrize("other", ["symbolic", "hard"])
    def test_no_input_is_replaced_under_any_name(self, folder: Path, other: str) -> None:
        with pytest.raises(AudioError, match=r"^day/two\.wav, which day/two\.wav would become, is also an input"):
            destinations([Path("day")], Path("day"))
        (folder / "out").mkdir()
        link = folder / "out" / "one.wav"
        link.symlink_to(folder / "day" / "two.wav") if other == "symbolic" else link.hardlink_to(folder / "day" / "two.wav")
        with pytest.raises(AudioError, match=r"^out/one\.wav, which one\.wav would become, is also an input"):
            destinations([Path("one.wav"), Path("day/two.wav")], Path("out"))
        with pytest.raises(AudioError, match=r"^out/one\.wav, which one\.wav would become, is also an input"):
            destinations([Path("one.wav")], Path("out"), [Path("day/two.wav")])

    @pytest.mark.parametrize(
        ("to", "complaint"),
        [
            ("alice.voice", "alice.voice is a file, and several recordings become several: give the name of a folder"),
            ("all.wav", "all.wav is the name of one sound file"),
        ],
    )
    def test_what_is_no_folder(self, folder: Path, to: str, complaint: str) -> None:
        with pytest.raises(AudioError, match=complaint):
            destinations([Path("one.wav"), Path("day")], Path(to))

    def test_a_folder_without_sound(self, folder: Path) -> None:
        (folder / "empty").mkdir()
        with pytest.raises(AudioError, match=r"^empty: there is no sound file in this folder"):
            destinations([Path("one.wav"), Path("empty")], Path("out"))


class TestExtract:
    def test_a_folder_into_a_folder(self, run: Run, folder: Path) -> None:
        done = run("extract", "one.wav", "day", *REST, "-o", "out", "--json")
        assert done.err == ""
        assert (done.json["extracted"], done.json["failed"]) == (3, 0)
        assert done.json["seconds"] == pytest.approx((2000 + 2001 + 2002) / RATE)
        for each in done.json["files"]:
            made, rate = audio.read(Path(each["output"]))
            mixture, _ = audio.read(Path(each["mixture"]))
            assert made.shape == mixture.shape
            assert rate == RATE
            assert each["compute"]["hops"] > 30
        alone = run("extract", "day/two.wav", *REST, "-o", "two.wav")
        assert alone.code == 0
        assert Path("two.wav").read_bytes() == Path("out/two.wav").read_bytes(), "the file before left nothing behind"

    def test_one_file_into_a_folder(self, run: Run, folder: Path) -> None:
        (folder / "out").mkdir()
        done = run("extract", "one.wav", *REST, "-o", "out")
        assert done.code == 0
        assert "extracted 1 of 1 recordings" in done.out
        assert Path("out/one.wav").is_file()

    def test_one_of_several_fails_and_the_rest_goes_on(self, run: Run, folder: Path) -> None:
        Path("day/two.wav").write_bytes(b"RIFF, perhaps")
        done = run("extract", "one.wav", "day", "none.wav", *REST, "-o", "out", "--json")
        assert done.code == 2
        found = json.loads(done.out)
        assert (found["extracted"], found["failed"]) == (2, 2)
        errors = {each["mixture"]: each["error"] for each in found["files"]}
        assert errors["one.wav"] is None
        assert "day/two.wav is not a readable sound file" in errors["day/two.wav"]
        assert done.err.startswith("edge-tse: 2 of 4 recordings failed, the others are in out: day/two.wav is not a readable")
        assert "none.wav: there is no such file" in done.err
        assert done.err.count("\n") == 1
        assert sorted(path.name for path in Path("out").rglob("*.wav")) == ["one.wav", "three.wav"]

    def test_the_summary_names_what_failed(self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        done = run("extract", "one.wav", "none.wav", *REST, "-o", "out")
        assert done.code == 2
        assert "extracted 1 of 2 recordings" in done.out
        assert [line.split()[1:4:2] for line in done.out.splitlines() if "none.wav" in line] == [["none.wav", "failed"]]

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ("one.wav - -o out", "standard input and output carry one sound"),
            ("one.wav day -o -", "standard input and output carry one sound"),
            ("one.wav day -o out.wav", "out.wav is the name of one sound file"),
            ("day -o day", "is also an input"),
            ("one.wav -o out.wav --strength 0.5 --ambient-db -6", "--strength and --ambient-db both say"),
            ("one.wav -o out.wav --strength 2", "strength 2 is not within 0 (the mixture) and 1 (the talker alone)"),
            ("one.wav -o out.wav --ambient-db 30", "ambient 30 dB is not within -60 to 20 dB"),
            ("one.wav -o out.wav --strength 0.5 --no-trim", "--no-trim keeps the latency"),
        ],
    )
    def test_nothing_is_made_of_what_is_asked_wrongly(self, run: Run, folder: Path, arguments: str, complaint: str) -> None:
        before = sorted(folder.rglob("*"))
        assert complaint in run("extract", *arguments.split(), *REST).complaint
        assert sorted(folder.rglob("*")) == before


class TestMix:
    def made(self, run: Run, *options: str) -> np.ndarray:
        assert run("extract", "day/two.wav", *REST, *options, "-o", "made.wav").code == 0
        return audio.read(Path("made.wav"))[0]

    def test_strength_goes_from_the_mixture_to_the_talker(self, run: Run, folder: Path) -> None:
        mixture, talker = audio.read(Path("day/two.wav"))[0], self.made(run)
        assert np.array_equal(self.made(run, "--strength", "0"), mixture)
        assert np.array_equal(self.made(run, "--strength", "1"), talker)
        assert np.allclose(self.made(run, "--strength", "0.25"), 0.25 * talker + 0.75 * mixture, atol=1e-6)

    def test_the_room_stays_beside_the_talker_as_in_a_live_session(self, run: Run, folder: Path) -> None:
        mixture, talker = audio.read(Path("day/two.wav"))[0], self.made(run)
        assert np.allclose(self.made(run, "--ambient-db", "-20"), talker + 0.1 * mixture, atol=1e-6)

    def test_a_dead_ear_stays_out(self, run: Run, folder: Path) -> None:
        """What is heard of the room is what was listened to."""
        left = noise(RATE)[0]
        audio.write(Path("day/two.wav"), np.stack([left, np.zeros_like(left)]), RATE)
        both = self.made(run, "--strength", "0")
        assert np.allclose(both, left, atol=1e-6)


class TestList:
    def test_voices_of_a_folder(self, run: Run, folder: Path) -> None:
        Path("broken.voice").write_text("{}")
        done = run("enroll", "--list", ".", "--json")
        (alice,) = done.json["voices"]
        assert alice["voice"] == "alice.voice"
        assert alice["encoder"] == MODEL.voice_model.encoder_digest
        assert {"created", "speech_s", "shipped_models", "source"} <= set(alice)
        assert list(done.json["refused"]) == ["broken.voice"]
        assert "broken.voice is not an edge-tse voice" in done.err
        assert "voices in .: 1" in run("enroll", "--list", ".").out

    def test_none(self, run: Run, folder: Path) -> None:
        assert "day: no voices" in run("enroll", "--list", "day").out

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ("--list one.wav", "one.wav is no folder"),
            ("one.wav --list .", "--list makes no voice"),
            ("--list . -o a.voice", "--list makes no voice"),
            ("one.wav", "give -o alice.voice"),
        ],
    )
    def test_what_is_asked_wrongly(self, run: Run, folder: Path, arguments: str, complaint: str) -> None:
        assert complaint in run("enroll", *arguments.split()).complaint
