"""The boot code of a board, compiled for this machine, on a memory that Python holds."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

from firmware_bridge.build import BOOT, INCLUDES, c_source
from firmware_bridge.flash import Slots
from firmware_bridge.flash_memory import MemoryFlash
from tests.board import compiler


class PowerCut(Exception):
    """The lights go out."""


class _Slots(ctypes.Structure):
    _fields_ = (
        ("flash", ctypes.c_void_p),
        ("trust_at", ctypes.c_uint32 * 2),
        ("slot_at", ctypes.c_uint32 * 2),
        ("slot_bytes", ctypes.c_uint32),
        ("sector_bytes", ctypes.c_uint32),
    )


_Erase = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32)
_Program = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint8), ctypes.c_uint32)


class _Writer(ctypes.Structure):
    _fields_ = (("memory", ctypes.c_void_p), ("erase", _Erase), ("program", _Program))


class _Part(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_char_p), ("size", ctypes.c_size_t))


class CBoot:
    """``boot.h`` and what it is made of."""

    def __init__(self, folder: Path) -> None:
        path = folder / "boot.so"
        sources = [str(c_source(name)) for name in BOOT]
        warnings = ("-Wall", "-Wextra", "-Wshadow", "-Wmissing-prototypes", "-Werror")
        command = [*compiler(), "-std=c99", "-O2", *warnings, "-shared", "-fPIC", *INCLUDES, *sources, "-o", str(path)]
        subprocess.run(command, check=True)
        self.library = ctypes.CDLL(str(path))
        self.library.etse_boot_image.restype = ctypes.c_void_p

    def choose(self, memory: MemoryFlash) -> int | None:
        """``etse_boot_choose``; the image of the slot is the one that Python finds there."""
        slots = _slots(memory)
        slot: int = self.library.etse_boot_choose(ctypes.byref(slots))
        if slot < 0:
            return None
        size = ctypes.c_uint32()
        at = self.library.etse_boot_image(ctypes.byref(slots), slot, ctypes.byref(size))
        first = Slots.of(memory).at[slot] + memory.sector_bytes
        assert ctypes.string_at(at, size.value) == memory.read(first, size.value)
        return slot

    def start(self, memory: MemoryFlash) -> int | None:
        """``etse_boot_start``. ``PowerCut`` if the memory loses power."""
        slot = self._written(memory, lambda slots, writer: self.library.etse_boot_start(slots, writer))
        return None if slot < 0 else slot

    def confirm(self, memory: MemoryFlash, slot: int) -> None:
        """``etse_boot_confirm``. ``PowerCut`` if the memory loses power."""
        assert self._written(memory, lambda slots, writer: self.library.etse_boot_confirm(slots, writer, slot)) == 0

    def verify(self, signature: bytes, message: tuple[bytes, ...], key: bytes) -> bool:
        """``etse_ed25519_verify``"""
        assert (len(signature), len(key)) == (64, 32)
        return bool(self.library.etse_ed25519_verify(signature, _parts(message), ctypes.c_size_t(len(message)), key))

    def digest(self, name: str, message: tuple[bytes, ...]) -> bytes:
        """``etse_sha256`` or ``etse_sha512``, by name."""
        out = ctypes.create_string_buffer({"sha256": 32, "sha512": 64}[name])
        getattr(self.library, f"etse_{name}")(_parts(message), ctypes.c_size_t(len(message)), out)
        return out.raw

    def _written(self, memory: MemoryFlash, call: Callable[[object, object], int]) -> int:
        slots = _slots(memory)
        dark: list[PowerCut] = []

        def step(write: Callable[[], None]) -> int:
            # Once power is gone nothing is written any more, whatever the code goes on to do.
            if not dark:
                try:
                    write()
                except PowerCut as cut:
                    dark.append(cut)
            return -1 if dark else 0

        writer = _Writer(
            None,
            _Erase(lambda _, at: step(lambda: memory.erase(at))),
            _Program(lambda _, at, content, size: step(lambda: memory.program(at, bytes(content[:size])))),
        )
        result = call(ctypes.byref(slots), ctypes.byref(writer))
        if dark:
            raise dark[0]
        return result


def _slots(memory: MemoryFlash) -> _Slots:
    slots = Slots.of(memory)
    view = (ctypes.c_uint8 * memory.size_bytes).from_buffer(memory.content)
    places = ((ctypes.c_uint32 * 2)(*slots.trust_at), (ctypes.c_uint32 * 2)(*slots.at))
    made = _Slots(ctypes.addressof(view), *places, slots.slot_bytes, slots.sector_bytes)
    made.view = view  # keeps it alive
    return made


def _parts(message: tuple[bytes, ...]) -> ctypes.Array[_Part]:
    return (_Part * len(message))(*(_Part(part, len(part)) for part in message))
