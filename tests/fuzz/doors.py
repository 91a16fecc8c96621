"""Every place where something from outside comes in: what it reads, and hostile versions of that.

A door is given what it must survive: it gives a value, or an :class:`EdgeTseError`. Everything else that it raises is a finding.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import resource
import struct
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.cli import main
from edge_tse.embeddings import read_embeddings
from edge_tse.engines import Engine, open_network
from edge_tse.errors import EdgeTseError
from edge_tse.hearing.calibration import UNCALIBRATED, load_calibration, save_calibration
from edge_tse.hearing.chain import Chain, Hearing, load_hearing
from edge_tse.hearing.prescription import Audiogram
from edge_tse.live.loop import Loop
from edge_tse.live.recording import Recorder
from edge_tse.live.session import Session
from edge_tse.personalization import personalize, universal
from edge_tse.profiling.profile import compare, load_profile
from edge_tse.reference import ReferenceNetwork
from edge_tse.voice import Voice, load_voice, save_voice
from firmware_bridge import image as images
from firmware_bridge import wire
from firmware_bridge.codegen import generate, voice_patch
from firmware_bridge.device import Device, DeviceEngine, DeviceNetwork, stats_figures
from firmware_bridge.elf import read_sections, read_symbols
from firmware_bridge.flash import RECORD_BYTES, Slots, choose, image_in, install, installed_image
from firmware_bridge.flash_memory import MemoryFlash
from firmware_bridge.layout import pack
from tests import graphs
from tests.fuzz.mutation import hostile_bytes, hostile_json, hostile_toml, hostile_tree

__all__ = ["DOORS", "Door"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Door:
    """``make(rng)`` gives something hostile, ``enter`` reads it (the bytes, and a folder of its own)."""

    name: str
    make: Callable[[Random], bytes]
    enter: Callable[[bytes, Path], object]

    def survives(self, content: bytes) -> bool:
        """Whether it was taken (True) or refused (False); whatever else is raised is the finding."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.enter(content, Path(folder))
            except EdgeTseError as failure:
                text = str(failure)
                assert text.strip(), "an error without words"
                assert len(text) < 2000, f"{len(text)} characters are no line: {text[:200]}"
                return False
        return True


def _file(content: bytes, folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _verb(*arguments: object) -> None:
    """A verb as people run it: 0, or 2 with one line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in arguments])
    assert code in (0, 2), (code, err.getvalue())
    said = [line for line in err.getvalue().splitlines() if "warning" not in line]
    if code == 2:
        assert len(said) == 1, said
        raise EdgeTseError(said[0])


# Sound

_FORMATS = (
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("WAV", "ULAW"), ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("NIST", "PCM_16"), ("VOC", "PCM_16"), ("PAF", "PCM_16"),
    ("IRCAM", "PCM_16"), ("SVX", "PCM_16"), ("WAV", "G721_32"), ("WAV", "NMS_ADPCM_32"),
)  # fmt: skip


@cache
def _sounds() -> tuple[bytes, ...]:
    tone = (0.3 * np.sin(np.arange(3200) * 0.3)).astype(np.float32)
    out = []
    for container, subtype in _FORMATS:
        content = io.BytesIO()
        soundfile.write(content, tone, 16000, format=container, subtype=subtype)
        out.append(content.getvalue())
    return tuple(out)


def _sound(rng: Random) -> bytes:
    return hostile_bytes(rng.choice(_sounds()), rng)


def _hear(content: bytes, folder: Path) -> None:
    audio.read(_file(content, folder, "x.wav"))


# Models


@cache
def _artifact() -> Artifact:
    return graphs.artifact(graphs.TINY)


@cache
def _parts() -> tuple[dict[str, Any], bytes]:
    """Header and arrays of the artifact's file."""
    payload = _artifact().to_bytes()[56:]
    (length,) = struct.unpack_from("<Q", payload)
    return json.loads(payload[8 : 8 + length]), payload[8 + length :]


def _sealed(header: bytes, arrays: bytes) -> bytes:
    """With a right digest: damage that somebody meant."""
    payload = struct.pack("<Q", len(header)) + header + arrays
    digest = hashlib.sha256(struct.pack("<QQ", 1, len(payload)) + payload).digest()
    return struct.pack("<8sQ32sQ", b"edge-tse", 1, digest, len(payload)) + payload


def _model(rng: Random) -> bytes:
    header, arrays = _parts()
    match rng.randrange(6):
        case 0:
            return hostile_bytes(_artifact().to_bytes(), rng)
        case 1:
            return _sealed(json.dumps(header).encode(), hostile_bytes(arrays, rng))
        case 2:  # the shapes and types of the arrays alone
            return _sealed(hostile_json({**header, "arrays": hostile_tree(header["arrays"], rng)}, rng).encode(), arrays)
        case 3:
            return _sealed(json.dumps({**header, "graph": hostile_tree(header["graph"], rng)}).encode(), arrays)
        case 4:
            return _sealed(json.dumps({**header, "frame": hostile_tree(header["frame"], rng)}).encode(), arrays)
        case _:
            return _sealed(hostile_json(header, rng).encode("utf-8", "surrogatepass"), arrays)


def _load_model(content: bytes, folder: Path) -> None:
    model = Artifact.load(_file(content, folder, "x.etse"))
    rng = np.random.default_rng(0)
    ReferenceNetwork(model.graph).run(model.golden.features[0])
    voice_model = model.voice_model
    embedding = voice_model.describe(rng.normal(size=(60, model.frame.bands)).astype(np.float32))
    voice = Voice(embedding=embedding, encoder_digest=voice_model.encoder_digest, created="", source="")
    model.to_bytes()
    with contextlib.suppress(EdgeTseError):
        personalize(model, voice).to_bytes()
    with contextlib.suppress(EdgeTseError):
        universal(model, voice)
    generate(model)


# Voices, embeddings


@cache
def _voice() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_voice(graphs.voice(_artifact().voice_model), Path(folder) / "v")
        return (Path(folder) / "v").read_bytes()


def _voice_file(rng: Random) -> bytes:
    if rng.random() < 0.5:
        return hostile_bytes(_voice(), rng)
    return hostile_json(json.loads(_voice()), rng).encode("utf-8", "surrogatepass")


def _load_voice(content: bytes, folder: Path) -> None:
    personalize(_artifact(), load_voice(_file(content, folder, "x.voice")))


@cache
def _embeddings() -> tuple[bytes, ...]:
    row = np.random.default_rng(0).normal(size=128).astype(np.float32)
    out = []
    for array in (row, np.stack([row, row]), row.astype(np.float64)):
        content = io.BytesIO()
        np.save(content, array)
        out.append(content.getvalue())
    for save in (np.savez, np.savez_compressed):
        content = io.BytesIO()
        save(content, a=row, b=row)
        out.append(content.getvalue())
    return tuple(out)


def _embedding(rng: Random) -> bytes:
    content = rng.choice(_embeddings())
    if content.startswith(b"\x93NUMPY") and rng.random() < 0.6:
        head = content[10 : 10 + struct.unpack_from("<H", content, 8)[0]].decode()
        swaps = [("128", rng.choice(("0", "-1", "9" * 40, "999999999999999", "1" * 5000, "True", "1.5", "(1,)", "'x'", "2, 64")))]
        swaps += [("<f4", rng.choice(("|O", "<U9", "<f2", "<c16", "|V8", "<M8[s]", "<i8", "<f16", ">f4", "|b1", "x", "<f4,<f4")))]
        swaps += [("False", rng.choice(("True", "1", "None", "[" * 300 + "]" * 300)))]
        old, new = rng.choice(swaps)
        head = head.replace(old, new)
        content = content[:8] + struct.pack("<H", len(head) % 2**16) + head.encode() + content[10 + 118 :]
    elif not content.startswith(b"\x93NUMPY") and rng.random() < 0.4:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as file:
            for i in range(rng.randint(0, 3)):
                file.writestr(f"{i}" + rng.choice((".npy", "", "/x.npy")), _embedding(rng))
        return made.getvalue()
    return hostile_bytes(content, rng) if rng.random() < 0.7 else content


def _load_embedding(content: bytes, folder: Path) -> None:
    read_embeddings(_file(content, folder, "x.npy"))


# Recordings


@cache
def _recording() -> tuple[np.ndarray, dict[str, Any]]:
    """Rows and head of a short session."""
    model = personalize(_artifact(), graphs.voice(_artifact().voice_model))
    loop = Loop(rate_hz=model.frame.sample_rate_hz, ears=1, block=64, steady=False)
    hearing = Hearing(left=Audiogram(thresholds=((500, 30), (4000, 60))), right=Audiogram(thresholds=((500, 30),)), ambient_db=-20)
    voice = _voice()
    head = {
        "engine": "reference",
        "artifact": model.digest,
        "voice": voice.decode(),
        "voice_digest": hashlib.sha256(voice).hexdigest(),
        "hearing": asdict(hearing),
        "calibration": asdict(UNCALIBRATED),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.flac"
        recorder = Recorder(path, head, loop, model.frame, print)
        session = Session(Engine(model, open_network(model, "reference")), loop, shape=Chain(hearing, model.frame, 1), tap=recorder)
        sound = 0.1 * np.random.default_rng(0).normal(size=(1280, 1)).astype(np.float32)
        out = np.zeros_like(sound)
        for at in range(0, len(sound), 64):
            session.exchange(sound[at : at + 64], out[at : at + 64])
            if at != 640:
                session.work()
        recorder.close()
        stored = audio.StoredIntegers(path)
        return np.concatenate(list(stored.blocks())), json.loads(stored.comment)


def _flac(rows: np.ndarray, comment: str, rate_hz: int = 16000) -> bytes:
    content = io.BytesIO()
    with audio.flac_writer(content, rate_hz, rows.shape[1], comment) as file:
        file.write((rows << 8).astype(np.int32))
    return content.getvalue()


def _session(rng: Random) -> bytes:
    rows, head = _recording()
    match rng.randrange(4):
        case 0:
            return hostile_bytes(_flac(rows, json.dumps(head)), rng)
        case 1:
            rows = rows.copy()
            for _ in range(rng.randint(1, 8)):
                at = rng.randrange(len(rows))
                rows[at, -1] = rng.choice((0, 1, 2, 3, 4, 5, 7, -1, 2**23 - 1, -(2**23), rng.randrange(2**23)))
            return _flac(rows[: rng.choice((0, 1, 64, len(rows)))] if rng.random() < 0.3 else rows, json.dumps(head))
        case 2:
            key = rng.choice(("loop", "hearing", "calibration"))
            text = json.dumps({**head, key: hostile_tree(head[key], rng)})
        case _:
            text = hostile_json(head, rng)
    return _flac(rows, text.encode("utf-8", "replace").decode().replace("\0", ""))


def _replay(content: bytes, folder: Path) -> None:
    artifact, voice = folder / "m.etse", _file(_voice(), folder, "v.voice")
    _artifact().save(artifact)
    given = ["--voice", voice] if _replay_takes_a_voice() else []
    _verb("replay", _file(content, folder, "s.flac"), "--artifact", artifact, "--engine", "reference", *given)


@cache
def _replay_takes_a_voice() -> bool:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main(["replay", "--help"])
    return "--voice" in out.getvalue()


# What people write


@cache
def _tomls() -> dict[str, tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        save_calibration(UNCALIBRATED, Path(folder) / "c")
        calibration = (Path(folder) / "c").read_text()
    hearing = (
        "[left]\n500 = 30\n1000 = 40.5\n[right]\n500 = 20\n4000 = 60\n"
        "[chain]\nambient_db = -20\ncompression = true\nalarm_db = -6\nmax_output_db_spl = 95.0\n"
    )
    foreign = (
        'name = "m"\nsource = "here"\nsample_rate_hz = 16000\nhop = 64\nalgorithmic_latency = 128\n'
        '[[stages]]\nfile = "m.onnx"\nstates = [["a", "b"]]\n'
    )
    boards = tuple((ROOT / "targets" / "boards" / f"{name}.toml").read_text() for name in ("apollo510", "host", "ethos-u55-128"))
    return {"calibration": (calibration,), "hearing": (hearing, "[both]\n500 = 30\n"), "foreign": (foreign,), "target": boards}


def _toml(kind: str) -> Callable[[Random], bytes]:
    return lambda rng: hostile_toml(rng.choice(_tomls()[kind]), rng)


def _hearing(content: bytes, folder: Path) -> None:
    Chain(load_hearing(_file(content, folder, "h.toml")), _artifact().frame, 2)


def _calibration(content: bytes, folder: Path) -> None:
    found = load_calibration(_file(content, folder, "c.toml"))
    Chain(Hearing(), _artifact().frame, 2, found)
    save_calibration(found, folder / "again.toml")
    load_calibration(folder / "again.toml")


def _foreign(content: bytes, folder: Path) -> None:
    from edge_tse.engines.foreign import load_foreign

    (folder / "m.onnx").write_bytes(b"x")
    model = load_foreign(_file(content, folder, "f.toml"))
    assert model.period_s > 0
    assert model.file_bytes >= 0


def _target(content: bytes, folder: Path) -> None:
    from edge_tse.deployment.fit import fits
    from edge_tse.deployment.target import load_target

    path = _file(content, folder, "b.toml")
    fits(load_target(str(path)), _artifact()).figures()
    _verb("targets", path)
    _verb("targets", path, "--json")


def _trials(rng: Random) -> bytes:
    rows = [
        "id,mixture,enrollment,target,interferer,condition,sexes",
        "1,a.wav,a.wav;b.wav,a.wav,b.wav,x,f;m",
        "2,a.wav,b.wav,,,y,",
    ]
    if rng.random() < 0.5:
        cells = [row.split(",") for row in rows]
        for _ in range(rng.randint(1, 4)):
            row = rng.choice(cells)
            row[rng.randrange(len(row))] = rng.choice(
                ("", ";", "x" * 300, "x" * 200_000, "\0", '"', "..", "/", "a.wav;a.wav", "\ud800", "a.wav\r", "id")
            )
        return "\n".join(",".join(row) for row in cells).encode("utf-8", "surrogatepass")
    return hostile_bytes("\n".join(rows).encode(), rng)


def _read_trials(content: bytes, folder: Path) -> None:
    from quantization.trial_list import read_trials

    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(b"x")
    read_trials(_file(content, folder, "t.csv"))


@cache
def _profiled() -> dict[str, Any]:
    part = {"p50_ms": 0.1, "p90_ms": 0.2, "p99_ms": 0.3, "max_ms": 0.4}
    figures = {
        "engine": "x", "artifact": "0" * 64, "ears": 2, "step": part, "front_end": part, "network": part, "marshalling": None,
        "inference": {"p50_ms": 0.1}, "memory": {"peak_rss_bytes": 1000, "state_bytes": 10}, "model": {"macs_per_hop": 5},
    }  # fmt: skip
    return {"question": "Where does a step go?", "figures": figures, "environment": {"cpu": "x", "machine": "y", "python": "3"}}


def _profile(rng: Random) -> bytes:
    if rng.random() < 0.7:
        return hostile_json(_profiled(), rng).encode("utf-8", "surrogatepass")
    return hostile_bytes(json.dumps(_profiled()).encode(), rng)


def _compare(content: bytes, folder: Path) -> None:
    compare(load_profile(_file(content, folder, "p.json")), _profiled())


# Checkpoints


@cache
def _checkpoint() -> tuple[bytes, dict[str, Any]]:
    """The small model's, and what is in it."""
    import torch

    state = torch.load(ROOT / "quantization" / "checkpoints" / "nano.pt", map_location="cpu", weights_only=True)
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue(), state


def _weights(rng: Random) -> bytes:
    import torch

    content, state = _checkpoint()
    if rng.random() < 0.4:
        return hostile_bytes(content, rng)
    state = dict(state)
    made = io.BytesIO()
    match rng.randrange(4):
        case 0:
            key = rng.choice(list(state))
            state[key] = rng.choice((None, "x", -1, 2**70, [], {}, float("nan"), {"x": 1}, torch.zeros(3), True))
        case 1:
            del state[rng.choice(list(state))]
        case 2:
            part = rng.choice([k for k in ("student", "encoder") if isinstance(state.get(k), dict)])
            weights = dict(state[part])
            name = rng.choice(list(weights))
            weights[name] = rng.choice(
                (
                    None,
                    "x",
                    1,
                    torch.zeros(3),
                    weights[name].double(),
                    weights[name] * float("nan"),
                    weights[name].to(torch.int8),
                    torch.zeros(0),
                )
            )
            state[part] = weights
        case _:
            pickle.dump(rng.choice((1, [], {"x": 1}, "x", None)), made)
            return made.getvalue()
    torch.save(state, made)
    return made.getvalue()


def _load_weights(content: bytes, folder: Path) -> None:
    from quantization.checkpoint import load_checkpoint

    found = load_checkpoint(_file(content, folder, "c.pt"))
    assert isinstance(found.digest, str)


# Firmware


@cache
def _elves() -> tuple[bytes, ...]:
    """An object file of this machine, and a small one of 32 bits written by hand."""
    out = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "x.c"
        source.write_text("int counted[30] = {1}; int twice(int x) { return 2 * x + counted[3]; } int room[99];\n")
        from tests.board import compiler

        subprocess.run([*compiler(), "-c", str(source), "-o", str(source.with_suffix(".o"))], check=True)
        out.append(source.with_suffix(".o").read_bytes())
    names = b"\0.text\0.symtab\0.strtab\0main\0"
    code, symbols = bytes(16), struct.pack("<IIIBBH", 0, 0, 0, 0, 0, 0) + struct.pack("<IIIBBH", 23, 1, 8, 2, 0, 1)
    offset = 52
    parts = [(1, 1, 6, code, 0), (7, 2, 0, symbols, 3), (15, 3, 0, names, 0)]
    rows, body = [struct.pack("<10I", *[0] * 10)], b""
    for name, kind, flags, content, link in parts:
        rows.append(struct.pack("<10I", name, kind, flags, 0x8000, offset + len(body), len(content), link, 0, 4, 16))
        body += content
    head = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIIIIIHHHHHH", 2, 40, 1, 0x8001, 0, offset + len(body), 0, 52, 0, 0, 40, 4, 3
    )
    out.append(head + body + b"".join(rows))
    return tuple(out)


def _elf(rng: Random) -> bytes:
    content = bytearray(rng.choice(_elves()))
    wide = content[4] == 2
    table, size, count = (
        (struct.unpack_from("<Q", content, 40)[0], 64, 60) if wide else (struct.unpack_from("<I", content, 32)[0], 40, 48)
    )
    if rng.random() < 0.7:
        sections = struct.unpack_from("<H", content, count)[0]
        for _ in range(rng.randint(1, 3)):
            at = table + rng.randrange(sections * size // 4) * 4
            struct.pack_into(
                "<I",
                content,
                min(at, len(content) - 4),
                rng.choice((0, 1, 2, 3, 8, 0xFF, 2**16, 2**31, 2**32 - 1, rng.randrange(2**32))),
            )
    return hostile_bytes(bytes(content), rng, 3) if rng.random() < 0.5 else bytes(content)


def _read_elf(content: bytes, folder: Path) -> None:
    path = _file(content, folder, "x.elf")
    with contextlib.suppress(EdgeTseError):
        read_symbols(path)
    read_sections(path)


@cache
def _image() -> bytes:
    return images.pack_image(images.make(bytes(range(256)), target="host", core="x", artifact_digest="ab" * 32))


def _image_file(rng: Random) -> bytes:
    content = bytearray(_image())
    if rng.random() < 0.5:
        return hostile_bytes(bytes(content), rng)
    head = len(content) - 256
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(head)] = rng.choice((0, 1, 0x80, 0xFF, rng.randrange(256)))
    covered = head - 96
    content[covered : covered + 32] = hashlib.sha256(bytes(content[:covered]) + bytes(content[head:])).digest()
    return bytes(content)


def _read_image(content: bytes, folder: Path) -> None:
    read = images.parse(content, "x.img")
    assert images.parse(images.pack_image(read)) == read


@cache
def _memory() -> bytes:
    flash = MemoryFlash(2**13, 256)
    for i in range(2):
        install(flash, Slots.of(flash), bytes([i + 1]) * 700)
    return bytes(flash.content)


def _records(rng: Random) -> bytes:
    import zlib

    content = bytearray(_memory())
    covered = RECORD_BYTES - 4
    for slot in Slots.of(MemoryFlash(2**13, 256)).at:
        if rng.random() < 0.7:
            field = slot + 4 * rng.randrange(RECORD_BYTES // 4)
            struct.pack_into("<I", content, field, rng.choice((0, 1, 700, 2**31, 2**32 - 1, rng.randrange(2**32))))
            if rng.random() < 0.7:
                struct.pack_into("<I", content, slot + covered, zlib.crc32(content[slot : slot + covered]))
    return bytes(content) if rng.random() < 0.7 else hostile_bytes(bytes(content), rng)[: 2**13].ljust(2**13, b"\xff")


def _boot(content: bytes, folder: Path) -> None:
    flash = MemoryFlash(2**13, 256, content)
    slots = Slots.of(flash)
    chosen = choose(flash, slots)
    image = installed_image(flash, slots)
    assert (chosen is None) == (image is None)
    assert image is None or len(image) <= slots.image_bytes
    slot = install(flash, slots, b"new" * 99)
    assert image_in(flash, slots, slot) == b"new" * 99


# The wire


class _Script:
    """A link whose board answers what a test wrote: payloads in order, in right frames."""

    name = "board"

    def __init__(self, answers: list[tuple[int, bytes]], raw: bytes) -> None:
        self._answers, self._raw, self._ready = answers, raw, b""
        self._decoder = wire.Decoder()

    def write(self, content: bytes) -> None:
        for frame in self._decoder.push(content):
            code, payload = self._answers.pop(0) if self._answers else (0xFF, b"\x10\0nothing")
            self._ready += self._raw + wire.encode(wire.Frame(code, frame.sequence, payload[: wire.MAX_PAYLOAD_BYTES]))

    def read(self, size: int, timeout_s: float) -> bytes:
        out, self._ready = self._ready[:size], self._ready[size:]
        return out

    def close(self) -> None: ...


@cache
def _hello() -> wire.Hello:
    model, frame = _artifact(), _artifact().frame
    return wire.Hello(
        protocol=wire.PROTOCOL, max_payload_bytes=wire.MAX_PAYLOAD_BYTES, capabilities=3, model=bytes.fromhex(model.digest)[:16],
        sample_rate_hz=frame.sample_rate_hz, hop=frame.hop, window=frame.window, synthesis=frame.synthesis,
        features=frame.features, bands=frame.bands, ears=frame.ears, voice_patch_bytes=100, kernels="c99", core="x", target="host",
    )  # fmt: skip


def _answers(rng: Random) -> bytes:
    """JSON of what a board answers to hello, voice, reset, a frame, a hop, stats; and noise between the frames."""
    frame = _artifact().frame
    zero = {field.name: 0 for field in fields(wire.Stats)} | {"counter": rng.choice(("", "cycles"))}
    hello = replace(_hello(), bands=rng.choice((frame.bands, frame.bands, 0, 1, 2**16 - 1))) if rng.random() < 0.2 else _hello()
    wanted = [
        hello,
        wire.VoiceTaken(taken_bytes=100, in_force=1),
        wire.ResetDone(ears=1),
        wire.Gains(moves=bytes(2 * frame.bands)),
        wire.ResetDone(ears=1),
        wire.Talker(samples=bytes(2 * frame.hop)),
        wire.Stats(**zero),
    ]
    rows = [[message.code, pack(message).hex()] for message in wanted]
    for _ in range(rng.randint(1, 2)):
        row = rows[rng.choice((0, 1, 2, 3, 3, 3, 4, 5, 5, 5, 6))]
        row[1] = rng.choice((hostile_bytes(bytes.fromhex(row[1]), rng), rng.randbytes(rng.choice((0, 1, 3, 15, 17, 33))))).hex()
        if rng.random() < 0.1:
            row[0] = rng.choice((0xFF, 0x81, 0x85, 0x80, rng.randrange(128, 256)))
    return json.dumps([rows, rng.randbytes(rng.choice((0, 0, 3, 2000))).hex()]).encode()


def _ask(content: bytes, folder: Path) -> None:
    rows, raw = json.loads(content)
    ticks = iter(range(10**6))
    link = _Script([(code, bytes.fromhex(payload)) for code, payload in rows], bytes.fromhex(raw))
    device = Device(link, clock=lambda: float(next(ticks)) / 50, attempts=2)
    features = np.zeros(_artifact().frame.features, np.int8)
    asked: list[Callable[[], object]] = [
        lambda: device.set_voice(bytes(100)),
        lambda: DeviceNetwork(device, _artifact()).reset(),
        lambda: DeviceNetwork(device, _artifact()).run(features),
        lambda: DeviceEngine(device, _artifact()).start(1)(np.zeros((1, _artifact().frame.hop), np.float32)),
        lambda: json.dumps(stats_figures(device.stats())),
    ]
    for ask in asked:
        with contextlib.suppress(EdgeTseError):
            ask()


@cache
def _server() -> Path:
    """The board's end in C, with the checks of a sanitizer in it."""
    import atexit
    import shutil

    from firmware_bridge.build import INCLUDES, SOURCES, c_source
    from tests.board import SERVER, compiler

    folder = Path(tempfile.mkdtemp(prefix="etse-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, text in generate(_artifact()).items():
        (folder / name).write_text(text)
    sources = [*folder.glob("*.c"), *(c_source(name) for name in (*SOURCES, *SERVER))]
    flags = ("-std=c11", "-g", "-O1", "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    names = ('-DETSE_TARGET="host"', '-DETSE_CORE="x"')
    command = [*compiler(), *flags, *names, f"-I{folder}", *INCLUDES, *map(str, sources), "-lm", "-o", str(folder / "server")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "server"


@cache
def _patch() -> bytes:
    return voice_patch(_artifact(), graphs.voice(_artifact().voice_model))


def _requests(rng: Random) -> bytes:
    """Frames that are whole and messages that are not: voices above all, in parts that overlap, miss and reach beyond."""
    frame, patch = _artifact().frame, _patch()
    frames = []
    for _ in range(rng.randint(1, 12)):
        kind = rng.randrange(7)
        if kind < 3:
            content = hostile_bytes(patch, rng, 2)[: len(patch)].ljust(len(patch), b"\0") if rng.random() < 0.5 else patch
            for at in range(0, len(patch), 512):
                offset = rng.choice((at, at, at, at, at, 0, at + 1, 2**32 - 1, 2**32 - 512, len(patch)))
                size = rng.choice((len(patch),) * 8 + (0, len(patch) + 1, len(patch) - 1, 2**32 - 1))
                frames.append((wire.SetVoice.code, struct.pack("<II", offset % 2**32, size) + content[at : at + 512]))
        elif kind == 3:
            frames.append((wire.Reset.code, rng.choice((b"\1", b"\2", b"\0", b"\3", b"\xff", b"", b"\1\1"))))
        elif kind == 4:
            frames.append((wire.NetworkFrame.code, rng.randbytes(frame.features + rng.choice((0, 0, -1, 1, 500)))))
        elif kind == 5:
            frames.append((wire.SoundFrame.code, rng.randbytes(2 * frame.hop * rng.choice((1, 2, 3)) + rng.choice((0, 0, 1, -1)))))
        else:
            frames.append((rng.randrange(256), rng.randbytes(rng.choice((0, 1, 8, 1024)))))
        if rng.random() < 0.2:
            frames.append(frames[-1])
    stream = b"".join(wire.encode(wire.Frame(code, n % 2**16, payload[:1024])) for n, (code, payload) in enumerate(frames))
    return hostile_bytes(stream, rng, 3) if rng.random() < 0.3 else stream


def _serve(content: bytes, folder: Path) -> None:
    last = wire.encode(wire.Frame(wire.HelloRequest.code, 54321, b""))
    limit = resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2
    done = subprocess.run(
        [str(_server())],
        input=content + b"\0" + last,
        capture_output=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(*limit),  # a sanitizer reserves terabytes
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-600:]
    answers = wire.Decoder().push(done.stdout)
    assert answers[-1].sequence == 54321, answers[-1]
    assert answers[-1].code == wire.Hello.code


def _noise(rng: Random) -> bytes:
    frames = [
        wire.encode(wire.Frame(rng.randrange(256), rng.randrange(2**16), rng.randbytes(rng.choice((0, 1, 9, 300, 1024)))))
        for _ in range(3)
    ]
    return hostile_bytes(b"".join(frames), rng)


def _decode(content: bytes, folder: Path) -> None:
    whole, parts = wire.Decoder(), wire.Decoder()
    found = whole.push(content + b"\0")
    cut = [frame for at in range(0, len(content), 7) for frame in parts.push(content[at : at + 7])] + parts.push(b"\0")
    assert found == cut
    assert whole.damaged == parts.damaged
    for frame in found:
        assert wire.Decoder().push(wire.encode(frame)) == [frame]


DOORS = {
    door.name: door
    for door in (
        Door("sound", _sound, _hear),
        Door("recording", _session, _replay),
        Door("target", _toml("target"), _target),
        Door("hearing", _toml("hearing"), _hearing),
        Door("calibration", _toml("calibration"), _calibration),
        Door("foreign", _toml("foreign"), _foreign),
        Door("artifact", _model, _load_model),
        Door("voice", _voice_file, _load_voice),
        Door("embedding", _embedding, _load_embedding),
        Door("answers", _answers, _ask),
        Door("decoder", _noise, _decode),
        Door("server", _requests, _serve),
        Door("elf", _elf, _read_elf),
        Door("image", _image_file, _read_image),
        Door("boot", _records, _boot),
        Door("checkpoint", _weights, _load_weights),
        Door("trials", _trials, _read_trials),
        Door("profile", _profile, _compare),
    )
}
