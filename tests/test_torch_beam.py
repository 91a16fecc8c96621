"""The beam of a training step: in C and in torch it is the same, and so is its gradient."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")

from torch import Tensor  # noqa: E402

from edge_tse.nn import beam  # noqa: E402
from edge_tse.nn.beam import HopBeam, beamform  # noqa: E402

ITEMS, FRAMES, BINS, UNIT = 2, 150, 17, 0.01

compiled = pytest.mark.skipif(not beam.COMPILED, reason="edge_tse.nn._beam is not built: no C compiler where this was installed")


def scene(sound: str = "two talkers") -> tuple[Tensor, Tensor]:
    """Spectra of two ears ``[B, 2, T, K]`` and the talker's part of each bin, of which some are a half, 0 and 1."""
    torch.manual_seed(1)
    level = torch.exp(torch.empty(2, ITEMS, FRAMES // 10, BINS).uniform_(-6, 0)).repeat_interleave(10, dim=2)
    talker, other = torch.randn(2, ITEMS, FRAMES, BINS, dtype=torch.complex64) * level
    ears = torch.stack([talker + other, (0.5 + 0.3j) * talker + (-0.4 + 0.8j) * other], dim=1)
    ears = ears + 0.02 * torch.randn_like(ears)
    part = (talker.abs() / (talker.abs() + other.abs())).clone()
    part[:, :, 0], part[:, :, 1], part[:, :, 2] = 0, 1, 0.5
    if sound == "a dead ear":
        ears[:, 1, 40:] = 0
    if sound == "the same twice":
        ears = ears[:, :1].expand(-1, 2, -1, -1)
    if sound == "silence, then steps":
        ears = ears * torch.cat([torch.zeros(60), torch.full((30,), 1e-4), torch.full((60,), 30.0)])[:, None]
    return ears, part


def made_of(ears: Tensor, part: Tensor, **given: Tensor) -> tuple[Tensor, Tensor]:
    """Output, and the gradient of something that is not linear in it."""
    part = part.clone().requires_grad_()
    out = beamform(ears, part, UNIT, **given)
    scale = ears.abs().square().mean().sqrt()
    ((out.real / scale) ** 3 + (out.imag / scale) ** 2).sum().backward()
    assert part.grad is not None
    return out.detach(), part.grad


@compiled
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("sound", ["two talkers", "a dead ear", "the same twice", "silence, then steps"])
def test_it_is_the_beam_in_torch_and_so_is_its_gradient(sound: str, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held against torch in double precision, to which it must be about as near as torch is in single precision.

    Loads and floors are so small that little of an output or a gradient comes from them: also with large ones.
    """
    for constant in ("_LOADING", "_LOADING_FLOOR", "_TRACE_FLOOR") if large else ():
        monkeypatch.setattr(beam, constant, 0.3)
    ears, part = scene(sound)
    out, slope = made_of(ears, part)
    exact, exact_slope = made_of(ears.to(torch.complex128), part.double())
    by_torch, torch_slope = made_of(ears, part, heard=ears)
    for got, other, want in ((out, by_torch, exact), (slope, torch_slope, exact_slope)):
        size = want.abs().square().mean().sqrt().clamp_min(0.1)  # two equal ears have no slope at all
        wrong, wrong_in_torch = ((x - want).abs().square().mean().sqrt() / size for x in (got, other))
        assert wrong < max(3 * wrong_in_torch, 1e-5)
        assert wrong < 5e-3


@compiled
def test_what_goes_into_it_need_not_be_contiguous_nor_keep_a_gradient() -> None:
    ears, part = scene()
    want = beamform(ears, part, UNIT)
    turned = ears.transpose(-1, -2).contiguous().transpose(-1, -2), part.transpose(-1, -2).contiguous().transpose(-1, -2)
    assert torch.equal(beamform(*turned, UNIT), want)
    assert torch.equal(beamform(ears.conj().resolve_conj().conj(), part, UNIT), want)
    assert torch.equal(made_of(ears, part)[0], want), "the past is kept for a gradient alone"
    for frames in (0, 1, 65):
        assert torch.equal(beamform(ears[:, :, :frames], part[:, :frames], UNIT), want[:, :, :frames])


@compiled
def test_it_is_the_same_every_time() -> None:
    """A run that is resumed goes on bit for bit."""
    first, again = made_of(*scene()), made_of(*scene())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_sound_that_is_learned_gets_its_gradient() -> None:
    ears, part = scene()
    learned = ears.clone().requires_grad_()
    beamform(learned, part, UNIT).abs().sum().backward()
    assert learned.grad is not None
    assert learned.grad.abs().sum() > 0


def test_hop_by_hop_it_is_the_same_beam() -> None:
    ears, part = scene()
    hops, out = HopBeam(ITEMS, BINS, UNIT), []
    for t in range(FRAMES):
        out.append(hops.filter(ears[:, :, t : t + 1]))
        hops.learn(ears[:, :, t : t + 1], part[:, t : t + 1])
    torch.testing.assert_close(torch.cat(out, dim=2), beamform(ears, part, UNIT), atol=1e-4, rtol=1e-3)


@compiled
def test_wrong_buffers_are_refused() -> None:
    from edge_tse.nn import _beam

    def room(*shape: int) -> object:
        return torch.zeros(shape).numpy()

    constants = (UNIT, 0.9, 0.9, 0.1, 1e-9, 1e-3)
    right = {"ears": room(2, 3, 5, 2), "part": room(3, 5), "past": room(4, 8, 5), "out": room(2, 3, 5, 2)}
    _beam.beam(3, 5, constants, *right.values())
    for name in right:
        with pytest.raises(ValueError, match=rf"{name}: 8 bytes, not \d+"):
            _beam.beam(3, 5, constants, *(right | {name: room(2)}).values())
    back = {name: right[name] for name in ("ears", "part", "past")}
    back |= {"by_out": room(2, 3, 5, 2), "by_past": room(8, 5), "by_part": room(3, 5)}
    _beam.slope(3, 5, constants, *back.values())
    for name in back:
        with pytest.raises(ValueError, match=rf"{name}: 8 bytes, not \d+"):
            _beam.slope(3, 5, constants, *(back | {name: room(2)}).values())
    with pytest.raises(TypeError, match="read-write"):
        _beam.beam(3, 5, constants, *(right | {"out": torch.zeros(1, 60).expand(2, 60).numpy()}).values())
    for sizes in ((-1, 5), (3, -5), (0, 5), (3, 0), (2**62, 8), (2**32, 2**32)):
        with pytest.raises(ValueError, match=r"-?\d+ frames of -?\d+ bins|\w+: \d+ bytes, not \d+"):
            _beam.beam(*sizes, constants, *right.values())
        with pytest.raises(ValueError, match=r"-?\d+ frames of -?\d+ bins|\w+: \d+ bytes, not \d+"):
            _beam.slope(*sizes, constants, *back.values())
