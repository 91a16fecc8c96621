"""Structures of the field, each from its paper, causal, of about the size of ``small``.

They are trained on the same sound for the same hours of processor, and judged by the same scores (``docs/baselines.md``). None is
frozen, emitted or shipped.
"""

from edge_tse.nn.baselines.band_split import BAND_SPLIT
from edge_tse.nn.baselines.baseline import Baseline, BaselineConfig
from edge_tse.nn.baselines.gated_crn import GATED_CRN
from edge_tse.nn.baselines.time_domain import SPEAKERBEAM, SPEX
from edge_tse.nn.baselines.voice_filter import VOICEFILTER

__all__ = ["BAND_SPLIT", "GATED_CRN", "SPEAKERBEAM", "SPEX", "VOICEFILTER", "Baseline", "BaselineConfig"]
