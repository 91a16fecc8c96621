"""Runtimes on offer, found by the names of the modules that state them: edge_tse imports no package that is built upon it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

__all__ = ["Offered", "lacking", "load_offers"]

_STATED_IN = ("targets.runtimes", "firmware_bridge.runtime")
"""Modules of other packages that edge_tse finds by name to deploy and to open an engine; there are only these two."""


class Offered(Protocol):
    """The part of a runtime that a target needs to know; the rest is :class:`edge_tse.deployment.runtime.Runtime`."""

    @property
    def description(self) -> str: ...


@cache
def load_offers() -> dict[str, Offered]:
    """Runtimes of this build by name."""
    found: dict[str, Offered] = {}
    for module in _STATED_IN:
        if not lacking((module,)):
            stated: Mapping[str, Offered] = import_module(module).RUNTIMES
            found |= stated
    return found


def lacking(needs: tuple[str, ...]) -> tuple[str, ...]:
    """The modules among ``needs`` that are not installed here; nothing is imported."""
    return tuple(name for name in needs if not _is_installed(name))


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # a parent that is missing; a module somebody put out of reach
        return False
