"""Enrollment encoder: levels of a clip to a unit vector; :class:`edge_tse.voice.VoiceModel` is its NumPy twin."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BLOCKS", "CHANNELS", "AdditiveMargin", "Encoder", "GeneralizedEndToEnd"]

BLOCKS = 4
CHANNELS = 128


class _Block(nn.Module):
    def __init__(self, channels: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.depthwise = nn.Parameter(torch.randn(channels, 3) * 0.3)
        self.depthwise_bias = nn.Parameter(torch.zeros(channels))
        self.expand = nn.Linear(channels, hidden, bias=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.project = nn.Linear(hidden, channels)

    def forward(self, x_BTC: Tensor) -> Tensor:
        d, t = self.dilation, x_BTC.shape[1]
        padded = functional.pad(x_BTC, (0, 0, d, d))
        h = sum(padded[:, k * d : k * d + t] * self.depthwise[:, k] for k in range(3)) + self.depthwise_bias
        h = self.norm(self.expand(h).flatten(0, 1)).unflatten(0, x_BTC.shape[:2])
        return x_BTC + self.project(functional.relu(h))


class Encoder(nn.Module):
    """Encoder ``[B, T, bands] -> [B, dimension]``, unit length.

    Attentive statistics pooling after Okabe et al., Interspeech 2018.
    """

    def __init__(
        self, bands: int = 96, channels: int = CHANNELS, hidden: int = 256, dimension: int = 128, blocks: int = BLOCKS
    ) -> None:
        super().__init__()
        self.hidden = hidden
        """Hidden units of a block."""
        self.stem = nn.Linear(bands, channels, bias=False)
        self.stem_norm = nn.BatchNorm1d(channels)
        self.blocks = nn.ModuleList(_Block(channels, hidden, 2**i) for i in range(blocks))
        self.attend = nn.Linear(channels, 64)
        self.score = nn.Linear(64, channels)
        self.out = nn.Linear(2 * channels, dimension)

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor]) -> Encoder:
        """The encoder whose ``state_dict`` this is, of whatever size. ``KeyError`` or ``RuntimeError`` if it is none."""
        (channels, bands), dimension = state["stem.weight"].shape, len(state["out.bias"])
        blocks = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
        encoder = cls(bands, channels, len(state["blocks.0.project.weight"].T), dimension, blocks)
        encoder.load_state_dict(state)
        return encoder

    @torch.no_grad()
    def grown(self, hidden: int, blocks: int) -> Encoder:
        """A larger encoder that makes the same embeddings until it is trained (Net2Net, Chen et al., ICLR 2016).

        What is new begins as in any new encoder, but nothing that was there listens to it. ``ValueError`` if a size is smaller.
        """
        (channels, bands), kept = self.stem.weight.shape, self.state_dict()
        if hidden < self.hidden or blocks < len(self.blocks):
            raise ValueError("an encoder of this size cannot hold the smaller one")
        large = Encoder(bands, channels, hidden, len(self.out.bias), blocks)
        for name, new in large.state_dict().items():  # the parameters themselves
            old = kept.get(name)
            if "project" in name:
                new[:] = 0
            if old is not None:
                new[tuple(slice(n) for n in old.shape)] = old
        return large.train(self.training)

    def forward(self, levels_BTG: Tensor) -> Tensor:
        return self.describe(levels_BTG)[0]

    def describe(self, levels_BTG: Tensor) -> tuple[Tensor, Tensor]:
        """The unit vector ``[B, dimension]`` and the average over time of each block's output ``[B, blocks, channels]``."""
        x = functional.relu(self.stem_norm(self.stem(levels_BTG).flatten(0, 1)).unflatten(0, levels_BTG.shape[:2]))
        averages = []
        for block in self.blocks:
            x = block(x)
            averages.append(x.mean(dim=1))
        a = self.score(torch.tanh(self.attend(x))).softmax(dim=1)
        mean = (a * x).sum(dim=1)
        std = ((a * x * x).sum(dim=1) - mean.square()).clamp_min(1e-5).sqrt()
        return functional.normalize(self.out(torch.cat([mean, std], dim=-1)), dim=-1), torch.stack(averages, dim=1)

    @torch.no_grad()
    def arrays(self) -> dict[str, Tensor]:
        """Weights by the names of :class:`~edge_tse.voice.VoiceModel`, batch normalisation folded in."""

        def fold(linear: nn.Linear, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
            return linear.weight * gain[:, None], norm.bias - norm.running_mean * gain

        out: dict[str, Tensor] = {}
        out["encoder.stem.weight"], out["encoder.stem.bias"] = fold(self.stem, self.stem_norm)
        for i, block in enumerate(self.blocks):
            assert isinstance(block, _Block)
            name = f"encoder.block.{i}"
            out[f"{name}.depthwise.weight"], out[f"{name}.depthwise.bias"] = block.depthwise, block.depthwise_bias
            out[f"{name}.expand.weight"], out[f"{name}.expand.bias"] = fold(block.expand, block.norm)
            out[f"{name}.project.weight"], out[f"{name}.project.bias"] = block.project.weight, block.project.bias
        for name in ("attend", "score", "out"):
            layer = getattr(self, name)
            out[f"encoder.{name}.weight"], out[f"encoder.{name}.bias"] = layer.weight, layer.bias
        return {name: value.detach().clone() for name, value in out.items()}


class AdditiveMargin(nn.Module):
    """AM-softmax over training talkers (Wang et al., "Additive margin softmax for face verification", 2018).

    ``angular``: the margin widens the angle, not the cosine (AAM-softmax: Deng et al., "ArcFace", CVPR 2019). ``pull`` weighs the
    mean of one minus the cosine to the own talker: telling talkers apart does not ask that all recordings of one lie together, who
    listens to the embedding does.
    """

    def __init__(
        self, dimension: int, talkers: int, margin: float = 0.2, scale: float = 30.0, angular: bool = False, pull: float = 0.0
    ) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(talkers, dimension) * 0.1)
        self.margin, self.scale, self.angular, self.pull = margin, scale, angular, pull

    def forward(self, embedding_BD: Tensor, talker_B: Tensor) -> Tensor:
        cosine = embedding_BD @ functional.normalize(self.centres, dim=-1).T
        own = functional.one_hot(talker_B, cosine.shape[1])
        apart = 1 - (cosine * own).sum(dim=1).mean()
        if self.angular:
            angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
            cosine = torch.where(own.bool(), (angle + self.margin).clamp_max(math.pi).cos(), cosine)
        else:
            cosine = cosine - self.margin * own
        return functional.cross_entropy(self.scale * cosine, talker_B) + self.pull * apart


class GeneralizedEndToEnd(nn.Module):
    """GE2E softmax loss over the talkers of a batch (Wan et al., "Generalized end-to-end loss for speaker verification", 2018)."""

    def __init__(self, scale: float = 10.0, offset: float = -5.0) -> None:
        super().__init__()
        self.scale, self.offset = nn.Parameter(torch.tensor(scale)), nn.Parameter(torch.tensor(offset))

    def forward(self, embedding_BD: Tensor, talker_B: Tensor) -> Tensor:
        """Loss of a batch; ``talker_B`` holds each talker equally often, at least twice, its items side by side."""
        several = int((talker_B == talker_B[0]).sum())
        e_NMD = embedding_BD.unflatten(0, (-1, several))
        total_ND = e_NMD.sum(dim=1)
        similarity = embedding_BD @ functional.normalize(total_ND, dim=-1).T
        # Towards its own talker an item is compared with the others of that talker only (equations 8 and 9).
        rest = functional.normalize(total_ND[:, None] - e_NMD, dim=-1)
        own = torch.arange(len(e_NMD), device=embedding_BD.device).repeat_interleave(several)
        similarity = similarity.scatter(1, own[:, None], (e_NMD * rest).sum(dim=-1).flatten()[:, None].to(similarity.dtype))
        return functional.cross_entropy(self.scale.clamp_min(1e-6) * similarity + self.offset, own)
