"""Any network that a recipe trains: a student, the published system, or a baseline."""

from __future__ import annotations

from edge_tse.nn.baselines import Baseline, BaselineConfig
from edge_tse.nn.mask2flow import Mask2Flow, Mask2FlowConfig
from edge_tse.nn.student import Student, StudentConfig

__all__ = ["Network", "NetworkConfig", "network_of", "voice_size"]

Network = Student | Mask2Flow | Baseline
NetworkConfig = StudentConfig | Mask2FlowConfig | BaselineConfig


def network_of(config: NetworkConfig) -> Network:
    """A network of this structure and size with random weights."""
    if isinstance(config, BaselineConfig):
        return config.make()
    return Mask2Flow(config) if isinstance(config, Mask2FlowConfig) else Student(config)


def voice_size(config: NetworkConfig) -> int:
    """Values that describe a talker to a network of this kind."""
    return config.embedding if isinstance(config, Mask2FlowConfig) else config.voice_size
