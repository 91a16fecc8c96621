"""Training runs: resume bit for bit, processes share one loss, a checkpoint becomes an artifact."""

from __future__ import annotations

import copy
import csv
import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")
pytest.importorskip("lightning_fabric", reason="training extra not installed")

from benchmarks import distillation  # noqa: E402
from edge_tse.artifact import Artifact, verify  # noqa: E402
from edge_tse.beam import Beam, mix  # noqa: E402
from edge_tse.engines import open_network  # noqa: E402
from edge_tse.errors import DataError  # noqa: E402
from edge_tse.frame import FrameSpec  # noqa: E402
from edge_tse.level import RunningLevel, over_ears  # noqa: E402
from edge_tse.nn.front import TorchFront  # noqa: E402
from edge_tse.nn.losses import Taught, Teaching, Weights, extraction_losses  # noqa: E402
from edge_tse.nn.stage import Depthwise  # noqa: E402
from edge_tse.nn.student import BASE, NANO, SMALL, Student  # noqa: E402
from quantization import arithmetic  # noqa: E402
from quantization import quantize as quantizing  # noqa: E402
from quantization import train as training  # noqa: E402
from quantization.checkpoint import load_checkpoint  # noqa: E402
from quantization.loop import Plan, Teacher, items_of  # noqa: E402
from quantization.quantize import SCHEMES, fine_tune, prepare, quantize, teacher_of  # noqa: E402
from quantization.recipes import RECIPES, recipe  # noqa: E402
from quantization.run import TrainingProgress, TrainingRun  # noqa: E402
from quantization.stored import load_state, save_state  # noqa: E402
from quantization.train import train  # noqa: E402
from quantization.validation import unseen_errors  # noqa: E402


def _losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open() as file:
        return [float(row["total"]) for row in csv.DictReader(file)]


def test_resumed_run_equals_uninterrupted_one(data, smoke_run, tmp_path):
    def interrupt(progress):
        if progress.phase == "extraction" and progress.step == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "halves"
    train("smoke", folder, data, watch=interrupt)
    assert load_checkpoint(folder).step == 3
    train("smoke", folder, data, resume=True)
    whole, halves = load_checkpoint(smoke_run), load_checkpoint(folder)
    assert whole.step == halves.step == recipe("smoke").steps
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, halves.student.state_dict()[name]), name


def test_a_run_goes_on_in_the_arithmetic_that_it_was_begun_in(data, tmp_path, monkeypatch):
    """Which one is faster is a matter of the moment on some machines, and the weights differ with it."""

    def interrupt(progress):
        if progress.phase == "extraction" and progress.step == 2:
            raise KeyboardInterrupt

    def weights(folder):
        return load_checkpoint(folder).student.state_dict()

    def times(bfloat16):
        """A clear difference, or hardly any."""
        return {f"{what}_{kind}": ms for what in ("layer", "step") for kind, ms in (("float32", 1.0), ("bfloat16", bfloat16))}

    monkeypatch.setattr(arithmetic, "_tried", lambda *shape: times(0.5))
    train("smoke", tmp_path / "whole", data, steps=4)
    train("smoke", tmp_path / "halves", data, steps=4, watch=interrupt)
    monkeypatch.setattr(arithmetic, "_tried", lambda *shape: times(1.1))
    train("smoke", tmp_path / "halves", data, steps=4, resume=True)
    train("smoke", tmp_path / "other", data, steps=4)
    whole, halves, other = (weights(tmp_path / name) for name in ("whole", "halves", "other"))
    assert all(torch.equal(value, halves[name]) for name, value in whole.items())
    assert not all(torch.equal(value, other[name]) for name, value in whole.items()), "the two differ"


def test_training_changes_weights_and_reports_validation(smoke_run):
    checkpoint = load_checkpoint(smoke_run)
    torch.manual_seed(recipe("smoke").seed)
    fresh = Student(NANO)
    assert any(not torch.equal(a, b) for a, b in zip(fresh.parameters(), checkpoint.student.parameters(), strict=True))
    assert set(checkpoint.figures["validation"]) == {"n", "mean", "median", "p10", "alike", "unlike"}
    assert np.isfinite(_losses(smoke_run)).all()


def test_a_voice_and_a_time_belong_to_a_place_in_the_whole_batch(data, run, tmp_path):
    """However many processes share it: of pairs, too, whose second half lies behind the first ones of all processes."""
    _, paired, _ = prepare(run, data, tmp_path)
    whole = paired.tensors(3, 8, 0, 1)
    assert len(set(whole[3].tolist())) == 8, "no two places share a time, those of a pair neither"
    halves = [paired.tensors(3, 4, rank, 2) for rank in (0, 1)]
    for alone, *shared in zip(whole, *halves, strict=True):
        first, second = zip(*(part.split(2) for part in shared), strict=True)
        torch.testing.assert_close(torch.cat([*first, *second]), alone)


def test_processes_divide_a_batch_and_part_no_pair():
    assert (items_of(recipe("small"), 1), items_of(recipe("small"), 2), items_of(recipe("small_gains"), 8)) == (4, 2, 1)
    with pytest.raises(DataError, match="4 processes do not divide the 2 pairs of a batch"):
        items_of(recipe("small"), 4)
    with pytest.raises(DataError, match="3 processes do not divide a batch of 4"):
        items_of(recipe("small"), 3)


@pytest.mark.slow
def test_two_processes_have_the_loss_of_one(data, smoke_run, tmp_path):
    folder = tmp_path / "pair"
    lines = ("from pathlib import Path", "from quantization.train import train")
    (tmp_path / "pair.py").write_text("\n".join((*lines, f"train('smoke', Path({str(folder)!r}), Path({str(data)!r}))")))
    # By address, not by name: a bare machine may not know what it is called.
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    here = ("--nnodes", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1")
    command = [sys.executable, "-m", "torch.distributed.run", *here, "--nproc-per-node", "2", str(tmp_path / "pair.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(_losses(folder), _losses(smoke_run), rtol=1e-4)


@pytest.mark.parametrize("rank", ["", "0", "1"])
def test_one_process_of_many_speaks(data, tmp_path, monkeypatch, capsys, rank):
    from edge_tse.cli import main

    def told(*_, watch, **__):
        watch(TrainingProgress(phase="extraction", step=1, steps=1, figures={}))
        return tmp_path / "last.pt"

    monkeypatch.setattr("quantization.train.train", told)
    if rank:
        monkeypatch.setenv("RANK", rank)
    assert main(["train", "smoke", "-o", str(tmp_path / "run"), "--data", str(data)]) == 0
    said = capsys.readouterr()
    assert ("last.pt" in said.out, "extraction 1/1" in said.err) == ((False, False) if rank == "1" else (True, True))


def test_a_run_starts_from_a_checkpoint(data, smoke_run, tmp_path):
    """Without a step of its own it is that checkpoint."""
    train("smoke", tmp_path / "run", data, start=smoke_run, steps=0)
    begun, source = load_checkpoint(tmp_path / "run"), load_checkpoint(smoke_run)
    assert begun.step == 0
    for name, value in source.student.state_dict().items():
        assert torch.equal(value, begun.student.state_dict()[name]), name


def test_what_was_heard_is_not_heard_again(data, smoke_run, tmp_path):
    """Mixtures of a run come after those of the runs that it starts from, also when it is resumed."""
    heard = recipe("smoke").steps
    first, second = (
        TrainingRun(recipe("smoke"), data, smoke_run, lambda progress: None, heard=steps).tensors(step, 4, 0, 1)
        for steps, step in ((heard, 1), (0, heard + 1))
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    train("smoke", tmp_path / "next", data, start=smoke_run, steps=1)
    train("smoke", tmp_path / "next", data, steps=1, resume=True)
    assert load_checkpoint(tmp_path / "next").heard == heard
    train("smoke", tmp_path / "last", data, start=tmp_path / "next", steps=1)
    assert load_checkpoint(tmp_path / "last").heard == heard + 1


@pytest.mark.parametrize(
    ("part", "found"),
    [("begun", 1), ("heard", -1), ("heard", True), ("teacher", 3), ("own_moments", -1), ("own_moments", False), ("arithmetic", 1)],
)
def test_a_part_that_is_none_is_refused_and_one_that_older_runs_lack_is_not_missed(smoke_run, tmp_path, part, found):
    state = load_state(smoke_run / "last.pt", "checkpoint")
    save_state(tmp_path / "other.pt", {**state, part: found})
    with pytest.raises(DataError, match=f"its {part} is {found}"):
        load_checkpoint(tmp_path / "other.pt")
    save_state(tmp_path / "older.pt", {name: value for name, value in state.items() if name != part})
    older = load_checkpoint(tmp_path / "older.pt")
    unsaid = {"begun": True, "heard": 0, "teacher": "", "own_moments": None, "arithmetic": None}[part]
    assert getattr(older.recipe if part == "own_moments" else older, part) == unsaid


def test_an_arithmetic_and_an_encoder_that_are_none_are_one_line(smoke_run, tmp_path):
    state = load_state(smoke_run / "last.pt", "checkpoint")
    save_state(tmp_path / "other.pt", {**state, "arithmetic": {}})
    with pytest.raises(DataError, match="arithmetic: device, layers, steps, times_ms missing"):
        load_checkpoint(tmp_path / "other.pt")
    for weight in (3, torch.zeros(3)):
        save_state(tmp_path / "other.pt", {**state, "encoder": {**state["encoder"], "stem.weight": weight}})
        with pytest.raises(DataError, match="not a checkpoint of this version"):
            load_checkpoint(tmp_path / "other.pt")


def test_enrollments_made_in_another_way_are_not_taken(data, smoke_run, tmp_path):
    """A cache that outlives the recipe's change would train on what the recipe no longer says."""
    (tmp_path / "run").mkdir()
    state = torch.load(smoke_run / "voices.pt", weights_only=True)
    del state["how"]["blocks"]  # as files were that did not say: all encoders were of one size
    torch.save(state, tmp_path / "run" / "voices.pt")
    train("smoke", tmp_path / "run", data, steps=0)
    (tmp_path / "run" / "last.pt").unlink()
    state["how"]["noisy"] = 0.0
    torch.save(state, tmp_path / "run" / "voices.pt")
    with pytest.raises(DataError, match=r"voices\.pt: its enrollments are not made as 'smoke' makes them"):
        train("smoke", tmp_path / "run", data)


def test_a_larger_student_starts_from_a_smaller_one(data, smoke_run, tmp_path, monkeypatch):
    """It begins as good as that one, and a smaller or another network does not begin with it."""
    made = dataclasses.replace(recipe("small_gains"), validation=3)
    monkeypatch.setitem(RECIPES, "small_gains", lambda: made)
    train("small_gains", tmp_path / "large", data, start=smoke_run, steps=0)
    small, large = load_checkpoint(smoke_run).student, load_checkpoint(tmp_path / "large").student
    features, voice = torch.randn(1, 40, NANO.frame.features), torch.randn(1, 128)
    with torch.no_grad():
        for got, want in zip(large(features, voice), small(features, voice), strict=True):
            torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
    for name, start in (("nano_gains", tmp_path / "large"), ("mask2flow_smoke", smoke_run)):
        with pytest.raises(DataError, match=rf"'{name}' cannot hold a student of '(small_gains|smoke)'"):
            train(name, tmp_path / name, data, start=start)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Four steps of a run without a planned end."""
    folder = tmp_path_factory.mktemp("endless") / "run"
    train("smoke_beam", folder, data, steps=4)
    return folder


class TestWithoutEnd:
    """A run at a constant rate, of which averages are kept, and what is cut from it."""

    def test_it_resumes_bit_for_bit(self, data, run, tmp_path):
        def interrupt(progress):
            if progress.phase == "extraction" and progress.step == 2:
                raise KeyboardInterrupt

        train("smoke_beam", tmp_path / "halves", data, steps=4, watch=interrupt)
        assert load_checkpoint(tmp_path / "halves").step == 2
        train("smoke_beam", tmp_path / "halves", data, steps=4, resume=True)
        whole, halves = load_checkpoint(run), load_checkpoint(tmp_path / "halves")
        for name, value in whole.student.state_dict().items():
            assert torch.equal(value, halves.student.state_dict()[name]), name
            assert torch.equal(whole.current[name], halves.current[name]), name

    def test_only_what_begins_from_nothing_begins_easily(self, data, run, tmp_path):
        assert load_checkpoint(run).recipe.scene.easy_steps == recipe("smoke_beam").scene.easy_steps == 2
        train("smoke_beam", tmp_path / "next", data, start=run, steps=1)
        assert load_checkpoint(tmp_path / "next").recipe.scene.easy_steps == 0
        train("smoke_beam", tmp_path / "next", data, steps=1, resume=True)
        assert load_checkpoint(tmp_path / "next").begun

    def test_moments_stay_once_they_are_known(self, data, run, tmp_path):
        """A batch of a few voices is told apart by its own moments, which no device has: 0.9 dB less was learned for one."""

        def moments_of(folder):
            return {name: value for name, value in load_checkpoint(folder).current.items() if name.endswith(("mean", "variance"))}

        def same(a, b):
            return all(torch.equal(a[name], b[name]) for name in a)

        def interrupt(progress):
            if progress.phase == "extraction" and progress.step == stops_at:
                raise KeyboardInterrupt

        at = {4: moments_of(run)}
        for stops_at in (1, 2):
            train("smoke_beam", tmp_path / f"{stops_at}", data, steps=4, watch=interrupt)
            at[stops_at] = moments_of(tmp_path / f"{stops_at}")
        assert at[4]
        assert not same(at[1], at[2])
        assert same(at[2], at[4])
        train("smoke_beam", tmp_path / "next", data, start=run, steps=1)
        assert same(moments_of(tmp_path / "next"), at[4]), "they are known at the start"

    def test_a_network_that_was_grown_has_moments_of_its_own(self, data, smoke_run, tmp_path):
        train("smoke_beam", tmp_path / "grown", data, start=smoke_run, steps=1)
        assert load_checkpoint(tmp_path / "grown").recipe.own_moments == recipe("smoke_beam").own_moments == 2

    def test_they_are_known_sooner_than_those_of_a_new_one(self, data, smoke_run, tmp_path, monkeypatch):
        monkeypatch.setattr("quantization.train._GROWN_MOMENTS", 1)
        train("smoke_beam", tmp_path / "grown", data, start=smoke_run, steps=1)
        train("smoke_beam", tmp_path / "grown", data, steps=1, resume=True)
        assert load_checkpoint(tmp_path / "grown").recipe.own_moments == 1

    @pytest.mark.parametrize(("name", "compiled", "said"), [("smoke_beam", True, 1), ("smoke_beam", False, 1), ("smoke", True, 0)])
    def test_it_says_what_makes_the_beam_if_there_is_one(self, data, smoke_run, tmp_path, monkeypatch, name, compiled, said):
        monkeypatch.setattr("quantization.train.COMPILED", compiled)
        told = []
        train(name, tmp_path / "run", data, start=smoke_run, steps=0, watch=lambda progress: told.append(progress.phase))
        (arithmetic,) = (phase for phase in told if phase.startswith("arithmetic"))
        assert arithmetic.count("beam") == said
        assert arithmetic.endswith("beam compiled" if compiled else "beam in torch") == bool(said)

    def test_what_is_kept_is_an_average(self, run):
        checkpoint = load_checkpoint(run)
        own, averaged = checkpoint.current, checkpoint.student.state_dict()
        assert any(not torch.equal(value, averaged[name]) for name, value in own.items())

    def test_both_ears_and_rooms_are_validated(self, run):
        figures = load_checkpoint(run).figures
        assert {"validation", "two_ears"} <= set(figures)
        with (run / "validation.csv").open() as file:
            (row,) = csv.DictReader(file)
        assert row["step"] == "4"
        for kind in ("validation", "two_ears"):
            for name in ("mean", "alike", "unlike"):
                assert float(row[f"{kind}_{name}"]) == pytest.approx(figures[kind][name], rel=1e-4)
        assert not row["two_ears_room_mean"], "no head of this corpus is in a room"
        assert not row["error_one_ear"], "two talkers are held out, mixtures may have three"

    def test_errors_of_unseen_talkers_are_those_of_a_device(self, data, run):
        source, held = load_checkpoint(run), TrainingRun(recipe("smoke_beam"), data, run, lambda progress: None)
        held.validation, held.held_out = held.speech, held.enrollments  # as if many talkers were held out
        before = copy.deepcopy(source.student.state_dict())
        found = unseen_errors(source.student.train(), held, 8)
        assert found.keys() == {"error_one_ear", "error_two_ears"}
        assert source.student.training
        assert all(torch.equal(value, before[name]) for name, value in source.student.state_dict().items())
        assert found == unseen_errors(source.student.eval(), held, 8)
        assert found != unseen_errors(Student(source.student.config), held, 8)

    def test_the_log_counts_hours_and_processors(self, run):
        with (run / "log.csv").open() as file:
            last = list(csv.DictReader(file))[-1]
        made = recipe("smoke_beam")
        assert float(last["hours"]) == pytest.approx(4 * made.batch / 2 * made.scene.seconds / 3600, rel=1e-3)
        assert float(last["core_s"]) > 0

    def test_a_cut_goes_on_where_the_run_is_and_the_rate_falls(self, data, run, tmp_path):
        log = run / "log.csv"
        assert "steps_per_s" in log.read_text()
        rows = log.read_text().splitlines()
        log.write_text("\n".join([rows[0], ",".join([*rows[-1].split(",")[:-1], "0.1"])]) + "\n")  # five steps in 50 s
        train("smoke_beam", tmp_path / "cut", data, start=run, cut=50 / 60)
        cut = load_checkpoint(tmp_path / "cut")
        assert (cut.falls_from, cut.step, cut.recipe.steps) == (4, 9, 9)
        with (tmp_path / "cut" / "log.csv").open() as file:
            assert float(list(csv.DictReader(file))[-1]["lr"]) == pytest.approx(recipe("smoke_beam").lr / 5, rel=1e-4)
        before = load_checkpoint(run)
        assert before.step == 4, "the run itself has not moved"
        train("smoke_beam", tmp_path / "cut", data, start=run, cut=50 / 60, resume=True)  # nothing left to do

    def test_a_run_keeps_the_rate_that_it_was_given_and_so_does_its_cut(self, data, run, tmp_path):
        slow = tmp_path / "slow"
        train("smoke_beam", slow, data, start=run, minutes=0, rate=1e-3)
        train("smoke_beam", slow, data, minutes=0, resume=True)
        checkpoint = load_checkpoint(slow)
        assert (checkpoint.step, checkpoint.recipe.lr) == (2, 1e-3)
        train("smoke_beam", slow, data, minutes=0, rate=5e-5, resume=True)
        log = slow / "log.csv"
        log.write_text("step,steps_per_s\n1,1\n")
        train("smoke_beam", tmp_path / "cut", data, start=slow, cut=1 / 60)
        cut = load_checkpoint(tmp_path / "cut")
        assert (cut.recipe.lr, cut.heard) == (5e-5, 4)

    @pytest.mark.parametrize("rate", [0.0, -1e-3, 2.0, float("nan")])
    def test_a_rate_that_is_none_is_refused(self, data, tmp_path, rate):
        with pytest.raises(DataError, match=r"a learning rate of .*: above 0 and at most 1"):
            train("smoke_beam", tmp_path / "run", data, rate=rate)

    def test_only_a_run_at_a_constant_rate_is_cut(self, data, smoke_run, tmp_path):
        with pytest.raises(DataError, match="--cut branches off a run of 'smoke_beam'"):
            train("smoke_beam", tmp_path / "cut", data, start=smoke_run, cut=1)

    @pytest.mark.parametrize("minutes", [float("inf"), float("nan"), -1.0])
    def test_a_cut_has_a_length(self, data, run, tmp_path, minutes):
        with pytest.raises(DataError, match=f"a cut of {minutes:g} minutes: a number of them is needed"):
            train("smoke_beam", tmp_path / "cut", data, start=run, cut=minutes)

    def test_a_run_that_is_no_cut_does_not_become_one(self, data, run, tmp_path):
        """It went on at its full rate, and nothing said so."""
        (tmp_path / "last.pt").write_bytes((run / "last.pt").read_bytes())
        with pytest.raises(DataError, match=r"last\.pt is no cut of another run"):
            train("smoke_beam", tmp_path, data, start=run, cut=1, resume=True)

    def test_a_mask_goes_on_into_a_student_with_a_beam(self, data, smoke_run, tmp_path):
        train("smoke_beam", tmp_path / "grown", data, start=smoke_run, steps=0)
        plain, two = load_checkpoint(smoke_run).student, load_checkpoint(tmp_path / "grown").student
        features, voice = torch.rand(1, 40, two.config.frame.features), torch.randn(1, 128)
        with torch.no_grad():
            torch.testing.assert_close(two(features, voice)[0], plain(features[..., : two.config.frame.heard], voice)[0])


def test_what_a_teacher_is_worth_is_found_on_the_same_mixtures(data, smoke_run, tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "_SEEN", 8)
    source = load_checkpoint(smoke_run)
    (tmp_path / "run").mkdir()
    figures = distillation.compare(
        dataclasses.replace(recipe("smoke"), steps=30), source, data, tmp_path / "run", lambda line: None
    )
    arms = figures["arms"]
    assert list(arms) == list(distillation.ARMS)
    assert arms["nobody"]["over_nobody"] == [0, 0]
    assert len({tuple(row["over_nobody"]) for row in arms.values()}) == 3
    assert distillation.table(figures).count("\n") == 5


def test_a_teacher_changes_what_is_learnt_and_itself_stays(data, smoke_run, tmp_path):
    before = load_checkpoint(smoke_run).student.state_dict()
    train("smoke", tmp_path / "taught", data, teacher=smoke_run)
    taught = load_checkpoint(tmp_path / "taught")
    assert any(not torch.equal(a, b) for a, b in zip(before.values(), taught.student.state_dict().values(), strict=True))
    for name, value in load_checkpoint(smoke_run).student.state_dict().items():
        assert torch.equal(value, before[name]), name
    train("smoke", tmp_path / "taught", data, teacher=smoke_run, resume=True)  # the same run: nothing left to do
    with pytest.raises(DataError, match=r"learns from the teacher [0-9a-f]{12}: give the same --teacher to go on"):
        train("smoke", tmp_path / "taught", data, resume=True)
    with pytest.raises(DataError, match="learns from no teacher"):
        train("smoke", smoke_run, data, teacher=tmp_path / "taught", resume=True)
    assert load_checkpoint(tmp_path / "taught").step == taught.step


class TestLosses:
    """Terms of one batch of noise, with and without a teacher."""

    @pytest.fixture
    def batch(self):
        torch.manual_seed(3)
        target, noise = 0.1 * torch.randn(2, 2, 1, 6400)
        return target + noise, target, torch.nn.functional.normalize(torch.randn(2, 128)), torch.rand(2)

    @pytest.fixture
    def student(self):
        torch.manual_seed(4)
        return Student(NANO).eval()

    def losses(self, student, batch, suppression=0.0, taught=None, **teaching):
        weights = Weights(mask=0.5, flow=4.0, magnitude=3.0, suppression=suppression)
        return extraction_losses(student, TorchFront(student.config.frame), *batch, weights, taught, Teaching(**teaching))

    def test_a_student_has_nothing_to_learn_from_itself(self, student, batch):
        with torch.no_grad():
            taught = Teacher(student)(batch[0], batch[2])
            own = self.losses(student, batch, taught=taught, output=1.0, mask=1.0, velocity=1.0)
            alone = self.losses(student, batch)
        assert float(own.teacher) == pytest.approx(0, abs=1e-10)
        assert float(own.total) == pytest.approx(float(alone.total))

    @pytest.mark.parametrize("term", ["output", "mask", "velocity"])
    def test_every_part_of_a_teacher_counts_by_its_weight(self, student, batch, term):
        with torch.no_grad():
            mask, velocity = Teacher(student)(batch[0], batch[2])
            other = Taught(mask + 0.1, velocity + 0.1)
            once, twice = (float(self.losses(student, batch, taught=other, **{term: w}).teacher) for w in (1.0, 2.0))
        assert once == pytest.approx(0.04 if term == "output" else 0.01, rel=1e-3)  # importance is one on average
        assert twice == pytest.approx(2 * once)

    @pytest.mark.parametrize("ears", [1, 2])
    def test_silence_has_an_error_and_a_way_down_from_it(self, ears):
        student = Student(recipe("smoke_beam").student)
        silence = torch.zeros(2, ears, 6400)
        voice = torch.nn.functional.normalize(torch.randn(2, 128))
        losses = self.losses(student, (silence, silence, voice, torch.rand(2)), suppression=1.0)
        losses.total.backward()
        assert all(torch.isfinite(value) for value in losses)
        assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)

    def test_taking_too_much_costs_more(self, student, batch):
        with torch.no_grad():
            even, lopsided = (float(self.losses(student, batch, suppression=s).magnitude) for s in (0.0, 1.0))
            silent = self.losses(student, (batch[0], 0 * batch[1], *batch[2:]), suppression=1.0)
            same = self.losses(student, (batch[0], 0 * batch[1], *batch[2:]))
        assert even < lopsided < 2 * even
        assert float(silent.magnitude) == pytest.approx(float(same.magnitude))  # nothing to fall short of


def test_run_folder_is_not_overwritten(data, smoke_run):
    with pytest.raises(DataError, match="--resume"):
        train("smoke", smoke_run, data)


def test_a_run_that_has_no_place_is_one_line(data, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(DataError, match=r"the folder .* cannot be made: .*; choose another place"):
            train("smoke", folder, data)


def test_another_recipe_does_not_resume(data, smoke_run):
    with pytest.raises(DataError, match="not 'smoke' over 9"):
        train("smoke", smoke_run, data, resume=True, steps=9)


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"])
def test_bad_checkpoints_are_refused(tmp_path, content):
    path = tmp_path / "last.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"last\.pt"):
        load_checkpoint(path)


def test_unknown_recipe_lists_the_known_ones(data, tmp_path):
    with pytest.raises(DataError, match=r"nano, nano_gains, small, .*, teacher, teacher_s, voicefilter"):
        train("tiny", tmp_path / "run", data)


@pytest.mark.parametrize("scheme", ["w8a8-smoke", "w8a8-ptq"])
@pytest.mark.usefixtures("short_calibration")
def test_checkpoint_becomes_an_artifact(data, smoke_run, tmp_path, scheme):
    to = tmp_path / "model.etse"
    quantize(smoke_run, scheme, to, data)
    artifact = Artifact.load(to)
    if scheme == "w8a8-smoke":
        of = {"checkpoint": load_checkpoint(smoke_run).digest, "steps": 3, "teacher": None}
        assert load_state(smoke_run / "qat-w8a8-smoke.pt", "half-made model")["of"] == of
    assert artifact.provenance["scheme"] == scheme
    assert set(artifact.provenance["validation_si_sdr_i_db"]) == (
        {"float", "ptq", "qat"} if scheme == "w8a8-smoke" else {"float", "ptq"}
    )
    parity = verify(artifact, open_network(artifact, "reference"))
    assert parity.worst_lsb == 0
    assert parity.frames > 100


def test_a_fine_tuning_of_other_weights_does_not_go_on(tmp_path, monkeypatch):
    """The artifact stated the new weights, and held the old ones."""
    monkeypatch.setattr(quantizing, "fit", lambda run, twin, plan, *others, **options: plan.steps)
    stored, own, twin = tmp_path / "qat.pt", {"checkpoint": "a", "steps": 3, "teacher": None}, torch.nn.Linear(2, 2)
    save_state(stored, {"of": own, "step": 3, "resume": [], "student": twin.state_dict()})

    def go_on(of):
        fine_tune(twin, None, SCHEMES["w8a8-smoke"], 3, stored, of=of, resume=True)

    go_on(own)
    for part, other in (("checkpoint", "b"), ("steps", 4), ("teacher", "c")):
        with pytest.raises(DataError, match=rf"qat\.pt is of another fine-tuning, its {part} differs: begin without --resume"):
            go_on({**own, part: other})
    save_state(stored, {"step": 3, "resume": [], "student": twin.state_dict()})  # of a version that did not state it
    with pytest.raises(DataError, match="its checkpoint differs"):
        go_on(own)


@pytest.mark.usefixtures("short_calibration")
def test_a_checkpoint_without_its_run_leaves_its_folder_alone(data, smoke_run, tmp_path):
    alone = tmp_path / "checkpoints" / "small.pt"
    alone.parent.mkdir()
    alone.write_bytes((smoke_run / "last.pt").read_bytes())
    quantize(alone, "w8a8-ptq", tmp_path / "out" / "model.etse", data)
    assert [p.name for p in alone.parent.iterdir()] == ["small.pt"]
    by_run = tmp_path / "run.etse"
    quantize(smoke_run, "w8a8-ptq", by_run, data)
    assert Artifact.load(by_run).digest == Artifact.load(tmp_path / "out" / "model.etse").digest


def test_a_run_named_from_within_finds_its_decoded_speech(data, smoke_run, tmp_path, monkeypatch):
    """It was decoded once more, into the run."""
    monkeypatch.chdir(smoke_run)
    prepare(Path("last.pt"), data, tmp_path)
    assert not Path("cache").exists()


@pytest.mark.parametrize("followed", ["", " --teacher TEACHER"])
def test_an_artifact_names_the_command_that_makes_it_again(followed):
    run = SimpleNamespace(corpus=SimpleNamespace(train_speakers=[], validation_speakers=[]), eer=0.1)
    made = quantizing._provenance("smoke", 6, "w8a8-distilled", 3, run, {}, followed)
    assert made["command"][1] == (f"edge-tse quantize RUN --recipe w8a8-distilled -o ARTIFACT --data DATA --steps 3{followed}")


@pytest.mark.parametrize(
    ("own", "others", "numbers"),
    [
        ({}, {"local": 4}, "640 values, the checkpoint to 128"),  # a traceback in the first step
        ({"embedding": 24}, {"embedding": 16}, "16 values, the checkpoint to 24"),  # it heard the first 16 of 24
        ({"embedding": 16}, {"embedding": 24}, "24 values, the checkpoint to 16"),
    ],
)
def test_a_teacher_of_other_voices_is_refused(smoke_run, monkeypatch, own, others, numbers):
    begun = dataclasses.replace(load_checkpoint(smoke_run), encoder=None)

    def of(**changes):
        made = dataclasses.replace(begun.recipe.student, **changes)
        return dataclasses.replace(begun, recipe=dataclasses.replace(begun.recipe, student=made), student=Student(made))

    monkeypatch.setattr(quantizing, "load_checkpoint", lambda path: of(**others))
    with pytest.raises(DataError, match=rf"other\.pt listens to voices of {numbers}: choose one of the same embeddings"):
        teacher_of(of(**own), Path("other.pt"))
    assert isinstance(teacher_of(of(**others), Path("other.pt")), Teacher)


def test_a_run_refuses_a_teacher_of_other_voices(data, smoke_run, tmp_path, monkeypatch):
    """It ended in a traceback in its first step, or heard some of each voice."""
    begun = load_checkpoint(smoke_run)
    made = dataclasses.replace(begun.recipe.student, embedding=16)
    other = dataclasses.replace(begun, recipe=dataclasses.replace(begun.recipe, student=made), student=Student(made))
    monkeypatch.setattr(training, "load_checkpoint", lambda path: other)
    with pytest.raises(DataError, match=r"other\.pt listens to voices of 16 values, 'smoke' to 128: choose one of the same"):
        train("smoke", tmp_path / "run", data, teacher=tmp_path / "other.pt")


def test_unknown_scheme_lists_the_known_ones(data, smoke_run, tmp_path):
    with pytest.raises(DataError, match="w8a8-ptq"):
        quantize(smoke_run, "w2a2", tmp_path / "x.etse", data)


def test_what_sees_the_future_is_not_quantized(data, tmp_path, monkeypatch):
    ahead = dataclasses.replace(recipe("smoke"), name="ahead", student=dataclasses.replace(NANO, ahead=True))
    monkeypatch.setitem(RECIPES, "ahead", lambda: ahead)
    train("ahead", tmp_path / "run", data, steps=0)
    with pytest.raises(DataError, match="'ahead' sees the future and cannot stream"):
        quantize(tmp_path / "run", "w8a8-ptq", tmp_path / "x.etse", data)


@pytest.mark.parametrize(("ahead", "seen"), [(False, {10, 14, 18}), (True, {6, 10, 14})])
def test_taps_reach_where_they_should(ahead, seen):
    depthwise = Depthwise(2, taps=3, dilation=4, ahead=ahead)
    x_BTC = torch.zeros(1, 30, 2)
    x_BTC[0, 10] = 1
    assert set((depthwise(x_BTC)[0] - depthwise.bias).abs().sum(-1).nonzero()[:, 0].tolist()) == seen


def test_tiers_keep_their_budgets():
    assert Student(NANO).resident_weights <= 150_000
    assert Student(SMALL).resident_weights <= 600_000
    assert Student(BASE).resident_weights <= 2_000_000


def test_learning_rate_warms_up_and_ends_at_zero():
    plan = Plan(steps=100, lr=1.0, warmup=10)
    rates = [plan.learning_rate(s) for s in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize("ears", [1, 2])
def test_torch_front_end_equals_numpy(ears):
    frame, rng = FrameSpec(), np.random.default_rng(0)
    front = TorchFront(frame)
    signal = (0.1 * rng.standard_normal((ears, 64 * 50))).astype(np.float32)
    spectra = front.analyze(torch.from_numpy(signal)[None])
    wanted = frame.analyze(signal)
    np.testing.assert_allclose(spectra[0].permute(1, 0, 2).numpy(), wanted, atol=1e-5)
    np.testing.assert_allclose(front.features(spectra)[0].numpy(), frame.frame_features(wanted), atol=1e-4)
    np.testing.assert_allclose(front.synthesize(spectra)[0].numpy(), frame.synthesize(wanted), atol=1e-5)


@pytest.mark.parametrize("ears", [1, 2])
def test_torch_points_the_beam_as_the_front_end_does(ears):
    """Every feature of a student's closed loop, and what is heard, hop by hop: the definition against all frames at once."""
    torch.manual_seed(6)
    frame = recipe("smoke_beam").student.frame
    student, front = Student(recipe("smoke_beam").student).eval(), TorchFront(frame)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "project" in name or "head" in name:
                parameter.normal_(std=0.1)
    swell = torch.linspace(0.001, 0.2, 300).repeat_interleave(frame.hop)
    signal = torch.randn(1, ears, 300 * frame.hop) * swell
    voice = torch.nn.functional.normalize(torch.randn(1, 128), dim=-1)
    with torch.no_grad():
        spectra = front.analyze(signal)
        moves = student.listen(front, spectra, voice, rounds=24)
        heard = moves.apply(front, spectra)[0].numpy()
    mask, gain = moves.mask[0].numpy(), moves.gain[0].numpy()
    level, beam = RunningLevel(), Beam(frame)
    for hop, spectrum in enumerate(frame.analyze(signal[0].numpy())):
        features = frame.frame_features(spectrum, level.push(over_ears(frame.band_energy(spectrum))))
        np.testing.assert_allclose(moves.features[0, hop, : frame.heard].numpy(), features, atol=1e-3)
        wanted = spectrum * frame.bin_gains(gain[hop])
        if ears == 2:
            pointed, loud = beam.listen(spectrum)
            np.testing.assert_allclose(moves.features[0, hop, frame.heard :].numpy(), loud, atol=2e-3)
            kept, share = (frame.bin_gains(x[hop]) for x in (mask, moves.share[0].numpy()))
            wanted = mix(spectrum, frame.bin_gains(gain[hop]), pointed, kept, share)
            beam.learn(spectrum, mask[hop], wanted)
        np.testing.assert_allclose(heard[:, hop], wanted, atol=2e-3 * np.abs(spectrum).max())
