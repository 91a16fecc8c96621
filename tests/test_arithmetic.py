"""Steps of the optimizer in either arithmetic, and the choice between them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")
pytest.importorskip("lightning_fabric", reason="training extra not installed")

from quantization import arithmetic  # noqa: E402
from quantization.arithmetic import Arithmetic, Muon, fastest, orthogonalize  # noqa: E402

LAYER = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 12), torch.nn.BatchNorm1d(12))


def _weights():
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((20, 8), (8, 30))]


@pytest.mark.parametrize(("bfloat16", "tolerance"), [(True, 0), (False, 0.02)])
def test_steps_are_those_of_pytorch(bfloat16, tolerance):
    ours, theirs = _weights(), _weights()
    own = Muon(ours, 1e-2, 0.01, bfloat16)
    reference = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    torch.manual_seed(1)
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        own.step()
        reference.step()
    for a, b, begun in zip(ours, theirs, _weights(), strict=True):
        assert (a - b).abs().max() <= tolerance * (b - begun).abs().max()


def test_a_unit_that_no_longer_fires_leaves_nothing_denormal():
    """Products of such numbers took longer than all the rest of a step."""
    torch.manual_seed(1)
    (weight,) = weights = [torch.nn.Parameter(torch.randn(8, 30))]
    own = Muon(weights, 1e-4, 0.0, False)
    for step in range(2500):
        weight.grad = torch.randn(8, 30)
        weight.grad[3:] *= step < 5
        own.step()
    held = own.state[weight]["momentum_buffer"].abs()
    assert (held[:3] > 1e-3).any()
    assert not held[3:].any()


def test_a_state_of_pytorchs_goes_on():
    weights = _weights()
    reference = torch.optim.Muon(weights, lr=1e-2, adjust_lr_fn="match_rms_adamw")
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    reference.step()
    own = Muon(_weights(), 1e-2, 0.01, False)
    own.load_state_dict(reference.state_dict())
    assert all("momentum_buffer" in state for state in own.state.values())


@pytest.mark.parametrize("shape", [(6, 40), (40, 6)])
def test_singular_values_become_about_one(shape):
    torch.manual_seed(2)
    found = torch.linalg.svdvals(orthogonalize(torch.randn(shape), torch.float32))
    assert 0.6 < float(found.min()) <= float(found.max()) < 1.3


def _times(layer, step):
    """Times of float32, then of bfloat16."""
    return {
        f"{what}_{kind}": time
        for what, times in (("layer", layer), ("step", step))
        for kind, time in zip(("float32", "bfloat16"), times, strict=True)
    }


@pytest.mark.parametrize(("layers", "steps"), [(True, False), (False, True)])
def test_the_faster_one_is_taken_and_said(monkeypatch, layers, steps):
    times = iter([2.0, 1.0 if layers else 3.0, 2.0, 1.0 if steps else 3.0])
    tried = []
    monkeypatch.setattr(arithmetic, "orthogonalize", lambda weight, dtype: tried.append(weight.shape))
    monkeypatch.setattr(arithmetic, "_best_ms", lambda run: (run(), next(times))[1])
    arithmetic._tried.cache_clear()
    found = fastest("cpu", LAYER)
    assert fastest("cpu", LAYER) == found, "tried once"
    assert tried == [(12, 8)] * 2, "on the largest layer"
    arithmetic._tried.cache_clear()
    assert (found.layers, found.steps) == (layers, steps)
    assert str(found) == f"layers in {'bfloat16' if layers else 'float32'}, steps in {'bfloat16' if steps else 'float32'}"
    assert fastest("cuda", LAYER).layers


def test_a_difference_of_the_moment_decides_nothing(monkeypatch):
    """On one machine an iteration took 0.69 ms in either: runs took now one, now the other, and other weights came out."""
    mixed, plain = (Arithmetic(device="cpu", layers=both, steps=both, times_ms={}) for both in (True, False))
    monkeypatch.setattr(arithmetic, "_tried", lambda *shape: _times((1.0, 0.97), (0.69, 0.691)))
    for begun in (None, plain):
        assert not fastest("cpu", LAYER, begun).layers
        assert not fastest("cpu", LAYER, begun).steps
    assert fastest("cpu", LAYER, mixed).layers
    assert fastest("cpu", LAYER, mixed).steps
    assert not fastest("cpu", LAYER, Arithmetic(device="cuda", layers=True, steps=True, times_ms={})).layers, "begun elsewhere"


def test_what_is_begun_on_one_machine_and_slow_on_another_turns(monkeypatch):
    mixed, plain = (Arithmetic(device="cpu", layers=both, steps=both, times_ms={}) for both in (True, False))
    monkeypatch.setattr(arithmetic, "_tried", lambda *shape: _times((1.0, 2.0), (2.0, 1.0)))
    for begun in (mixed, plain):
        found = fastest("cpu", LAYER, begun)
        assert (found.layers, found.steps) == (False, True)
