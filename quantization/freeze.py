"""Freezing of a quantization-aware twin into the integer artifact: every learned scale becomes a constant, every weight an int8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from edge_tse.artifact import Artifact
from edge_tse.golden import Golden
from edge_tse.graph import IntegerGraph, State
from edge_tse.nn.encoder import Encoder
from edge_tse.nn.stage import Block, Stage
from edge_tse.nn.student import Student
from edge_tse.operators import Add, Append, Depthwise, Node, Pointwise, Sigmoid, Tail, Tanh, Tensor
from edge_tse.quant import quantize_bias
from edge_tse.voice import VoiceModel
from quantization.qat import Activation, Fixed, QuantDepthwise, QuantModulated, QuantPointwise

__all__ = ["float_voice_model", "freeze", "freeze_graph", "freeze_voice_model"]


def freeze(twin: Student, encoder: Encoder | None, features: NDArray[np.int8], provenance: Mapping[str, Any]) -> Artifact:
    """The artifact of a twin; ``features`` (int8 ``[frames, features]``) become its golden frames."""
    return Artifact(
        frame=twin.config.frame,
        graph=freeze_graph(twin),
        voice_model=freeze_voice_model(twin, encoder),
        golden=Golden(features, None),
        provenance=dict(provenance),
    ).record()


class _Builder:
    """Collects tensors and nodes in execution order."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.states: list[State] = []

    def tensor(self, name: str, channels: int, like: Activation | Fixed, frames: int = 1) -> str:
        scale = float(like.scale.detach().float())
        self.tensors[name] = Tensor(name=name, frames=frames, channels=channels, scale=scale, zero_point=like.zero_point)
        return name

    def pointwise(self, name: str, layer: QuantPointwise, source: str, film: str | None = None) -> str:
        weight, scale, _ = layer.weight_and_grid()
        # A layer that hears the first channels of its source alone has no weight on the others.
        weight = functional.pad(weight, (0, self.tensors[source].channels - weight.shape[1]))
        output = self.tensor(f"{name}.out", weight.shape[0], layer.output.module)
        self.nodes.append(
            Pointwise(
                name=name,
                input=source,
                output=output,
                film=film,
                **_constants(weight / scale[:, None], scale, layer.bias, self.tensors[source]),
            )
        )
        return output

    def depthwise(self, name: str, layer: QuantDepthwise, source: str, frames: int) -> str:
        """A depthwise layer with its delay line: append the new frame to the history, filter, keep the tail."""
        weight, scale, _ = layer.weight_and_grid()
        channels = weight.shape[1]
        like = layer.source.module
        history = self.tensor(f"{name}.history", channels, like, frames)
        window = self.tensor(f"{name}.window", channels, like, frames + 1)
        kept = self.tensor(f"{name}.history_out", channels, like, frames)
        self.nodes.append(Append(name=f"{name}.append", history=history, input=source, output=window))
        self.nodes.append(Tail(name=f"{name}.tail", input=window, output=kept))
        self.states.append(State(name=name, input=history, output=kept))
        output = self.tensor(f"{name}.out", channels, layer.output.module)
        constants = _constants(weight / scale, scale, layer.bias, self.tensors[source])
        self.nodes.append(Depthwise(name=name, input=window, output=output, dilation=layer.dilation, **constants))
        return output

    def add(self, name: str, left: str, right: str) -> str:
        like = self.tensors[left]
        output = f"{name}.out"
        self.tensors[output] = Tensor(name=output, frames=1, channels=like.channels, scale=like.scale, zero_point=like.zero_point)
        self.nodes.append(Add(name=name, left=left, right=right, output=output))
        return output

    def stage(self, name: str, stage: Stage, stream: str, taps: int) -> str:
        for i, block in enumerate(stage.blocks):
            at = f"{name}.{i}"
            assert isinstance(block, Block)
            assert isinstance(block.depthwise, QuantDepthwise)
            assert isinstance(block.expand, QuantModulated)
            assert isinstance(block.project, QuantPointwise)
            tapped = self.depthwise(f"{at}.depthwise", block.depthwise, stream, (taps - 1) * block.depthwise.dilation)
            hidden = self.pointwise(f"{at}.expand", block.expand, tapped, film=at)
            stream = self.add(f"{at}.add", stream, self.pointwise(f"{at}.project", block.project, hidden))
        return stream

    def gate(self, kind: type[Sigmoid] | type[Tanh], name: str, source: str, like: Fixed) -> str:
        output = self.tensor(name, self.tensors[source].channels, like)
        self.nodes.append(kind(name=f"{name}.{kind.__name__.lower()}", input=source, output=output))
        return output


def _constants(steps: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, source: Tensor) -> dict[str, NDArray[Any]]:
    """int8 weights, their scales, and the bias on the grid of the tensor they are applied to."""
    weight_scale = scale.detach().float().numpy().copy()
    return {
        "weight": np.rint(steps.detach().numpy()).astype(np.int8),
        "weight_scale": weight_scale,
        "bias": quantize_bias(bias.detach().numpy(), source.scale, weight_scale),
    }


def _pointwise_of(layer: torch.nn.Module) -> QuantPointwise:
    assert isinstance(layer, QuantPointwise), "freeze takes the output of quantized_twin"
    return layer


def _fixed_of(module: torch.nn.Module) -> Fixed:
    """Range that a tensor of known range is quantized with, by itself or behind its function."""
    last = module[-1] if isinstance(module, torch.nn.Sequential) else module
    assert isinstance(last, Fixed), "freeze takes the output of quantized_twin"
    return last


def _weight(layer: torch.nn.Module, name: str = "weight") -> NDArray[np.float32]:
    value = getattr(layer, name)
    assert isinstance(value, torch.Tensor)
    return value.numpy()


@torch.no_grad()
def freeze_graph(twin: Student) -> IntegerGraph:
    """The twin's arithmetic as an integer graph, modulations still open."""
    config, b = twin.config, _Builder()
    features = b.tensor("features", config.frame.features, _fixed_of(twin.entry))
    hidden = b.stage("mask", twin.mask, b.pointwise("stem", _pointwise_of(twin.stem), features), config.taps)
    mask = b.gate(Sigmoid, "mask", b.pointwise("mask.logits", _pointwise_of(twin.mask_head), hidden), _fixed_of(twin.mask_out))
    later = b.add(
        "refine.entry",
        b.pointwise("refine.from_hidden", _pointwise_of(twin.from_hidden), hidden),
        b.pointwise("refine.from_gain", _pointwise_of(twin.from_gain), mask),
    )
    if config.frame.beam:
        later = b.add("refine.heard", later, b.pointwise("refine.from_features", _pointwise_of(twin.from_features), features))
    later = b.stage("refine", twin.refine, later, config.taps)
    velocity = b.pointwise("refine.logits", _pointwise_of(twin.velocity_head), later)
    outputs = [mask, b.gate(Tanh, "velocity", velocity, _fixed_of(twin.velocity_out))]
    if config.frame.beam:
        share = b.pointwise("share.logits", _pointwise_of(twin.share_head), later)
        outputs.append(b.gate(Sigmoid, "share", share, _fixed_of(twin.share_out)))
    return IntegerGraph(tensors=b.tensors, nodes=tuple(b.nodes), inputs=(features,), outputs=tuple(outputs), states=tuple(b.states))


@torch.no_grad()
def freeze_voice_model(student: Student, encoder: Encoder | None) -> VoiceModel:
    """Encoder (None: embeddings come from another model) and modulation heads with int8 matrices, one scale per row."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, value in float_voice_model(student, encoder).arrays.items():
        if value.ndim == 2 and "depthwise" not in name:
            scale = (np.abs(value).max(axis=1) / 127 + 1e-12).astype(np.float32)
            arrays[name] = np.rint(value / scale[:, None]).astype(np.int8)
            arrays[f"{name}.scale"] = scale
        else:
            arrays[name] = value.astype(np.float32)
    return VoiceModel(frame=student.config.frame, blocks=len(encoder.blocks) if encoder else 0, arrays=arrays)


@torch.no_grad()
def float_voice_model(student: Student, encoder: Encoder | None) -> VoiceModel:
    """Encoder and modulation heads before their matrices are quantized."""
    weights = {name: value.numpy() for name, value in encoder.arrays().items()} if encoder else {}
    weights["code.weight"], weights["code.bias"] = student.code.weight.numpy(), student.code.bias.numpy()
    for name, layer in student.films.items():
        slot = name.replace("_", ".")
        weights[f"film.{slot}.weight"], weights[f"film.{slot}.bias"] = _weight(layer), _weight(layer, "bias")
    if student.config.local:
        weights["local.mean"], weights["local.deviation"] = student.local_mean.numpy(), student.local_deviation.numpy()
        for i, head in enumerate(student.local):
            weights[f"local.{i}.weight"], weights[f"local.{i}.bias"] = _weight(head), _weight(head, "bias")
        for name, layer in student.local_films.items():
            weights[f"local.film.{name.replace('_', '.')}.weight"] = _weight(layer)
    return VoiceModel(frame=student.config.frame, blocks=len(encoder.blocks) if encoder else 0, arrays=weights)
