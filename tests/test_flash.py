"""Flash: an update that is cut anywhere boots the old image or the new one, and Python and C agree which."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_tse.errors import DeviceError, TargetError
from firmware_bridge import flash
from firmware_bridge.build import BOARD
from firmware_bridge.flash import MAGIC, BootRecord, FlashProgress, Slots, choose, install, installed_image
from firmware_bridge.flash_memory import ERASED, FileFlash, MemoryFlash, memory_copy
from firmware_bridge.layout import pack
from tests.c_boot import CBoot, PowerCut

SECTOR_BYTES = 256
SIZE_BYTES = (2 + 2 * 6) * SECTOR_BYTES
"""Of the boot region and two slots."""
UNIT_BYTES = 16
"""What the memory programs at once: power can go between any two units, and within one."""
OLD, NEW = (bytes(random.Random(seed).randbytes(n)) for seed, n in ((1, 700), (2, 1100)))


@pytest.fixture(scope="module")
def c_choose(tmp_path_factory: pytest.TempPathFactory) -> Callable[[MemoryFlash], int | None]:
    """The board's boot choice, compiled for this machine."""
    return CBoot(tmp_path_factory.mktemp("boot")).choose


class FailingFlash(MemoryFlash):
    """Loses power in a step: an erased sector or a programmed unit. ``damage`` is what the step leaves."""

    def __init__(self, content: bytes, cut_at: int, damage: str) -> None:
        super().__init__(SIZE_BYTES, SECTOR_BYTES, content)
        self.steps = 0
        self._cut_at, self._damage = cut_at, damage
        self._rng = random.Random(cut_at)

    def erase(self, at: int) -> None:
        before = self.read(at, self.sector_bytes)
        super().erase(at)
        self._step(at, before)

    def program(self, at: int, content: bytes) -> None:
        for i in range(0, len(content), UNIT_BYTES):
            unit = content[i : i + UNIT_BYTES]
            before = self.read(at + i, len(unit))
            super().program(at + i, unit)
            self._step(at + i, before)

    def _step(self, at: int, before: bytes) -> None:
        self.steps += 1
        if self.steps <= self._cut_at:
            return
        after = self.read(at, len(before))
        half = len(before) // 2
        # A bit is as it was or as it was to become, whichever; "done" loses power right after the step.
        mixed = bytes((a & m) | (b & ~m) for a, b, m in zip(after, before, self._rng.randbytes(len(before)), strict=True))
        left = {"nothing": before, "half": after[:half] + before[half:], "mixed": mixed, "done": after}[self._damage]
        self.content[at : at + len(left)] = left
        raise PowerCut


def updated(image: bytes, content: bytes = b"") -> bytes:
    """Memory after an undisturbed update."""
    memory = MemoryFlash(SIZE_BYTES, SECTOR_BYTES, content)
    install(memory, Slots.of(memory), image)
    return bytes(memory.content)


def steps(image: bytes, content: bytes) -> int:
    memory = FailingFlash(content, 10**9, "done")
    install(memory, Slots.of(memory), image)
    return memory.steps


@pytest.mark.parametrize("damage", ["nothing", "half", "mixed", "done"])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_power_may_go_at_every_step(c_choose: Callable[[MemoryFlash], int | None], damage: str, rounds: int) -> None:
    """With both slots in use (from the second round on) the update writes over an image that once booted."""
    content = b""
    for _ in range(rounds):
        content = updated(OLD, content)
    total = steps(NEW, content)
    assert total > len(NEW) // UNIT_BYTES + len(NEW) // SECTOR_BYTES
    booted = []
    for cut_at in range(total):
        memory = FailingFlash(content, cut_at, damage)
        slots = Slots.of(memory)
        with pytest.raises(PowerCut):
            install(memory, slots, NEW)
        image = installed_image(memory, slots)
        assert image in (OLD, NEW)
        assert c_choose(memory) == choose(memory, slots)
        booted.append(image)
        # Trying again from whatever the cut has left always ends well.
        again = MemoryFlash(SIZE_BYTES, SECTOR_BYTES, bytes(memory.content))
        install(again, slots, NEW)
        assert installed_image(again, slots) == NEW
        assert c_choose(again) == choose(again, slots)
    assert booted == sorted(booted, key=[OLD, NEW].index), "never back from the new image to the old"
    assert damage != "done" or booted[-1] == NEW


def test_power_goes_again_and_again(c_choose: Callable[[MemoryFlash], int | None]) -> None:
    content = updated(OLD)
    rng = random.Random(5)
    for _ in range(200):
        memory = FailingFlash(content, rng.randrange(90), rng.choice(["nothing", "half", "mixed", "done"]))
        try:
            install(memory, Slots.of(memory), rng.choice([OLD, NEW]))
        except PowerCut:
            content = bytes(memory.content)
        assert installed_image(memory, Slots.of(memory)) in (OLD, NEW)
        assert c_choose(memory) == choose(memory, Slots.of(memory))


def test_the_first_image_boots_only_when_it_is_whole(c_choose: Callable[[MemoryFlash], int | None]) -> None:
    total = steps(NEW, b"")
    for cut_at in range(total):
        memory = FailingFlash(b"", cut_at, "half")
        with pytest.raises(PowerCut):
            install(memory, Slots.of(memory), NEW)
        assert installed_image(memory, Slots.of(memory)) is None
        assert c_choose(memory) is None
    assert installed_image(MemoryFlash(SIZE_BYTES, SECTOR_BYTES, updated(NEW)), Slots.of(memory)) == NEW


def test_the_boot_record_is_written_last_and_erased_first() -> None:
    class Watched(MemoryFlash):
        log: list[tuple[str, int]] = []  # noqa: RUF012  # one instance

        def erase(self, at: int) -> None:
            self.log.append(("erase", at))
            super().erase(at)

        def program(self, at: int, content: bytes) -> None:
            self.log.append(("program", at))
            super().program(at, content)

    memory = Watched(SIZE_BYTES, SECTOR_BYTES, updated(OLD))
    slots = Slots.of(memory)
    assert install(memory, slots, NEW) == 1
    assert memory.log[0] == ("erase", slots.at[1])
    assert memory.log[-1] == ("program", slots.at[1])
    assert all(slots.at[1] < at for _, at in memory.log[1:-1])


def record(generation: int, image: bytes, **changed: int) -> bytes:
    fields = {
        "magic": MAGIC,
        "generation": generation,
        "image_bytes": len(image),
        "image_crc": zlib.crc32(image),
        "crc": 0,
    } | changed
    content = pack(BootRecord(**fields))[:-4]
    return content + zlib.crc32(content).to_bytes(4, "little")


def memory_of(first: bytes, second: bytes) -> MemoryFlash:
    """Both slots hold OLD, under these boot records."""
    slot_bytes = SIZE_BYTES // 2 - SECTOR_BYTES
    region = bytes([ERASED]) * 2 * SECTOR_BYTES
    parts = [(r.ljust(SECTOR_BYTES, bytes([ERASED])) + OLD).ljust(slot_bytes, bytes([ERASED])) for r in (first, second)]
    return MemoryFlash(SIZE_BYTES, SECTOR_BYTES, region + b"".join(parts))


@pytest.mark.parametrize(
    ("first", "second", "boots"),
    [
        (record(4, OLD), record(5, OLD), 1),
        (record(5, OLD), record(4, OLD), 0),
        (record(2**32 - 1, OLD), record(0, OLD), 1),
        (record(0, OLD), record(2**32 - 1, OLD), 0),
        (record(7, OLD), record(7, OLD), 0),
        (record(0, OLD), record(2**31, OLD), 0),
        (record(0, OLD), b"", 0),
        (b"", record(0, OLD), 1),
        (b"", b"", None),
        (bytes(20), bytes(20), None),
        (record(1, OLD), record(2, OLD, magic=1), 0),
        (record(1, OLD), record(2, OLD, image_crc=1), 0),
        (record(1, OLD), record(2, OLD, image_bytes=2**32 - 1), 0),
        (record(1, OLD), record(2, OLD)[:-1] + b"\0", 0),
        (record(1, OLD, image_bytes=0, image_crc=0), record(0, OLD), 1),
        (record(1, OLD, image_bytes=0, image_crc=0), b"", None),
    ],
)
def test_which_one_boots(c_choose: Callable[[MemoryFlash], int | None], first: bytes, second: bytes, boots: int | None) -> None:
    memory = memory_of(first, second)
    assert choose(memory, Slots.of(memory)) == boots
    assert c_choose(memory) == boots


@pytest.mark.parametrize("slot", [0, 1])
def test_an_image_ends_with_its_slot(c_choose: Callable[[MemoryFlash], int | None], slot: int) -> None:
    """A record that states more, with the right CRC for what lies behind, does not boot: not by a byte, not by the sector of the
    record. (Behind the second slot there is room here for what a wrong bound would let in.)"""
    for beyond in (0, 1, SECTOR_BYTES - 1, SECTOR_BYTES):
        memory = MemoryFlash(SIZE_BYTES + 2 * SECTOR_BYTES - 1, SECTOR_BYTES, b"")
        slots = Slots.of(memory)
        assert slots.at[1] + slots.slot_bytes + SECTOR_BYTES <= memory.size_bytes
        size = slots.image_bytes + beyond
        first = slots.at[slot] + SECTOR_BYTES
        content = random.Random(beyond).randbytes(size)
        memory.content[first : first + size] = content
        made = record(0, content)
        memory.content[slots.at[slot] : slots.at[slot] + len(made)] = made
        assert choose(memory, slots) == c_choose(memory) == (slot if beyond == 0 else None)


def test_an_image_that_rots_gives_way_to_the_other(c_choose: Callable[[MemoryFlash], int | None]) -> None:
    memory = MemoryFlash(SIZE_BYTES, SECTOR_BYTES, updated(NEW, updated(OLD)))
    slots = Slots.of(memory)
    assert installed_image(memory, slots) == NEW
    memory.content[slots.at[1] + SECTOR_BYTES + 500] ^= 4
    assert installed_image(memory, slots) == OLD
    assert c_choose(memory) == 0


def test_memory_that_does_not_hold_what_is_written() -> None:
    class Worn(MemoryFlash):
        def program(self, at: int, content: bytes) -> None:
            super().program(at, content)
            if at <= wrong < at + len(content):
                self.content[wrong] ^= 0x10

    memory = Worn(SIZE_BYTES, SECTOR_BYTES, updated(OLD))
    wrong = Slots.of(memory).at[1] + SECTOR_BYTES + 77
    line = rf"flash at {wrong:#x} reads {NEW[77] ^ 0x10:#04x} where {NEW[77]:#04x} was written: the old image still boots"
    with pytest.raises(DeviceError, match=line):
        install(memory, Slots.of(memory), NEW)
    assert installed_image(memory, Slots.of(memory)) == OLD


def test_an_image_that_is_too_long_touches_nothing() -> None:
    memory = MemoryFlash(SIZE_BYTES, SECTOR_BYTES, updated(OLD))
    before = bytes(memory.content)
    with pytest.raises(TargetError, match="the image has 1281 bytes, a slot holds 1280: take a smaller model"):
        install(memory, Slots.of(memory), bytes(1281))
    assert memory.content == before
    install(memory, Slots.of(memory), bytes(1280))


def test_an_image_of_nothing_is_refused() -> None:
    memory = MemoryFlash(SIZE_BYTES, SECTOR_BYTES, updated(OLD))
    with pytest.raises(TargetError, match="the image has 0 bytes, and nothing would boot"):
        install(memory, Slots.of(memory), b"")
    assert installed_image(memory, Slots.of(memory)) == OLD


def test_progress_is_told() -> None:
    told: list[FlashProgress] = []
    memory = MemoryFlash(SIZE_BYTES, SECTOR_BYTES)
    install(memory, Slots.of(memory), NEW, told.append)
    assert [phase for phase, _ in itertools.groupby(t.phase for t in told)] == ["erase", "write", "compare", "mark"]
    for phase in ("erase", "write", "compare", "mark"):
        last = [t for t in told if t.phase == phase][-1]
        assert last.done_bytes == last.total_bytes > 0


def test_the_memory_of_an_emulated_board_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "boards" / "board.flash"
    memory = FileFlash(path, SIZE_BYTES, SECTOR_BYTES)
    assert path.read_bytes() == bytes([ERASED]) * SIZE_BYTES
    for image in (OLD, NEW, OLD):
        install(memory, Slots.of(memory), image)
        assert installed_image(FileFlash(path, SIZE_BYTES, SECTOR_BYTES), Slots.of(memory)) == image
    assert path.read_bytes() == updated(OLD, updated(NEW, updated(OLD)))
    with pytest.raises(TargetError, match=r"has 3584 bytes, the memory of this board 7168"):
        FileFlash(path, 2 * SIZE_BYTES, SECTOR_BYTES)
    with pytest.raises(TargetError, match="give the board's memory another place"):
        FileFlash(path / "below", SIZE_BYTES, SECTOR_BYTES)
    os.mkfifo(tmp_path / "port")
    for opened in (FileFlash, memory_copy):
        with pytest.raises(TargetError, match="port is no file, the memory of this board is one: give a file, or the target that"):
            opened(tmp_path / "port", SIZE_BYTES, SECTOR_BYTES)


def test_what_a_full_disk_has_left_of_a_memory_is_completed(tmp_path: Path) -> None:
    """A new memory is there as a whole or not at all; what a kill has left of one is no reason to refuse it."""
    path = tmp_path / "board.flash"
    code = (
        "import resource, signal, sys; from pathlib import Path; from edge_tse.errors import TargetError\n"
        "from firmware_bridge.flash_memory import FileFlash\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    FileFlash(Path(sys.argv[1]), 8 * 2**20, 4096)\n"
        "except TargetError as failure:\n    print(failure)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{path}: File too large: give the board's memory another place\n"
    assert path.stat().st_size == 0
    for left in (0, 1, 1000, SIZE_BYTES - 1):
        path.write_bytes(bytes([ERASED]) * left)
        FileFlash(path, SIZE_BYTES, SECTOR_BYTES)
        assert path.read_bytes() == bytes([ERASED]) * SIZE_BYTES
    path.write_bytes(b"something else")
    with pytest.raises(TargetError, match=r"has 14 bytes, the memory of this board 3584: give another file, or remove it"):
        FileFlash(path, SIZE_BYTES, SECTOR_BYTES)
    assert path.read_bytes() == b"something else"


def test_the_header_is_what_the_record_is() -> None:
    assert (BOARD / "boot_record.h").read_text() == flash.header(), (
        "run python -m firmware_bridge.flash > firmware_bridge/c/board/boot_record.h"
    )
    done = subprocess.run([sys.executable, "-m", "firmware_bridge.flash"], capture_output=True, text=True, check=True)
    assert done.stdout == flash.header()
