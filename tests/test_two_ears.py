"""What a benchmark says of ears, cues and turning heads, on sound whose answer is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")
pytest.importorskip("brevitas", reason="training extra not installed")

from benchmarks import learning_curves, two_ears  # noqa: E402
from edge_tse.nn.front import TorchFront  # noqa: E402
from edge_tse.nn.student import NANO_BEAM, Student  # noqa: E402
from quantization.corpus import Speech  # noqa: E402

FRAME = NANO_BEAM.frame
RATE = FRAME.sample_rate_hz


@pytest.fixture(scope="module")
def moved():
    """Front, spectra and moves of a student that computes something, on two ears of noise."""
    torch.manual_seed(3)
    student, front = Student(NANO_BEAM).eval(), TorchFront(FRAME)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "project" in name or "head" in name:
                parameter.normal_(std=0.1)
        spectra = front.analyze(0.1 * torch.randn(2, 2, 64 * 400))
        return front, spectra, student.listen(front, spectra, torch.nn.functional.normalize(torch.randn(2, 128), dim=-1))


def test_energies_and_products_of_bands_are_means_of_both_ears(moved):
    front, spectra, _ = moved
    ears = front.energy(spectra)
    torch.testing.assert_close(front.loudness(spectra), (ears[:, 0] + ears[:, 1]) / 2)
    torch.testing.assert_close(front.product(spectra, 0.5 * spectra), (ears[:, 0] + ears[:, 1]) / 4)


def test_the_shadow_of_a_mixture_is_what_is_heard_and_shadows_add_up(moved):
    front, spectra, moves = moved
    part = front.analyze(0.05 * torch.randn(2, 2, 64 * 400))
    whole = two_ears.shadow(front, spectra, moves, spectra)
    torch.testing.assert_close(whole, moves.apply(front, spectra), atol=1e-3, rtol=1e-3)
    parts = two_ears.shadow(front, spectra, moves, part) + two_ears.shadow(front, spectra, moves, spectra - part)
    torch.testing.assert_close(parts, whole, atol=1e-3, rtol=1e-3)


def test_a_gain_moves_no_cue_and_a_swap_moves_them(moved):
    front, spectra, moves = moved
    alone = moves._replace(beam=None)
    part = spectra * torch.tensor([1.0, 0.5])[None, :, None, None]
    after = front.synthesize(two_ears.shadow(front, spectra, alone, part))[0].numpy()
    before = front.synthesize(part)[0].numpy()
    assert two_ears._ild_db(before) == pytest.approx(6, abs=0.5)
    assert two_ears._ild_db(after) == pytest.approx(two_ears._ild_db(before), abs=0.7)


@pytest.mark.parametrize("late", [-7, 0, 3])
def test_time_between_ears(late):
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    ears = np.stack([np.roll(noise, late), noise])
    assert two_ears._itd_us(ears, RATE) == pytest.approx(late / RATE * 1e6, abs=5)


def test_ears_are_changed_as_they_are_named():
    x = torch.randn(3, 2, 100)
    changed = {name: change(x) for name, change in two_ears.EARS.items()}
    assert torch.equal(changed["a pair"], x)
    assert (changed["right ear dead"][:, 1] == 0).all()
    assert torch.equal(changed["right ear inverted"][:, 1], -x[:, 1])
    assert torch.equal(changed["right ear 1 ms late"][:, 1, 16:], x[:, 1, :-16])
    assert torch.equal(changed["the same sound twice"][:, 1], x[:, 0])
    assert all(torch.equal(y[:, 0], x[:, 0]) for y in changed.values())


def test_the_other_talker_is_somebody_else():
    """It was the target of another mixture, who may be the same person."""
    tones_hz = {"a": 400, "b": 900, "c": 2300}
    n = 4 * RATE
    said = [np.int16(8000 * np.sin(2 * np.pi * hz * np.arange(2 * n) / RATE)) for hz in tones_hz.values()]
    spans = {f"{name}@1": tuple((i * 2 * n + k * n, i * 2 * n + (k + 1) * n) for k in (0, 1)) for i, name in enumerate(tones_hz)}
    run = SimpleNamespace(validation=Speech(np.concatenate(said), spans, frozenset(), tuple(spans)))
    batch = two_ears._dry(run, TorchFront(FRAME), 24, seed=79, seconds=1.0)
    for i in range(24):
        found_hz = [float(np.argmax(np.abs(np.fft.rfft(x)))) for x in two_ears._talkers(batch, i)]
        talkers = [batch.talker[i], batch.others[i][0]]
        assert found_hz == pytest.approx([tones_hz[name.partition("@")[0]] for name in talkers], abs=2)


def test_a_direction_between_two_responses_is_both():
    responses = np.zeros((4, 2, 2), np.float32)
    responses[:, 0, 0] = [1, 2, 3, 4]  # of the left ear, at -180, -90, 0 and 90 degrees
    azimuths = np.array([-180.0, -90.0, 0.0, 90.0])
    x = np.ones(5, np.float32)
    heard = two_ears._around(x, responses, azimuths, np.array([-90.0, -45.0, 0.0, 135.0, 450.0]))
    np.testing.assert_allclose(heard[0], [2, 2.5, 3, 2.5, 4], atol=1e-5)
    assert (heard[1] == 0).all()


def test_gain_over_time_is_that_of_each_quarter_of_a_second():
    rng = np.random.default_rng(1)
    target, noise = rng.standard_normal((2, 2, 2 * RATE)).astype(np.float32)
    estimate = target + noise * np.repeat([0.1, 1.0], RATE).astype(np.float32)
    found = two_ears._over_time(estimate, target + noise, target, RATE)
    np.testing.assert_allclose(10 * np.log10(found[1] / found[0]), [20] * 4 + [0] * 4, atol=1e-3)
    np.testing.assert_allclose(found[1], 1 / 1 * np.mean(noise**2) / np.mean(target**2) * 2, rtol=0.1)


def test_a_turn_is_measured_against_a_head_that_never_turned():
    """By hand: ten times the error for six quarters of a second, of which a mixture does not tell where nobody talks beside."""
    errors = np.full((3, 2, 2, 24), 0.01)
    errors[:, :, 1] = 1.0  # of the mixture
    errors[:, 0, 0, 16:22] = 0.1
    errors[2, 1, 1, 16:20] = errors[2, 0, 0, 16:20] = 0
    errors[1:, :, 1, 23] = 0  # at the end one alone has somebody beside
    loss_db, mixtures = two_ears._loss(errors)
    np.testing.assert_allclose(loss_db, [0] * 16 + [10] * 6 + [0], atol=1e-4)
    assert mixtures.tolist() == [3] * 16 + [2] * 4 + [3] * 3
    times = (np.arange(23) + 0.5) * 0.25
    assert two_ears._recovery_s(times, loss_db) == 0.5  # lost up to 5.5 s, the turn ends at 5
    assert two_ears._recovery_s(times, loss_db + 1) is None
    assert two_ears._recovery_s(times, 0 * loss_db) == 0
    axis = two_ears.draw({"time_s": times, "loss_db": loss_db}).axes[0]
    assert axis.get_lines()[0].get_ydata().tolist() == loss_db.tolist()


def test_learning_curves_are_drawn_and_older_logs_refused(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.csv").write_text("step,seconds,core_s,hours,output_db\n10,60,55,0.1,-1\n20,120,110,0.2,-2.5\n")
    (run / "validation.csv").write_text(
        "step,hours,validation_mean,two_ears_mean,two_ears_room_mean\n10,0.1,1.5,2.5,\n20,0.2,2.0,4.0,\n"
    )
    figure = learning_curves.draw([run])
    lines = figure.axes[1].get_lines()
    assert lines[0].get_xdata().tolist() == pytest.approx([55 / 3600, 110 / 3600])
    assert [line.get_ydata().tolist() for line in figure.axes[2].get_lines()][:2] == [[1.5, 2.0], [2.5, 4.0]]
    assert learning_curves.main([str(run), "-o", str(tmp_path / "curves.svg")]) == 0
    assert "hours of mixture" in (tmp_path / "curves.svg").read_text()
    (run / "log.csv").write_text("step,seconds,output_db\n10,60,-1\n")
    assert learning_curves.main([str(run), "-o", str(tmp_path / "curves.svg")]) == 2
    assert "its log has no core_s, hours" in capsys.readouterr().err
