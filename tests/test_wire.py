"""Wire: frames survive whatever a link does to them, and Python and C say the same."""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_bridge import wire
from firmware_bridge.build import BOARD, INCLUDES, c_source
from firmware_bridge.layout import pack, size_bytes, unpack
from firmware_bridge.wire import MAX_PAYLOAD_BYTES, MESSAGES, Decoder, Frame, encode
from tests.board import compiler

frames = st.builds(
    Frame,
    st.integers(0, 255),
    st.integers(0, 2**16 - 1),
    # Zeros, and runs around 254, are what COBS is about.
    st.one_of(
        st.binary(max_size=64),
        st.builds(lambda n, b: bytes([b]) * n, st.integers(0, MAX_PAYLOAD_BYTES), st.integers(0, 255)),
        st.builds(lambda n, m: b"\1" * n + b"\0" + b"\2" * m, st.integers(240, 260), st.integers(240, 260)),
    ),
)


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    """The stream in pieces."""
    edges = [0, *sorted(i % (len(stream) + 1) for i in at), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def test_a_known_frame() -> None:
    raw = b"\x01\x02\x00"
    crc = zlib.crc32(raw).to_bytes(4, "little")
    assert encode(Frame(1, 2, b"")) == b"\0" + b"\x03\x01\x02" + b"\x05" + crc + b"\0"


@given(frames)
def test_only_the_ends_of_a_frame_are_zero(frame: Frame) -> None:
    content = encode(frame)
    assert content[0] == content[-1] == 0
    assert 0 not in content[1:-1]
    assert len(content) <= 2 + 7 + len(frame.payload) + (7 + len(frame.payload)) // 254 + 1


@given(st.lists(frames, max_size=5), st.lists(st.integers(0, 10**6), max_size=20))
def test_frames_survive_being_split_and_merged(sent: list[Frame], at: list[int]) -> None:
    decoder = Decoder()
    got = [frame for piece in cut(b"".join(map(encode, sent)), at) for frame in decoder.push(piece)]
    assert got == sent
    assert decoder.damaged == 0


@given(frames, st.binary(max_size=3000), frames)
def test_noise_between_frames_costs_no_frame(first: Frame, noise: bytes, second: Frame) -> None:
    decoder = Decoder()
    got = decoder.push(encode(first) + noise + encode(second))
    assert (got[0], got[-1]) == (first, second)
    assert len(got) == 2


@given(st.lists(frames, min_size=2, max_size=4), st.data())
def test_a_damaged_frame_is_dropped_and_the_others_are_not(sent: list[Frame], data: st.DataObject) -> None:
    stream = [encode(frame) for frame in sent]
    victim = data.draw(st.integers(0, len(sent) - 1))
    at = data.draw(st.integers(1, len(stream[victim]) - 2))  # inside, not its ends
    damage = data.draw(st.sampled_from(["lost", "changed", "doubled"]))
    old = stream[victim]
    if damage == "changed":
        wrong = data.draw(st.integers(0, 255).filter(lambda b: b != old[at]))
        stream[victim] = old[:at] + bytes([wrong]) + old[at + 1 :]
    else:
        stream[victim] = old[:at] + old[at + (damage == "lost") :] if damage == "lost" else old[: at + 1] + old[at:]
    decoder = Decoder()
    got = decoder.push(b"".join(stream))
    assert got == [frame for i, frame in enumerate(sent) if i != victim]
    assert decoder.damaged >= 1


@given(st.lists(st.binary(max_size=2000), max_size=10), frames)
def test_random_bytes_raise_nothing_and_the_next_frame_arrives(garbage: list[bytes], frame: Frame) -> None:
    decoder = Decoder()
    for piece in garbage:
        decoder.push(piece)
    assert decoder.push(encode(frame))[-1] == frame


def test_a_line_without_zeros_does_not_fill_the_memory() -> None:
    decoder = Decoder()
    for _ in range(1000):
        assert decoder.push(b"\x55" * 1000) == []
        assert len(decoder._pending) < 2 * MAX_PAYLOAD_BYTES
    frame = Frame(1, 2, b"three")
    assert decoder.push(encode(frame)) == [frame]
    assert decoder.damaged == 1


def test_a_payload_that_no_board_has_room_for() -> None:
    assert Decoder().push(encode(Frame(1, 1, bytes(MAX_PAYLOAD_BYTES)))) == [Frame(1, 1, bytes(MAX_PAYLOAD_BYTES))]
    with pytest.raises(ValueError, match="at most 1024 bytes, not 1025"):
        encode(Frame(1, 1, bytes(MAX_PAYLOAD_BYTES + 1)))


# Messages


def test_answers_are_requests_with_the_highest_bit() -> None:
    requests = {code for code in MESSAGES if code < 0x80}
    assert {code | 0x80 for code in requests} | {0xFF, wire.EarSound.code} == {code for code in MESSAGES if code >= 0x80}


def test_messages_have_their_layout() -> None:
    message = wire.SetVoice(offset=0x01020304, size_bytes=5, data=b"abc")
    assert pack(message) == b"\x04\x03\x02\x01\x05\0\0\0abc"
    assert unpack(wire.SetVoice, pack(message)) == message
    error = wire.Error(status=wire.Status.WRONG_SIZE, text="häßlich")
    assert unpack(wire.Error, pack(error)) == error
    assert size_bytes(wire.Hello) == 123


def test_text_is_filled_with_zeros_and_has_an_end() -> None:
    hello = unpack(wire.Hello, bytes(91) + b"qemu" + bytes(28))
    assert hello.target == "qemu"
    assert pack(hello)[91:] == b"qemu" + bytes(28)
    with pytest.raises(ValueError, match=r"Hello\.target has 33 bytes, there is room for 32"):
        pack(wire.Hello(**{**vars(hello), "target": "x" * 33}))
    with pytest.raises(ValueError, match=r"Hello\.ears cannot be 256"):
        pack(wire.Hello(**{**vars(hello), "ears": 256}))


@given(st.sampled_from(list(MESSAGES.values())), st.binary(max_size=200))
def test_any_payload_unpacks_or_is_refused(kind: type[wire.Message], payload: bytes) -> None:
    fixed = size_bytes(kind)
    open_ended = kind in (wire.SetVoice, wire.NetworkFrame, wire.Gains, wire.SoundFrame, wire.Talker, wire.EarSound, wire.Error)
    if len(payload) == fixed or (open_ended and len(payload) > fixed):
        assert unpack(kind, pack(unpack(kind, payload))) == unpack(kind, payload)
    else:
        with pytest.raises(ValueError, match=f"not {len(payload)}"):
            unpack(kind, payload)


def test_the_header_is_what_the_table_says() -> None:
    assert (BOARD / "protocol.h").read_text() == wire.header(), (
        "run python -m firmware_bridge.wire > firmware_bridge/c/board/protocol.h"
    )
    done = subprocess.run([sys.executable, "-m", "firmware_bridge.wire"], capture_output=True, text=True, check=True)
    assert done.stdout == wire.header()


# The C side


class _CDecoder(ctypes.Structure):
    _fields_ = (
        ("damaged", ctypes.c_uint32),
        ("payload_bytes", ctypes.c_size_t),
        ("filled", ctypes.c_size_t),
        ("overlong", ctypes.c_int),
        ("bytes", ctypes.c_uint8 * (1031 + 1031 // 254 + 1)),
    )


@pytest.fixture(scope="module")
def c_wire(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    path: Path = tmp_path_factory.mktemp("wire") / "wire.so"
    command = [
        *compiler(),
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        *INCLUDES,
        *(str(c_source(name)) for name in ("wire.c", "crc32.c")),
        "-o",
        str(path),
    ]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(path))
    library.etse_crc32.restype = ctypes.c_uint32
    library.etse_wire_encode.restype = ctypes.c_size_t
    return library


def c_push(library: ctypes.CDLL, decoder: _CDecoder, stream: bytes) -> list[Frame]:
    got = []
    for byte in stream:
        if library.etse_wire_take(ctypes.byref(decoder), ctypes.c_uint8(byte)):
            raw = bytes(decoder.bytes)
            got.append(Frame(raw[0], int.from_bytes(raw[1:3], "little"), raw[3 : 3 + decoder.payload_bytes]))
    return got


def c_encode(library: ctypes.CDLL, frame: Frame) -> bytes:
    raw = (ctypes.c_uint8 * 1031)(frame.code, *frame.sequence.to_bytes(2, "little"), *frame.payload)
    out = (ctypes.c_uint8 * 1100)()
    size = library.etse_wire_encode(raw, ctypes.c_size_t(len(frame.payload)), out)
    return bytes(out[:size])


several = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@several
@given(frame=frames)
def test_c_encodes_as_python_does(c_wire: ctypes.CDLL, frame: Frame) -> None:
    assert c_encode(c_wire, frame) == encode(frame)
    assert c_wire.etse_crc32(0, frame.payload, ctypes.c_size_t(len(frame.payload))) == zlib.crc32(frame.payload)


@several
@given(sent=st.lists(frames, max_size=4), noise=st.lists(st.binary(max_size=1500), min_size=4, max_size=4))
def test_c_decodes_as_python_does(c_wire: ctypes.CDLL, sent: list[Frame], noise: list[bytes]) -> None:
    stream = b"".join(encode(frame) + n for frame, n in zip(sent, noise, strict=False)) + noise[-1] + b"\0"
    c_decoder, decoder = _CDecoder(), Decoder()
    assert c_push(c_wire, c_decoder, stream) == decoder.push(stream)
    assert c_decoder.damaged == decoder.damaged
