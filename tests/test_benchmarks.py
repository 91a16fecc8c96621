"""Benchmarks measure what they say: known answers, and the result on file is what the code gives."""

from __future__ import annotations

import json
import pickle
import re
import runpy
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks import RESULTS, ceilings, compute, geometry, live_figures, parity, release_figures, scale_page, streams
from benchmarks.readme_figures import fill, renew
from edge_tse.artifact import Artifact
from edge_tse.demo.cases import shipped_cases
from edge_tse.frame import FrameSpec

FRAME = FrameSpec()


def test_geometry_on_file_is_that_of_the_code() -> None:
    stored = json.loads((RESULTS / "geometry.json").read_text())["figures"]
    for name, found in geometry.figures(FRAME).items():
        assert isinstance(found, dict)
        assert stored[name] == pytest.approx(found, rel=1e-3, abs=2e-7), name


def test_a_tone_through_a_known_window() -> None:
    """A rectangle's main lobe: 0.886 bins wide at -3 dB, highest side lobe 13.3 dB down."""
    seen = geometry.line(np.ones(1600), 16000)
    assert seen["width_3db_hz"] == pytest.approx(0.886 * 10, rel=0.01)
    assert seen["highest_side_lobe_db"] == pytest.approx(-13.26, abs=0.05)


def test_oracles_are_ordered_and_bounded() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(16000) / 16000
    target = np.stack([np.sin(2 * np.pi * 300 * t), 0.5 * np.sin(2 * np.pi * 300 * t)]).astype(np.float32)
    noise = 0.3 * rng.standard_normal((2, 16000)).astype(np.float32)
    gained = ceilings.improvements(FRAME, target + noise, target)
    assert gained["best_gain_to_1"] <= gained["best_gain_to_3"] + 1e-6
    assert gained["best_gain_to_1_bands"] <= gained["best_gain_to_2_bands"] + 1e-6 <= gained["best_gain_to_3_bands"] + 2e-6
    assert gained["best_gain_to_3_bands"] <= gained["best_gain_to_3"] + 0.5  # 300 Hz is in a band of a single bin
    assert gained["ideal_ratio_mask"] > 10


def test_an_oracle_leaves_the_target_alone() -> None:
    spectra = FRAME.analyze(np.random.default_rng(1).standard_normal((1, 3200)).astype(np.float32))
    for name, gain in ceilings.oracle_gains(FRAME, spectra, spectra).items():
        np.testing.assert_allclose(gain, 1, atol=1e-5, err_msg=name)
    for name, gain in ceilings.oracle_gains(FRAME, spectra, np.zeros_like(spectra)).items():
        np.testing.assert_allclose(gain, 0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "command",
    [
        "quality --data {0}",
        "parity --data {0}",
        "passing --data {0}",
        "scene_enrollment --data {0}",
        "structures --data {0}",
        "baselines {0} --data {0}",
        "two_ears --checkpoint {0} --data {0} --work {0}",
        "firmware --artifact {0}",
        "realtime --to {0}/no/file.json",
        "clocks --to {0}/no/file.json",
    ],
)
def test_a_path_that_does_not_serve_is_refused_in_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="needs edge-tse[train]")
    name, *options = command.format(tmp_path).split()
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *options])
    monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)  # run as a program, it is a module of its own
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"{name}: ")
    assert str(tmp_path) in err
    assert err.count("\n") == 1


def test_a_page_takes_no_argument_but_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["page.py", "--chekc"])
    with pytest.raises(SystemExit) as ended:
        renew(page, "text")
    assert ended.value.code == 2
    assert "--chekc" in capsys.readouterr().err
    assert not page.exists()
    for options, code in ((["--check"], 1), ([], 0), (["--check"], 0)):
        monkeypatch.setattr(sys, "argv", ["page.py", *options])
        assert renew(page, "text") == code


def test_costs_on_file_are_taken_to_ours() -> None:
    stored = json.loads((RESULTS / "compute.json").read_text())
    contenders = stored["figures"]["contenders"]
    assert contenders[compute.OURS]["ratio"] == 1
    for name, c in contenders.items():
        assert c["ratio"] == pytest.approx(c["median_ms_per_s"] / contenders[compute.OURS]["median_ms_per_s"]), name


def test_the_figures_of_live_are_those_on_file() -> None:
    """If this fails: ``python -m benchmarks.live_figures``."""
    text = live_figures.PAGE.read_text()
    assert fill(text, live_figures.block(RESULTS)) == text


def test_a_race_counts_hops_and_divides_by_their_length() -> None:
    ticks = iter(range(10**6))
    slow, fast = (
        compute.Contender(name=n, step=lambda: None, period_s=p, model_bytes=1, state_bytes=0, latency_ms=1, runs_on="-")
        for n, p in ((compute.OURS, 0.1), ("other", 0.2))
    )
    found = compute.race([slow, fast], rounds=3, seconds=0.4, clock=lambda: float(next(ticks)))
    assert found[compute.OURS]["hops"] == 12
    assert found["other"]["hops"] == 6
    assert found["other"]["ratio"] == pytest.approx(0.5)  # as long a step, for twice the sound


def test_the_page_of_scale_is_that_of_the_results_on_file() -> None:
    """If this fails: ``python -m benchmarks.scale_page``."""
    assert scale_page.PAGE.read_text() == scale_page.page(RESULTS)


def test_a_fleet_costs_its_parts_times_its_size() -> None:
    one = {"patch_bytes": 20_000, "image_bytes": 1_000_000, "enroll_cpu_ms": 30.0, "patch_cpu_ms": 6.0}
    found = scale_page.arithmetic(one | {"sign_cpu_ms": 0.1, "verify_cpu_ms": 0.26}, 1_000_000)
    assert found["voices_cpu_h"] == pytest.approx(10)  # a million times 36 ms
    assert (found["patches_gb"], found["images_tb"]) == (pytest.approx(20), pytest.approx(1))
    assert found["patches_line_min"] == pytest.approx(20e9 * 8 / 1e9 / 60)
    assert found["images_line_h"] == pytest.approx(1e12 * 8 / 1e9 / 3600)
    assert found["signatures_cpu_h"] == pytest.approx(0.1)
    assert scale_page.wearers_per_core(50.0, 0.004) == 80
    assert scale_page.wearers_per_core(50.0, 0.004, 0.7) == 56


def test_patches_of_the_fleet_are_those_of_the_firmware() -> None:
    figures = json.loads((RESULTS / "streams.json").read_text())["figures"]
    for name, one in figures["fleet"].items():
        firmware = json.loads((RESULTS / f"firmware-{name}.json").read_text())["figures"]
        assert one["patch_bytes"] == firmware["voice_patch_bytes"]
        assert 0 < one["image_bytes"] - firmware["cores"][streams.FLEET_CORE]["image_bytes"] < 1000  # a header


def test_streams_are_timed_by_the_step_and_in_turn() -> None:
    now, heard = iter(range(10**6)), []
    two = [lambda n, i=i: heard.append((i, n)) for i in range(2)]
    taken = streams.processor_us(two, steps=6, rounds=2, clock=lambda: float(next(now)))
    assert taken == pytest.approx([1e6 / 6] * 2)
    assert heard[:4] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert len(heard) == 3 * 6  # and a round to warm up
    heard.clear()
    streams.processor_us(two, steps=6, rounds=1, clock=lambda: 0.0, burst=3)
    assert heard[:6] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert heard[6] == (0, 3)


def test_streams_have_a_past_of_their_own() -> None:
    """Each of two streams on LiteRT gives what one alone gives, although the other steps in between."""
    model = Artifact.find(Path("nano"))
    voice = shipped_cases()[0].voice(model.voice_model)
    with streams.litert_streams(model, voice, 2, 2) as (_, pair), streams.litert_streams(model, voice, 2, 1) as (_, (alone,)):
        for n in range(8):
            wanted = np.asarray(alone(n)).copy()
            assert all(np.array_equal(np.asarray(stream(n)), wanted) for stream in pair)


def test_a_row_of_parity_is_a_function_of_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that any worker gives the same, apart from how long a voice change took."""
    every = parity.frames
    monkeypatch.setattr(parity, "frames", lambda artifact: ((voice, rows[:40]) for voice, rows in islice(every(artifact), 1)))
    parity.goldens.cache_clear()
    job = pickle.loads(pickle.dumps(parity.Rows(())))
    one, two = (job(("nano", "personalized", "litert")) for _ in range(2))
    parity.goldens.cache_clear()
    assert one.pop("voice_change_ms") > 0
    assert two.pop("voice_change_ms") > 0
    assert one == two
    assert (one["worst_lsb"], one["frames"], one["si_sdr_difference"]) == (0, 40, None)


def test_ceilings_without_a_mixture_leave_what_is_on_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ceilings, "RESULTS", tmp_path)
    for name in ("mixture", "enrollment"):
        (tmp_path / f"{name}.wav").touch()
    listed = tmp_path / "trials.csv"
    listed.write_text("id,mixture,enrollment,target,interferer,condition\na,mixture.wav,enrollment.wav,,,nobody\n")
    assert ceilings.main(["--trials", str(listed), "--condition", "nobody"]) == 2
    assert "0 trials of nobody with a target, 1 is needed: choose of nobody" in capsys.readouterr().err
    assert ceilings.main(["--trials", str(tmp_path / "none.csv")]) == 2
    assert not list(tmp_path.glob("*.json"))


def test_stated_commands_name_what_they_need() -> None:
    """Of every command of the pages and the docstrings that has options; a name alone says where a figure is from."""
    root = RESULTS.parents[1]
    needed = {
        path.stem: re.findall(r'add_argument\((?:"-o", )?"(--[a-z-]+)"[^\n]*required=True', path.read_text())
        for path in (root / "benchmarks").glob("*.py")
    }
    checked = 0
    for page in (*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("benchmarks/*.py")):
        for name, options in re.findall(r"python -m benchmarks\.(\w+)((?: [^\s`#]+)+)", page.read_text()):
            given = options.replace(" -o ", " --output ")
            if " --" in given and " --help" not in given and " --render" not in given:
                checked += 1
                missing = [option for option in needed[name] if option not in given.split()]
                assert not missing, f"{page.name}: python -m benchmarks.{name}{options}"
    assert checked > 40


class TestFiguresOfARelease:
    def test_every_step_is_a_benchmark_that_takes_its_options(self, tmp_path: Path) -> None:
        steps = [step for entry in release_figures.accuracy(tmp_path, tmp_path, tmp_path) for step in entry.values()]
        steps += [*release_figures.times(tmp_path).values(), *([f"benchmarks.{page}"] for page in release_figures.PAGES)]
        assert len(steps) > 15
        for module, *options in steps:
            source = (RESULTS.parent / f"{module.removeprefix('benchmarks.')}.py").read_text()
            for option in options:
                assert not option.startswith("--") or f'"{option}"' in source, (module, option)

    def test_what_was_done_of_these_models_is_left_and_what_failed_is_said_at_the_end(self, tmp_path: Path) -> None:
        told: list[str] = []
        good, bad = {"good": ["platform"]}, {"bad": ["no_such_module"], "after": ["platform"]}
        do = release_figures.Doer(tmp_path, {"small": "a"}, told.append)
        (failed,) = release_figures.failures(do, [bad, good], 1)
        assert re.fullmatch(rf"bad: exit code 1 after \d+ s: {tmp_path}/bad.log says why", failed)
        assert "No module named no_such_module" in (tmp_path / "bad.log").read_text()
        assert [line.partition(":")[0] for line in told] == ["good"], "what follows a failure is not begun"
        assert not release_figures.failures(do, [good], 1)
        assert told[-1] == "good: done before"
        assert not release_figures.failures(release_figures.Doer(tmp_path, {"small": "b"}, told.append), [good], 1)
        assert told[-1] != "good: done before", "of other models"
