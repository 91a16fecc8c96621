"""Images: what is whole, for this board and, where asked for, signed, is taken; everything else is one line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_tse.errors import ArtifactError, EdgeTseError, TargetError
from edge_tse.install_line import install_line
from firmware_bridge.image import Image, check_for, make, pack_image, parse, public_key, sign, with_counter

DIGEST = "ab" * 32
PROGRAM = b"\x7fELF" + bytes(range(256)) * 5


@pytest.fixture
def image() -> Image:
    return make(PROGRAM, target="qemu-mps3-an547", core="Cortex-M55", artifact_digest=DIGEST)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Two private keys."""
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    paths = tmp_path / "alice.pem", tmp_path / "bob.pem"
    for seed, path in enumerate(paths):
        key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.write_bytes(key.private_bytes(*pem))
    return paths


def complaint(error: type[EdgeTseError], call: Callable[[], object]) -> str:
    with pytest.raises(error) as failure:
        call()
    line = str(failure.value)
    assert "\n" not in line
    return line


def test_an_image_comes_back(image: Image) -> None:
    content = pack_image(image)
    assert parse(content) == image
    assert pack_image(parse(content)) == content
    assert (image.model, image.signed) == (bytes([0xAB] * 16), False)
    check_for(image, target="qemu-mps3-an547", core="Cortex-M55")


def test_an_image_is_aligned_behind_its_header(image: Image) -> None:
    content = pack_image(image)
    assert content.endswith(PROGRAM)
    assert (len(content) - len(PROGRAM)) % 4 == 0


@pytest.mark.parametrize("keep", [0, 5, 16, 100, -1])
def test_truncated(image: Image, keep: int) -> None:
    content = pack_image(image)[:keep]
    line = complaint(ArtifactError, lambda: parse(content, "a.img"))
    assert re.search(r"^a\.img is (truncated|not an edge-tse image)", line)
    assert keep < 16 or "truncated" in line


def test_something_behind_it(image: Image) -> None:
    assert "followed by something else: 1285 bytes where 1284" in complaint(ArtifactError, lambda: parse(pack_image(image) + b"x"))


def test_every_byte_counts(image: Image) -> None:
    """A bit that flips anywhere is found. The signature of an unsigned image is nothing, and covered by nothing."""
    content = pack_image(image)
    signature = range(len(content) - len(PROGRAM) - 64, len(content) - len(PROGRAM))
    for at in range(len(content)):
        changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        if at not in signature:
            complaint(ArtifactError, lambda changed=changed: parse(changed))  # type: ignore[misc]


def test_from_the_future(image: Image) -> None:
    content = bytearray(pack_image(image))
    content[16] = 9
    assert "schema 9, this edge-tse reads up to 2: upgrade edge-tse" in complaint(ArtifactError, lambda: parse(bytes(content)))
    content[16] = 1
    assert "schema 1, this edge-tse reads 2: build it again" in complaint(ArtifactError, lambda: parse(bytes(content)))


def test_another_target_and_another_core(image: Image) -> None:
    line = complaint(TargetError, lambda: check_for(image, target="stm32h7", core="Cortex-M7"))
    assert line == "the image is for target qemu-mps3-an547, not stm32h7: build it for stm32h7"
    line = complaint(TargetError, lambda: check_for(image, target="qemu-mps3-an547", core="Cortex-M7"))
    assert line == "the image is for a Cortex-M55, target qemu-mps3-an547 has a Cortex-M7: build it for qemu-mps3-an547"


def test_a_name_that_does_not_fit() -> None:
    line = complaint(TargetError, lambda: make(b"", target="x" * 33, core="", artifact_digest=DIGEST))
    assert "33 bytes, there is room for 32" in line


# Signatures


def test_signed_and_accepted(image: Image, keys: tuple[Path, Path]) -> None:
    signed = sign(image, keys[0])
    assert signed.signed
    content = pack_image(signed)
    assert parse(content) == signed
    assert parse(content, trusted=[public_key(keys[1]), public_key(keys[0])]) == signed


def test_signed_by_somebody_else(image: Image, keys: tuple[Path, Path]) -> None:
    alice, bob = (public_key(key) for key in keys)
    content = pack_image(sign(image, keys[0]))
    line = complaint(ArtifactError, lambda: parse(content, "a.img", trusted=[bob]))
    assert line == f"a.img is signed by key {alice.hex()[:12]}, accepted here is {bob.hex()[:12]}: sign it with that key"
    assert "accepted here is nobody" in complaint(ArtifactError, lambda: parse(content, trusted=[]))


def test_unsigned_where_signed_is_required(image: Image, keys: tuple[Path, Path]) -> None:
    line = complaint(ArtifactError, lambda: parse(pack_image(image), "a.img", trusted=[public_key(keys[0])]))
    assert line == "a.img is not signed, and only signed images are accepted here: sign it with --sign KEY"


def test_a_signature_holds_for_one_image(image: Image, keys: tuple[Path, Path]) -> None:
    signed = sign(image, keys[0])
    other = make(PROGRAM + b"!", target=image.target, core=image.core, artifact_digest=DIGEST)
    for forged in (
        Image(**{**vars(other), "key": signed.key, "signature": signed.signature}),
        Image(**{**vars(signed), "target": "another"}),
        Image(**{**vars(signed), "key": public_key(keys[1])}),
        Image(**{**vars(signed), "signature": bytes(64)}),
    ):
        assert "is wrong: do not flash it" in complaint(ArtifactError, lambda forged=forged: parse(pack_image(forged)))  # type: ignore[misc]


def test_the_security_counter_is_signed(image: Image, keys: tuple[Path, Path]) -> None:
    signed = sign(with_counter(image, 7), keys[0])
    assert parse(pack_image(signed)).counter == 7
    assert with_counter(signed, 7) == signed
    assert not with_counter(signed, 8).signed
    forged = Image(**{**vars(signed), "counter": 8})
    assert "is wrong: do not flash it" in complaint(ArtifactError, lambda: parse(pack_image(forged)))
    for wrong in (-1, 2**32):
        line = complaint(TargetError, lambda wrong=wrong: with_counter(image, wrong))  # type: ignore[misc]
        assert line.startswith(f"a security counter is within 0 and 4294967295, not {wrong}: ")


def test_every_bit_of_a_signature_counts(image: Image, keys: tuple[Path, Path]) -> None:
    content = pack_image(sign(image, keys[0]))
    at = len(content) - len(PROGRAM) - 64
    for bit in range(0, 64 * 8, 7):
        changed = bytearray(content)
        changed[at + bit // 8] ^= 1 << bit % 8
        with pytest.raises(ArtifactError, match="signature"):
            parse(bytes(changed))


def test_keys_that_are_none(image: Image, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    assert "cannot read key" in complaint(ArtifactError, lambda: sign(image, tmp_path / "missing.pem"))
    (tmp_path / "text.pem").write_text("hello")
    assert "holds no plain Ed25519 key" in complaint(ArtifactError, lambda: sign(image, tmp_path / "text.pem"))
    line = complaint(ArtifactError, lambda: public_key(tmp_path / "text.pem"))
    assert "in a new file, with `openssl genpkey -algorithm ed25519 -out NEW.pem`" in line
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP256R1())
    pem = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (tmp_path / "locked.pem").write_bytes(pem)
    pem = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.BestAvailableEncryption(b"secret")
    )
    (tmp_path / "old.pem").write_bytes(pem)
    for name in ("locked.pem", "old.pem"):
        for call in (lambda path: sign(image, path), public_key):
            line = complaint(ArtifactError, lambda call=call, name=name: call(tmp_path / name))  # type: ignore[misc]
            assert "holds an encrypted key" in line
            assert f"`openssl pkey -in {tmp_path / name} -out PLAIN.pem`" in line
            assert "genpkey" not in line, "that would write over the key"
    pem = other.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "curve.pem").write_bytes(pem)
    assert "holds no plain Ed25519 key" in complaint(ArtifactError, lambda: public_key(tmp_path / "curve.pem"))


def test_keys_of_openssl(image: Image, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)], check=True)
    subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)], check=True)
    assert public_key(private) == public_key(public)
    assert parse(pack_image(sign(image, private)), trusted=[public_key(public)]).signed


def test_without_cryptography(image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    assert install_line("firmware") in complaint(ArtifactError, lambda: sign(image, tmp_path / "key.pem"))
    assert parse(pack_image(image)) == image
