"""A virtual microphone and earphone: a JACK client of our own, beside the program that is tested, in a process of its own.

``python tests/jack.py play.npy record.npy SECONDS CLIENT`` waits for the JACK client that PortAudio makes, takes the place of its
microphone and, if it has one, its earphone, plays ``[channels, n]`` float32 and records as many channels. Only ctypes and libjack.
"""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path

import numpy as np

OUTPUT, INPUT = 2, 1
AUDIO = b"32 bit float mono audio"
PROCESS = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p)


def main(play: Path, record: Path, seconds: float, client: str) -> None:
    jack = ctypes.CDLL("libjack.so.0")
    for name in ("jack_client_open", "jack_port_register", "jack_port_get_buffer", "jack_port_name", "jack_get_ports"):
        getattr(jack, name).restype = ctypes.c_void_p
    jack.jack_port_name.restype = ctypes.c_char_p
    jack.jack_get_ports.restype = ctypes.POINTER(ctypes.c_char_p)
    jack.jack_port_get_buffer.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    jack.jack_port_register.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong]
    jack.jack_get_ports.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong]
    jack.jack_connect.argtypes = jack.jack_disconnect.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    jack.jack_set_process_callback.argtypes = [ctypes.c_void_p, PROCESS, ctypes.c_void_p]
    for name in ("jack_activate", "jack_client_close", "jack_get_sample_rate", "jack_port_name"):
        getattr(jack, name).argtypes = [ctypes.c_void_p]
    jack.jack_client_open.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p]

    me = jack.jack_client_open(b"harness", 1, None)
    if not me:
        sys.exit("no JACK server")
    rate = jack.jack_get_sample_rate(me)
    signal = np.ascontiguousarray(np.load(play), np.float32)
    channels, length = signal.shape
    total = round(seconds * rate)
    heard = np.zeros((channels, total), np.float32)
    mouths = [jack.jack_port_register(me, f"out_{c}".encode(), AUDIO, OUTPUT, 0) for c in range(channels)]
    ears = [jack.jack_port_register(me, f"in_{c}".encode(), AUDIO, INPUT, 0) for c in range(channels)]
    state = {"at": -1}

    @PROCESS
    def process(n: int, _: object) -> int:
        at = state["at"]
        for c in range(channels):
            out = jack.jack_port_get_buffer(mouths[c], n)
            ctypes.memset(out, 0, 4 * n)
            if 0 <= at < total:
                m = min(n, total - at)
                if at < length:
                    ctypes.memmove(out, signal[c, at:].ctypes.data, 4 * min(n, length - at))
                ctypes.memmove(heard[c, at:].ctypes.data, jack.jack_port_get_buffer(ears[c], n), 4 * m)
        if at >= 0:
            state["at"] = at + n
        return 0

    jack.jack_set_process_callback(me, process, None)
    jack.jack_activate(me)

    def ports(pattern: str, flags: int) -> list[bytes]:
        found = jack.jack_get_ports(me, pattern.encode(), None, flags)
        return [] if not found else [*iter(_until_null(found))]

    def _until_null(found: object) -> list[bytes]:
        out = []
        while found[len(out)]:  # type: ignore[index]
            out.append(found[len(out)])  # type: ignore[index]
        return out

    deadline = time.monotonic() + 60
    while not ports(f"{client}:", INPUT):
        if time.monotonic() > deadline:
            sys.exit(f"no client {client} came")
        time.sleep(0.05)
    time.sleep(0.5)  # PortAudio makes the rest of its ports and connects them to the system's; undo that first
    for c, port in enumerate(ports(f"{client}:", INPUT)[:channels]):
        for system in ports("system:", OUTPUT):
            jack.jack_disconnect(me, system, port)
        jack.jack_connect(me, jack.jack_port_name(mouths[c]), port)
    for c, port in enumerate(ports(f"{client}:", OUTPUT)[:channels]):
        jack.jack_connect(me, port, jack.jack_port_name(ears[c]))
    time.sleep(0.5)
    state["at"] = 0
    while state["at"] < total:
        time.sleep(0.1)
    jack.jack_client_close(me)
    np.save(record, heard)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
