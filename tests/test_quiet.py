"""Silence of libraries: descriptors come back, whoever ends first."""

from __future__ import annotations

import os
from contextlib import ExitStack
from itertools import permutations

import pytest

from edge_tse.quiet import mute, quietly


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_descriptors_come_back_in_any_order_of_ends(order: tuple[int, ...], capfd: pytest.CaptureFixture[str]) -> None:
    """As threads that decode files side by side do: each that ended put back what it had found, the silence of another."""
    stacks = [ExitStack() for _ in order]
    before = {number: os.fstat(number).st_ino for number in (1, 2)}
    stacks[0].enter_context(mute())
    stacks[1].enter_context(quietly())
    stacks[2].enter_context(mute())
    os.write(1, b"a remark\n")
    os.write(2, b"a remark\n")
    for which in order[:2]:
        stacks[which].close()
    if order[2] != 1:  # quietly leaves standard output alone
        os.write(1, b"another\n")
    stacks[order[2]].close()
    assert {number: os.fstat(number).st_ino for number in (1, 2)} == before
    os.write(1, b"heard\n")
    os.write(2, b"heard\n")
    out, err = capfd.readouterr()
    assert out == "heard\n"
    assert err.endswith("heard\n")
    assert "a remark" not in err


def test_other_lines_of_a_runtime_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with quietly():
        os.write(2, b"INFO: Created a delegate\na warning of its own\n")
    assert capfd.readouterr().err == "a warning of its own\n"
