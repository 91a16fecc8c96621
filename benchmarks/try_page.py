"""The page that runs the engine in a browser, as a folder that any web server, or none, can show.

``python -m benchmarks.try_page --out build/try`` compiles the C library to WebAssembly, computes with the same C on this machine
what the page has to give again, and writes both beside the sources of ``docs/try/``.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import one_line
from edge_tse import Artifact
from edge_tse.demo.cases import Case, shipped_cases
from edge_tse.errors import EdgeTseError
from edge_tse.files import write_bytes
from edge_tse.graph import Pointwise
from edge_tse.voice import Voice, VoiceModel
from firmware_bridge.build import wasm_module
from firmware_bridge.codegen import BLOCK, VOICE_SCHEMA, generate, voice_patch
from firmware_bridge.native import NativeChain
from firmware_bridge.plan import round_up

SOURCES = Path(__file__).parent.parent / "docs" / "try"
OUT = Path("build") / "try"

Int16 = NDArray[np.int16]

_TALKERS = {"slt": "The woman", "rms": "The American man"}
"""Talkers of the demo clips who have an enrollment."""
_ABOUT = {
    "mixed-gender": "One microphone. Both are just as loud.",
    "two-ears": "Two microphones, at the ears of a head: she talks on the left, he on the right. Use headphones.",
    "same-gender": "One microphone. An American and a Scottish man, just as loud.",
    "telephone": "The woman and the American man on the line, just as loud; whom you hear was enrolled in a quiet room.",
}
"""What there is to know of each case, whomever one hears."""
_RADIX = 2**15


def write_page(artifact: Artifact, out: Path) -> dict[str, int]:
    """Write the page to the folder ``out``: bytes by file. ``EdgeTseError`` if it cannot be compiled or written."""
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "engine.wasm"
        wasm_module(generate(artifact), module)
        wasm = module.read_bytes()
    clips = resources.files("edge_tse") / "assets"
    cases = shipped_cases()
    voices = {case.enrollments[0].name.removesuffix("-enroll"): case.voice(artifact.voice_model) for case in cases}
    files = {path.name: path.read_bytes() for path in sorted(SOURCES.iterdir()) if path.suffix in (".html", ".css", ".js")}
    files["page.css"] = (clips / "page.css").read_bytes()
    files["model.js"] = _script("MODEL", _model(artifact, wasm, len(voice_patch(artifact, next(iter(voices.values()))))))
    files["golden.js"] = _script("GOLDEN", _golden(artifact))
    talkers = [
        _talker(artifact, name, (clips / "demo" / f"{name}-enroll.flac").read_bytes(), voice) for name, voice in voices.items()
    ]
    mixtures = [_mixture(artifact, case, voices[case.enrollments[0].name.removesuffix("-enroll")]) for case in cases]
    files["sounds.js"] = _script("SOUNDS", {"talkers": talkers, "mixtures": mixtures})
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_bytes(out / name, content)
    return {name: len(content) for name, content in files.items()}


def extract_with_c(artifact: Artifact, voice: Voice, sound: Int16) -> Int16:
    """What the library makes of ``[ears, samples]`` on this machine, aligned with it."""
    frame = artifact.frame
    chain = NativeChain(artifact, len(sound))
    chain.set_voice(voice_patch(artifact, voice))
    samples = sound.shape[1]
    hops = -(-(samples + frame.delay) // frame.hop)
    whole = np.pad(sound, ((0, 0), (0, hops * frame.hop - samples)))
    made = np.concatenate([chain(hop) for hop in np.split(whole, hops, axis=1)], axis=1)
    return made[:, frame.delay : frame.delay + samples]


def round_to_16_bits(sound: NDArray[np.float32]) -> Int16:
    """Sound within full scale, rounded to 16 bits."""
    return np.clip(np.rint(sound * np.float32(_RADIX)), -_RADIX, _RADIX - 1).astype(np.int16)


def _model(artifact: Artifact, wasm: bytes, patch_bytes: int) -> dict[str, object]:
    """What the page computes with: the module, the encoder of voices, and the constants into which a voice is folded."""
    frame = artifact.frame
    geometry = ("hop", "window", "synthesis", "delay", "ears", "bands", "features")
    return {
        "name": "small",
        "id": artifact.digest[:32],
        "patch_schema": VOICE_SCHEMA,
        "rate_hz": frame.sample_rate_hz,
        **{name: getattr(frame, name) for name in geometry},
        "moves": len(frame.moves) * frame.bands,
        "patch_bytes": patch_bytes,
        "band_centres_hz": frame.band_centres_hz.tolist(),
        "weight_bytes": artifact.graph.weight_bytes,
        "wasm": _text(wasm),
        "folded": [
            _folded(artifact, node) for node in artifact.graph.nodes if isinstance(node, Pointwise) and node.film is not None
        ],
        "encoder": _encoder(artifact.voice_model),
    }


def _folded(artifact: Artifact, node: Pointwise) -> dict[str, object]:
    """Constants of a modulated layer before a voice is folded in, as ``IntegerGraph.fold`` and ``voice_patch`` need them."""
    source, out = (artifact.graph.tensors[name] for name in (node.input, node.output))
    bias = node.bias - source.zero_point * node.weight.sum(axis=1, dtype=np.int64)
    return {
        "slot": node.film,
        "padded": round_up(len(node.bias), BLOCK),
        "input_scale": float(source.scale),
        "output_scale": float(out.scale),
        "weight_scale": _text(node.weight_scale.astype("<f4").tobytes()),
        "bias": _text(bias.astype("<i4").tobytes()),
    }


def _encoder(model: VoiceModel) -> dict[str, object]:
    """Every array of the voice model by name, one after the other in one block of bytes."""
    if model.size != model.dimension:
        raise EdgeTseError("the page knows voices of one vector, this model listens to the layers of its encoder too")
    places, parts, at = {}, [], 0
    for name, array in model.arrays.items():
        # Floats first read where 4 divides their place.
        kind = "int8" if array.dtype == np.int8 else "float32"
        content = array.astype("<i1" if kind == "int8" else "<f4").tobytes()
        content += bytes(-len(content) % 4)
        places[name] = {"kind": kind, "shape": list(array.shape), "at": at}
        parts.append(content)
        at += len(content)
    return {"blocks": model.blocks, "dimension": model.dimension, "arrays": places, "bytes": _text(b"".join(parts))}


def _golden(artifact: Artifact) -> dict[str, object]:
    outputs = (artifact if artifact.golden.outputs is not None else artifact.record()).golden.outputs
    assert outputs is not None
    moves = np.concatenate([outputs[name] for name in artifact.graph.outputs], axis=1)
    return {
        "frames": len(artifact.golden.features),
        "features": _text(np.ascontiguousarray(artifact.golden.features).tobytes()),
        "moves": _text(np.ascontiguousarray(moves).tobytes()),
    }


def _talker(artifact: Artifact, name: str, clip: bytes, voice: Voice) -> dict[str, object]:
    return {
        "name": name,
        "title": _TALKERS[name],
        "clip": _text(clip),
        "embedding": _text(voice.embedding.astype("<f4").tobytes()),
        "patch": _text(voice_patch(artifact, voice)),
    }


def _mixture(artifact: Artifact, case: Case, voice: Voice) -> dict[str, object]:
    assert case.reference is not None
    sound = round_to_16_bits(case.mixture.signal)
    return {
        "name": case.name,
        "title": case.title,
        "about": _ABOUT[case.name],
        "talker": case.enrollments[0].name.removesuffix("-enroll"),
        "heard": case.mixture.name.split(" + "),
        "ears": len(sound),
        "sound": _samples(sound),
        "reference": _samples(round_to_16_bits(case.reference.signal)),
        "made_by_c": _samples(extract_with_c(artifact, voice, sound)),
    }


def _samples(sound: Int16) -> str:
    return _text(np.ascontiguousarray(sound).astype("<i2").tobytes())


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _script(name: str, value: Mapping[str, object]) -> bytes:
    """A script that defines one constant: what a page opened from a disk may load, which a .wasm or a .json beside it is not."""
    return f'"use strict";\nconst {name} = {json.dumps(value)};\n'.encode()


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write")
    options = parser.parse_args()
    sizes = write_page(Artifact.shipped(), options.out)
    print(f"{options.out / 'index.html'}: open it in a browser; {sum(sizes.values()) / 1e6:.1f} MB in {len(sizes)} files")


if __name__ == "__main__":
    sys.exit(main())
