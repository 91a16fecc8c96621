"""Fixtures of several files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

# Workers side by side have a core each: threads of two that wait for each other, spinning, took five times as long.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from edge_tse import audio
from edge_tse.cli import main
from quantization.corpus import Corpus, Speech, decode, open_corpus
from tests.command import Done, Run
from tests.speech import RATE, utterance, write_pack


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Remove what a process that a test killed left of its coverage, before all is added up.

    Of such a file coverage warns, or, where its first pages are whole, ends the run with an error: of 300 that were made by leaving
    pages out, 19 did.
    """
    result = yield
    if "PYTEST_XDIST_WORKER" not in os.environ:
        for path in session.config.rootpath.glob(".coverage.*"):
            if is_damaged(path):
                path.unlink()
    return result


def is_damaged(path: Path) -> bool:
    """Whether a file of coverage, an SQLite database, is not whole."""
    try:
        with closing(sqlite3.connect(path)) as database:
            database.execute("select * from coverage_schema").fetchall()
            return database.execute("pragma integrity_check").fetchall() != [("ok",)]
    except sqlite3.DatabaseError:
        return True


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """``run(*arguments)``: a verb in this process, with what it printed."""

    def call(*arguments: object) -> Done:
        code = main([str(a) for a in arguments])
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to train from, a few talkers and noises in the layout of the speech pack."""
    return write_pack(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def pack(data: Path) -> Corpus:
    """What that folder holds."""
    return open_corpus(data)


@pytest.fixture(scope="session")
def speech(pack: Corpus) -> Speech:
    """Its training talkers, at two speeds."""
    return decode(pack, pack.train_speakers, RATE, (1.0, 1.1))


@pytest.fixture(scope="module")
def smoke_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``smoke`` on that folder; of each file's own, since tests of another may change its arithmetic."""
    from quantization.train import train

    return train("smoke", tmp_path_factory.mktemp("run") / "whole", data).parent


@pytest.fixture(scope="module")
def short_calibration() -> Iterator[None]:
    """Quantization hears eight mixtures, not 48: every branch, and integers that nobody ships."""
    from quantization import quantize

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "_CALIBRATION_STEPS", quantize._CALIBRATION_STEPS[:2])
        yield


@pytest.fixture(autouse=bool(os.environ.get("EDGE_TSE_TEST_CFLAGS")), scope="session")
def sanitized() -> Iterator[None]:
    """Where the environment asks for sanitizers, all C for this machine is compiled with them, by the compiler that has them."""
    from firmware_bridge import build
    from tests.board import compiler

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "zig", compiler)
        yield


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of two trials: a pair of talkers (``two``), and one of them without the enrolled one (``absent``)."""
    folder = tmp_path_factory.mktemp("trials")
    a, b = utterance(0, 0, 2.0), utterance(5, 0, 2.0)
    for name, sound in {"a": a, "b": b, "mix": a + b, "enroll": utterance(0, 1, 8.0)}.items():
        audio.write(folder / f"{name}.wav", sound[None], 16000)
    rows = ("t0,mix.wav,enroll.wav,a.wav,b.wav,two", "t1,b.wav,enroll.wav,,b.wav,absent")
    (folder / "trials.csv").write_text("\n".join(("id,mixture,enrollment,target,interferer,condition", *rows)) + "\n")
    return folder / "trials.csv"
