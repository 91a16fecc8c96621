"""What does a step cost on a microcontroller, and is its sound that of the Python chain?

python -m benchmarks.firmware [--artifact FILE] [--seconds 20]

Instruction counts are exact and emulated (QEMU): they are no time. Sizes are the linker's. The chain is compared on this machine,
with the code that the boards run; tests/test_firmware_chain.py compares on every emulated core.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import RESULTS, one_line
from edge_tse.artifact import Artifact
from edge_tse.demo.cases import shipped_cases
from edge_tse.engines import Engine
from edge_tse.front import features_of
from edge_tse.graph import Pointwise
from edge_tse.personalization import personalize
from edge_tse.reference import ReferenceNetwork
from edge_tse.report import Report, environment
from edge_tse.voice import Voice
from firmware_bridge.build import Program, build_program
from firmware_bridge.codegen import generate, plan_memory, voice_patch
from firmware_bridge.cores import CORES, Core
from firmware_bridge.meter import count_instructions, emulate
from firmware_bridge.native import NativeChain

CASES: Sequence[tuple[str, str, tuple[str, ...]]] = (
    ("Cortex-M55, Helium", "qemu-mps3-an547", ()),
    ("Cortex-M55, portable C", "qemu-mps3-an547", ("-DETSE_PORTABLE",)),
    ("Cortex-M7", "qemu-mps2-an500", ()),
    ("Cortex-M7, portable C", "qemu-mps2-an500", ("-DETSE_PORTABLE",)),
    ("Cortex-M4", "qemu-mps2-an386", ()),
    ("aarch64, dot product", "aarch64-linux", ()),
    ("aarch64, without dot product", "aarch64-linux-without-dot-product", ()),
    ("aarch64, portable C", "aarch64-linux", ("-DETSE_PORTABLE",)),
)
COUNTED_HOPS = 24


def sound_of(seconds: float, hop: int) -> NDArray[np.int16]:
    """``[hops, 2, hop]``: the shipped mixture, repeated, the right ear later and quieter."""
    mixture = shipped_cases()[0].mixture
    n = round(seconds * mixture.rate_hz) // hop * hop
    x = np.resize(mixture.signal[0], n)
    pair = np.stack([x, np.roll(x, 5) * np.float32(0.8)])
    q = np.clip(np.rint(pair * 32768), -32768, 32767).astype(np.int16)
    return np.ascontiguousarray(q.reshape(2, -1, hop).transpose(1, 0, 2))


def pointwise_macs(artifact: Artifact) -> int:
    """Multiply-accumulates of a step in 1x1 convolutions."""
    tensors = artifact.graph.tensors
    return sum(n.weight.size * tensors[n.output].frames for n in artifact.graph.nodes if isinstance(n, Pointwise))


def cost(artifact: Artifact, patch: bytes, sound: NDArray[np.int16], core: Core, flags: Sequence[str]) -> dict[str, object]:
    """Sizes and instruction counts on a core."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound[:COUNTED_HOPS].tofile(folder / "sound")
        (folder / "voice").write_bytes(patch)
        image = build_program(generate(artifact), core, folder / "image.elf", flags=flags)
        whole = count_instructions(image, ["process", "2", "sound", "out", "voice"], folder)
        mono = count_instructions(image, ["process", "1", "sound", "out", "voice"], folder)
        network = count_instructions(
            image, ["parts", "2", "sound", "out", "voice"], folder, first="etse_network", last="etse_synthesize"
        )
        said = emulate(image, ["process", "2", "sound", "out", "voice"], folder)
    stack = int(said["stack_bytes"])
    return {
        "evidence": whole.evidence,
        "kernels": said["kernels"],
        "instructions_per_hop": int(whole.passes.max()),
        "instructions_per_hop_least": int(whole.passes.min()),
        "instructions_per_hop_one_ear": int(mono.passes.max()),
        "instructions_network": int(network.passes.max()),
        "instructions_front_end": int(whole.passes.max() - network.passes.max()),
        "instructions_per_mac_pointwise": _pointwise(whole.functions) / pointwise_macs(artifact),
        "million_instructions_per_second": int(whole.passes.max()) / artifact.frame.period_s / 1e6,
        "functions": {name: round(count) for name, count in whole.functions.items()},
        **sizes(image),
        "stack_bytes_used": stack if stack >= 0 else None,
    }


def _pointwise(functions: Mapping[str, float]) -> float:
    return sum(count for name, count in functions.items() if "pointwise" in name)


def sizes(image: Program) -> dict[str, object]:
    """Sizes of a core's image: bytes that are flashed, and bytes of RAM, the test program's buffers included."""
    memory = {"memory_bytes": image.memory_bytes, "sections": dict(image.sections)} if image.core.regions else {}
    return {"image_bytes": image.stored_bytes, **memory}


def agreement(artifact: Artifact, voice: Voice, sound: NDArray[np.int16]) -> dict[str, int]:
    """Comparison of the chain in C with the chain in Python on the same sound: integers that differ, of all there are."""
    own = personalize(artifact, voice)
    chain, reference = NativeChain(artifact, 2), ReferenceNetwork(own.graph)
    chain.set_voice(voice_patch(artifact, voice))
    step = Engine(own, ReferenceNetwork(own.graph)).start(2)
    reals = sound.astype(np.float32) / np.float32(32768)
    whole = reals.transpose(1, 0, 2).reshape(2, -1)
    ours = features_of(artifact.frame, own.graph.tensors, whole, ReferenceNetwork(own.graph))
    features_off, network_off, sound_off, worst_lsb = 0, 0, 0, 0
    for hop, real, expected in zip(sound, reals, ours, strict=True):
        features = chain.analyze(hop)
        answers = chain.network(features)
        features_off += int(np.count_nonzero(features != expected))
        network_off += sum(int(np.count_nonzero(a != b)) for a, b in zip(answers, reference.run(expected), strict=True))
        played = np.clip(np.rint(step(real) * 32768), -32768, 32767)
        off = np.abs(chain.synthesize(*answers) - played)
        sound_off += int(np.count_nonzero(off))
        worst_lsb = max(worst_lsb, int(off.max()))
    return {
        "hops": len(sound),
        "feature_mismatches": features_off,
        "network_mismatches": network_off,
        "sample_mismatches": sound_off,
        "sample_mismatch_worst_lsb": worst_lsb,
    }


@one_line
def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", default="small", metavar="NAME|FILE", help="model: a shipped one or a file")
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    artifact = Artifact.find(given.artifact)
    if given.seconds < (least := COUNTED_HOPS * artifact.frame.period_s):
        parser.error(f"argument --seconds: {given.seconds:g} s, at least {least:g} s are needed, {COUNTED_HOPS} hops")
    voice = shipped_cases()[0].voice(artifact.voice_model)
    patch = voice_patch(artifact, voice)
    sound = sound_of(given.seconds, artifact.frame.hop)

    cores = {}
    for title, name, flags in CASES:
        cores[title] = cost(artifact, patch, sound, CORES[name], flags)
        figures = cores[title]
        print(
            f"{title:30} {figures['instructions_per_hop']:>9,} instructions a hop, "
            f"{figures['instructions_per_mac_pointwise']:.3f} per MAC, image {figures['image_bytes']:,} bytes"
        )
    close = agreement(artifact, voice, sound)
    for key, value in close.items():
        print(f"{key:40} {value:,}")
    figures = {
        "artifact": artifact.digest,
        "macs_per_hop": artifact.graph.macs,
        "ears": 2,
        "voice_patch_bytes": len(patch),
        "planned_bytes": vars(plan_memory(artifact)),
        "cores": cores,
        "agreement_with_python": close,
    }
    question = "What does a step cost on a microcontroller, and is its sound that of the Python chain?"
    to = RESULTS / f"firmware-{Path(given.artifact).stem}.json"
    Report(question=question, figures=figures, environment=environment()).save(to)
    print(f"written to {to}")


if __name__ == "__main__":
    sys.exit(main())
