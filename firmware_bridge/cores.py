"""Cores that images are compiled for: their words to a compiler, their memories, and the linker script that places parts there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CORES", "Core", "LinkerRegion", "linker_script"]

_STACK_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class LinkerRegion:
    """Memory of a device, by address."""

    name: str
    origin: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Core:
    """Processor that an image is compiled for, and the places of its parts."""

    name: str
    zig: tuple[str, ...]
    """Target and processor in zig's words."""
    gcc: tuple[str, ...] = ()
    """Target and processor in the words of arm-none-eabi-gcc; empty where it does not apply."""
    regions: tuple[LinkerRegion, ...] = ()
    """Memory regions; empty: the image is a program of an operating system."""
    code: str = ""
    """Name of the region for vectors, code and tables."""
    weights: str = ""
    """Name of the region for the int8 weights."""
    memory: str = ""
    """Name of the region for everything that changes, and the stack. A mailbox is at its origin, where no cache may be."""
    slow: str = ""
    """Name of the region for the voice and for what is not the library's; empty: there is room in ``memory``."""
    mailbox: bool = False
    """Whether a host talks to it through memory (``c/board/mailbox.h``), and not through semihosting."""
    caches: bool = False
    """Whether its start-up code turns caches on."""
    clock_hz: int | None = None
    """Clock that its start-up code leaves it at; None: the target's, or none."""
    emulator: tuple[str, ...] = ()
    """Command that runs an image on this machine, up to the image."""

    @property
    def mailbox_at(self) -> int | None:
        """Address of the mailbox; None without one."""
        return next(r.origin for r in self.regions if r.name == self.memory) if self.mailbox else None


_KIB, _MIB = 2**10, 2**20
_THUMB = ("-target", "thumb-freestanding-eabihf")
_MPS2 = (
    LinkerRegion(name="FLASH", origin=0, size_bytes=4 * _MIB),
    LinkerRegion(name="RAM", origin=0x20000000, size_bytes=4 * _MIB),
)


def _qemu(machine: str) -> tuple[str, ...]:
    return "qemu-system-arm", "-M", machine, "-nographic", "-monitor", "none", "-serial", "none", "-kernel"


CORES: Mapping[str, Core] = {
    core.name: core
    for core in (
        Core(
            name="qemu-mps3-an547",
            zig=(*_THUMB, "-mcpu=cortex_m55+mve_fp"),
            gcc=("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"),
            regions=(
                LinkerRegion(name="ITCM", origin=0, size_bytes=512 * _KIB),
                LinkerRegion(name="DTCM", origin=0x20000000, size_bytes=512 * _KIB),
                LinkerRegion(name="SRAM", origin=0x21000000, size_bytes=4 * _MIB),
            ),
            code="ITCM",
            weights="SRAM",
            memory="DTCM",
            emulator=_qemu("mps3-an547"),
        ),
        Core(
            name="qemu-mps2-an500",
            zig=(*_THUMB, "-mcpu=cortex_m7+fp_armv8d16sp"),
            gcc=("-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
            regions=_MPS2,
            code="FLASH",
            weights="FLASH",
            memory="RAM",
            emulator=_qemu("mps2-an500"),
        ),
        Core(
            name="qemu-mps2-an386",
            zig=(*_THUMB, "-mcpu=cortex_m4+vfp4d16sp"),
            gcc=("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
            regions=_MPS2,
            code="FLASH",
            weights="FLASH",
            memory="RAM",
            emulator=_qemu("mps2-an386"),
        ),
        # RM0433, ST: memories, of which DTCM has no cache, and the clock of reset, HSI, with 7 wait states for flash.
        Core(
            name="stm32h743",
            zig=(*_THUMB, "-mcpu=cortex_m7+fp_armv8d16sp"),
            gcc=("-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
            regions=(
                LinkerRegion(name="FLASH", origin=0x08000000, size_bytes=2 * _MIB),
                LinkerRegion(name="DTCM", origin=0x20000000, size_bytes=128 * _KIB),
                LinkerRegion(name="AXI", origin=0x24000000, size_bytes=512 * _KIB),
            ),
            code="FLASH",
            weights="FLASH",
            memory="DTCM",
            slow="AXI",
            mailbox=True,
            caches=True,
            clock_hz=64_000_000,
        ),
        # Alif's CMSIS device family pack, soc_features.h of AE722F80F55D5, and ensemble_rtss_hp.dtsi of Zephyr: memories, without
        # SRAM0, which may have no power. The secure enclave sets the clock and starts the core at the vectors in MRAM.
        Core(
            name="alif-e7-hp",
            zig=(*_THUMB, "-mcpu=cortex_m55+mve_fp"),
            gcc=("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"),
            regions=(
                LinkerRegion(name="MRAM", origin=0x80000000, size_bytes=0x57F000),
                LinkerRegion(name="DTCM", origin=0x20000000, size_bytes=_MIB),
            ),
            code="MRAM",
            weights="MRAM",
            memory="DTCM",
            mailbox=True,
            caches=True,
        ),
        Core(name="host", zig=(), emulator=("env",)),
        Core(
            name="aarch64-linux",
            zig=("-target", "aarch64-linux-musl", "-static"),
            emulator=("qemu-aarch64", "-cpu", "cortex-a76"),
        ),
        Core(
            name="aarch64-linux-without-dot-product",
            zig=("-target", "aarch64-linux-musl", "-static"),
            emulator=("qemu-aarch64", "-cpu", "cortex-a72"),
        ),
    )
}
"""Cores that there is start-up code for, by name: Cortex-M55, M7, M4 and two of aarch64 (one image) under emulation, two chips that
nobody has tried, and this machine's own."""


def linker_script(core: Core) -> str:
    """Linker script that places the parts of an image, for GNU ld and lld."""
    regions = "\n".join(f"    {r.name} : ORIGIN = {r.origin:#x}, LENGTH = {r.size_bytes:#x}" for r in core.regions)

    def zeroed(name: str, region: str) -> str:
        return f"    .{name} (NOLOAD) : ALIGN(16) {{ *(.bss.etse.{name}) . = ALIGN(16); }} >{region}"

    slow = core.slow or core.memory
    rest = f"""{zeroed("voice", slow)}
    .bss (NOLOAD) : ALIGN(16) {{ *(.bss .bss.* COMMON) . = ALIGN(16); }} >{slow}
    etse_slow_end = .;"""
    fast = f"""{zeroed("state", core.memory)}
{zeroed("arena", core.memory)}
    etse_bss_end = .;"""
    # Where all is in one memory the two ranges that are zeroed follow each other, and the stack them.
    elsewhere = f"\n    etse_slow = ORIGIN({core.slow});\n{rest}" if core.slow else ""
    here = "" if core.slow else f"\n    etse_slow = .;\n{rest}"
    mailbox = f"\n{zeroed('mailbox', core.memory)}" if core.mailbox else ""
    return f"""MEMORY {{
{regions}
}}
ENTRY(etse_reset_handler)
SECTIONS {{
    .vectors : {{ KEEP(*(.vectors)) }} >{core.code}
    .text : {{ *(.text .text.*) }} >{core.code}
    .weights : ALIGN(16) {{ *(.rodata.etse.weights) }} >{core.weights}
    .tables : ALIGN(16) {{ *(.rodata.etse.tables) }} >{core.code}
    .rodata : ALIGN(8) {{ *(.rodata .rodata.*) . = ALIGN(8); }} >{core.code}{mailbox}
    .data : ALIGN(8) {{ etse_data = .; *(.data .data.*) . = ALIGN(8); etse_data_end = .; }} >{core.memory} AT>{core.code}
    etse_data_from = LOADADDR(.data);
    etse_bss = ALIGN(16);
{fast}{here}
    .stack (NOLOAD) : ALIGN(16) {{ etse_stack_low = .; . += {_STACK_BYTES}; etse_stack_top = .; }} >{core.memory}{elsewhere}
    /DISCARD/ : {{ *(.ARM.exidx* .ARM.extab* .comment .note*) }}
}}
"""
