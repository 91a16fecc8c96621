"""Work on several processes: the same results, whoever computes and whatever dies on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edge_tse.errors import DataError, EngineError
from quantization.journal import open_journal
from quantization.workers import Workers, results


class Square:
    """Squares; a task that is negative is refused, and the process that first gets to ``fatal`` dies of it."""

    def __init__(self, fatal: int = -1, mark: Path | None = None) -> None:
        self.fatal, self.mark = fatal, mark

    def __call__(self, task: int) -> dict[str, Any]:
        if task < 0:
            raise DataError(f"{task} is below 0")
        if task == self.fatal and self.mark is not None and not self.mark.exists():
            self.mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return {"square": task * task, "half": task / 2, "pair": (task, None)}


TASKS = {f"t{i}": i for i in range(20)}


def by_hand(tasks: dict[str, int]) -> list[dict[str, Any]]:
    return [{"square": i * i, "half": i / 2, "pair": [i, None]} for i in tasks.values()]


def test_results_are_in_order_and_as_a_file_gives_them_back() -> None:
    told: list[float] = []
    assert results(Square(), TASKS, progress=told.append) == by_hand(TASKS)
    assert told == [i / 20 for i in range(1, 21)]
    assert results(Square(), {}) == []


def test_what_a_journal_holds_is_not_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    with open_journal(path, {"of": "squares"}) as journal:
        results(Square(), {"t1": 1, "t2": 2}, journal=journal)
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([*lines[:2], lines[2].replace('"square": 4', '"square": 5'), lines[2][:20]])
    )  # the last one cut short
    told: list[float] = []
    with open_journal(path, {"of": "squares"}) as journal:
        found = results(Square(), {"t1": 1, "t2": 2, "t3": 3, "t4": 4}, journal=journal, progress=told.append)
    assert [each["square"] for each in found] == [1, 5, 9, 16]
    assert told == [0.5, 0.75, 1.0]
    assert [json.loads(line)["name"] for line in path.read_text().splitlines()[1:]] == ["t1", "t2", "t3", "t4"]


def test_a_run_that_is_stopped_keeps_what_was_finished(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="below 0"), open_journal(tmp_path / "x", {}) as journal:
        results(Square(), {"a": 1, "b": -1, "c": 2}, journal=journal)
    with open_journal(tmp_path / "x", {}) as journal:
        assert list(journal.found) == ["a"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"of": "cubes", "by": 1}\n{"name": "t", "result": 1}\n', "its of differs"),
        ('{"of": "squares", "by": 2}\n{"name": "t", "result": 1}\n', "its by differs"),
        ('{"of": "squares"}\n', "no journal of this work"),
        ("hello\n", "no journal of this work"),
        ('{"of": "squares", "by": 1}\n{"name": "t"}\n', "no journal of this work"),
        ("[]\n", "no journal of this work"),
        ("\xff\xfe\n", "no journal of this work"),
    ],
)
def test_a_journal_of_other_work_is_refused_and_left_alone(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "x.journal"
    path.write_text(text, "latin-1")
    with pytest.raises(DataError, match=complaint), open_journal(path, {"of": "squares", "by": 1}):
        pass
    assert path.read_text("latin-1") == text


def test_a_journal_serves_one_run_at_a_time(tmp_path: Path) -> None:
    def open_twice() -> None:
        with open_journal(tmp_path / "x", {}), open_journal(tmp_path / "x", {}):
            pass

    with pytest.raises(DataError, match="in use"):
        open_twice()
    with pytest.raises(DataError, match="cannot be kept: No such file"), open_journal(tmp_path / "none" / "x", {}):
        pass


def test_without_dask_one_process_computes_and_several_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert results(Square(), TASKS) == by_hand(TASKS)
    with pytest.raises(EngineError, match=r"several workers need it: .*pip install .*\[cluster\]"):
        results(Square(), TASKS, Workers(count=2))


# What starts processes runs in one of its own: Dask's threads and sockets end with it, and no warning of theirs is ours.

PROGRAM = """
import json, sys
from pathlib import Path
from quantization.journal import open_journal
from quantization.workers import Workers, results
from tests.test_workers import TASKS, Square

if __name__ == "__main__":
    of, journal, mark, address = json.loads(sys.argv[1])
    with open_journal(Path(journal), {}) as kept:
        who = Workers(scheduler=address) if address else Workers(count=of)
        print(json.dumps(results(Square(7, Path(mark)), TASKS, who, kept)))
"""


def program(tmp_path: Path, workers: int, address: str = "") -> subprocess.CompletedProcess[str]:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    line = json.dumps([workers, str(tmp_path / "journal"), str(tmp_path / "mark"), address])
    root = str(Path(__file__).parent.parent)
    return subprocess.run(
        [sys.executable, script, line], capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": root}
    )


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    done = program(tmp_path, 2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "mark").exists()  # one of the two died
    assert json.loads(done.stdout) == by_hand(TASKS)
    assert len((tmp_path / "journal").read_text().splitlines()) == 21


@pytest.mark.slow
def test_workers_of_a_scheduler_compute(tmp_path: Path) -> None:
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    (tmp_path / "mark").touch()
    contact = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    started = [
        subprocess.Popen([*dask, "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", contact], env=environment)
    ]
    try:
        deadline = time.monotonic() + 60
        while not contact.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        address = json.loads(contact.read_text())["address"]
        started.append(
            subprocess.Popen(
                [*dask, "worker", address, "--nworkers", "2", "--nthreads", "2", "--no-dashboard"], env=environment, cwd=tmp_path
            )
        )
        done = program(tmp_path, 1, address)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == by_hand(TASKS)


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantization.workers._ANSWER_S", 0.5)
    with pytest.raises(EngineError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"):
        results(Square(), TASKS, Workers(scheduler="tcp://127.0.0.1:9"))
    with pytest.raises(EngineError, match="no scheduler answers at nonsense"):
        results(Square(), TASKS, Workers(scheduler="nonsense://"))
