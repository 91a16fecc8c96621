"""Phones: the native part computes what the library does, and the two projects around it agree with it.

Gradle, Oboe, the NDK and Swift are not here: what is theirs is read, not built.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from firmware_bridge.build import LIBRARY, PORT, SOURCES, zig
from firmware_bridge.codegen import voice_patch
from firmware_bridge.cores import CORES
from firmware_bridge.native import NativeChain
from tests import graphs
from tests.board import compiler
from tests.command import Run

PHONES = Path(__file__).parent.parent / "firmware_bridge" / "phones"
CORE, ANDROID, IOS = PHONES / "core", PHONES / "android", PHONES / "ios"
APP = ANDROID / "app" / "src" / "main"
KOTLIN = APP / "java" / "org" / "edgetse" / "phone"
DEFINES = ("-DETSE_STREAM_FRAMES=8192", "-ffp-contract=off", "-fno-math-errno")
WARNINGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Werror")
Int16 = NDArray[np.int16]


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return graphs.artifact()


@pytest.fixture(scope="module")
def model(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive in it, as docs/phones.md has it made."""
    from edge_tse.cli import main

    folder = tmp_path_factory.mktemp("model")
    artifact.save(folder / "a.etse")
    assert main(["compile", str(folder / "a.etse"), "--target", "phone-arm64", "-o", str(folder / "model.zip"), "--json"]) == 0
    with zipfile.ZipFile(folder / "model.zip") as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def sources(model: Path) -> list[str]:
    names = ("model.c", "frame.c", *SOURCES, "etse_stream.c")
    return [*(str(model / "src" / name) for name in names), str(CORE / "phone.c")]


def includes(model: Path) -> list[str]:
    return [f"-I{folder}" for folder in (model / "src", CORE)]


CASES = ["host", pytest.param("aarch64-linux", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=CASES)
def core(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the core of the applications on files."""
    machine = CORES[request.param]
    if request.param != "host":
        pytest.importorskip("ziglang", reason="ziglang is not installed: nothing here compiles for aarch64")
        if shutil.which(machine.emulator[0]) is None:
            pytest.skip(f"{machine.emulator[0]} is not installed: apt-get install qemu-user")
    path = tmp_path_factory.mktemp("core") / "phone"
    cc = compiler() if request.param == "host" else (*zig(), *machine.zig)
    program = [str(CORE / "phone_cases.c"), str(PORT / "port_stdio.c")]
    command = [*cc, *WARNINGS, *DEFINES, *includes(model), f"-I{PORT}", *sources(model), *program, "-o", str(path)]
    subprocess.run(command, check=True)
    return [*machine.emulator, str(path)]


def said(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition(" ") for line in done.stdout.splitlines())}


def test_golden_frames_to_the_bit(core: list[str], artifact: Artifact, tmp_path: Path) -> None:
    golden = artifact.golden
    assert golden.outputs is not None
    golden.features.tofile(tmp_path / "features")
    done = subprocess.run([*core, "network", "features", "out"], cwd=tmp_path, check=True, capture_output=True, text=True)
    got = np.fromfile(tmp_path / "out", np.int8).reshape(len(golden.features), len(golden.outputs), -1)
    assert int(said(done)["frames"]) == len(golden.features) > 0
    for answer, (name, wanted) in zip(got.transpose(1, 0, 2), golden.outputs.items(), strict=True):
        np.testing.assert_array_equal(answer, wanted.reshape(answer.shape), err_msg=name)


@pytest.mark.parametrize("ears", [1, 2])
@pytest.mark.parametrize("blocks", [1, 8, 29, 192])
def test_sound_through_the_callback_is_the_librarys(
    core: list[str], artifact: Artifact, ears: int, blocks: int, tmp_path: Path
) -> None:
    frame = artifact.frame
    sound = np.random.default_rng(3).integers(-9000, 9000, (1000 * frame.hop, ears)).astype(np.int16)
    sound.tofile(tmp_path / "sound")
    voice = graphs.voice(artifact.voice_model, 1)
    patch = voice_patch(artifact, voice)
    (tmp_path / "voice").write_bytes(patch)
    words = ["exchange", str(ears), str(blocks), "sound", "out", "voice"]
    done = said(subprocess.run([*core, *words], cwd=tmp_path, check=True, capture_output=True, text=True))
    # Offered once; refused until the worker has taken the one before; in force.
    assert (done["start"], done["offered"], done["again"], done["voice"]) == ("0", "0", "-1", "0")
    assert done["late"] == "0"
    played = np.fromfile(tmp_path / "out", np.int16).reshape(sound.shape)
    chain = NativeChain(artifact, ears, compiler=compiler())
    chain.set_voice(patch)
    wanted = np.concatenate([chain(np.ascontiguousarray(hop.T)).T for hop in sound.reshape(-1, frame.hop, ears)])
    ahead = int(done["latency"]) - frame.delay
    assert 0 < ahead < blocks + 3 * frame.hop + 16
    assert wanted.any()
    np.testing.assert_array_equal(played[ahead:], wanted[:-ahead])


def test_what_the_core_refuses(core: list[str], artifact: Artifact, tmp_path: Path) -> None:
    np.zeros(64, np.int16).tofile(tmp_path / "sound")
    (tmp_path / "voice").write_bytes(b"short")
    for words in ([], ["exchange", "3", "8", "sound", "out"], ["exchange", "1", "0", "sound", "out"]):
        assert subprocess.run([*core, *words], cwd=tmp_path, check=False, capture_output=True).returncode in (1, 2)
    words = ["exchange", "1", "8", "sound", "out", "voice"]
    done = said(subprocess.run([*core, *words], cwd=tmp_path, check=True, capture_output=True, text=True))
    assert (done["offered"], done["voice"]) == ("-3", "-2")


# Android


JAVA = {"Int": "int", "String": "String", "ByteArray": "byte[]", "ShortArray": "short[]", "IntArray": "int[]", "Unit": "void"}
NATIVE = {
    "int": "jint",
    "String": "jstring",
    "byte[]": "jbyteArray",
    "short[]": "jshortArray",
    "int[]": "jintArray",
    "void": "void",
}


def declared() -> dict[str, tuple[str, list[str]]]:
    """Functions that EdgeTse.kt expects of C: name -> Java type of the result, and of each argument."""
    text = (KOTLIN / "EdgeTse.kt").read_text()
    found = re.findall(r"@JvmStatic\s+external fun (\w+)\(([^)]*)\)(?:: (\w+))?", text)
    assert len(found) == text.count("external fun")
    return {name: (JAVA[result or "Unit"], [JAVA[a.split(": ")[1]] for a in args.split(", ") if a]) for name, args, result in found}


def test_every_function_of_kotlin_is_one_of_c_with_the_same_types() -> None:
    text = (APP / "cpp" / "edge_tse_jni.c").read_text() + (APP / "cpp" / "audio.cpp").read_text()
    found = re.findall(r"JNIEXPORT (\w+) JNICALL Java_org_edgetse_phone_EdgeTse_(\w+)\(([^)]*)\)", text)
    defined = {name: (result, [a.split()[0] for a in args.split(", ")[2:]]) for result, name, args in found}
    assert defined == {name: (NATIVE[result], [NATIVE[a] for a in args]) for name, (result, args) in declared().items()}
    assert len(defined) >= 9


def java_includes() -> list[str]:
    """The header of the Java native interface. A test that needs it is skipped without."""
    javac = shutil.which("javac")
    if javac is None:
        pytest.skip("no JDK here: apt-get install openjdk-17-jdk-headless")
    folder = Path(javac).resolve().parent.parent / "include"
    if not (folder / "jni.h").is_file():
        pytest.skip(f"{folder.parent.name} has no jni.h: apt-get install openjdk-17-jdk-headless")
    return [f"-I{folder}", f"-I{folder / 'linux'}"]


@pytest.mark.slow
def test_the_glue_compiles_for_a_phones_core(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="ziglang is not installed: nothing here compiles for aarch64")
    glue = str(APP / "cpp" / "edge_tse_jni.c")
    flags = [flag for flag in WARNINGS if flag != "-Wmissing-prototypes"]  # Java calls by name
    command = [*zig(), *CORES["aarch64-linux"].zig, *flags, *DEFINES, *includes(model), *java_includes(), "-c", glue]
    subprocess.run([*command, "-o", str(tmp_path / "glue.o")], check=True)


@pytest.mark.slow
def test_the_glue_in_a_virtual_machine(model: Path, artifact: Artifact, tmp_path: Path) -> None:
    """Java in Kotlin's place: its declarations are those of EdgeTse.kt, and the library is called through JNI."""
    library = tmp_path / "libedge_tse.so"
    glue = [str(APP / "cpp" / "edge_tse_jni.c"), "-shared", "-fPIC", *java_includes()]
    subprocess.run(
        [*compiler(), "-std=c11", "-O2", *DEFINES, *includes(model), *sources(model), *glue, "-o", str(library)], check=True
    )
    package = tmp_path / "org" / "edgetse" / "phone"
    package.mkdir(parents=True)
    natives = "\n".join(
        f"    public static native {result} {name}({', '.join(f'{kind} a{i}' for i, kind in enumerate(args))});"
        for name, (result, args) in declared().items()
    )
    loading = 'static { System.loadLibrary("edge_tse"); }'
    (package / "EdgeTse.java").write_text(f"package org.edgetse.phone;\npublic class EdgeTse {{\n    {loading}\n{natives}\n}}\n")
    (tmp_path / "Case.java").write_text(CASE)
    artifact.golden.features.tofile(tmp_path / "features")
    sound = np.random.default_rng(5).integers(-9000, 9000, 100 * artifact.frame.hop).astype(np.int16)
    sound.astype(">i2").tofile(tmp_path / "sound")
    voice = graphs.voice(artifact.voice_model, 1)
    (tmp_path / "voice").write_bytes(voice_patch(artifact, voice))
    subprocess.run(["javac", "-d", str(tmp_path), str(package / "EdgeTse.java"), str(tmp_path / "Case.java")], check=True)
    # -Xcheck:jni makes the machine check every call that the glue makes.
    command = ["java", "-Xcheck:jni", f"-Djava.library.path={tmp_path}", "-cp", str(tmp_path), "Case", str(artifact.frame.features)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    lines = said(done)
    assert (lines["wrong"], lines["short"], lines["voice"], lines["uneven"]) == ("-3", "refused", "0", "refused")
    assert lines["one"] == "refused", "sound of one ear, where two are exchanged: it would be written past its end"
    golden = artifact.golden
    assert golden.outputs is not None
    got = np.fromfile(tmp_path / "moves", np.int8).reshape(len(golden.features), len(golden.outputs), -1)
    for answer, wanted in zip(got.transpose(1, 0, 2), golden.outputs.values(), strict=True):
        np.testing.assert_array_equal(answer, wanted.reshape(answer.shape))
    chain = NativeChain(artifact, 1, compiler=compiler())
    chain.set_voice((tmp_path / "voice").read_bytes())
    expected = np.concatenate([chain(hop.reshape(1, -1))[0] for hop in sound.reshape(-1, artifact.frame.hop)])
    ahead = int(lines["latency"]) - artifact.frame.delay
    played = np.fromfile(tmp_path / "played", ">i2")
    assert int(lines["hops"]) > 90
    np.testing.assert_array_equal(played[ahead:], expected[:-ahead])


CASE = """
import java.io.*;
import java.nio.*;
import java.nio.file.*;
import java.util.*;
import org.edgetse.phone.EdgeTse;

public class Case {
    static String tried(Runnable what) {
        try { what.run(); } catch (IllegalArgumentException refusal) { return "refused"; }
        return "taken";
    }

    public static void main(String[] words) throws IOException {
        int size = Integer.parseInt(words[0]);
        EdgeTse.start(2, 8);
        byte[] features = Files.readAllBytes(Path.of("features"));
        ByteArrayOutputStream moves = new ByteArrayOutputStream();
        for (int at = 0; at < features.length; at += size)
            moves.write(EdgeTse.network(Arrays.copyOfRange(features, at, at + size)));
        Files.write(Path.of("moves"), moves.toByteArray());
        System.out.println("short " + tried(() -> EdgeTse.network(new byte[3])));
        System.out.println("uneven " + tried(() -> EdgeTse.exchange(new short[3], 2)));
        System.out.println("one " + tried(() -> EdgeTse.exchange(new short[4], 1)));

        EdgeTse.start(1, 40);
        System.out.println("wrong " + EdgeTse.offerVoice(new byte[3]));
        EdgeTse.offerVoice(Files.readAllBytes(Path.of("voice")));
        EdgeTse.work();
        System.out.println("voice " + EdgeTse.voice());
        byte[] bytes = Files.readAllBytes(Path.of("sound"));
        short[] heard = new short[bytes.length / 2];
        ByteBuffer.wrap(bytes).asShortBuffer().get(heard);
        ByteBuffer played = ByteBuffer.allocate(bytes.length);
        for (int at = 0; at < heard.length; at += 40) {
            short[] block = Arrays.copyOfRange(heard, at, Math.min(at + 40, heard.length));
            for (short sample : EdgeTse.exchange(block, 1)) played.putShort(sample);
            EdgeTse.work();
        }
        Files.write(Path.of("played"), played.array());
        int[] counted = EdgeTse.counters();
        System.out.println("latency " + counted[0]);
        System.out.println("hops " + counted[1]);
        System.out.println("kernels " + EdgeTse.kernels());
    }
}
"""


def test_the_android_project_agrees_with_itself() -> None:
    name = "{http://schemas.android.com/apk/res/android}name"
    manifest = ElementTree.parse(APP / "AndroidManifest.xml").getroot()
    asked = [entry.get(name) for entry in manifest.iter("uses-permission")]
    activities = [entry.get(name) for entry in manifest.iter("activity")]
    assert asked == ["android.permission.RECORD_AUDIO"], "no network: sound stays on the phone"
    assert all((KOTLIN / f"{activity[1:]}.kt").is_file() for activity in activities if activity)
    strings = {entry.get("name") for entry in ElementTree.parse(APP / "res" / "values" / "strings.xml").getroot().iter("string")}
    activity = (KOTLIN / "MainActivity.kt").read_text()
    assert set(re.findall(r"R\.string\.(\w+)", activity)) | {"app_name"} == strings
    gradle = (ANDROID / "app" / "build.gradle.kts").read_text()
    assert 'namespace = "org.edgetse.phone"' in gradle
    assert 'path = file("src/main/cpp/CMakeLists.txt")' in gradle
    assert "prefab = true" in gradle
    for path in KOTLIN.glob("*.kt"):
        assert path.read_text().startswith("package org.edgetse.phone\n")


def test_cmake_of_the_application_names_what_the_library_has() -> None:
    text = (APP / "cpp" / "CMakeLists.txt").read_text()
    named = set(re.findall(r"/src/(\w+\.c)\"", text))
    assert named == {path.name for path in LIBRARY.glob("*.c")} | {"model.c", "frame.c"}
    (core,) = re.findall(r'set\(CORE "\$\{CMAKE_CURRENT_SOURCE_DIR\}/([./\w]+)"\)', text)
    assert (APP / "cpp" / core).resolve() == CORE
    assert all(flag in text for flag in ("-ffp-contract=off", "-fno-math-errno", "ETSE_STREAM_FRAMES=8192"))


@pytest.mark.slow
def test_cmake_builds_the_native_part_without_its_sound(model: Path, tmp_path: Path) -> None:
    """With a package of Oboe that is empty: everything but audio.cpp."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed: apt-get install cmake")
    (tmp_path / "oboeConfig.cmake").write_text("add_library(oboe::oboe INTERFACE IMPORTED)\n")
    configure = ["cmake", "-S", str(APP / "cpp"), "-B", str(tmp_path / "build"), f"-Doboe_DIR={tmp_path}"]
    refused = subprocess.run([*configure, "-DETSE_MODEL=nowhere"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "edge-tse compile --target phone-arm64" in refused.stderr
    subprocess.run([*configure, f"-DETSE_MODEL={model}"], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(tmp_path / "build"), "--target", "etse"], check=True, capture_output=True)
    assert (tmp_path / "build" / "libetse.a").stat().st_size > 0


# iOS


@pytest.fixture
def package(model: Path, tmp_path: Path) -> Path:
    """The Swift package with a model in it, as docs/phones.md has it made."""
    shutil.copytree(IOS, tmp_path / "ios")
    shutil.copytree(model / "src", tmp_path / "ios" / "Sources" / "CEdgeTse" / "model" / "src")
    shutil.copytree(CORE, tmp_path / "ios" / "Sources" / "CEdgeTse" / "core")
    return tmp_path / "ios"


@pytest.mark.slow
def test_the_c_of_the_swift_package_compiles_for_apple_silicon(package: Path, tmp_path: Path) -> None:
    """Every source that the package would compile, with the flags of Package.swift, and the module as Swift imports it."""
    pytest.importorskip("ziglang", reason="ziglang is not installed: nothing here compiles for Apple's cores")
    manifest = (package / "Package.swift").read_text()
    target = package / "Sources" / "CEdgeTse"
    (excluded,) = re.findall(r"exclude: \[([^\]]*)\]", manifest)
    left_out = {target / name for name in re.findall(r'"([^"]+)"', excluded)}
    assert all(path.is_file() for path in left_out)
    paths = [f"-I{target / folder}" for folder in re.findall(r'headerSearchPath\("([^"]+)"\)', manifest)]
    defines = [f"-D{name}={value}" for name, value in re.findall(r'define\("(\w+)", to: "(\w+)"\)', manifest)]
    (flags,) = re.findall(r"unsafeFlags\(\[([^\]]*)\]", manifest)
    options = ["-target", "aarch64-macos", *WARNINGS, *paths, *defines, *re.findall(r'"([^"]+)"', flags), f"-I{target / 'include'}"]
    compiled = sorted(path for path in target.rglob("*.c") if path not in left_out)
    assert len(compiled) >= 9
    for number, source in enumerate(compiled):
        subprocess.run([*zig(), *options, "-c", str(source), "-o", str(tmp_path / f"{number}.o")], check=True)
    (tmp_path / "uses.m").write_text(
        "@import CEdgeTse;\nint rate(void) { return edge_tse_model().rate_hz + (int)edge_tse_count().hops; }\n"
    )
    modules = [
        "-fmodules",
        f"-fmodule-map-file={target / 'include' / 'module.modulemap'}",
        f"-fmodules-cache-path={tmp_path / 'cache'}",
    ]
    command = [*zig(), "-target", "aarch64-macos", "-x", "objective-c", *modules, "-c", str(tmp_path / "uses.m")]
    subprocess.run([*command, "-o", str(tmp_path / "uses.o")], check=True)


def test_swift_calls_what_the_header_has() -> None:
    header = (IOS / "Sources" / "CEdgeTse" / "include" / "CEdgeTse.h").read_text()
    known = set(re.findall(r"\b(edge_tse_\w+)\(", header))
    called = set(re.findall(r"\b(edge_tse_\w+)\(", (IOS / "Sources" / "EdgeTse" / "EdgeTse.swift").read_text()))
    assert called <= known
    assert known - called == {"edge_tse_network"}
    fields = set(re.findall(r"\b(?:now|edge_tse_model\(\))\.(\w+)", (IOS / "Sources" / "EdgeTse" / "EdgeTse.swift").read_text()))
    assert all(re.search(rf"\b{name}\b", header) for name in fields)


def test_a_phone_gets_sources_and_a_model_file(run: Run, artifact: Artifact, tmp_path: Path) -> None:
    artifact.save(tmp_path / "a.etse")
    done = run("compile", tmp_path / "a.etse", "--target", "phone-arm64", "-o", tmp_path / "model.zip", "--json").json
    assert zipfile.is_zipfile(tmp_path / "model.zip"), done
