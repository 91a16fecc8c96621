"""Traces: what Perfetto opens, slices that lie within each other, and outputs that noting does not change."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, open_network
from edge_tse.live.loop import Loop
from edge_tse.live.session import Session
from edge_tse.profiling.profile import profile
from edge_tse.profiling.tracing import write_trace
from edge_tse.reference import ReferenceNetwork
from edge_tse.stream import GainStep, VoicedEngine
from edge_tse.trace import Tape, TracedEngine, noting_us, slices, traced
from tests import graphs
from tests.test_session import HOP, RATE, Plain, play, sound

PARTS = ["front end: analysis", "network", "front end: synthesis"]
INNER = ["marshalling in", "inference", "marshalling out"]


@pytest.fixture(scope="module")
def model() -> Artifact:
    return graphs.artifact(graphs.NANO, frames=4)


def check(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Events of a file that is a trace: the schema that Perfetto and chrome://tracing ask for."""
    told = json.loads(path.read_text())
    assert set(told) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert told["displayTimeUnit"] in ("ms", "ns")
    events = told["traceEvents"]
    last: dict[tuple[int, int], float] = {}
    stacks: dict[tuple[int, int], list[tuple[float, float]]] = {}
    named = set()
    for event in events:
        assert event["ph"] in ("M", "X", "i", "C"), event
        assert isinstance(event["name"], str)
        assert type(event["pid"]) is int
        assert type(event["tid"]) is int
        track = event["pid"], event["tid"]
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            assert isinstance(event["args"]["name"], str)
            named.add(track)
            continue
        assert track in named, "every track has its name first"
        assert event["ts"] >= 0
        assert event["ts"] >= last.get(track, 0), "in the order of time"
        last[track] = event["ts"]
        if event["ph"] == "i":
            assert event["s"] in ("t", "p", "g")
        if event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())
        if event["ph"] == "X":
            assert event["dur"] >= 0
            stack = stacks.setdefault(track, [])
            began, ended = event["ts"], event["ts"] + event["dur"]
            while stack and stack[-1][1] <= began + 1e-6:
                stack.pop()
            assert not stack or ended <= stack[-1][1] + 1e-6, f"{event['name']} ends after the slice that it lies in"
            stack.append((began, ended))
    return events, told["otherData"]


class TestSteps:
    @pytest.mark.parametrize("engine", ["reference", "litert", "onnx"])
    def test_outputs_are_the_same_and_parts_fill_a_step(self, model: Artifact, engine: str, tmp_path: Path) -> None:
        if engine != "reference":
            pytest.importorskip({"litert": "ai_edge_litert", "onnx": "onnxruntime"}[engine], reason="this engine is not installed")
        heard = sound(HOP * 50, 2).T
        plain = Engine(model, open_network(model, engine)).start(2)
        with traced(Engine(model, open_network(model, engine)), tmp_path / "t.json", {"engine": engine}) as running:
            step = running.start(2)
            for i in range(50):
                hop = np.ascontiguousarray(heard[:, i * HOP : (i + 1) * HOP])
                assert np.array_equal(step(hop), plain(hop))
        assert isinstance(step, GainStep)
        events, about = check(tmp_path / "t.json")
        names = [event["name"] for event in events if event["ph"] == "X"]
        assert names.count("step") == about["steps"] == about["of"] == 50
        assert all(names.count(name) == 50 for name in PARTS)
        assert all(names.count(name) == (0 if engine == "reference" else 50) for name in INNER)
        slots = [event for event in events if event["name"] in ("step", *PARTS)]
        for whole, *parts in zip(*(slots[i::4] for i in range(4)), strict=True):
            assert sum(part["dur"] for part in parts) == pytest.approx(whole["dur"], abs=0.01)

    def test_a_step_that_is_not_ours_is_one_slice(self) -> None:
        tape = Tape()
        running = TracedEngine(Plain(), tape)  # type: ignore[arg-type]
        assert not isinstance(running, VoicedEngine)
        step = running.start(1)
        for _ in range(3):
            step(np.zeros((1, HOP), np.float32))
        assert [event["name"] for event in slices(tape.read(), 0.0)] == ["step"] * 3

    def test_a_tape_keeps_the_last_steps(self) -> None:
        now = iter(range(10_000))
        tape = Tape(lambda: float(next(now)), kept=4)
        for _ in range(10):
            tape.begin()
            tape.end()
        assert tape.count == 10
        assert tape.read()[:, 0].tolist() == [12.0, 14.0, 16.0, 18.0]
        tape.begin()  # a step that fails: as of a board that is gone
        assert tape.read()[:, 0].tolist() == [14.0, 16.0, 18.0]

    def test_a_voice_can_still_be_switched(self, model: Artifact) -> None:
        running = TracedEngine(
            Engine(graphs.artifact(graphs.TINY, frames=1), ReferenceNetwork(graphs.student(graphs.TINY))), Tape()
        )
        assert isinstance(running, VoicedEngine)

    def test_noting_costs_microseconds(self) -> None:
        assert 0 < noting_us(500) < 200

    def test_a_folder_that_is_not_there_writes_nothing_before_the_end(self, model: Artifact) -> None:
        engine = Engine(model, ReferenceNetwork(model.graph))
        with traced(engine, None, {}) as running:
            assert running is engine


class TestProfile:
    def test_steps_and_operators(self, tmp_path: Path) -> None:
        model = graphs.artifact(graphs.TINY, frames=4)
        network, clock = ReferenceNetwork(model.graph), time.perf_counter
        figures = json.loads(profile(model, network, clock, hops=20, ears=1, open_graph=ReferenceNetwork).to_json())["figures"]
        told = write_trace(tmp_path / "p.json", model, network, figures, clock)
        events, about = check(tmp_path / "p.json")
        assert told["steps"] == about["steps"] == sum(event["name"] == "step" for event in events) == 250
        first, *others = (event for event in events if event["tid"] == 2 and event["ph"] == "X")
        assert first["name"] == "inference, median"
        assert {event["name"] for event in others} == {node.name for node in model.graph.nodes}
        assert "alone" in about["operators"]
        assert about["untraced_step_p50_us"] == pytest.approx(figures["step"]["p50_ms"] * 1e3)

    def test_without_operators_it_says_so(self, model: Artifact, tmp_path: Path) -> None:
        network, now = ReferenceNetwork(model.graph), iter(np.arange(0, 100, 1e-6))
        figures = json.loads(profile(model, network, lambda: next(now), hops=20, ears=1).to_json())["figures"]
        write_trace(tmp_path / "p.json", model, network, figures, lambda: next(now))
        events, about = check(tmp_path / "p.json")
        assert not [event for event in events if event["tid"] == 2 and event["ph"] == "X"]
        assert about["operators"].startswith("unavailable")


def test_a_session(model: Artifact, tmp_path: Path) -> None:
    """Hops, what follows them, blocks, late ones and events, on tracks of their own."""
    from types import SimpleNamespace

    from edge_tse.live.tracing import save_session_trace

    tape = Tape()
    engine = TracedEngine(Engine(model, ReferenceNetwork(model.graph)), tape)
    session = Session(engine, Loop(rate_hz=RATE, ears=1, block=HOP))
    play(session, sound(HOP * 20))
    session.note("talker_db -3.0", "change", 0.0001)
    play(session, sound(HOP * 20), work=lambda block: block > 10)
    head = SimpleNamespace(engine="reference", artifact="0")
    finished = SimpleNamespace(tape=tape, session=session, head=head, began_s=0.0)
    save_session_trace(tmp_path / "s.json", finished)  # type: ignore[arg-type]
    events, about = check(tmp_path / "s.json")
    kinds = {(event["ph"], event["name"]) for event in events}
    assert {("X", "step"), ("X", "hearing chain and output"), ("C", "in reserve, ms"), ("i", "late block")} <= kinds
    assert ("i", "talker_db -3.0") in kinds
    assert about["noting_us_per_step"] > 0
    late = sum(event["name"] == "late block" for event in events)
    assert late == session.health.late_blocks > 0
