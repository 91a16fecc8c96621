"""Profiles: times are what the clock said, parts add up, and a page needs nothing but itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.deployment.runtime import Emitted
from edge_tse.errors import DataError
from edge_tse.golden import TimedStep
from edge_tse.graph import Add, Append, IntegerGraph
from edge_tse.profiling.operator_times import OperatorTime, operator_times
from edge_tse.profiling.page import page
from edge_tse.profiling.profile import WARM_UP, compare, load_profile, network_parts, profile, sound, steps
from edge_tse.reference import ReferenceNetwork
from tests import graphs
from tests.command import Run
from tests.test_trace import check as check_trace


@pytest.fixture(scope="module")
def model() -> Artifact:
    return graphs.artifact(graphs.TINY, frames=4)


class Ticking:
    """A clock that goes forward by one at every look."""

    def __init__(self) -> None:
        self._times: Iterator[int] = count()

    def __call__(self) -> float:
        return float(next(self._times))


class Slow(ReferenceNetwork):
    """A runtime whose invocation takes as long as its multiply-accumulates say, on a clock of its own."""

    now = 0.0

    @classmethod
    def clock(cls) -> float:
        return cls.now

    def __init__(self, graph: IntegerGraph) -> None:
        super().__init__(graph)
        self._cost = 1e-6 + sum(1e-9 * node.weight.size for node in graph.nodes if hasattr(node, "weight"))
        self._cost += sum(3e-9 for node in graph.nodes if isinstance(node, Add | Append))

    def run_timed(self, features: NDArray[np.int8], clock: Callable[[], float]) -> TimedStep:
        """A fifth of a microsecond to the runtime, and none back."""
        began_s = clock() * 0
        return TimedStep(super().run(features), began_s, 2e-7, 2e-7 + self._cost, 2e-7 + self._cost)

    def run(self, features: NDArray[np.int8]) -> tuple[NDArray[np.int8], ...]:
        Slow.now += self._cost + 2e-7
        return super().run(features)


class TestSteps:
    def test_parts_are_what_the_clock_said(self, model: Artifact) -> None:
        """Four looks a step: begin, network begins, network ends, end."""
        taken = steps(model, ReferenceNetwork(model.graph), sound(model, 30, 1), Ticking(), warm_up=10)
        assert taken.step.hop_s.tolist() == [3.0] * 20
        assert taken.network.hop_s.tolist() == [1.0] * 20
        assert taken.front_end.hop_s.tolist() == [2.0] * 20
        assert taken.step.period_s == model.frame.period_s
        assert (taken.start_s, taken.first_s) == (1.0, 3.0)

    def test_marshalling_apart_from_inference(self, model: Artifact) -> None:
        signal = sound(model, 12, 2)
        assert network_parts(model, ReferenceNetwork(model.graph), signal, Ticking()) is None
        parts = network_parts(model, Slow(model.graph), signal, Slow.clock)
        assert parts is not None
        marshalling, inference = parts
        assert len(marshalling.hop_s) == len(inference.hop_s) >= 12
        assert marshalling.hop_s == pytest.approx(2e-7)
        assert inference.hop_s == pytest.approx(Slow(model.graph)._cost)

    def test_sound_is_the_same_each_time_and_fills_the_hops(self, model: Artifact) -> None:
        first = sound(model, 40, 2)
        assert first.shape == (2, 40 * model.frame.hop)
        assert np.array_equal(first, sound(model, 40, 2))
        assert 0.01 < first.std() < 0.2


class TestOperators:
    def test_each_node_in_order_at_its_own_cost(self, model: Artifact) -> None:
        """The overhead of a call, the same in every graph, is in none of them."""
        times = operator_times(model.graph, Slow, Slow.clock, rounds=20)
        assert [t.node for t in times] == [node.name for node in model.graph.nodes]
        for time, node in zip(times, model.graph.nodes, strict=True):
            size = node.weight.size if hasattr(node, "weight") else 0
            extra = 3e-9 if isinstance(node, Add | Append) else 0.0
            assert time.alone_s == pytest.approx(1e-9 * size + extra, abs=1e-12), node.name
            assert time.macs == size * model.graph.tensors[node.output].frames

    def test_equal_nodes_are_timed_once(self, model: Artifact) -> None:
        opened = []

        def open_graph(graph: IntegerGraph) -> Slow:
            opened.append(graph)
            return Slow(graph)

        operator_times(model.graph, open_graph, Slow.clock, rounds=20)
        adds = [graph for graph in opened if any(isinstance(node, Add) for node in graph.nodes)]
        assert len({len(graph.nodes) for graph in adds}) == 2  # few copies and many
        # Two stages, two widths of their streams; five additions in all.
        assert sum(isinstance(node, Add) for node in model.graph.nodes) == 4
        assert len(adds) == 2 * 2

    @pytest.mark.parametrize("engine", ["litert", "onnx"])
    def test_every_operator_runs_alone_on_a_real_engine(self, model: Artifact, engine: str) -> None:
        import time

        if engine == "litert":
            pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
            from edge_tse.engines.litert import LiteRTNetwork as Network
        else:
            pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
            pytest.importorskip("onnx", reason="onnx is not installed")
            from edge_tse.engines.onnxrt import OnnxNetwork as Network
        times = operator_times(model.graph, Network, time.perf_counter, rounds=20)
        assert len(times) == len(model.graph.nodes)
        assert sum(t.alone_s for t in times) > 0


class TestProfile:
    def report(self, model: Artifact, **more: object) -> dict:
        made = profile(model, Slow(model.graph), Slow.clock, hops=40, open_graph=Slow, **more)
        return json.loads(made.to_json())

    def test_figures(self, model: Artifact) -> None:
        figures = self.report(model, emitted=Emitted(content=bytes(12345), kind="file"))["figures"]
        assert figures["step"]["hops"] == len(figures["step_us"]) == len(figures["network_us"]) == 40
        assert figures["model"] == {
            "file_bytes": 12345,
            "weight_bytes": model.graph.weight_bytes,
            "macs_per_hop": model.graph.macs,
        }
        assert figures["memory"]["state_bytes"] == model.graph.state_bytes
        assert min(figures["memory"]["peak_rss_bytes"], figures["memory"]["rss_bytes"]) > 10**6
        assert figures["memory"]["arena_reported_bytes"] is None
        assert figures["evidence"].startswith("hardware")

    def test_operators_are_scaled_to_the_whole(self, model: Artifact) -> None:
        figures = self.report(model)["figures"]
        operators = figures["operators"]
        whole_us = figures["inference"]["p50_ms"] * 1e3
        for entries in (operators["nodes"], operators["by_operator"]):
            assert sum(entry["share"] for entry in entries) == pytest.approx(1)
            assert sum(entry["scaled_us"] for entry in entries) == pytest.approx(whole_us)
            assert sum(entry["macs"] for entry in entries) == model.graph.macs
        shares = [entry["share"] for entry in operators["by_operator"]]
        assert shares == sorted(shares, reverse=True)

    def test_what_cannot_be_told_is_called_unavailable(self, model: Artifact) -> None:
        made = profile(model, ReferenceNetwork(model.graph), Ticking(), hops=10, ears=1)
        figures = json.loads(made.to_json())["figures"]
        assert figures["marshalling"] is None
        assert figures["inference"] is None
        assert figures["operators"]["method"].startswith("unavailable")
        assert figures["operators"]["nodes"] == []

    def test_an_engine_may_bring_its_own_profiler(self, model: Artifact) -> None:
        class Reporting(Slow):
            arena_bytes = 777

        def trace(features: NDArray[np.int8]) -> list[OperatorTime]:
            assert features.shape[1] == model.frame.features
            return [OperatorTime(node=f"kernel #{i}", operator="kernel", shape="", macs=0, alone_s=1e-6) for i in (1, 2)]

        made = profile(model, Reporting(model.graph), Slow.clock, hops=10, open_graph=Slow, trace=trace)
        figures = json.loads(made.to_json())["figures"]
        assert figures["operators"]["method"].startswith("the runtime's own profiler")
        assert [entry["share"] for entry in figures["operators"]["nodes"]] == [0.5, 0.5]
        assert figures["memory"]["arena_reported_bytes"] == 777

    def test_compare(self, model: Artifact) -> None:
        before, after = self.report(model), self.report(model)
        after["figures"]["step"]["p50_ms"] = 3 * before["figures"]["step"]["p50_ms"]
        after["figures"]["ears"] = 1
        found = compare(before, after)
        ratios = {row["what"]: row["ratio"] for row in found["rows"]}
        assert ratios["step p50_ms"] == pytest.approx(3)
        assert ratios["model macs_per_hop"] == 1
        assert "model file_bytes" not in ratios  # unknown in both
        assert found["different"] == ["ears: 2 before, 1 now"]


class _Page(HTMLParser):
    """Tags that are opened and closed in order, and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [str(value) for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class TestPage:
    def made(self, model: Artifact, late: bool = False) -> tuple[str, dict]:
        report = json.loads(profile(model, Slow(model.graph), Slow.clock, hops=40, open_graph=Slow).to_json())
        if late:
            report["figures"]["step_us"][3] = 9000.0
        return page(report), report

    def test_it_is_whole_and_needs_nothing(self, model: Artifact) -> None:
        text, _ = self.made(model)
        read = _Page(text)
        assert read.open == []
        assert read.references == []
        assert "http" not in text
        assert "$" not in text

    def test_the_deadline_is_drawn_where_it_is(self, model: Artifact) -> None:
        text, report = self.made(model, late=True)
        at = float(re.search(r'<line class="deadline" x1="([\d.]+)"', text)[1])  # type: ignore[index]
        bars = [float(x) for x in re.findall(r'<rect class="step" x="([\d.]+)"', text)]
        assert f"deadline {report['figures']['step']['hop_period_ms'] * 1e3:g} us" in text
        assert min(bars) < at < max(bars)

    def test_the_comparison_and_the_target_are_on_it(self, model: Artifact) -> None:
        from edge_tse.deployment.target import load_target

        made = profile(model, Slow(model.graph), Slow.clock, hops=40, target=load_target("stm32h7"))
        report = json.loads(made.to_json())
        text = page(report, compare(report, report), report)
        assert "On stm32h7" in text
        assert "Against an earlier profile" in text
        assert 'class="before"' in text
        assert _Page(text).open == []

    def test_an_estimate_is_called_one(self, model: Artifact) -> None:
        layers = [
            {"node": f"layer {i}", "operator": "Conv2D", "cycles": 60 - 20 * i, "macs": 5, "share": 0.6 - 0.2 * i} for i in (0, 1)
        ]
        estimate = {
            "tool": "Vela",
            "inference_ms": 1.857,
            "accelerator": "an NPU",
            "sram_bytes": 104224,
            "cycles": 100,
            "layers": layers,
        }
        made = Emitted(content=b"", kind="file", estimate=estimate)
        text = page(json.loads(profile(model, Slow(model.graph), Slow.clock, hops=40, emitted=made).to_json()))
        assert "Estimate of Vela" in text
        assert "1.857" in text
        assert text.index("layer 0") < text.index("layer 1")
        assert _Page(text).open == []

    def test_names_are_escaped(self, model: Artifact) -> None:
        _, report = self.made(model)
        report["figures"]["engine"] = "<script>"
        report["figures"]["operators"]["nodes"][0]["node"] = "<b>"
        text = page(report)
        assert "<script>" not in text
        assert "<b>" not in text


class TestFile:
    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            ("", "is not JSON"),
            ("[]", "not a JSON object"),
            ('{"question": "another"}', "is no profile"),
            ('{"question": 1, "figures": {}}', "is no"),
        ],
    )
    def test_other_files_are_refused(self, tmp_path: Path, content: str, complaint: str) -> None:
        (tmp_path / "r.json").write_text(content)
        with pytest.raises(DataError, match=complaint):
            load_profile(tmp_path / "r.json")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot read"):
            load_profile(tmp_path / "none.json")


class TestCommand:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        graphs.artifact(graphs.NANO, frames=4).save(tmp_path / "model.etse")
        return tmp_path / "model.etse"

    def test_json_html_and_against(self, run: Run, saved: Path, tmp_path: Path) -> None:
        pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
        traced = ["--trace", tmp_path / "t.json"]
        first = run("profile", saved, "--hops", "50", "--ears", "1", "-o", tmp_path / "a.json", "--json", *traced)
        assert first.code == 0, first
        report = json.loads(first.out)
        assert report == json.loads((tmp_path / "a.json").read_text())
        figures = report["figures"]
        assert (figures["engine"], figures["ears"], figures["step"]["hops"]) == ("litert/xnnpack", 1, 50)
        assert figures["marshalling"]["p50_ms"] > 0
        events, _ = check_trace(tmp_path / "t.json")
        assert sum(event["name"] == "inference" for event in events) == figures["trace"]["steps"] == 250
        before = figures["initialisation"]
        assert before.pop("personalization_ms") is None
        assert set(before) == {"artifact_load_ms", "engine_open_ms", "stream_start_ms", "first_hop_ms"}
        assert min(before.values()) > 0
        assert {entry["operator"] for entry in figures["operators"]["by_operator"]} >= {"Pointwise", "Depthwise", "Append"}
        assert figures["model"]["file_bytes"] > figures["model"]["weight_bytes"]
        assert report["environment"]["versions"]["ai-edge-litert"]
        second = run(
            "profile",
            saved,
            "--hops",
            "50",
            "--target",
            "linux-aarch64",
            "-o",
            tmp_path / "b.html",
            "--against",
            tmp_path / "a.json",
        )
        assert second.code == 0, second
        assert second.err == ""
        assert "against" in second.out
        text = (tmp_path / "b.html").read_text()
        assert "On linux-aarch64" in text
        assert "ears: 1 before, 2 now" in text
        assert "Before the first steady step" in text
        assert "first hop" in text

    def test_the_reference_engine_has_a_profile_too(self, run: Run, saved: Path) -> None:
        done = run("profile", saved, "--engine", "reference", "--hops", "10", "--json")
        assert done.code == 0, done
        figures = json.loads(done.out)["figures"]
        assert figures["engine"] == "reference"
        assert len(figures["operators"]["nodes"]) == len(graphs.student(graphs.NANO).nodes)

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (("--engine", "abacus"), "there is no engine abacus"),
            (("--target", "toaster"), "unknown target 'toaster'"),
            (("--engine", "litert", "--target", "host"), "a target has its engine"),
            (("-o", "report.txt"), "a report ends in .json or .html"),
            (("-o", "none/report.json"), "there is no folder"),
            (("--trace", "none/trace.json"), "there is no folder"),
            (("--trace", "model.etse"), "is also the input"),
            (("--against", "none.json"), "cannot read none.json"),
            (("--ears", "3"), "--ears"),
        ],
    )
    def test_mistakes_are_one_line(
        self, run: Run, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], complaint: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        done = run("profile", saved, *options)
        assert (done.code, done.out) == (2, "")
        assert done.err.count("\n") == 1
        assert complaint in done.err
        assert {path.name for path in tmp_path.iterdir()} == {"model.etse"}


def test_warm_up_is_a_second_of_the_shipped_geometry() -> None:
    assert graphs.NANO.frame.period_s * WARM_UP == pytest.approx(1.0)
