"""Batch normalisation whose moments are kept, at some time of a training, as a device has them."""

from __future__ import annotations

from typing import Self

from torch import nn

__all__ = ["BatchNorm1d", "BatchNorm2d", "Moments", "keep_moments"]


class Moments(nn.Module):
    """A layer that normalises a training batch by the batch's own moments, until it is told to keep its running ones.

    The few voices of a batch are told apart by its moments, which no device has (measured: decision 0053).
    """

    own_moments = True

    def train(self, mode: bool = True) -> Self:
        """Train by the moments of each batch only as long as these count."""
        return super().train(mode and self.own_moments)


class BatchNorm1d(Moments, nn.BatchNorm1d):
    """Of rows: ``[N, C]``."""


class BatchNorm2d(Moments, nn.BatchNorm2d):
    """Of images: ``[B, C, H, W]``."""


def keep_moments(network: nn.Module) -> None:
    """Keep the running moments of a network's layers as they are, in training too."""
    for layer in network.modules():
        if isinstance(layer, Moments):
            layer.own_moments = False
            layer.eval()
