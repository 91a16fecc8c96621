"""Devices: a board is a network and an engine like any other, whatever happens on the way to it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_tse.artifact import Artifact, verify
from edge_tse.deployment.target import find_target
from edge_tse.errors import AudioError, DeviceError, EngineError, LinkError
from edge_tse.golden import record
from edge_tse.personalization import personalize
from edge_tse.voice import Voice
from firmware_bridge import wire
from firmware_bridge.build import INCLUDES, c_source
from firmware_bridge.codegen import generate, voice_patch
from firmware_bridge.device import Device, DeviceEngine, DeviceNetwork, stats_figures
from firmware_bridge.layout import pack
from firmware_bridge.link import MemoryLink
from firmware_bridge.native import NativeChain
from firmware_bridge.wire import CHUNK_BYTES, Decoder, Frame, Status, encode
from tests import graphs
from tests.board import Noisy, board, compiler, sealed


class Clock:
    """Time that passes by ``tick_s`` whenever somebody looks."""

    def __init__(self, tick_s: float) -> None:
        self.now_s = 0.0
        self.tick_s = tick_s

    def __call__(self) -> float:
        self.now_s += self.tick_s
        return self.now_s


def voice(artifact: Artifact, seed: int = 0) -> Voice:
    return Voice(embedding=graphs.embedding(seed), encoder_digest=artifact.voice_model.encoder_digest, created="", source="x")


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return graphs.artifact(graphs.Sizes(24, 40, (1, 2, 4), 16, 24, (1, 2), graphs.SMALL_FRAME))


@pytest.fixture
def device(artifact: Artifact) -> Iterator[Device]:
    link = board(artifact)
    yield Device(link)
    link.close()


# As an engine like any other


def test_the_board_says_who_it_is(artifact: Artifact, device: Device) -> None:
    hello, frame = device.hello, artifact.frame
    assert (hello.target, hello.core, hello.protocol) == ("host", find_target("host").core, wire.PROTOCOL)
    assert hello.model == bytes.fromhex(artifact.digest)[:16]
    assert (hello.sample_rate_hz, hello.hop, hello.window, hello.synthesis) == (16000, frame.hop, frame.window, frame.synthesis)
    assert (hello.features, hello.bands, hello.ears) == (frame.features, frame.bands, frame.ears)
    assert hello.capabilities == wire.Capability.SOUND | wire.Capability.VOICE
    assert hello.voice_patch_bytes == len(voice_patch(artifact, voice(artifact))) > CHUNK_BYTES


def test_golden_frames_come_through_bit_for_bit(artifact: Artifact, device: Device) -> None:
    network = DeviceNetwork(device, artifact)
    assert network.name == f"native/{device.hello.kernels}"
    parity = verify(artifact, network)
    assert (parity.worst_lsb, parity.mismatch_rate, parity.frames) == (0, 0.0, 40)
    assert verify(artifact, network, 0).worst_lsb == 0, "a reset forgets everything"
    assert (device.repeated, device.unexpected, device.damaged) == (0, 0, 0)


def test_a_voice_changes_what_the_board_computes_and_survives_resets(artifact: Artifact, device: Device) -> None:
    alice, bob = (personalize(artifact, voice(artifact, seed)).record() for seed in (0, 1))
    assert alice.golden.outputs is not None
    assert bob.golden.outputs is not None
    assert (alice.golden.outputs["mask"] != bob.golden.outputs["mask"]).any()
    network = DeviceNetwork(device, artifact)
    told: list[float] = []
    device.set_voice(voice_patch(artifact, voice(artifact, 0)), told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) == -(-device.hello.voice_patch_bytes // CHUNK_BYTES)
    assert verify(alice, network, 0).worst_lsb == 0
    device.set_voice(voice_patch(artifact, voice(artifact, 1)))
    assert verify(bob, network, 0).worst_lsb == 0
    assert device.reset(1) == 1
    assert verify(bob, network, 0).worst_lsb == 0


def test_a_board_with_a_beam_answers_with_three_outputs() -> None:
    beam = graphs.artifact(replace(graphs.TINY, frame=replace(graphs.SMALL_FRAME, beam=True, level_invariant=True)))
    with closing(board(beam)) as link:
        device = Device(link)
        network = DeviceNetwork(device, beam)
        assert [len(out) for out in network.run(beam.golden.features[0])] == [beam.frame.bands] * 3
        parity = verify(beam, network, 0)
        assert sorted(parity.per_output) == ["mask", "share", "velocity"]
        step, chain = DeviceEngine(device, beam).start(2), NativeChain(beam, 2, compiler=compiler())
        for hop in np.random.default_rng(8).integers(-9000, 9000, (60, 2, beam.frame.hop)).astype(np.int16):
            np.testing.assert_array_equal(step(hop.astype(np.float32) / 32768) * 32768, chain(hop))


@pytest.mark.parametrize("ears", [1, 2])
def test_sound_to_sound_is_the_same_chain(artifact: Artifact, device: Device, ears: int) -> None:
    chain = NativeChain(artifact, ears, compiler=compiler())
    rng = np.random.default_rng(ears)
    sound = rng.integers(-32768, 32768, (60, ears, artifact.frame.hop)).astype(np.int16)
    step = DeviceEngine(device, artifact).start(ears)
    got = np.array([step(hop.astype(np.float32) / 32768) for hop in sound])
    wanted = np.array([chain(hop) for hop in sound])
    assert wanted.any()
    np.testing.assert_array_equal(got * 32768, wanted)
    step.reset()
    np.testing.assert_array_equal(step(sound[0].astype(np.float32) / 32768) * 32768, wanted[0])


def test_loud_sound_is_clipped_and_not_wrapped(artifact: Artifact, device: Device) -> None:
    engine = DeviceEngine(device, artifact)
    loud, full = (np.full((1, artifact.frame.hop), level, np.float32) for level in (3.0, 32767 / 32768))
    np.testing.assert_array_equal(engine.start(1)(loud), engine.start(1)(full))


def test_one_stream_at_a_time(artifact: Artifact, device: Device) -> None:
    engine = DeviceEngine(device, artifact)
    first = engine.start(1)
    engine.start(2)
    with pytest.raises(EngineError, match="start one stream per engine"):
        first(np.zeros((1, artifact.frame.hop), np.float32))
    with pytest.raises(AudioError, match="3 channels, this model takes 1 to 2"):
        engine.start(3)
    with pytest.raises(AudioError, match=r"a step takes \[2, 8\] samples, not \[1, 8\]"):
        engine.start(2)(np.zeros((1, artifact.frame.hop), np.float32))


def test_the_board_counts(artifact: Artifact, device: Device) -> None:
    verify(artifact, DeviceNetwork(device, artifact), 0)
    stats = device.stats()
    assert stats.frames == 40
    assert stats.counter == "nanoseconds"
    assert 0 < stats.last_count <= stats.worst_count <= stats.total_count
    figures = stats_figures(stats)
    assert figures["stack_bytes"] == "unavailable"
    assert figures["state_bytes"] > 0  # type: ignore[operator]
    unknown = stats_figures(replace(stats, counter="", last_count=0, worst_count=0, total_count=0))
    assert unknown["counts_per_frame"] == "unavailable"
    assert unknown["deadline_misses"] == "unavailable"


# What a board refuses


def test_another_model_is_refused(artifact: Artifact, device: Device) -> None:
    other = artifact.with_graph(artifact.graph).record(artifact.golden.features[:5])
    with pytest.raises(DeviceError, match=rf"board runs model {artifact.digest[:12]}, this artifact is {other.digest[:12]}"):
        DeviceNetwork(device, other)
    with pytest.raises(DeviceError, match="flash it"):
        DeviceEngine(device, other)


def _with_nan(patch: bytes) -> bytes:
    return sealed(patch[:24] + np.float32(np.nan).tobytes() + patch[28:])


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda patch: patch[:-4], Status.VOICE_MALFORMED),
        (lambda patch: patch + bytes(4), Status.VOICE_MALFORMED),
        (lambda patch: b"", Status.VOICE_MALFORMED),
        (lambda patch: b"X" + patch[1:], Status.VOICE_MALFORMED),
        (lambda patch: sealed(patch[:8] + bytes(16) + patch[24:]), Status.VOICE_FOREIGN),
        (lambda patch: patch[:700] + b"!" + patch[701:], Status.VOICE_DAMAGED),
        (_with_nan, Status.VOICE_OUT_OF_RANGE),
    ],
)
def test_a_bad_voice_changes_nothing(artifact: Artifact, device: Device, spoil: Callable[[bytes], bytes], status: Status) -> None:
    patch = voice_patch(artifact, voice(artifact))
    device.set_voice(patch)
    with pytest.raises(DeviceError, match=r"board refuses SetVoice: .* \(status \d+\)") as refusal:
        device.set_voice(spoil(voice_patch(artifact, voice(artifact, 1))))
    assert refusal.value.status == status
    assert verify(personalize(artifact, voice(artifact)), DeviceNetwork(device, artifact), 0).worst_lsb == 0


def test_parts_of_a_voice_out_of_order(artifact: Artifact, device: Device) -> None:
    patch = voice_patch(artifact, voice(artifact))
    with pytest.raises(DeviceError) as refusal:
        device._ask(wire.SetVoice(offset=CHUNK_BYTES, size_bytes=len(patch), data=b"x"), wire.VoiceTaken)
    assert refusal.value.status == Status.VOICE_OUT_OF_ORDER


def test_a_part_that_reaches_beyond_the_voice(artifact: Artifact, device: Device) -> None:
    """In order, of the right whole, and one byte too long: it is refused, and what came before may still be finished."""
    patch = voice_patch(artifact, voice(artifact))
    head = len(patch) - 16
    for at in range(0, head, CHUNK_BYTES):
        device._ask(wire.SetVoice(offset=at, size_bytes=len(patch), data=patch[at : min(at + CHUNK_BYTES, head)]), wire.VoiceTaken)
    for data in (bytes(17), bytes(CHUNK_BYTES)):
        with pytest.raises(DeviceError) as refusal:
            device._ask(wire.SetVoice(offset=head, size_bytes=len(patch), data=data), wire.VoiceTaken)
        assert refusal.value.status == Status.VOICE_MALFORMED
    taken = device._ask(wire.SetVoice(offset=head, size_bytes=len(patch), data=patch[head:]), wire.VoiceTaken)
    assert (taken.taken_bytes, taken.in_force) == (len(patch), 1)
    assert verify(personalize(artifact, voice(artifact)), DeviceNetwork(device, artifact), 0).worst_lsb == 0


def test_ears_do_not_change_while_a_voice_is_on_its_way(artifact: Artifact, device: Device) -> None:
    patch = voice_patch(artifact, voice(artifact))
    device.set_voice(patch)
    device._ask(wire.SetVoice(offset=0, size_bytes=len(patch), data=patch[:100]), wire.VoiceTaken)
    assert device.reset() == 2
    with pytest.raises(DeviceError) as refusal:
        device.reset(1)
    assert refusal.value.status == Status.VOICE_INCOMPLETE
    device.set_voice(patch)
    assert device.reset(1) == 1


def test_wrong_sizes_and_unknown_commands(artifact: Artifact, device: Device) -> None:
    with pytest.raises(DeviceError) as refusal:
        device.network_frame(np.zeros(3, np.int8))
    assert refusal.value.status == Status.WRONG_SIZE
    with pytest.raises(DeviceError, match=r"fewer ears \(status 1\)"):
        device.reset(9)
    with pytest.raises(EngineError, match=r"a step takes 20 features, not \[3\]"):
        DeviceNetwork(device, artifact).run(np.zeros(3, np.int8))
    # What only a newer host would send: a request of a code nobody has yet.
    device._link.write(encode(Frame(0x55, 77, b"")))
    answer = Decoder().push(device._link.read(4096, 5.0))
    assert [(frame.code, frame.sequence) for frame in answer] == [(wire.Error.code, 77)]
    assert answer[0].payload[:2] == Status.UNKNOWN_COMMAND.to_bytes(2, "little")


def test_whatever_arrives_the_board_answers_afterwards(artifact: Artifact) -> None:
    """Noise, and whole frames of any code, sequence and payload: each frame gets one answer, and the network is none the worse."""
    rng = np.random.default_rng(7)
    link = board(artifact)
    for _ in range(300):
        link.write(rng.bytes(int(rng.integers(0, 200))) + b"\0")
        sequence = int(rng.integers(0, 2**16))
        code = int(rng.choice([1, 2, 3, 4, 5, 6, *rng.integers(0, 256, 2)]))
        size = int(rng.choice([0, 1, 7, 8, 16, 20, 32, *rng.integers(0, wire.MAX_PAYLOAD_BYTES + 1, 2)]))
        link.write(encode(Frame(code, sequence, rng.bytes(size))))
        decoder, answers = Decoder(), []
        while not answers:
            answers = decoder.push(link.read(4096, 5.0))
        assert [answer.sequence for answer in answers] == [sequence]
        assert answers[0].code & 0x80
    device = Device(link)
    assert verify(artifact, DeviceNetwork(device, artifact), 0).worst_lsb == 0
    link.close()


def test_a_personalized_artifact_takes_no_other_voice(artifact: Artifact) -> None:
    own = personalize(artifact, voice(artifact)).record()
    link = board(own)
    device = Device(link)
    assert device.hello.capabilities == wire.Capability.SOUND
    assert device.hello.voice_patch_bytes == 0
    assert verify(own, DeviceNetwork(device, own), 0).worst_lsb == 0
    with pytest.raises(DeviceError, match="this model has a voice built in") as refusal:
        device.set_voice(voice_patch(artifact, voice(artifact)))
    assert refusal.value.status == Status.VOICE_FOLDED
    link.close()


# What happens on the way


def every(n: int, what: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Do that to every n-th piece that is not empty."""
    seen = 0

    def pass_on(content: bytes) -> bytes:
        nonlocal seen
        seen += bool(content)
        return what(content) if content and seen % n == 0 else content

    return pass_on


def flip(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


TROUBLES: dict[str, Callable[[bytes], bytes]] = {
    "lost": lambda content: b"",
    "damaged": flip,
    "doubled": lambda content: content + content,
    "behind noise": lambda content: b"\x13\x00garbage\xff\x00" + content,
    "cut short": lambda content: content[: len(content) // 2],
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("way", ["there", "back"])
def test_golden_frames_survive_a_bad_link(artifact: Artifact, trouble: str, way: str) -> None:
    """Above all, a request whose answer was lost is not executed twice: the network would be one frame ahead."""
    spoil = every(7, TROUBLES[trouble])
    link = Noisy(board(artifact), **{"on_write" if way == "there" else "on_read": spoil})
    device = Device(link, timeout_s=0.15, attempts=4)
    short = replace(artifact, golden=record(artifact.graph, artifact.golden.features[:20]))
    network = DeviceNetwork(device, artifact)
    assert verify(short, network, 0).worst_lsb == 0
    if trouble in ("lost", "damaged", "cut short"):
        assert device.repeated >= 2
    assert device.stats().frames == 20
    link.close()


def test_a_late_answer_is_not_taken_for_the_present_one(artifact: Artifact) -> None:
    """Everything arrives one read later than it should."""
    held = b""

    def delay(content: bytes) -> bytes:
        nonlocal held
        out, held = held, content
        return out

    link = Noisy(board(artifact), on_read=delay)
    device = Device(link, timeout_s=0.1, attempts=5)
    short = replace(artifact, golden=record(artifact.graph, artifact.golden.features[:8]))
    assert verify(short, DeviceNetwork(device, artifact), 0).worst_lsb == 0
    link.close()


def test_an_abandoned_answer_is_recognised(artifact: Artifact) -> None:
    waiting: list[bytes] = []
    link = Noisy(board(artifact))
    device = Device(link, timeout_s=0.2, attempts=1)
    link._on_read = lambda content: waiting.append(content) or b""  # type: ignore[func-returns-value]
    with pytest.raises(LinkError, match="no answer to StatsRequest"):
        device.stats()
    link._on_read = lambda content: b"".join(waiting) + content
    assert device.reset() == 2
    assert device.unexpected >= 1
    link.close()


@pytest.mark.parametrize("said", [b"ESP-ROM:esp32s3-20210327\r\nrst:0x7 (TG0WDT_SYS_RST)\r\n", bytes(range(1, 60)), b"a\0b"])
def test_what_else_comes_from_a_port_is_counted_and_quoted(said: bytes) -> None:
    """Another program's log, or our own board at another rate: as many bytes as came, and the last of them."""
    link = MemoryLink(lambda sent: said, "ttyACM0")
    with pytest.raises(LinkError) as line:
        Device(link, clock=Clock(0.3), timeout_s=2.0, attempts=3)
    assert f"no answer to HelloRequest within 3 x 2 s, but {3 * len(said)} bytes of something else, the last " in str(line.value)
    assert ascii((3 * said)[-48:].decode("latin-1")) in str(line.value)
    assert "--baud" in str(line.value)
    assert str(line.value).isprintable()


def test_silence_ends_with_a_reason() -> None:
    clock = Clock(0.3)
    written: list[bytes] = []
    link = MemoryLink(lambda sent: written.append(sent) or b"", "ttyACM0")  # type: ignore[func-returns-value]
    with pytest.raises(
        LinkError, match=r"^ttyACM0: no answer to HelloRequest within 4 x 2 s: is the board powered, flashed"
    ) as line:
        Device(link, clock=clock, timeout_s=2.0, attempts=4)
    assert "\n" not in str(line.value)
    assert len(written) == 4
    assert len(set(written)) == 1, "a repeated request is the same request"
    assert clock.now_s < 4 * (2.0 + 3 * 0.3)


def test_chatter_without_an_answer_ends_too() -> None:
    class Chatter(MemoryLink):
        def read(self, size: int, timeout_s: float) -> bytes:
            return b"boot\0" * 10

    with pytest.raises(LinkError, match="no answer"):
        Device(Chatter(lambda sent: b""), clock=Clock(0.01), timeout_s=1.0, attempts=2)


def serve(answer: Callable[[Frame], Frame]) -> MemoryLink:
    """A board that answers as the function says."""
    decoder = Decoder()
    return MemoryLink(lambda sent: b"".join(encode(answer(frame)) for frame in decoder.push(sent)))


def _hello(protocol: int) -> bytes:
    texts = {"kernels": "", "core": "", "target": ""}
    numbers = dict.fromkeys(("capabilities", "sample_rate_hz", "hop", "window", "synthesis", "features", "bands", "ears"), 1)
    known = wire.Hello(protocol=protocol, max_payload_bytes=1024, model=bytes(16), voice_patch_bytes=0, **numbers, **texts)  # type: ignore[arg-type]
    return pack(known)


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        (_hello(7), "speaks protocol 7, this edge-tse 1: flash the board"),
        (_hello(9) + b"a field of the future", "speaks protocol 9, this edge-tse 1"),
        (b"", "Hello has 123 bytes, not 0: flash the board"),
    ],
)
def test_another_protocol(payload: bytes, line: str) -> None:
    with pytest.raises(LinkError, match=line):
        Device(serve(lambda frame: Frame(wire.Hello.code, frame.sequence, payload)))


def test_an_answer_to_something_else_is_not_understood() -> None:
    with pytest.raises(LinkError, match="answers HelloRequest with message 0x84, not 0x81"):
        Device(serve(lambda frame: Frame(wire.Gains.code, frame.sequence, b"")))


def test_answers_of_another_length_than_announced() -> None:
    def answer(frame: Frame) -> Frame:
        return Frame(frame.code | 0x80, frame.sequence, _hello(1) if frame.code == 1 else b"\1\2")

    device = Device(serve(answer))
    device.network_frame(np.zeros(5, np.int8))
    with pytest.raises(LinkError, match="2 bytes of samples came back for 128"):
        device.sound_frame(np.zeros((1, 64), np.int16))
    with pytest.raises(LinkError, match="Stats has 76 bytes, not 2"):
        device.stats()


def test_sequence_numbers_wrap_around(artifact: Artifact, device: Device) -> None:
    device._sequence = 2**16 - 5
    assert verify(artifact, DeviceNetwork(device, artifact), 0).worst_lsb == 0


@pytest.mark.slow
def test_static_analysis_finds_nothing(artifact: Artifact, tmp_path: Path) -> None:
    if shutil.which("cppcheck") is None:
        pytest.skip("cppcheck is not installed: apt-get install cppcheck")
    for name, text in generate(artifact).items():
        (tmp_path / name).write_text(text)
    sources = [
        str(c_source(f"{name}.c"))
        for name in ("wire", "server", "boot", "serve_stdio", "serve_core", "serve_port", "serve_uart", "mailbox", "serve_mailbox")
    ]
    checks = [
        "--std=c11",
        "--enable=warning,performance,portability,style",
        "--suppress=missingIncludeSystem",
        "--error-exitcode=1",
    ]
    command = ["cppcheck", "-q", *checks, f"-I{tmp_path}", *INCLUDES, *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_closing_gives_the_link_back(artifact: Artifact) -> None:
    link = MemoryLink(lambda sent: b"")
    with pytest.raises(LinkError):
        Device(link, clock=Clock(0.5))
    decoded = serve(lambda frame: Frame(wire.Hello.code, frame.sequence, _hello(1)))
    device = Device(decoded)
    decoded._arrived += b"left over"
    device.close()
    assert decoded.read(1, 0) == b""
