"""The plugins and the JACK client: in the hosts that are installed, sample for sample what `extract` gives, and in one of ours."""

from __future__ import annotations

import ctypes
import io
import os
import re
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, open_network
from edge_tse.extraction import extract_signal
from edge_tse.personalization import personalize
from firmware_bridge.build import LIBRARY, PLUGIN, zig
from firmware_bridge.codegen import generate, voice_patch
from firmware_bridge.plugin import BUNDLE, CLIENT, PLUGIN_FILE, pack_plugins, uri_of
from tests import graphs
from tests.command import Run
from tests.jack_server import Server, jack, play_through
from tests.speech import utterance

__all__ = ["jack"]

Float = NDArray[np.float32]

pytestmark = pytest.mark.slow
pytest.importorskip("ziglang", reason="compiling C needs ziglang: pip install '.[firmware]'")
soundfile = pytest.importorskip("soundfile", reason="sound files need soundfile: pip install '.[audio]'")
soxr = pytest.importorskip("soxr", reason="other rates need soxr: pip install '.[audio]'")

LATENCY = 128
"""Samples at the model's rate: a hop that fills, and the delay of the synthesis."""
STRENGTH, AMBIENT, BYPASS, REPORTED = range(4)
"""Controls by port."""
DEFAULTS = (1.0, -60.0, 0.0)


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return graphs.artifact(graphs.NANO, frames=4)


@pytest.fixture(scope="module")
def folder(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `edge-tse compile --target plugin` wrote, unpacked, with a voice beside the plugin."""
    unpacked = tmp_path_factory.mktemp("plugin")
    with zipfile.ZipFile(io.BytesIO(pack_plugins(artifact)[0])) as archive:
        archive.extractall(unpacked)
    (unpacked / CLIENT).chmod(0o755)
    (unpacked / BUNDLE / "voice.etsv").write_bytes(voice_patch(artifact, graphs.voice(artifact.voice_model)))
    return unpacked


@pytest.fixture(scope="module")
def mixture() -> Float:
    """``[2, n]`` of two talkers on the grid of 16 bits."""
    return on_grid(np.stack([utterance(talker, 0, 3.0, 16000) for talker in (1, 2)]))


def on_grid(signal_: Float) -> Float:
    mixed = signal_ + np.float32(0.5) * signal_[::-1]
    return (np.clip(np.rint(mixed * 32768), -32768, 32767) / 32768).astype(np.float32)


@pytest.fixture(scope="module")
def wanted(artifact: Artifact, mixture: Float) -> Float:
    """The talker by `extract`, as 16-bit integers ``[2, n]``."""
    return extracted(artifact, mixture)


def extracted(artifact: Artifact, mixture: Float, rate_hz: int = 16000) -> Float:
    own = personalize(artifact, graphs.voice(artifact.voice_model))
    found = extract_signal(mixture, rate_hz, Engine(own, open_network(own, "reference"))).signal
    return found if rate_hz != 16000 else (np.rint(found * 32768) / 32768).astype(np.float32)


def equal_but_late(got: Float, wanted: Float, late: int = LATENCY) -> None:
    """``[channels, n]`` on the grid of 16 bits: to the sample."""
    frames = min(got.shape[1] - late, wanted.shape[1])
    assert frames > 40000
    assert not got[:, : late // 2].any()  # from then on, the first hop sounds before it begins: the half of a window
    np.testing.assert_array_equal(got[:, late : late + frames], wanted[:, :frames])


class Host:
    """A host of LADSPA, as little of one as there can be."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.library.ladspa_descriptor.restype = ctypes.POINTER(Descriptor)

    @contextmanager
    def open(self, channels: int, rate_hz: int = 16000) -> Iterator[Instance]:
        descriptor = self.library.ladspa_descriptor(ctypes.c_ulong(channels - 1)).contents
        handle = descriptor.instantiate(ctypes.byref(descriptor), rate_hz)
        if not handle:
            raise OSError("no instance")
        try:
            yield Instance(descriptor, handle, channels)
        finally:
            descriptor.cleanup(handle)


class Descriptor(ctypes.Structure):
    _fields_ = (
        ("id", ctypes.c_ulong),
        ("label", ctypes.c_char_p),
        ("properties", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("maker", ctypes.c_char_p),
        ("copyright", ctypes.c_char_p),
        ("ports", ctypes.c_ulong),
        ("kinds", ctypes.c_void_p),
        ("names", ctypes.c_void_p),
        ("hints", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("instantiate", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong)),
        ("connect_port", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p)),
        ("activate", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("run", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ulong)),
        ("run_adding", ctypes.c_void_p),
        ("set_gain", ctypes.c_void_p),
        ("deactivate", ctypes.c_void_p),
        ("cleanup", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    )


@dataclass
class Instance:
    descriptor: Descriptor
    handle: int
    channels: int

    def __post_init__(self) -> None:
        self.controls = np.array([*DEFAULTS, 0.0], np.float32)
        for port in range(4):
            self.descriptor.connect_port(self.handle, port, self.controls[port:].ctypes.data)
        self.descriptor.activate(self.handle)

    def play(self, signal_: Float, blocks: Sequence[int] = (512,)) -> Float:
        """``[channels, n]`` in blocks of these lengths, in turn; in place, as hosts do."""
        out, at, turn = np.ascontiguousarray(signal_, np.float32).copy(), 0, 0
        while at < out.shape[1]:
            frames = min(blocks[turn % len(blocks)], out.shape[1] - at)
            for c in range(self.channels):
                for port in (4 + c, 4 + self.channels + c):
                    self.descriptor.connect_port(self.handle, port, out[c, at:].ctypes.data)
            self.descriptor.run(self.handle, frames)
            at, turn = at + frames, turn + 1
        return out


@pytest.fixture(scope="module")
def host(folder: Path) -> Host:
    return Host(folder / PLUGIN_FILE)


def needs(program: str, package: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install {package}")


@pytest.mark.parametrize(("channels", "label"), [(1, "edge_tse_mono"), (2, "edge_tse_stereo")])
def test_applyplugin_gives_what_extract_gives(
    folder: Path, artifact: Artifact, mixture: Float, tmp_path: Path, channels: int, label: str
) -> None:
    needs("applyplugin", "ladspa-sdk")
    soundfile.write(tmp_path / "in.wav", mixture[:channels].T, 16000, "PCM_16")
    command = ["applyplugin", "in.wav", "out.wav", folder / PLUGIN_FILE, label, *map(str, DEFAULTS)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    got, _ = soundfile.read(tmp_path / "out.wav", dtype="int16", always_2d=True)
    equal_but_late((got.T / np.float32(32768)).astype(np.float32), extracted(artifact, mixture[:channels]))


@pytest.mark.parametrize(("program", "package"), [("lv2apply", "lilv-utils"), ("lv2proc", "lv2proc")])
@pytest.mark.parametrize("channels", [1, 2])
def test_hosts_of_lv2_give_what_extract_gives(
    folder: Path, artifact: Artifact, mixture: Float, tmp_path: Path, program: str, package: str, channels: int
) -> None:
    needs(program, package)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / BUNDLE).symlink_to(folder / BUNDLE)
    soundfile.write(tmp_path / "in.wav", mixture[:channels].T, 16000, "FLOAT")
    environment = os.environ | {"LV2_PATH": f"{tmp_path / 'plugins'}:/usr/lib/lv2"}
    name = f"{uri_of(artifact)}:{['mono', 'stereo'][channels - 1]}"
    options = ["--with-latency"] if program == "lv2proc" else []
    command = [program, *options, "-i", "in.wav", "-o", "out.wav", name]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    got, _ = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    equal_but_late(got.T, extracted(artifact, mixture[:channels]))


def test_the_bundle_is_valid(folder: Path) -> None:
    needs("sord_validate", "sordi")
    needs("lv2_validate", "lv2-dev")
    done = subprocess.run(["lv2_validate", *sorted((folder / BUNDLE).glob("*.ttl"))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Found 0 errors" in done.stdout + done.stderr


@pytest.mark.parametrize("blocks", [(1,), (64,), (7, 100, 1), (5000,)])
def test_any_block_length_gives_the_same(host: Host, mixture: Float, wanted: Float, blocks: Sequence[int]) -> None:
    with host.open(2) as instance:
        equal_but_late(instance.play(mixture, blocks), wanted)
        assert instance.controls[REPORTED] == LATENCY


def test_starting_again_forgets_the_past(host: Host, mixture: Float, wanted: Float) -> None:
    with host.open(2) as instance:
        instance.play(mixture[:, :5001])
        instance.descriptor.activate(instance.handle)
        equal_but_late(instance.play(mixture), wanted)


def test_levels_mix_talker_and_room(host: Host, mixture: Float, wanted: Float) -> None:
    """Bypass to the bit; strength and room as the sum that they are."""
    with host.open(2) as instance:
        instance.controls[BYPASS] = 1
        equal_but_late(instance.play(mixture), mixture)
    late = mixture[:, : wanted.shape[1] - LATENCY]
    talker = wanted[:, : late.shape[1]]
    with host.open(2) as instance:
        instance.controls[[STRENGTH, AMBIENT]] = 0.75, -20.0
        got = instance.play(mixture)[:, LATENCY:]
        np.testing.assert_allclose(got, 0.75 * talker + (0.25 + 0.1) * late, atol=1e-6)
        # From one level to the other over 10 ms, without a step: then to the bit.
        instance.controls[[STRENGTH, AMBIENT]] = 1.0, -60.0
        again = instance.play(np.zeros((2, 2000), np.float32))
        assert np.abs(np.diff(again[:, LATENCY + 1024 :], axis=1)).max() < 0.01
    with host.open(2) as instance:
        instance.controls[[STRENGTH, AMBIENT]] = 9.0, np.nan
        equal_but_late(instance.play(mixture), wanted)


def test_what_is_no_number_is_silence(host: Host, mixture: Float, wanted: Float) -> None:
    broken = mixture.copy()
    broken[:, 47000:47010] = [[np.nan], [np.inf]]
    with host.open(2) as instance:
        got = instance.play(broken)
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got[:, LATENCY:46000], wanted[:, : 46000 - LATENCY])


@pytest.mark.parametrize("rate_hz", [8000, 22050, 44100, 48000, 96000, 192000])
def test_at_other_rates_the_talker_comes_when_stated(host: Host, artifact: Artifact, mixture: Float, rate_hz: int) -> None:
    """Against `extract`, whose resampler is another's: below 3.5 kHz they differ by far less than there is of the talker."""
    sound = soxr.resample(mixture.T, 16000, rate_hz, quality="VHQ").T.astype(np.float32)
    with host.open(2, rate_hz) as instance:
        got = instance.play(sound, (64, 480, 1))
        late = int(instance.controls[REPORTED])
        instance.controls[BYPASS] = 1
        instance.descriptor.activate(instance.handle)
        np.testing.assert_array_equal(instance.play(sound)[:, late:], sound[:, : sound.shape[1] - late])
    # 8 ms of the model and 1.5 ms for each way of resampling, more below its rate.
    assert late == pytest.approx(rate_hz * (0.008 + 2 * 0.0015 * max(1, 16000 / rate_hz)), abs=1)
    # Hops begin where they begin in the plugin, behind its first filter.
    before = int(np.ceil(24 * max(1, rate_hz / 16000)))
    due = extracted(artifact, np.pad(sound, ((0, 0), (before, 0))), rate_hz)[:, before:]
    frames = got.shape[1] - late
    spectrum, error = (np.fft.rfft(x, axis=1) for x in (due[:, :frames], got[:, late:] - due[:, :frames]))
    low = np.arange(spectrum.shape[1]) * rate_hz / frames < 3500
    apart_db = 20 * np.log10(np.linalg.norm(spectrum[:, low]) / np.linalg.norm(error[:, low]))
    assert apart_db > 30, f"{rate_hz} Hz: {apart_db:.1f} dB, late {late}"


def test_instances_do_not_disturb_each_other(host: Host, mixture: Float, wanted: Float) -> None:
    """Each has a memory of its own; the plugin's own is given again when its instance is closed."""
    with host.open(2) as first, host.open(1, 48000), host.open(2) as third:
        parts: list[list[Float]] = [[], []]
        for at in range(0, mixture.shape[1], 1000):
            parts[0].append(first.play(mixture[:, at : at + 1000]))
            parts[1].append(third.play(mixture[::-1, at : at + 1000] * 0.5))
        equal_but_late(np.concatenate(parts[0], axis=1), wanted)
        assert np.abs(np.concatenate(parts[1], axis=1)).max() > 0.01
        with host.open(2) as fourth:
            equal_but_late(fourth.play(mixture), wanted)
    with host.open(2) as again:
        equal_but_late(again.play(mixture), wanted)


def test_refusals_are_one_line(host: Host, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: object) -> None:
    """There is no voice, it is none, the rate is none: no instance, and a line that says so."""
    assert isinstance(capfd, pytest.CaptureFixture)
    lonely = tmp_path / "edge-tse.so"
    lonely.write_bytes((folder / PLUGIN_FILE).read_bytes())
    short = tmp_path / "short.etsv"
    short.write_bytes((folder / BUNDLE / "voice.etsv").read_bytes()[:-1])

    def refused(opened: Host, rate_hz: int = 16000) -> str:
        with pytest.raises(OSError, match="no instance"), opened.open(1, rate_hz):
            pass
        (line,) = capfd.readouterr().err.splitlines()
        return str(line)

    assert "set EDGE_TSE_VOICE" in refused(Host(lonely))
    assert "8 to 384 kHz" in refused(host, 4000)
    monkeypatch.setenv("EDGE_TSE_VOICE", str(short))
    # Of the process, and not of a snapshot that Python took of it.
    assert f"{short}: the voice patch is malformed" in refused(host)
    monkeypatch.setenv("EDGE_TSE_VOICE", str(tmp_path / "nothing"))
    assert "cannot be read" in refused(host)
    monkeypatch.setenv("EDGE_TSE_VOICE", str(folder / BUNDLE / "voice.etsv"))
    with Host(lonely).open(1):  # nothing was kept of what was refused
        pass


COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ladspa_abi.h"

/* Found before the system's: whatever the plugin asks for during run is counted. */
static long counted;
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);
void *malloc(size_t n) { counted++; return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { counted++; return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { counted++; return __libc_realloc(p, n); }
void free(void *p) { counted++; __libc_free(p); }
int pthread_mutex_lock(pthread_mutex_t *m) { (void)m; counted++; return 0; }

int main(int count, char **words) {
    static float controls[4] = {1.0f, -60.0f, 0.0f, 0.0f}, sound[4][480];
    (void)count;
    void *const library = dlopen(words[1], RTLD_NOW);
    const LADSPA_Descriptor *(*get)(unsigned long);
    *(void **)&get = dlsym(library, "ladspa_descriptor");
    const LADSPA_Descriptor *const plugin = get(1);
    void *const instance = plugin->instantiate(plugin, strtoul(words[2], NULL, 10));
    const long opened = counted;
    for (unsigned long port = 0; port < 8; port++)
        plugin->connect_port(instance, port, port < 4 ? controls + port : sound[port - 4]);
    plugin->activate(instance);
    counted = 0;
    for (int block = 0; block < 500; block++) {
        for (int i = 0; i < 960; i++)
            sound[i / 480][i % 480] = (float)((block * 7919 + i * 104729) % 65536) / 131072.0f;
        controls[0] = (float)(block % 3) / 2.0f;
        controls[1] = (float)(block % 80) - 60.0f;
        controls[2] = (float)(block % 50 == 0);
        plugin->run(instance, 480);
    }
    const long during = counted;
    plugin->cleanup(instance);
    printf("%d %ld\n", opened > 0, during);
    return 0;
}
"""


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_run_neither_allocates_nor_locks(folder: Path, tmp_path: Path, rate_hz: int) -> None:
    (tmp_path / "counter.c").write_text(COUNTER)
    flags = ("-std=c11", "-O1", "-fno-builtin", "-fno-sanitize=undefined", f"-I{PLUGIN}", "-rdynamic", "-ldl")
    subprocess.run([*zig(), tmp_path / "counter.c", *flags, "-o", tmp_path / "counter"], check=True)
    done = subprocess.run(
        [tmp_path / "counter", folder / PLUGIN_FILE, str(rate_hz)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "1 0\n"  # it counts: opening allocates


LADSPA_FIELDS = (
    *("UniqueID", "Label", "Properties", "Name", "Maker", "Copyright", "PortCount", "PortDescriptors", "PortNames"),
    *("PortRangeHints", "ImplementationData", "instantiate", "connect_port", "activate", "run", "run_adding"),
    *("set_run_adding_gain", "deactivate", "cleanup"),
)
LV2_FIELDS = ("URI", "instantiate", "connect_port", "activate", "run", "deactivate", "cleanup", "extension_data")


@pytest.mark.parametrize(
    ("ours", "theirs", "descriptor", "fields", "package"),
    [
        ("ladspa_abi.h", "ladspa.h", "LADSPA_Descriptor", LADSPA_FIELDS, "ladspa-sdk"),
        ("lv2_abi.h", "lv2/core/lv2.h", "LV2_Descriptor", LV2_FIELDS, "lv2-dev"),
    ],
)
def test_the_interface_is_the_published_one(
    tmp_path: Path, ours: str, theirs: str, descriptor: str, fields: Sequence[str], package: str
) -> None:
    """Sizes, places and numbers, printed from their header and from ours."""
    if not (Path("/usr/include") / theirs).is_file():
        pytest.skip(f"{theirs} is not installed: apt-get install {package}")
    numbers = sorted(set(re.findall(r"\b(LADSPA_[A-Z0-9_]+) = ", (PLUGIN / ours).read_text()))) if "ladspa" in ours else []
    numbers += re.findall(r"^    (LADSPA_HINT_\w+) =", (PLUGIN / ours).read_text(), re.MULTILINE)
    printed = []
    for header in (f'"{ours}"', f"<{theirs}>"):
        lines = [f'printf("%zu\\n", offsetof({descriptor}, {name}));' for name in fields]
        lines += [f'printf("%d\\n", (int){name});' for name in numbers]
        lines.append(f'printf("%zu\\n", sizeof({descriptor}));')
        body = f"#include <stddef.h>\n#include <stdio.h>\n#include {header}\nint main(void) {{ {' '.join(lines)} return 0; }}\n"
        (tmp_path / "print.c").write_text(body)
        include = (f"-I{PLUGIN}", "-isystem", "/usr/include", "-isystem", "/usr/include/x86_64-linux-gnu")
        subprocess.run([shutil.which("cc") or "cc", tmp_path / "print.c", *include[:1], "-o", tmp_path / "print"], check=True)
        printed.append(subprocess.run([tmp_path / "print"], capture_output=True, text=True, check=True).stdout)
    assert printed[0] == printed[1]


def test_static_analysis_finds_nothing(artifact: Artifact, tmp_path: Path) -> None:
    needs("cppcheck", "cppcheck")
    for name, text in generate(artifact).items():
        (tmp_path / name).write_text(text)
    checks = (
        "--std=c11",
        "--enable=warning,performance,portability,style",
        "--error-exitcode=1",
        "--suppress=missingIncludeSystem",
    )
    include = (f"-I{tmp_path}", f"-I{LIBRARY}", f"-I{PLUGIN}", '-DETSE_URI="urn"')
    done = subprocess.run(["cppcheck", "-q", *checks, *include, *PLUGIN.glob("*.c")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_folded_voice_needs_no_file_and_has_names_of_its_own(
    run: Run, artifact: Artifact, mixture: Float, wanted: Float, tmp_path: Path
) -> None:
    """As a user makes it, for one talker."""
    from edge_tse.voice import save_voice

    artifact.save(tmp_path / "model.etse")
    save_voice(graphs.voice(artifact.voice_model), tmp_path / "a.voice")
    to = tmp_path / "a.zip"
    done = run("compile", tmp_path / "model.etse", "--target", "plugin", "--voice", tmp_path / "a.voice", "-o", to, "--json")
    assert done.json["replayed"]["what"] == "the plugin itself"
    assert done.json["replayed"]["worst_lsb"] == 0
    with zipfile.ZipFile(to) as archive:
        archive.extractall(tmp_path / "a")
        assert archive.getinfo(CLIENT).external_attr >> 16 == 0o100755
    own = personalize(artifact, graphs.voice(artifact.voice_model))
    assert f"<{uri_of(own)}:stereo>" in (tmp_path / "a" / BUNDLE / "manifest.ttl").read_text()
    assert uri_of(own) != uri_of(artifact) == "urn:edge-tse"
    with Host(tmp_path / "a" / PLUGIN_FILE).open(2) as instance:
        equal_but_late(instance.play(mixture), wanted)


def test_the_command_writes_a_patch_beside_a_plugin(run: Run, artifact: Artifact, folder: Path, tmp_path: Path) -> None:
    from edge_tse.voice import save_voice

    artifact.save(tmp_path / "model.etse")
    save_voice(graphs.voice(artifact.voice_model), tmp_path / "a.voice")
    to, patch = tmp_path / "any.zip", tmp_path / "a.etsv"
    voice = ("--voice", tmp_path / "a.voice", "--patch", patch)
    done = run("compile", tmp_path / "model.etse", "--target", "plugin", *voice, "-o", to, "--json")
    assert done.json["personalized"] is False
    assert patch.read_bytes() == (folder / BUNDLE / "voice.etsv").read_bytes()


@pytest.mark.alone
def test_the_jack_client_is_extract_late_by_what_it_says(jack: Server, folder: Path, artifact: Artifact, mixture: Float) -> None:
    quiet = np.pad(mixture, ((0, 0), (16000, 0)))
    app = client(jack, folder)
    ports = subprocess.run(["jack_lsp", "edge-tse"], env=jack.environment, capture_output=True, text=True, check=True).stdout
    assert set(ports.split()) == {f"edge-tse:{side}_{end}" for side in ("left", "right") for end in ("in", "out")}
    recorded = play_through(jack, folder, quiet, 5, "edge-tse")
    app.send_signal(signal.SIGINT)
    out, err = app.communicate(timeout=20)
    assert (app.returncode, err) == (0, "")
    assert out == f"edge-tse: 16000 Hz, latency {LATENCY} frames\n"
    due = extracted(artifact, quiet)
    # A period of 64 frames from the harness and one back to it, as the graph has a cycle.
    begin = int(np.flatnonzero(recorded.any(axis=0))[0]) - int(np.flatnonzero(due.any(axis=0))[0])
    assert LATENCY <= begin <= LATENCY + 128
    equal_but_late(recorded[:, begin - LATENCY :], due)


@pytest.mark.alone
def test_a_jack_server_that_dies_is_one_line(jack: Server, folder: Path) -> None:
    app = client(jack, folder)
    jack.process.terminate()
    _, err = app.communicate(timeout=20)
    assert app.returncode == 2
    assert "edge-tse-jack: JACK: the server is gone" in err


def test_the_jack_client_says_what_is_wrong(folder: Path) -> None:
    for arguments, said in (
        ((), "no voice: give --voice"),
        (("--strength", "much"), "--strength: edge-tse-jack [--voice"),
        (("--nothing",), "--nothing: edge-tse-jack [--voice"),
        (("--voice",), "--voice: edge-tse-jack [--voice"),
    ):
        done = subprocess.run([folder / CLIENT, *arguments], capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode == 2
        assert said in done.stderr


def client(server: Server, folder: Path) -> subprocess.Popen[str]:
    """The client, with its ports."""
    command = [str(folder / CLIENT), "--voice", str(folder / BUNDLE / "voice.etsv")]
    app = subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    server.apps.append(app)
    for _ in range(200):
        found = subprocess.run(["jack_lsp"], env=server.environment, capture_output=True, text=True, check=False).stdout
        if "edge-tse:right_out" in found:
            time.sleep(0.2)
            return app
        time.sleep(0.05)
    raise AssertionError("no client came")
