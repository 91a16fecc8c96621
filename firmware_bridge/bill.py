"""Bill of materials: what a C archive, a firmware image and the boot code are made of, as CycloneDX 1.6 in JSON.

Made from the sources themselves, and what each includes. Without a time and without a random number: equal content gives equal
bytes. ``python -m firmware_bridge.bill`` prints the bill of the boot code.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

from edge_tse.artifact import Artifact
from edge_tse.version import __version__
from firmware_bridge.build import BOOT, SOURCES, c_source, image_sources
from firmware_bridge.cores import Core
from firmware_bridge.image import Image, pack_image

__all__ = ["archive_bill", "boot_bill", "image_bill", "plugin_bill"]

Part = dict[str, Any]

_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_OURS = "edge-tse-c"
_OF_OTHERS: Mapping[str, Part] = {
    "ed25519.c": {
        "type": "library",
        "bom-ref": "tweetnacl",
        "name": "tweetnacl",
        "version": "20140427",
        "description": "Ed25519: verification of a signature",
        "licenses": [{"license": {"name": "public domain"}}],
        "externalReferences": [{"type": "website", "url": "https://tweetnacl.cr.yp.to"}],
        "pedigree": {"notes": "Rewritten after it: verification alone, 32-bit limbs, one run for both products, S >= L refused."},
    }
}
"""Source file -> the work of others that it comes from. Every other source is this project's."""
_MUSL: Part = {
    "type": "library",
    "bom-ref": "musl",
    "name": "musl",
    "description": "C library, linked statically, of the version that comes with the compiler",
    "licenses": [{"license": {"id": "MIT"}}],
    "externalReferences": [{"type": "website", "url": "https://musl.libc.org"}],
}


def archive_bill(artifact: Artifact, generated: Mapping[str, str], files: Mapping[str, bytes]) -> str:
    """Bill of an archive of C sources: ``files``, the library and its descriptions by place in it, and the model in ``src/``."""
    subject = {"type": "firmware", "bom-ref": "archive", "name": "edge-tse C archive", "version": artifact.digest[:16]}
    ours = _ours([_file(name, content) for name, content in sorted(files.items())])
    return _text(subject, [ours, _model(artifact, {f"src/{name}": text for name, text in generated.items()})])


def image_bill(artifact: Artifact, generated: Mapping[str, str], image: Image, core: Core, program: Sequence[str]) -> str:
    """Bill of an image; ``program`` are the sources around the library. A signature changes the file's hash, not the program's."""
    subject = {
        "type": "firmware",
        "bom-ref": "image",
        "name": f"edge-tse image for {image.target}",
        "version": artifact.digest[:16],
        "hashes": [_sha256(pack_image(image))],
        "properties": [
            _property("program-sha256", hashlib.sha256(image.payload).hexdigest()),
            _property("core", image.core),
            _property("counter", str(image.counter)),
        ],
    }
    parts = [*_library(_with_headers(image_sources(generated, core, program), generated)), _model(artifact, generated)]
    if any("musl" in word for word in core.zig):
        parts.append(_MUSL)
    # A program of this machine uses its C library, which nobody here knows.
    known = bool(core.regions) or "-static" in core.zig
    return _text(subject, parts, [_compiler()], "complete" if known else "incomplete")


def plugin_bill(artifact: Artifact, generated: Mapping[str, str], program: Iterable[str], files: Mapping[str, bytes]) -> str:
    """Bill of an archive of plugins; ``program`` are the sources around the library, ``files`` what was made of them, by place."""
    subject = {
        "type": "application",
        "bom-ref": "plugins",
        "name": "edge-tse plugins",
        "version": artifact.digest[:16],
        "components": [_file(name, content) for name, content in sorted(files.items())],
    }
    parts = [*_library(_with_headers((*SOURCES, *program), generated)), _model(artifact, generated)]
    # The C library is the host's.
    return _text(subject, parts, [_compiler()], "incomplete")


def _compiler() -> Part:
    return {"type": "application", "name": "ziglang", "version": metadata.version("ziglang")}


def boot_bill() -> str:
    """Bill of the boot code, which a board's maker compiles into the loader."""
    parts = _library(_with_headers(BOOT))
    content = "".join(file["hashes"][0]["content"] for part in parts for file in part["components"])
    subject = {
        "type": "firmware",
        "bom-ref": "boot",
        "name": "edge-tse boot code",
        "version": hashlib.sha256(content.encode()).hexdigest()[:16],
    }
    return _text(subject, parts)


def _library(names: Iterable[str]) -> list[Part]:
    """The components that these sources belong to, each with its files; ours is the first."""
    files = {name: _file(name, c_source(name).read_bytes()) for name in sorted(names)}
    others = [{**_OF_OTHERS[name], "components": [file]} for name, file in files.items() if name in _OF_OTHERS]
    return [_ours([file for name, file in files.items() if name not in _OF_OTHERS]), *others]


def _ours(files: list[Part]) -> Part:
    return {
        "type": "library",
        "bom-ref": _OURS,
        "name": "edge-tse C library",
        "version": __version__,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "purl": f"pkg:pypi/edge-tse@{__version__}",
        "components": files,
    }


def _file(name: str, content: bytes) -> Part:
    return {"type": "file", "name": name, "hashes": [_sha256(content)]}


def _model(artifact: Artifact, generated: Mapping[str, str]) -> Part:
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": "edge-tse model",
        "version": artifact.digest[:16],
        "properties": [
            _property("artifact-digest", artifact.digest),
            # Then the file tells one person from others.
            _property("voice-built-in", "true" if artifact.personalized else "false"),
        ],
        "components": [_file(name, text.encode()) for name, text in sorted(generated.items())],
    }


def _with_headers(sources: Iterable[str], generated: Iterable[str] = ()) -> set[str]:
    """These sources and every header of ours that they include; one that is generated with the model is the model's."""
    found, left = set[str](), list(sources)
    while left:
        name = left.pop()
        if name not in found and name not in generated:
            found.add(name)
            left += re.findall(r'^#\s*include "([^"]+)"', c_source(name).read_text(), re.MULTILINE)
    return found


def _sha256(content: bytes) -> Part:
    return {"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}


def _property(name: str, value: str) -> Part:
    return {"name": f"edge-tse:{name}", "value": value}


def _text(subject: Part, parts: Sequence[Part], tools: Sequence[Part] = (), whole: str = "complete") -> str:
    content = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "edge-tse", "version": __version__}, *tools]},
            "component": subject,
        },
        "components": list(parts),
        "dependencies": [
            {"ref": subject["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]},
            *({"ref": part["bom-ref"]} for part in parts),
        ],
        "compositions": [{"aggregate": whole, "assemblies": [subject["bom-ref"]]}],
    }
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(boot_bill())
