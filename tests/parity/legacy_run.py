"""Run by ``test_tflite_runtime.py`` and ``test_aarch64.py`` with their runtime: replay an artifact, print the parity as JSON.

python legacy_run.py ARTIFACT FLATBUFFER KERNELS
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from edge_tse.artifact import Artifact, verify
from edge_tse.engines import open_network
from edge_tse.engines.litert import LiteRTNetwork
from targets.tflite import emit


def main(artifact_path: str, flatbuffer_path: str, kernels: str) -> None:
    artifact, content = Artifact.load(artifact_path), Path(flatbuffer_path).read_bytes()
    network = LiteRTNetwork(artifact.graph, content, kernels=kernels)
    parity = verify(artifact, network)
    assert open_network(artifact, kernels=kernels).name == network.name
    same = emit(artifact.graph, {}) == content
    sys.stdout.write(json.dumps({"name": network.name, "numpy": np.__version__, "same_file": same, **asdict(parity)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
