"""The archive of C sources: library and model in one folder, described for the build systems that a product may have.

``package/`` holds the descriptions: CMake and pkg-config, PlatformIO, Arduino, Zephyr and CMSIS packs. ``@VERSION@`` in their texts
becomes the version.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from edge_tse.artifact import Artifact
from edge_tse.version import __version__
from firmware_bridge.bill import archive_bill
from firmware_bridge.build import LIBRARY

__all__ = ["PACKAGE", "pack_archive", "pack_zip", "packaged_files"]

PACKAGE = Path(__file__).parent / "package"
"""Descriptions of the library for build systems, as they lie in an archive."""


def packaged_files() -> dict[str, bytes]:
    """Content of the library and its descriptions by place in an archive; it is the same for all models."""
    files = {f"src/{path.name}": path.read_bytes() for path in LIBRARY.iterdir()}
    for path in PACKAGE.rglob("*"):
        if path.is_file():
            content = path.read_bytes().replace(b"@VERSION@", __version__.encode())
            files[path.relative_to(PACKAGE).as_posix()] = content
    return files


def pack_archive(artifact: Artifact, generated: Mapping[str, str]) -> tuple[bytes, str]:
    """ZIP archive of the model's C, the library and its descriptions, and the bill that is in it."""
    files = packaged_files()
    bill = archive_bill(artifact, generated, files)
    files |= {f"src/{name}": text.encode() for name, text in generated.items()}
    return pack_zip(files | {"sbom.cdx.json": bill.encode()}), bill


def pack_zip(files: Mapping[str, bytes], programs: tuple[str, ...] = ()) -> bytes:
    """Pack files as ZIP, without a time: equal files give equal bytes. ``programs`` are those that can be executed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100755 if name in programs else 0o100644) << 16
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED)
    return content.getvalue()
