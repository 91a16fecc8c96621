"""The demonstration as one HTML file: sound, picture and figures inside it, nothing fetched from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from edge_tse import audio
from edge_tse.web_page import cards, document, fragment, rows_table

if TYPE_CHECKING:
    from edge_tse.demo.cases import Outcome, Sound

__all__ = ["page"]

EMBEDDED_S = 60
"""Longest sound on the page; longer ones are cut there (the WAV beside it is whole)."""


def page(
    heading: str, outcomes: Sequence[Outcome], pictures: Sequence[tuple[bytes, bytes]], environment: Mapping[str, object]
) -> str:
    """HTML of outcomes with their pictures (PNG for light and for dark rooms)."""
    first = outcomes[0]
    shipped = any(outcome.case.mixture.path is None for outcome in outcomes)
    versions = environment["versions"]
    assert isinstance(versions, Mapping)
    body = fragment("demo", "page.html").substitute(
        heading=escape(heading),
        cards=_cards(first),
        cases="".join(_case(outcome, *images) for outcome, images in zip(outcomes, pictures, strict=True)),
        voices=fragment("demo", "voices.html").substitute() if shipped else "",
        cpu=escape(str(environment["cpu"])),
        engine=escape(first.engine),
        measured=escape(str(environment["measured"])),
        versions=escape(", ".join(f"{name} {number}" for name, number in versions.items())),
        latency=f"{first.artifact.frame.algorithmic_latency_s * 1e3:.0f}",
        hop=f"{first.artifact.frame.period_s * 1e3:.0f}",
    )
    return document("edge-tse: hear one talker", body)


def _cards(outcome: Outcome) -> str:
    """Cards with the figures that matter, large."""
    timing, frame = outcome.extraction.timing, outcome.artifact.frame
    shown = [
        (f"{frame.algorithmic_latency_s * 1e3:.0f} ms", "algorithmic latency"),
        (f"{timing.percentile_s(99) * 1e3:.2f} ms", f"compute per {timing.period_s * 1e3:.0f} ms hop, p99"),
        (f"{timing.real_time_factor:.3f}", "real-time factor, one core"),
        (f"{outcome.artifact.graph.weight_bytes / 1024:.0f} KiB", "int8 weights"),
    ]
    if outcome.si_sdr_db is not None:
        before, after = outcome.si_sdr_db
        shown.insert(0, (f"{after - before:+.1f} dB", f"SI-SDR, {outcome.case.title.lower()}"))
    return cards(shown)


def _case(outcome: Outcome, light: bytes, dark: bytes) -> str:
    case, got = outcome.case, outcome.extraction
    players = [
        _player("Mixture", "what the microphone hears", case.mixture, aligned=True),
        _player("Extracted talker", "what edge-tse makes of it", replace(case.mixture, signal=got.signal), aligned=True),
    ]
    if case.reference is not None:
        players.append(_player("Reference", "the talker alone, never seen by the network", case.reference, aligned=True))
    for clip in case.enrollments:
        players.append(_player("Enrollment", "the clip that told it whom to follow", clip, aligned=False))
    return fragment("demo", "case.html").substitute(
        title=escape(case.title),
        talkers=escape(case.talkers),
        players="".join(players),
        rows=rows_table(outcome.rows()),
        light=base64.b64encode(light).decode(),
        dark=base64.b64encode(dark).decode(),
        alt=escape(f"Spectrograms of {case.title.lower()}: mixture, applied gain, extracted talker and, if known, the reference"),
    )


def _player(title: str, note: str, sound: Sound, *, aligned: bool) -> str:
    shown = sound.signal[:, : EMBEDDED_S * sound.rate_hz]
    if shown.shape[1] < sound.signal.shape[1]:
        note = f"{note}; the first {EMBEDDED_S} s"
    caption = f"<figcaption><b>{escape(title)}</b> <span>{escape(note)}</span></figcaption>"
    # 16-bit WAV is what every browser plays.
    source = f"data:audio/wav;base64,{base64.b64encode(audio.encode(shown, sound.rate_hz)).decode()}"
    flag = " data-aligned" if aligned else ""
    return f'<figure>{caption}<audio controls preload="metadata"{flag} src="{source}"></audio></figure>\n'
