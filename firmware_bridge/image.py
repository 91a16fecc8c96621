"""Image: a program for a board, with its target, model and core; damaged, foreign or unsigned images are refused.

A header of fixed size, then the program. The digest covers header and program, the signature (Ed25519) covers the digest, and both
come last in the header, so that everything before them is covered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from edge_tse.errors import ArtifactError, TargetError
from edge_tse.install_line import install_line
from firmware_bridge.layout import U16, U32, Bytes16, Bytes32, Bytes64, Text16, Text32, pack, size_bytes, unpack

__all__ = [
    "DOMAIN",
    "MAGIC",
    "SCHEMA",
    "Image",
    "ImageHeader",
    "Kind",
    "check_for",
    "make",
    "pack_image",
    "parse",
    "public_key",
    "sign",
    "with_counter",
]

SCHEMA = 2
"""Version of the header; an image of another one is built again."""

MAGIC = "edge-tse image"
DOMAIN = b"edge-tse image, Ed25519, schema 2\0"
"""Prefix of the signed bytes, so that a signature is good for an image and for nothing else."""


class Kind(IntEnum):
    """Kind of program."""

    ELF = 1


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """Header in front of the program; the boot code finds its fields by the constants of ``c/board/boot_record.h``."""

    magic: Text16
    schema: U16
    kind: U16
    header_bytes: U32
    payload_bytes: U32
    counter: U32
    model: Bytes16
    target: Text32
    core: Text32
    key: Bytes32
    digest: Bytes32
    signature: Bytes64


_HEADER_BYTES = size_bytes(ImageHeader)
_COVERED_BYTES = _HEADER_BYTES - 32 - 64
"""Bytes of the header that the digest covers."""
_UNSIGNED = bytes(32)


@dataclass(frozen=True, kw_only=True)
class Image:
    """A program for a board."""

    target: str
    """Name of the board it is for."""
    core: str
    model: bytes
    """First 16 bytes of the artifact's digest."""
    payload: bytes
    kind: Kind = Kind.ELF
    counter: int = 0
    """Security counter: a board that has once kept an image goes back to none with a lower one."""
    key: bytes = _UNSIGNED
    """Public key of the signer, 32 bytes; zeros if nobody signed."""
    signature: bytes = bytes(64)

    @property
    def signed(self) -> bool:
        """Whether it is signed; :func:`parse` has checked that the signature is right."""
        return self.key != _UNSIGNED

    @property
    def digest(self) -> bytes:
        """SHA-256 over the header's statements and the program."""
        return hashlib.sha256(pack(self._header())[:_COVERED_BYTES] + self.payload).digest()

    def _header(self, digest: bytes = bytes(32)) -> ImageHeader:
        return ImageHeader(
            magic=MAGIC,
            schema=SCHEMA,
            kind=self.kind,
            header_bytes=_HEADER_BYTES,
            payload_bytes=len(self.payload),
            counter=self.counter,
            model=self.model,
            target=self.target,
            core=self.core,
            key=self.key,
            digest=digest,
            signature=self.signature,
        )


def make(payload: bytes, *, target: str, core: str, artifact_digest: str) -> Image:
    """An unsigned image of an ELF program. ``TargetError`` if a name is too long for the header."""
    image = Image(target=target, core=core, model=bytes.fromhex(artifact_digest)[:16], payload=payload)
    try:
        pack(image._header())
    except ValueError as failure:
        raise TargetError(f"target {target}, core {core}: {failure}; use a shorter name") from failure
    return image


def with_counter(image: Image, counter: int) -> Image:
    """The image with this security counter; another counter removes the signature. ``TargetError`` if it does not fit."""
    if not 0 <= counter < 2**32:
        raise TargetError(
            f"a security counter is within 0 and {2**32 - 1}, not {counter}: raise it by one with each image that matters"
        )
    return image if counter == image.counter else replace(image, counter=counter, key=_UNSIGNED, signature=bytes(64))


def sign(image: Image, key: Path) -> Image:
    """The image, signed with a private Ed25519 key in PEM (``openssl genpkey -algorithm ed25519 -out KEY``).

    ``ArtifactError`` if the file holds no such key.
    """
    private = _private_key(key)
    named = replace(image, key=private.public_key().public_bytes_raw())
    return replace(named, signature=private.sign(DOMAIN + named.digest))


def public_key(path: Path) -> bytes:
    """Public key of 32 bytes whose signatures are accepted, from a public or private Ed25519 key in PEM."""
    content = _read_key(path)
    if b"PRIVATE KEY" in content:
        return bytes(_private_key(path).public_key().public_bytes_raw())
    ed25519, serialization = _cryptography()
    try:
        key = serialization.load_pem_public_key(content)
    except ValueError as failure:
        raise _no_key(path) from failure
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise _no_key(path)
    return bytes(key.public_bytes_raw())


def pack_image(image: Image) -> bytes:
    """The content of an image file."""
    return pack(image._header(image.digest)) + image.payload


def parse(content: bytes, source: str = "image", *, trusted: Iterable[bytes] | None = None) -> Image:
    """Inverse of :func:`pack_image`, with everything checked before anything is believed.

    ``trusted``: public keys of which one must have signed it; None accepts unsigned images, and checks a signature that is there.
    ``ArtifactError`` if it is no image, too new, truncated, tampered with, or not signed by somebody trusted.
    """
    magic = MAGIC.encode().ljust(16, b"\0")
    if content[:16] != magic:
        raise ArtifactError(f"{source} is not an edge-tse image: it starts with {content[:16]!r}, not {magic!r}")
    if len(content) < _HEADER_BYTES:
        raise ArtifactError(f"{source} is truncated: {len(content)} bytes, the header alone has {_HEADER_BYTES}; build it again")
    header = unpack(ImageHeader, content[:_HEADER_BYTES])
    if header.schema > SCHEMA:
        raise ArtifactError(f"{source} has schema {header.schema}, this edge-tse reads up to {SCHEMA}: upgrade edge-tse")
    if header.schema < SCHEMA:
        raise ArtifactError(f"{source} has schema {header.schema}, this edge-tse reads {SCHEMA}: build it again")
    payload = content[_HEADER_BYTES:]
    if len(payload) != header.payload_bytes:
        what = "truncated" if len(payload) < header.payload_bytes else "followed by something else"
        raise ArtifactError(f"{source} is {what}: {len(payload)} bytes where {header.payload_bytes} are stated; build it again")
    found = hashlib.sha256(content[:_COVERED_BYTES] + payload).digest()
    if found != header.digest:
        raise ArtifactError(
            f"{source} is damaged or tampered with: its digest is {found.hex()[:12]}, it states {header.digest.hex()[:12]}; "
            "do not flash it, build it again"
        )
    if header.kind not in tuple(Kind) or header.header_bytes != _HEADER_BYTES:
        raise ArtifactError(f"{source} holds a program of kind {header.kind}, known are {[int(k) for k in Kind]}: upgrade edge-tse")
    image = Image(
        target=header.target,
        core=header.core,
        model=header.model,
        payload=payload,
        kind=Kind(header.kind),
        key=header.key,
        signature=header.signature,
        counter=header.counter,
    )
    _check_signature(image, found, source, trusted)
    return image


def check_for(image: Image, *, target: str, core: str, source: str = "the image") -> None:
    """``TargetError`` if the image is for another board or another core."""
    if image.target != target:
        raise TargetError(f"{source} is for target {image.target}, not {target}: build it for {target}")
    if image.core != core:
        raise TargetError(f"{source} is for a {image.core}, target {target} has a {core}: build it for {target}")


def _check_signature(image: Image, digest: bytes, source: str, trusted: Iterable[bytes] | None) -> None:
    if not image.signed:
        if trusted is not None:
            raise ArtifactError(f"{source} is not signed, and only signed images are accepted here: sign it with --sign KEY")
        return
    ed25519, _ = _cryptography()
    from cryptography.exceptions import InvalidSignature

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(image.key).verify(image.signature, DOMAIN + digest)
    except (InvalidSignature, ValueError) as failure:
        raise ArtifactError(f"{source}: the signature of key {image.key.hex()[:12]} is wrong: do not flash it") from failure
    if trusted is not None and image.key not in (accepted := tuple(trusted)):
        names = ", ".join(key.hex()[:12] for key in accepted) or "nobody"
        raise ArtifactError(f"{source} is signed by key {image.key.hex()[:12]}, accepted here is {names}: sign it with that key")


def _private_key(path: Path) -> Any:
    ed25519, serialization = _cryptography()
    content = _read_key(path)
    # Said by the label (PKCS #8) or by a header (the older form of OpenSSL).
    if b"ENCRYPTED" in content:
        raise ArtifactError(
            f"{path} holds an encrypted key, which is not asked for its passphrase here: write a plain copy of it with "
            f"`openssl pkey -in {path} -out PLAIN.pem`, give that, and remove it afterwards"
        )
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (TypeError, ValueError) as failure:
        raise _no_key(path) from failure
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise _no_key(path)
    return key


def _cryptography() -> tuple[Any, Any]:
    """The modules that sign and that read keys; an image without a signature needs neither."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as failure:
        raise ArtifactError(f"signatures need cryptography: {install_line('firmware')}") from failure
    return ed25519, serialization


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise ArtifactError(f"cannot read key {path}: {failure.strerror}") from failure


def _no_key(path: Path) -> ArtifactError:
    return ArtifactError(
        f"{path} holds no plain Ed25519 key in PEM: make one, in a new file, with `openssl genpkey -algorithm ed25519 -out NEW.pem`"
    )
