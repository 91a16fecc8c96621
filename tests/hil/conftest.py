"""``pytest tests/hil -m hil --target NAME --port PORT``: which board, and where it is."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--target", default=None, metavar="NAME", help="the board: a name of `edge-tse targets`")
    parser.addoption("--port", default=None, metavar="PORT", help="where it answers, as `edge-tse board --port` takes it")
    parser.addoption("--artifact", default=None, metavar="FILE", help="the model it was flashed with; the shipped one if left out")
