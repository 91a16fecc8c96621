"""Trials to listen to: the worst, the median and the best of an artifact, as cases of a page with sound and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_tse.demo.cases import Case, case_of
from edge_tse.errors import DataError
from quantization.scores import Item
from quantization.trial_list import Trial, read_trials

__all__ = ["examples"]

WORST = 3


def examples(trials_csv: Path, items: Sequence[Item]) -> list[Case]:
    """Choose of scored trials the three with the least gain, the median and the best, and the loudest output for an absent talker.

    ``items`` are :func:`~quantization.evaluate.evaluate`'s of the same list. ``DataError`` if none has a score to rank it by.
    """
    trials = read_trials(trials_csv)
    chosen = [*_by_gain(items), *_by_attenuation(items)]
    if not chosen:
        raise DataError(f"0 of {len(items)} trials can be ranked, 1 is needed: give trials with a target and interferers")
    return [_case(name, title, trials[at], items[at]) for name, title, at in chosen]


def _by_gain(items: Sequence[Item]) -> Iterator[tuple[str, str, int]]:
    ranked = _by_score(items, "si_sdr_i")
    places = dict.fromkeys([*range(min(WORST, len(ranked))), *([len(ranked) // 2, len(ranked) - 1] if ranked else [])])
    for place in places:
        gain = items[ranked[place]]["scores"]["si_sdr_i"]
        yield f"gain-{place + 1}", f"{_rank(place, len(ranked))}: SI-SDR {gain:+.1f} dB", ranked[place]


def _rank(place: int, of: int) -> str:
    if place == of - 1:
        return f"Best of {of}"
    if place >= WORST:
        return f"Median of {of}"
    return f"Worst but {place}" if place else f"Worst of {of}"


def _by_attenuation(items: Sequence[Item]) -> Iterator[tuple[str, str, int]]:
    ranked = _by_score(items, "attenuation_db")
    if ranked:
        left = items[ranked[0]]["scores"]["attenuation_db"]
        yield "absent", f"Absent talker, loudest output of {len(ranked)}: {-left:.1f} dB of the mixture", ranked[0]


def _by_score(items: Sequence[Item], score: str) -> list[int]:
    """Indices of the items that have this score, lowest first."""
    there = [i for i, item in enumerate(items) if item["scores"].get(score) is not None]
    return sorted(there, key=lambda i: float(items[i]["scores"][score]))


def _case(name: str, title: str, trial: Trial, item: Item) -> Case:
    others = ", ".join(path.name for path in trial.interferers) or "nobody else"
    talkers = f"Trial {trial.id} ({trial.condition}). Beside the talker to hear: {others}."
    if item["scores"].get("wrong_talker"):
        talkers += " The output is nearer to another talker than to this one."
    if item.get("similarity") is not None:
        talkers += f" Likeness of the voices: {item['similarity']:.2f}."
    return case_of(name, title, talkers, trial.mixture, trial.enrollment, None if item["absent"] else trial.target)
