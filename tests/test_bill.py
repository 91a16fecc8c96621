"""Bills of materials: valid CycloneDX, the same bytes every time, and nothing in an image that its bill does not name."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edge_tse.artifact import Artifact
from edge_tse.deployment.compilation import compile_for
from edge_tse.deployment.runtime import runtime_named
from edge_tse.deployment.target import find_target, load_target
from edge_tse.errors import TargetError
from edge_tse.personalization import personalize
from firmware_bridge.bill import archive_bill, boot_bill, image_bill
from firmware_bridge.board import program_of
from firmware_bridge.build import BOARD, BOOT, build_program, c_source
from firmware_bridge.codegen import generate
from firmware_bridge.cores import CORES
from firmware_bridge.elf import read_symbols
from firmware_bridge.image import make
from tests import graphs
from tests.command import Run


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return graphs.artifact(graphs.TINY)


def valid(text: str) -> dict[str, Any]:
    """The content of a bill, which the schema of CycloneDX takes."""
    pytest.importorskip("cyclonedx", reason="checking a bill needs cyclonedx-python-lib: pip install '.[dev]'")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    content = json.loads(text)
    references = [content["metadata"]["component"]["bom-ref"], *(part["bom-ref"] for part in content["components"])]
    assert sorted(references) == sorted(entry["ref"] for entry in content["dependencies"])
    return dict(content)


def files(content: dict[str, Any]) -> dict[str, str]:
    """Name -> SHA-256 of every file that a bill names."""
    return {file["name"]: file["hashes"][0]["content"] for part in content["components"] for file in part.get("components", ())}


def image_of(artifact: Artifact, core: str, payload: bytes = b"a program") -> str:
    image = make(payload, target=core, core="Cortex-M55", artifact_digest=artifact.digest)
    return image_bill(artifact, generate(artifact), image, CORES[core], program_of(CORES[core]))


def test_the_schema_refuses_something() -> None:
    pytest.importorskip("cyclonedx", reason="checking a bill needs cyclonedx-python-lib: pip install '.[dev]'")
    with pytest.raises(AssertionError):
        valid(boot_bill().replace('"SHA-256"', '"SHA-255"'))


def test_an_archive_holds_its_bill_and_what_that_names(artifact: Artifact) -> None:
    made = runtime_named("native-c").write(artifact, load_target("stm32h7"))
    with zipfile.ZipFile(io.BytesIO(made.content)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    bill = content.pop("sbom.cdx.json").decode()
    assert bill == made.bill
    assert files(valid(bill)) == {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    assert made.content == runtime_named("native-c").write(artifact, load_target("stm32h7")).content


def test_a_bill_says_which_model_and_whether_a_voice_is_in_it(artifact: Artifact) -> None:
    for model, folded in ((artifact, "false"), (personalize(artifact, graphs.voice(artifact.voice_model)), "true")):
        bill = valid(archive_bill(model, generate(model), {}))
        (part,) = (p for p in bill["components"] if p["type"] == "machine-learning-model")
        assert {p["name"]: p["value"] for p in part["properties"]} == {
            "edge-tse:artifact-digest": model.digest,
            "edge-tse:voice-built-in": folded,
        }


@pytest.mark.parametrize(
    ("core", "names", "whole"),
    [
        ("qemu-mps3-an547", {"edge-tse C library", "edge-tse model"}, "complete"),
        ("aarch64-linux", {"edge-tse C library", "edge-tse model", "musl"}, "complete"),
        ("host", {"edge-tse C library", "edge-tse model"}, "incomplete"),
    ],
)
def test_an_image_names_its_parts(artifact: Artifact, core: str, names: set[str], whole: str) -> None:
    pytest.importorskip("ziglang", reason="the version of the compiler is in the bill: pip install '.[firmware]'")
    content = valid(image_of(artifact, core))
    assert {part["name"] for part in content["components"]} == names
    assert content["compositions"][0]["aggregate"] == whole
    assert [tool["name"] for tool in content["metadata"]["tools"]["components"]] == ["edge-tse", "ziglang"]
    stated = {p["name"]: p["value"] for p in content["metadata"]["component"]["properties"]}
    assert stated["edge-tse:program-sha256"] == hashlib.sha256(b"a program").hexdigest()
    assert {"kernels.c", "kernels_c99.h", "server.c", "wire.h", "model.c"} <= files(content).keys()
    assert not {"boot.c", "ed25519.c", "main.c"} & files(content).keys()


@pytest.mark.slow
@pytest.mark.parametrize("core", ["qemu-mps3-an547", "qemu-mps2-an386"])
def test_an_image_holds_nothing_that_its_bill_does_not_name(artifact: Artifact, core: str, tmp_path: Path) -> None:
    """Every function and table of the program is defined in a file of the bill: no C library, no compiler's runtime, no CMSIS."""
    pytest.importorskip("ziglang", reason="compiling C needs ziglang: pip install '.[firmware]'")
    names = ('-DETSE_TARGET="host"', '-DETSE_CORE="x"')
    built = build_program(generate(artifact), CORES[core], tmp_path / "a.elf", program=program_of(CORES[core]), flags=names)
    named = files(json.loads(image_of(artifact, core))).keys()
    generated = generate(artifact)
    words = set(re.findall(r"\w+", "".join(generated[n] if n in generated else c_source(n).read_text() for n in named)))
    symbols = {symbol.name.partition(".")[0] for symbol in read_symbols(built.path) if symbol.size_bytes} - {""}
    assert len(symbols) > 30
    assert symbols - words == set()


def test_the_boot_code_says_whose_signature_check_it_has() -> None:
    content = valid(boot_bill())
    theirs = {part["name"]: part for part in content["components"]}
    assert set(files(content)) == {*BOOT, "boot.h", "boot_record.h", "crc32.h", "ed25519.h", "sha2.h"}
    assert theirs["tweetnacl"]["version"] in (BOARD / "ed25519.c").read_text()
    assert [file["name"] for file in theirs["tweetnacl"]["components"]] == ["ed25519.c"]


def test_no_source_is_taken_from_others_unnamed() -> None:
    """Who takes code from elsewhere says where from in its first lines, and in the bill."""
    folder = BOARD.parent
    credited = {path.name for path in folder.rglob("*.[ch]") if re.match(r"/\* After (?![a-z])", path.read_text())}
    assert credited == {"ed25519.c"}


def test_compile_writes_a_bill(run: Run, artifact: Artifact, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="compiling C needs ziglang: pip install '.[firmware]'")
    artifact.save(tmp_path / "a.etse")
    to, bill = tmp_path / "a.zip", tmp_path / "a.cdx.json"
    done = run("compile", tmp_path / "a.etse", "--target", "stm32h7", "-o", to, "--sbom", bill, "--json")
    assert done.json["sbom"] == str(bill)
    valid(bill.read_text())


def test_a_bill_that_cannot_be_written_is_said_before_anything_is(run: Run, artifact: Artifact, tmp_path: Path) -> None:
    artifact.save(tmp_path / "a.etse")
    same, to, bill = tmp_path / "same", tmp_path / "a.zip", tmp_path / "a.json"
    with pytest.raises(TargetError, match=r"target litert: what its .* is made of is not listed here: leave out --sbom"):
        compile_for(find_target("litert"), artifact, tmp_path / "a.tflite", bill=bill)
    with pytest.raises(TargetError, match="is also the file to compile"):
        compile_for(load_target("stm32h7"), artifact, same, bill=same)
    line = run("compile", tmp_path / "a.etse", "--target", "stm32h7", "-o", to, "--sbom", tmp_path / "a.etse").complaint
    assert "is also the input" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.etse"]
