"""Checkpoints say so when their weights are not those that were written."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from edge_tse.errors import DataError  # noqa: E402
from quantization.checkpoint import load_checkpoint  # noqa: E402
from quantization.stored import load_state, save_state  # noqa: E402

SHIPPED = Path(__file__).parents[1] / "quantization" / "checkpoints" / "nano.pt"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = {"step": 3, "student": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}, "resume": []}
    save_state(tmp_path / "x.pt", state)
    found = load_state(tmp_path / "x.pt", "checkpoint")
    assert found.keys() == state.keys()
    assert torch.equal(found["student"]["a"], state["student"]["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_one_weight_that_differs_is_refused_with_both_digests(tmp_path: Path) -> None:
    save_state(tmp_path / "x.pt", {"student": {"a": torch.zeros(4)}})
    state = torch.load(tmp_path / "x.pt", weights_only=True)
    state["student"]["a"][2] = 1e-30
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"x\.pt is damaged: its weights have digest \w{12}, it states \w{12}"):
        load_state(tmp_path / "x.pt", "checkpoint")


def test_a_weight_that_is_no_number_is_named_with_its_checkpoint(tmp_path: Path) -> None:
    state = torch.load(SHIPPED, map_location="cpu", weights_only=True)
    name = next(name for name, value in state["student"].items() if value.ndim == 2)
    state["student"][name][0, :3] = float("nan")
    save_state(tmp_path / "x.pt", state)
    with pytest.raises(DataError, match=rf"x\.pt: 3 of \d+ values of student\.{name} are not finite"):
        load_checkpoint(tmp_path / "x.pt")


def test_those_of_before_have_no_digest_and_are_read(tmp_path: Path) -> None:
    state = torch.load(SHIPPED, map_location="cpu", weights_only=True)
    assert state.pop("digest")
    torch.save(state, tmp_path / "x.pt")
    assert load_checkpoint(tmp_path / "x.pt").recipe.name == "nano"


def test_what_is_no_file_is_refused_at_once() -> None:
    with pytest.raises(DataError, match="/dev/zero is no checkpoint"):
        load_checkpoint(Path("/dev/zero"))
