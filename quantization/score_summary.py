"""Scores of many trials in few figures: means and spreads, and the tails, by what makes a trial hard.

A mean hides the talkers who are lost. The tails are taken by ratio of target to interferers, by how like their voices are, and by
sex.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from quantization import hearing_scores
from quantization.scores import Item

__all__ = ["by_condition", "summary", "tails"]

SIR_EDGES_DB = (-5.0, -2.5, 0.0, 2.5, 5.0)
SIMILARITY_EDGES = (-1.0, 0.0, 0.2, 0.4, 1.0)
"""Edges of classes of the cosine between the enrolled voice and the interferer that is most like it."""


def tails(items: Sequence[Item]) -> dict[str, dict[str, dict[str, Any]]]:
    """SI-SDR improvement of trials with interferers by what makes them hard: ``{circumstance: {class: figures}}``.

    Circumstances are ``sir_db``, ``similarity`` and ``sex``; a class that no trial falls into is left out.
    """
    there = [item for item in items if item["scores"].get("si_sdr_i") is not None and "sir_db" in item]
    classes: dict[str, dict[str, list[Item]]] = {
        "sir_db": _classes(there, "sir_db", SIR_EDGES_DB),
        "similarity": _classes([item for item in there if item.get("similarity") is not None], "similarity", SIMILARITY_EDGES),
        "sex": {
            name: [item for item in there if item.get("same_sex") is same] for name, same in (("same", True), ("other", False))
        },
    }
    return {
        circumstance: {name: _tail(part) for name, part in parts.items() if part}
        for circumstance, parts in classes.items()
        if any(parts.values())
    }


def _classes(items: Sequence[Item], key: str, edges: Sequence[float]) -> dict[str, list[Item]]:
    """Classes of values, from each edge up to the next; the first and the last class are open."""
    place = np.digitize([item[key] for item in items], edges[1:-1])
    return {
        f"{low:g} to {high:g}": [item for item, at in zip(items, place, strict=True) if at == i]
        for i, (low, high) in enumerate(pairwise(edges))
    }


def _tail(items: Sequence[Item]) -> dict[str, Any]:
    confused = [item["scores"]["wrong_talker"] for item in items if item["scores"].get("wrong_talker") is not None]
    gain = _spread([item["scores"]["si_sdr_i"] for item in items])
    return {"si_sdr_i": gain, "wrong_talker": float(np.mean(confused)) if confused else None}


def by_condition(items: Sequence[Item]) -> dict[str, dict[str, Any]]:
    """Summary of the items of each condition, in the order of the list."""
    parts: dict[str, list[Item]] = {}
    for item in items:
        parts.setdefault(item["condition"], []).append(item)
    return {name: summary(part) for name, part in parts.items()}


def summary(items: Sequence[Item]) -> dict[str, Any]:
    """Summary of items, of one condition or several together."""
    values: dict[str, list[float]] = {}
    missing: dict[str, Counter[str]] = {}
    for item in items:
        for name, value in item["scores"].items():
            if value is not None:
                values.setdefault(name, []).append(value)
        for name, reason in item["not_computed"].items():
            missing.setdefault(name, Counter())[reason] += 1
    failed = Counter(item["failed"] for item in items if item["failed"])
    ratios = ("si_sdr", "si_sdr_i", "attenuation_db", "onset_damping_db")
    means = ["si_sdr_mixture", "pesq_wb", "pesq_wb_mixture", "estoi", "estoi_mixture", "over_suppression", "wrong_talker"]
    means += [name + suffix for name in hearing_scores.NAMES for suffix in ("", "_mixture") if name + suffix in values]
    return {
        "n": len(items),
        "absent": sum(item["absent"] for item in items),
        **{name: _spread(values.get(name)) for name in ratios},
        **{name: float(np.mean(values[name])) if name in values else None for name in means},
        "failed": dict(failed),
        "not_computed": {name: dict(reasons) for name, reasons in missing.items()},
    }


def _spread(values: list[float] | None) -> dict[str, float] | None:
    if not values:
        return None
    v = np.array(values)
    return {
        "mean": float(v.mean()),
        "median": float(np.median(v)),
        "p5": float(np.percentile(v, 5)),
        "p10": float(np.percentile(v, 10)),
        "p90": float(np.percentile(v, 90)),
        "below_zero": float(np.mean(v < 0)),
        "n": len(v),
    }
