"""A causal TF-GridNet of the size that LookOnceToHear runs, to compare costs with: its weights are random, it hears nothing.

Structure after Wang et al., "TF-GridNet" (TASLP 2023) with the changes of Veluri et al., "Look Once to Hear" (CHI 2024): two ears
in and out, chunks of 8 ms, recurrent over time in one direction, attention over the last chunks only, the target's embedding
multiplied in after the first block. The paper states 2.04 M weights; ``hidden`` is chosen to meet that, other sizes are those of
TF-GridNet's small variants.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CHUNK", "SAMPLE_RATE_HZ", "State", "TFGridNet"]

SAMPLE_RATE_HZ = 16000
CHUNK = 128
"""Samples a step; the window is one and a half chunks, so 4 ms of look-ahead."""
_WINDOW = 192

State = list[Tensor]


class _Block(nn.Module):
    def __init__(self, channels: int, hidden: int, bins: int, heads: int, keys: int, past: int, taps: int = 4) -> None:
        super().__init__()
        self.taps, self.heads, self.keys, self.past, self.bins, self.hidden = taps, heads, keys, past, bins, hidden
        self.across_norm = nn.LayerNorm(channels)
        self.across = nn.LSTM(channels * taps, hidden, bidirectional=True, batch_first=True)
        self.across_out = nn.ConvTranspose1d(2 * hidden, channels, taps, stride=taps)
        self.along_norm = nn.LayerNorm(channels)
        self.along = nn.LSTM(channels, hidden, batch_first=True)
        self.along_out = nn.Linear(hidden, channels)
        self.query, self.key = (nn.Conv1d(channels, heads * keys, 1) for _ in range(2))
        self.value = nn.Conv1d(channels, channels, 1)
        self.out = nn.Sequential(nn.Conv1d(channels, channels, 1), nn.PReLU())

    def start(self) -> State:
        depth = self.value.out_channels // self.heads * self.bins
        return [
            *(torch.zeros(1, self.bins, self.hidden) for _ in range(2)),
            torch.zeros(self.heads, self.past, self.keys * self.bins),
            torch.zeros(self.heads, self.past, depth),
        ]

    def forward(self, x_FC: Tensor, state: State) -> tuple[Tensor, State]:
        bins, channels = x_FC.shape
        surplus = -bins % self.taps
        padded = functional.pad(self.across_norm(x_FC), (0, 0, 0, surplus))
        across, _ = self.across(padded.reshape(1, -1, channels * self.taps))
        x_FC = x_FC + self.across_out(across.transpose(1, 2))[0, :, :bins].T
        along, (h, c) = self.along(self.along_norm(x_FC)[:, None], (state[0], state[1]))
        x_FC = x_FC + self.along_out(along[:, 0])
        x_CF = x_FC.T[None]
        query = self.query(x_CF).reshape(self.heads, 1, -1)
        keys = torch.cat([state[2][:, 1:], self.key(x_CF).reshape(self.heads, 1, -1)], dim=1)
        values = torch.cat([state[3][:, 1:], self.value(x_CF).reshape(self.heads, 1, -1)], dim=1)
        attended = functional.scaled_dot_product_attention(query, keys, values).reshape(1, channels, bins)
        return x_FC + self.out(attended)[0].T, [h, c, keys, values]


class TFGridNet(nn.Module):
    """One chunk a call: samples ``[ears, 192]`` (128 new) and a state, to samples ``[ears, 128]`` and the next state."""

    def __init__(
        self, channels: int = 64, hidden: int = 143, blocks: int = 3, heads: int = 4, keys: int = 6, past: int = 50
    ) -> None:
        super().__init__()
        bins = _WINDOW // 2 + 1
        self.stem = nn.Conv2d(4, channels, 3, padding=(0, 1))
        self.norm = nn.LayerNorm(channels)
        self.blocks = nn.ModuleList(_Block(channels, hidden, bins, heads, keys, past) for _ in range(blocks))
        self.embed = nn.Sequential(nn.Linear(256, channels), nn.LayerNorm(channels))
        self.head = nn.ConvTranspose2d(channels, 4, 3, padding=(2, 1))
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(_WINDOW).sqrt())
        self.bins, self.channels = bins, channels

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.parameters())

    def start(self) -> list[State]:
        """State before the first chunk."""
        edges = [torch.zeros(1, 4, 2, self.bins), torch.zeros(1, self.channels, 2, self.bins), torch.zeros(2, _WINDOW - CHUNK)]
        return [edges, *(block.start() for block in self.blocks if isinstance(block, _Block))]

    def forward(self, samples_EN: Tensor, voice: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        spectrum = torch.fft.rfft(samples_EN * self.window)
        frame = torch.cat([spectrum.real, spectrum.imag])[None, :, None]
        (before, deep, tail), *inner = state
        window = torch.cat([before, frame], dim=2)
        x_FC = self.norm(self.stem(window)[0, :, 0].T)
        following: list[State] = []
        for i, (block, held) in enumerate(zip(self.blocks, inner, strict=True)):
            x_FC, held = block(x_FC, held)
            following.append(held)
            if i == 0:
                x_FC = x_FC * self.embed(voice)
        stacked = torch.cat([deep, x_FC.T[None, :, None]], dim=2)
        real, imaginary = self.head(stacked)[0, :, 0].chunk(2)
        whole = torch.fft.irfft(torch.complex(real, imaginary), _WINDOW) * self.window
        out = torch.cat([whole[:, : _WINDOW - CHUNK] + tail, whole[:, _WINDOW - CHUNK : CHUNK]], dim=1)
        return out, [[window[:, :, 1:], stacked[:, :, 1:], whole[:, CHUNK:]], *following]
