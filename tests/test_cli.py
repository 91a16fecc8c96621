"""The command line as a user meets it: fixed names, one line for every mistake, JSON when asked."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile

from edge_tse.artifact import Artifact
from edge_tse.cli import main
from edge_tse.engines import engines as host_engines
from edge_tse.install_line import install_line
from edge_tse.voice import load_voice
from quantization.workers import Workers
from targets import tflite
from tests import graphs
from tests.command import Done, Run
from tests.speech import utterance


def speech(seconds: float, seed: int = 0, rate_hz: int = 16000) -> np.ndarray:
    return utterance(3, seed, seconds, rate_hz)


@dataclass(frozen=True)
class Files:
    folder: Path
    artifact: Path
    clip: Path
    voice: Path
    mixture: Path

    def untouched(self) -> bool:
        """No output and no temporary file was left."""
        return {p.name for p in self.folder.iterdir()} == {"model.etse", "clip.wav", "alice.voice", "mix.wav"}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("made")
    artifact = graphs.artifact(graphs.NANO, frames=10)
    artifact.save(folder / "model.etse")
    soundfile.write(folder / "clip.wav", speech(3), 16000)
    soundfile.write(folder / "mix.wav", np.stack([speech(1, 1, 44100), speech(1, 2, 44100)], axis=1), 44100, subtype="PCM_24")
    assert (
        main(["enroll", str(folder / "clip.wav"), "-o", str(folder / "alice.voice"), "--artifact", str(folder / "model.etse")]) == 0
    )
    return Files(folder, *(folder / name for name in ("model.etse", "clip.wav", "alice.voice", "mix.wav")))


@pytest.fixture
def files(made: Files, tmp_path: Path) -> Files:
    """A folder of one's own."""
    for path in made.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return Files(tmp_path, *(tmp_path / p.name for p in (made.artifact, made.clip, made.voice, made.mixture)))


FROZEN = {
    "demo": {"--out", "--mix", "--enroll", "--reference", "--artifact", "--engine"},
    "enroll": {"-o", "--record", "--scene", "--embedding", "--artifact", "--list", "--against"},
    "extract": {"-o", "--voice", "--artifact", "--engine", "--no-trim", "--strength", "--ambient-db"},
    "train": {"-o", "--data", "--minutes", "--steps", "--start", "--teacher", "--cut", "--embeddings", "--resume"},
    "quantize": {"-o", "--recipe", "--data", "--resume", "--teacher"},
    "compile": {"-o", "--voice", "--target", "--sbom"},
    "targets": set(),
    "profile": {"-o", "--engine", "--target", "--hops", "--ears", "--voice", "--against", "--describe"},
    "verify": {"--engine"},
    "evaluate": {"-o", "--trials", "--artifact", "--engine", "--jobs", "--workers", "--scheduler", "--hearing"},
    "doctor": set(),
    "devices": set(),
    "live": {
        "--voice",
        "--engine",
        "--record",
        "--report",
        "--with-voice",
        "--presets",
        "--control",
        "--own-voice-db",
        "--alarm-db",
        "--baud",
    },
    "replay": {"--voice", "--baud"},
    "completion": set(),
    "voice": {"--info", "--delete"},
    "likeness": {"--artifact"},
    "latency": set(),
    "calibrate": set(),
    "flash": {"--target", "--port", "--chip", "--via", "--voice", "--sign", "--trust", "--image", "--dry-run"},
    "board": {"--target", "--port", "--voice", "--mixture", "-o", "--ping", "--baud"},
    "analyse": {"--trials", "--plot", "--artifact", "--checkpoint", "--engine"},
}
"""Verbs and options that scripts rely on: add, never rename."""


class TestShape:
    @pytest.mark.parametrize("verb", FROZEN)
    def test_help_and_frozen_options(self, run: Run, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        done = run(verb, "--help")
        assert done.code == 0
        assert done.err == ""
        assert [o for o in {*FROZEN[verb], "--json"} if not re.search(f"{o}[ ,]", done.out)] == []

    def test_no_arguments_show_help(self, run: Run) -> None:
        done = run()
        assert done.code == 0
        assert [verb for verb in FROZEN if verb not in done.out] == []

    def test_version(self, run: Run) -> None:
        assert run("--version").out == "edge-tse 0.2.0\n"

    def test_module_is_the_command(self) -> None:
        done = subprocess.run([sys.executable, "-m", "edge_tse", "bogus"], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr == "edge-tse: No such command 'bogus'. (see `edge-tse --help`)\n"


class TestEnroll:
    def test_voice_file(self, run: Run, files: Files) -> None:
        done = run("enroll", files.clip, files.clip, "-o", files.folder / "b.voice", "--artifact", files.artifact, "--json")
        assert done.code == 0
        assert done.json["speech_s"] > 4
        assert done.json["encoder"] == Artifact.load(files.artifact).voice_model.encoder_digest
        assert load_voice(files.folder / "b.voice").source == "clip.wav, clip.wav"

    @pytest.mark.parametrize(("rate_hz", "channels", "subtype"), [(8000, 1, "PCM_16"), (44100, 2, "PCM_24"), (48000, 2, "FLOAT")])
    def test_any_rate_mono_or_stereo(self, run: Run, files: Files, rate_hz: int, channels: int, subtype: str) -> None:
        soundfile.write(files.clip, np.tile(speech(3, rate_hz=rate_hz)[:, None], channels), rate_hz, subtype=subtype)
        done = run("enroll", files.clip, "-o", files.folder / "b.voice", "--artifact", files.artifact)
        assert done.code == 0
        assert "a voice from" in done.out

    def test_clipped_clip_is_a_warning(self, run: Run, files: Files) -> None:
        soundfile.write(files.clip, np.clip(speech(3) * 20, -1, 1), 16000)
        done = run("enroll", files.clip, "-o", files.folder / "b.voice", "--artifact", files.artifact)
        assert done.code == 0
        assert done.err.startswith("edge-tse: warning: ")
        assert "samples are clipped" in done.err
        assert done.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (speech(1), "at least 2.0 s are needed"),
            (np.zeros(16000 * 5), "0.0 s of speech"),
            (np.full(1, 0.5), "0.0 s of speech"),
            (np.zeros(0), "0 samples"),
            (np.full(50000, np.nan), "NaN"),
            (np.tile(speech(3)[:, None], 4), "4 channels, at most 2"),
            (np.random.default_rng(0).normal(0, 0.1, 48000), "no speech found"),
            (0.1 * np.sin(np.arange(48000)), "no speech found"),
        ],
        ids=["short", "silent", "one sample", "empty", "nan", "four channels", "noise", "tone"],
    )
    def test_unusable_clips(self, run: Run, files: Files, content: np.ndarray, complaint: str) -> None:
        soundfile.write(files.clip, content, 16000, subtype="FLOAT")
        assert complaint in run("enroll", files.clip, "-o", files.folder / "b.voice", "--artifact", files.artifact).complaint
        assert files.untouched()

    def test_voice_over_the_clip(self, run: Run, files: Files) -> None:
        assert "is also the input" in run("enroll", files.clip, "-o", files.clip, "--artifact", files.artifact).complaint


class TestExtract:
    def test_aligned_same_channels_same_rate(self, run: Run, files: Files) -> None:
        out = files.folder / "out.wav"
        done = run("extract", files.mixture, "--voice", files.voice, "-o", out, "--artifact", files.artifact, "--json")
        assert done.code == 0
        assert done.err == ""
        info = soundfile.info(out)
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (44100, 2, 44100, "PCM_24")
        found = done.json
        assert found["trimmed"] is True
        assert found["algorithmic_latency_ms"] == 8.0
        assert found["engine"].startswith("litert/")
        assert found["compute"]["hops"] == 251
        assert {"p50_ms", "p99_ms", "max_ms", "deadline_misses", "real_time_factor"} <= set(found["compute"])

    def test_no_trim_is_longer_by_the_latency(self, run: Run, files: Files) -> None:
        out = files.folder / "out.flac"
        assert run("extract", files.mixture, "--voice", files.voice, "-o", out, "--artifact", files.artifact, "--no-trim").code == 0
        assert soundfile.info(out).frames == 44100 + -(-128 * 44100 // 16000)

    def test_engines_write_the_same_file(self, run: Run, files: Files) -> None:
        outs = []
        for engine in ("litert", "reference"):
            outs.append(files.folder / f"{engine}.wav")
            voice = ("--voice", files.voice, "--artifact", files.artifact)
            done = run("extract", files.mixture, *voice, "-o", outs[-1], "--engine", engine)
            assert done.code == 0
            assert "real-time factor" in done.out
        assert outs[0].read_bytes() == outs[1].read_bytes()

    def test_silent_and_clipped_are_warnings(self, run: Run, files: Files) -> None:
        rest = ("--voice", files.voice, "-o", files.folder / "out.wav", "--artifact", files.artifact, "--json")
        soundfile.write(files.mixture, np.zeros(1000), 8000)
        silent = run("extract", files.mixture, *rest)
        assert silent.json["input_silent"] is True
        assert silent.err.count("\n") == 1
        assert "is silent" in silent.err
        soundfile.write(files.mixture, np.clip(speech(1) * 20, -1, 1), 16000)
        clipped = run("extract", files.mixture, *rest)
        assert clipped.json["input_clipped_samples"] > 100
        assert "samples are clipped" in clipped.err.splitlines()[0]

    def test_one_sample(self, run: Run, files: Files) -> None:
        soundfile.write(files.mixture, np.full(1, 0.5), 48000)
        out = files.folder / "out.wav"
        assert run("extract", files.mixture, "--voice", files.voice, "-o", out, "--artifact", files.artifact).code == 0
        assert soundfile.info(out).frames == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("extract", "Missing argument"),
        ("extract {mix} -o out.wav", "Missing option '--voice'"),
        ("extract {mix} --bogus", "No such option"),
        ("train nano -o run --data d --minutes soon", "Invalid value for '--minutes'"),
        ("extract none.wav --voice {voice} -o out.wav --artifact {model}", "none.wav: there is no such file"),
        ("extract {mix} --voice none.voice -o out.wav --artifact {model}", "none.voice"),
        ("extract {mix} --voice {voice} -o out.wav --artifact none.etse", "none.etse"),
        ("extract {mix} --voice {mix} -o out.wav --artifact {model}", "not an edge-tse voice"),
        ("extract {model} --voice {voice} -o out.wav --artifact {model}", "not a readable sound file"),
        ("extract {mix} --voice {voice} -o out.wav --artifact {mix}", "not an edge-tse artifact"),
        ("extract {mix} --voice {voice} -o {mix} --artifact {model}", "is also the input"),
        ("extract {mix} --voice {voice} -o out.mp3 --artifact {model}", "choose .wav or .flac"),
        ("extract {mix} --voice {voice} -o no/out.wav --artifact {model}", "there is no folder no"),
        ("extract {mix} --voice {voice} -o out.wav --artifact {model} --engine abacus", "abacus"),
        ("verify none.etse", "none.etse"),
        ("verify {model} --engine abacus", ", litert, onnx, reference"),
        ("compile {model} --target toaster -o out.tflite", "unknown target 'toaster': one of litert"),
        ("compile {model} --target litert -o {model}", "is also the input"),
        ("compile {model} --target litert -o out.tflite --voice none.voice", "none.voice"),
        ("demo --mix {mix} --artifact {model} --out d", "both --mix MIXTURE and --enroll CLIP"),
        ("demo --mix {mix} --enroll none.wav --artifact {model} --out d", "none.wav: there is no such file"),
        ("demo --artifact {model} --out {mix}", "cannot be made"),
        ("evaluate --trials none.csv -o {mix} --artifact {model}", "none.csv"),
        ("enroll {mix} --input 3 -o out.voice", "--input 3 is the microphone for --record, which was not given"),
        ("enroll --embedding e.npy --scene -o out.voice", "or of --embedding: give one of them"),
        ("enroll --list . --scene", "--list makes no voice"),
        ("enroll --list . --artifact {model}", "--list makes no voice"),
    ],
)
def test_user_errors_are_one_line(run: Run, files: Files, monkeypatch: pytest.MonkeyPatch, arguments: str, complaint: str) -> None:
    monkeypatch.chdir(files.folder)
    names = {"mix": files.mixture.name, "voice": files.voice.name, "model": files.artifact.name}
    assert complaint in run(*arguments.format(**names).split()).complaint
    assert files.untouched()


class TestDamage:
    def test_voice_of_another_model(self, run: Run, files: Files) -> None:
        graphs.artifact(graphs.NANO, seed=7, frames=4).save(files.artifact)
        rest = ("--voice", files.voice, "-o", files.folder / "out.wav", "--artifact", files.artifact)
        assert "enroll again" in run("extract", files.mixture, *rest).complaint

    def test_personalized_artifact_takes_no_voice(self, run: Run, files: Files) -> None:
        from edge_tse.personalization import personalize

        personalize(Artifact.load(files.artifact), load_voice(files.voice)).record().save(files.artifact)
        rest = ("--voice", files.voice, "-o", files.folder / "out.wav", "--artifact", files.artifact)
        assert run("extract", files.mixture, *rest).complaint
        assert run("verify", files.artifact).code == 0

    @pytest.mark.parametrize("what", ["artifact", "voice"])
    @pytest.mark.parametrize("how", ["truncated", "flipped", "empty"])
    def test_damaged_files(self, run: Run, files: Files, what: str, how: str) -> None:
        path: Path = getattr(files, what)
        content = bytearray(path.read_bytes())
        match how:
            case "truncated":
                del content[len(content) // 2 :]
            case "flipped":
                content[len(content) // 2] ^= 1
            case "empty":
                content.clear()
        path.write_bytes(content)
        rest = ("--voice", files.voice, "-o", files.folder / "out.wav", "--artifact", files.artifact)
        assert str(path) in run("extract", files.mixture, *rest).complaint
        assert files.untouched()

    @pytest.mark.parametrize("name", ["bob.wav", "bob.FLAC", "-"])
    def test_a_voice_replaces_no_recording(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.chdir(tmp_path)
        soundfile.write("clip.wav", speech(3), 16000)
        assert "a voice is a file that holds none: give -o alice.voice" in run("enroll", "clip.wav", "-o", name).complaint
        assert [path.name for path in tmp_path.iterdir()] == ["clip.wav"]

    def test_a_folder_that_is_not_there(self, run: Run, files: Files) -> None:
        told = run("extract", files.mixture, "--voice", files.voice, "-o", f"{files.folder / 'out'}/").complaint
        assert "out is no folder that is there, and no name of a sound file: make it, or choose .wav or .flac" in told

    def test_full_disk(self, files: Files) -> None:
        """The whole command under a limit that stops its output in the middle."""
        program = (
            "import resource, signal, sys\n"
            "from edge_tse.cli import main\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "before = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (50000, before[1]))\n"
            "code = main(sys.argv[1:])\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, before)\n"  # what measures coverage writes at the end
            "sys.exit(code)"
        )
        line = ["extract", files.mixture, "--voice", files.voice, "-o", files.folder / "out.wav", "--artifact", files.artifact]
        command = [sys.executable, "-c", program, *map(str, line)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "could not be written: File too large" in Done(done.returncode, done.stdout, done.stderr).complaint
        assert files.untouched()


class TestModels:
    @pytest.mark.parametrize("engine", ["litert", "reference"])
    def test_verify(self, run: Run, files: Files, engine: str) -> None:
        done = run("verify", files.artifact, "--engine", engine, "--json")
        assert done.code == 0
        assert (done.json["worst_lsb"], done.json["mismatch_rate"], done.json["frames"]) == (0, 0, 10)
        assert "0 LSB" in run("verify", files.artifact, "--engine", engine).out

    def test_verify_fails_past_the_tolerance(self, run: Run, files: Files) -> None:
        from dataclasses import replace

        model = Artifact.load(files.artifact)
        assert model.golden.outputs is not None
        wrong = {name: values.copy() for name, values in model.golden.outputs.items()}
        wrong["mask"][3, 5] ^= 1
        replace(model, golden=replace(model.golden, outputs=wrong)).save(files.artifact)
        assert "mask differs by 1 LSB, 0 allowed" in run("verify", files.artifact, "--engine", "reference").complaint

    def test_compile(self, run: Run, files: Files) -> None:
        plain, personal = files.folder / "plain.tflite", files.folder / "alice.tflite"
        first = run("compile", files.artifact, "--target", "litert", "-o", plain, "--json").json
        second = run("compile", files.artifact, "--target", "litert", "-o", personal, "--voice", files.voice, "--json").json
        assert (first["personalized"], second["personalized"]) == (False, True)
        assert first["bytes"] == plain.stat().st_size
        assert plain.read_bytes()[4:8] == b"TFL3"
        assert first["weight_bytes"] == second["weight_bytes"]
        assert plain.read_bytes() != personal.read_bytes()

    def test_the_shipped_model_is_the_default(self, run: Run, monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
        monkeypatch.setattr(Artifact, "shipped", classmethod(lambda cls, name="small": Artifact.load(files.artifact)))
        assert run("verify", "--json").json["artifact"] == Artifact.load(files.artifact).digest
        assert run("compile", "--target", "litert", "-o", files.folder / "a.tflite").code == 0


class TestDoctor:
    @pytest.fixture
    def without_executorch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """To write one of its programs takes tens of seconds."""
        for name in ("executorch", *(name for name in sys.modules if name.startswith("executorch."))):
            monkeypatch.setitem(sys.modules, name, None)

    def tried(self, run: Run, monkeypatch: pytest.MonkeyPatch, files: Files) -> set[str]:
        """Engines that run, of all that there are."""
        monkeypatch.setattr(Artifact, "shipped", classmethod(lambda cls, name="small": Artifact.load(files.artifact)))
        done = run("doctor", "--json")
        engines = {e["engine"]: e for e in done.json["engines"]}
        assert set(engines) == set(host_engines())
        assert all(e["network_p50_ms"] > 0 for e in engines.values() if e["runs"])
        assert done.json["model"]["digest"] == Artifact.load(files.artifact).digest
        return {name for name, e in engines.items() if e["runs"]}

    @pytest.mark.usefixtures("without_executorch")
    def test_engines_are_really_tried(self, run: Run, monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
        found = self.tried(run, monkeypatch, files)
        assert {"litert", "reference"} <= found
        assert "executorch" not in found
        assert "runs" in run("doctor").out

    @pytest.mark.slow
    def test_executorch_is_tried_too(self, run: Run, monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
        pytest.importorskip("executorch", reason="needs edge-tse[executorch]")
        assert "executorch" in self.tried(run, monkeypatch, files)

    @pytest.mark.usefixtures("without_executorch")
    def test_missing_packages_come_with_the_line_that_installs_them(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, files: Files
    ) -> None:
        from importlib import metadata

        real = metadata.version

        def version(name: str) -> str:
            if name == "torch":
                raise metadata.PackageNotFoundError(name)
            return real(name)

        monkeypatch.setattr(metadata, "version", version)
        monkeypatch.setattr(Artifact, "shipped", classmethod(lambda cls, name="small": Artifact.load(files.artifact)))
        monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
        monkeypatch.setitem(sys.modules, "tflite_runtime", None)
        found = run("doctor", "--json").json
        litert = next(e for e in found["engines"] if e["engine"] == "litert")
        assert not litert["runs"]
        assert install_line("litert") in litert["detail"]
        train = next(e for e in found["extras"] if e["extra"] == "train")
        assert train["missing"] == ["torch"]
        assert train["install"] == install_line("train")

    def test_without_a_model_it_still_answers(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        from edge_tse.errors import ArtifactError

        def none(cls: type[Artifact], name: str = "small") -> Artifact:
            raise ArtifactError("this build ships no default model")

        monkeypatch.setattr(Artifact, "shipped", classmethod(none))
        done = run("doctor", "--json")
        assert done.code == 0
        assert done.json["model"] is None


class TestLab:
    """Verbs of packages that may not be installed: how they are called, and what is said when they are missing."""

    @pytest.fixture
    def module(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        def put(name: str, **functions: object) -> None:
            module = ModuleType(name)
            module.__dict__.update(functions)
            monkeypatch.setitem(sys.modules, name, module)

        return put

    def test_train(self, run: Run, module: Callable[..., None], tmp_path: Path) -> None:
        called = {}

        def train(name: str, folder: Path, data: Path, **options: object) -> Path:
            called.update(name=name, folder=folder, data=data, **options)
            return folder / "last.pt"

        module("quantization.train", train=train)
        done = run(
            "train", "nano", "-o", tmp_path / "run", "--data", tmp_path, "--minutes", "0.5", "--steps", "7", "--resume", "--json"
        )
        assert done.json == {"checkpoint": str(tmp_path / "run" / "last.pt"), "recipe": "nano"}
        assert callable(called.pop("watch"))
        assert called == {
            "name": "nano",
            "folder": tmp_path / "run",
            "data": tmp_path,
            "minutes": 0.5,
            "steps": 7,
            "start": None,
            "teacher": None,
            "rate": None,
            "embeddings": None,
            "cut": None,
            "resume": True,
        }

    def test_training_is_logged_where_nobody_watches(self, run: Run, module: Callable[..., None], tmp_path: Path) -> None:
        def train(name: str, folder: Path, data: Path, *, watch: Callable[[object], None], **options: object) -> Path:
            watch(SimpleNamespace(note="decoded speech: taken from cache/speech.npy"))
            for step in range(1, 101):
                watch(SimpleNamespace(phase="extraction", step=step, steps=100, figures={"loss": 1 / step}, note=""))
            return folder / "last.pt"

        module("quantization.train", train=train)
        done = run("train", "nano", "-o", tmp_path, "--data", tmp_path)
        taken = "edge-tse: decoded speech: taken from cache/speech.npy"
        assert done.err.splitlines() == [taken, "extraction 1/100  loss 1", "extraction 100/100  loss 0.01"]
        assert run("train", "nano", "-o", tmp_path, "--data", tmp_path, "--json").err == ""

    def test_quantize(self, run: Run, module: Callable[..., None], files: Files) -> None:
        def quantize(
            checkpoint: Path,
            recipe: str,
            artifact: Path,
            data: Path,
            *,
            steps: int | None,
            teacher: Path | None,
            resume: bool,
            watch: object,
        ) -> Artifact:
            assert teacher is None
            assert (checkpoint, recipe, artifact, data) == (files.clip, "w8a8", files.folder / "new.etse", files.folder)
            assert not resume
            assert steps is None
            return Artifact.load(files.artifact)

        module("quantization.quantize", quantize=quantize)
        done = run("quantize", files.clip, "-o", files.folder / "new.etse", "--data", files.folder, "--json")
        assert done.json["digest"] == Artifact.load(files.artifact).digest

    def test_evaluate(self, run: Run, module: Callable[..., None], files: Files) -> None:
        listed = files.folder / "trials.csv"
        listed.write_text("id,mixture,enrollment,target,condition\n1,mix.wav,clip.wav,,absent\n")

        def evaluate(
            trials: Path,
            artifact: Artifact,
            engine: str,
            progress: Callable[[float], None],
            *,
            workers: Workers,
            ears: object,
            journal: Path,
        ) -> dict[str, object]:
            progress(1.0)
            assert ears is None
            assert workers == Workers(count=1, scheduler="")
            assert journal == files.folder / "r.json.journal"
            assert (trials, artifact.digest, engine) == (listed, Artifact.load(files.artifact).digest, "reference")
            scores = {"n": 4, "mean": 3.25, "median": 3.5, "p10": -0.5, "p5": -0.75, "below_zero": 0.25}
            two = {"n": 4, "si_sdr_i": scores, "wrong_talker": 0.125, "onset_damping_db": {"median": 1.375}}
            tails = {"sex": {"same": {"si_sdr_i": scores, "wrong_talker": 0.5}}}
            return {"conditions": {"two talkers": two, "absent": {"n": 2, "attenuation_db": {}}}, "tails": tails}

        module("quantization.evaluate", evaluate=evaluate)
        line = (
            "evaluate",
            "--trials",
            listed,
            "--artifact",
            files.artifact,
            "--engine",
            "reference",
            "-o",
            files.folder / "r.json",
        )
        assert run(*line, "--json").json["conditions"]["two talkers"]["n"] == 4
        assert json.loads((files.folder / "r.json").read_text())["conditions"]["absent"]["n"] == 2
        shown = run(*line).out
        assert all(text in shown for text in ("3.50", "-0.75", "25%", "12%", "1.38", "by sex", "same", "50%"))

    def test_missing_package(self, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delitem(sys.modules, "quantization.train", raising=False)
        monkeypatch.setitem(sys.modules, "torch", None)
        complaint = run("train", "nano", "-o", tmp_path / "run", "--data", tmp_path).complaint
        assert install_line("train") in complaint


def test_a_runtime_is_hushed_but_not_gagged(run: Run, monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
    """LiteRT greets on file descriptor 2; whatever else a runtime says there is passed on."""
    from edge_tse import engines
    from edge_tse.reference import ReferenceNetwork

    def chatty(artifact: Artifact, engine: str) -> ReferenceNetwork:
        os.write(2, b"INFO: Created a delegate.\nERROR: the sky falls\n")
        return ReferenceNetwork(artifact.graph)

    monkeypatch.setattr(engines, "open_network", chatty)
    assert run("verify", files.artifact).err == "ERROR: the sky falls\n"


def test_bugs_show_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
    def broken(cls: type[Artifact], path: Path) -> Artifact:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Artifact, "load", classmethod(broken))
    with pytest.raises(RuntimeError, match="a bug"):
        run("verify", files.artifact)


@pytest.mark.slow
def test_ctrl_c_is_clean(files: Files) -> None:
    """Interrupted in the middle of a long extraction: one line, 130, and nothing left behind."""
    soundfile.write(files.mixture, speech(120), 16000)
    line = ["extract", files.mixture, "--voice", files.voice, "-o", files.folder / "out.wav", "--artifact", files.artifact]
    command = [sys.executable, "-m", "edge_tse", *map(str, line), "--engine", "reference"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background inherit that it is ignored
    )
    for _ in range(600):
        if "sndfile" in Path(f"/proc/{process.pid}/maps").read_text():  # the verb has begun, and reads
            break
        time.sleep(0.1)
    time.sleep(0.5)
    assert process.poll() is None, "finished too early to be interrupted"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out, err) == ("", "edge-tse: interrupted\n")
    assert files.untouched()


def test_a_foreign_model_is_profiled_and_verified(tmp_path, capsys) -> None:
    """One of our own flatbuffers as a stranger's; its wrong description is one line."""
    artifact = graphs.artifact()
    (tmp_path / "net.tflite").write_bytes(tflite.emit(artifact.graph, {}))
    pairs = ", ".join(f'["{s.input}", "{s.output}"]' for s in artifact.graph.states)
    described = tmp_path / "net.toml"
    described.write_text(
        'name = "ours"\nsource = "here"\nsample_rate_hz = 16000\nhop = 64\nalgorithmic_latency = 128\n'
        f'[[stages]]\nfile = "net.tflite"\nstates = [{pairs}]\n'
    )
    assert main(["profile", str(described), "--hops", "20", "-o", str(tmp_path / "p.json"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["step"]["hops"] == 20
    assert figures["memory"]["state_bytes"] == artifact.graph.state_bytes
    assert json.loads((tmp_path / "p.json").read_text())["figures"]["model_name"] == "ours"
    assert main(["verify", str(described), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["repeats"] is True
    assert main(["profile", str(described), "-o", str(tmp_path / "p.html")]) == 2
    assert "written as .json, not as .html" in capsys.readouterr().err
    # What means nothing for it is not passed over: a comparison that nobody made, an engine that did not run.
    for words in (
        ["profile", str(described), "--against", str(tmp_path / "p.json")],
        ["verify", str(described), "--engine", "onnx"],
    ):
        assert main(words) == 2
        assert f"{words[2]} {words[3]} is for models of edge-tse" in capsys.readouterr().err
    assert main(["profile", "--describe"]) == 2
    assert "give its .onnx or .tflite" in capsys.readouterr().err
    described.write_text(described.read_text().replace("hop = 64", "hopp = 64"))
    assert main(["verify", str(described)]) == 2
    assert "nearest is 'hop'" in capsys.readouterr().err
