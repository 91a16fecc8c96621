"""``make release``: each shipped model in every format, with digests and a bill of materials, in one folder.

``python .ci/release.py [FORMAT ...] [--models NAME ...] [--out DIR]``. A file is written when it has replayed the golden frames.
One that lies there already, whole and of the same model, sources and packages, is kept, so that a run that was stopped goes on. A
format whose runtime is not installed is left out with the reason, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edge_tse.artifact import Artifact, shipped_names
from edge_tse.deployment.compilation import compile_for
from edge_tse.deployment.compiled_file import find_compiled, record_path
from edge_tse.deployment.target import find_target
from edge_tse.errors import ArtifactError, EdgeTseError, EngineError, TargetError
from edge_tse.files import write_bytes
from edge_tse.personalization import universal
from edge_tse.quiet import quietly
from edge_tse.version import __version__

ROOT = Path(__file__).resolve().parent.parent
SUMS, BILL, JOURNAL = "SHA256SUMS", "edge-tse-models.cdx.json", ".release.json"
SOURCES = ("edge_tse", "targets", "firmware_bridge")
"""Packages that a file is made by."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of release files."""

    target: str
    """Target or runtime whose file it is."""
    suffix: str
    universal: bool = False
    """Whether the voice is an input of the file; a release has none to fold in. C and plugins take voice patches."""
    packages: tuple[str, ...] = ()
    """Distributions whose version decides what is written."""


FORMATS: Mapping[str, Format] = {
    "tflite": Format(target="litert", suffix=".tflite", universal=True, packages=("flatbuffers", "ai-edge-litert")),
    "onnx": Format(target="onnx", suffix=".onnx", universal=True, packages=("onnx", "onnxruntime")),
    "pte": Format(target="executorch", suffix=".pte", universal=True, packages=("executorch", "torch", "torchao")),
    "c": Format(target="native-c", suffix="-c.zip", packages=("ziglang",)),
    "plugin": Format(target="plugin", suffix="-plugin.zip", packages=("ziglang",)),
}


def main() -> int:
    """Write what is missing, then digests and bill of all that is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"{', '.join(FORMATS)}; all if left out")
    parser.add_argument("--models", nargs="+", metavar="NAME", default=shipped_names(), choices=shipped_names())
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR")
    given = parser.parse_args()
    if unknown := set(given.formats) - set(FORMATS):
        parser.error(f"no format {', '.join(sorted(unknown))}: choose from {', '.join(FORMATS)}")
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    sources, left_out = source_digest(ROOT), 0
    released: dict[str, list[Path]] = {}
    for model in given.models:
        artifact = Artifact.shipped(model)
        for name in given.formats or FORMATS:
            path = out / f"edge-tse-{model}{FORMATS[name].suffix}"
            began = time.monotonic()
            try:
                kept = write(FORMATS[name], artifact, path, sources)
            except (EngineError, TargetError) as failure:
                print(f"{path.name}: left out: {failure}", flush=True)
                left_out += 1
                continue
            released.setdefault(model, []).append(path)
            how = "kept, it is up to date" if kept else f"{time.monotonic() - began:.0f} s"
            print(f"{path.name}: {path.stat().st_size:,} bytes, {how}", flush=True)
    write_bytes(out / BILL, bill(released).encode())
    write_bytes(out / SUMS, sums(out).encode())
    whole = "all formats" if not left_out else f"INCOMPLETE: {left_out} left out"
    print(f"{out / SUMS}: {len((out / SUMS).read_text().splitlines())} files, {whole}; check with: sha256sum -c {SUMS}")
    return 1 if left_out else 0


def write(form: Format, artifact: Artifact, path: Path, sources: str) -> bool:
    """Write the file unless it is there as it would be; whether it was kept. ``EngineError`` if its runtime is missing."""
    journal = path.with_name(JOURNAL)
    stated: dict[str, str] = json.loads(journal.read_text()) if journal.is_file() else {}
    key = _key(form, artifact, sources)
    if stated.get(path.name) == key and _is_whole(path):
        return True
    for stale in (path, record_path(path)):  # if this run is stopped, what is left is not of today's sources
        stale.unlink(missing_ok=True)
    with quietly():
        compile_for(find_target(form.target), universal(artifact) if form.universal else artifact, path)
    write_bytes(journal, json.dumps(stated | {path.name: key}, indent=1).encode())
    return False


def _key(form: Format, artifact: Artifact, sources: str) -> str:
    """Digest of all that the file follows from. A package that is missing has no version; then nothing is written either."""
    versions = {name: _version(name) for name in form.packages}
    stated = [__version__, form.target, form.universal, artifact.digest, sources, versions]
    return hashlib.sha256(json.dumps(stated).encode()).hexdigest()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _is_whole(path: Path) -> bool:
    try:
        return find_compiled(path) is not None
    except ArtifactError:
        return False


def source_digest(root: Path) -> str:
    """Digest of the packages that write files; models are told apart by their own."""
    found = hashlib.sha256()
    for package in SOURCES:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and path.suffix in (".py", ".c", ".h", ".toml", ".in"):
                found.update(f"{path.relative_to(root)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def sums(folder: Path) -> str:
    """Lines for ``sha256sum -c``, of every file in the folder but hidden ones and itself."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != SUMS and not path.name.startswith("."))
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)


def bill(released: Mapping[str, list[Path]]) -> str:
    """CycloneDX 1.6 of the models: each with its digest, its licence and its files. Equal content gives equal bytes."""
    licenses = [{"license": {"id": "Apache-2.0"}}]
    subject = {"type": "data", "bom-ref": "models", "name": "edge-tse models", "version": __version__, "licenses": licenses}
    parts: list[dict[str, Any]] = [
        {
            "type": "machine-learning-model",
            "bom-ref": f"models/{name}",
            "name": f"edge-tse {name}",
            "version": Artifact.shipped(name).digest[:16],
            "licenses": licenses,
            "components": [
                {
                    "type": "file",
                    "name": path.name,
                    "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}],
                }
                for path in paths
            ],
        }
        for name, paths in released.items()
    ]
    dependencies = [{"ref": "models", "dependsOn": [part["bom-ref"] for part in parts]}, *({"ref": p["bom-ref"]} for p in parts)]
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": subject},
        "components": parts,
        "dependencies": dependencies,
    }
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgeTseError as failure:
        print(f"release: {failure}", file=sys.stderr)
        sys.exit(2)
