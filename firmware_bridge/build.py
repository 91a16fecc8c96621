"""Builds of generated C: a shared library for this machine, or an image for a core.

zig (``ziglang`` on PyPI) is the default compiler: it needs no installation by hand and knows every core here. Warnings are errors.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from platform import machine

from edge_tse.errors import TargetError
from edge_tse.files import replacing
from edge_tse.install_line import install_line
from firmware_bridge.elf import read_sections

__all__ = [
    "BOARD",
    "BOOT",
    "CORES",
    "INCLUDES",
    "KERNEL_CASES",
    "LIBRARY",
    "PLUGIN",
    "PORT",
    "PROGRAM",
    "PROGRAMS",
    "SOURCES",
    "Core",
    "LinkerRegion",
    "Program",
    "build_program",
    "c_source",
    "image_sources",
    "linker_script",
    "linux_binary",
    "shared_library",
    "wasm_module",
    "zig",
]

_C = Path(__file__).parent / "c"
LIBRARY = _C / "library"
"""The library that goes into a product: ``etse.h`` is the public interface. It needs nothing of the other folders."""
BOARD = _C / "board"
"""A board that answers its host: messages, and which of two images boots."""
PORT = _C / "port"
"""Environment of our own programs: files and text of a host, and the start of a core without a system."""
PROGRAMS = _C / "programs"
"""Complete programs: chain, kernels and boot code on files, servers, the skeleton of a product, a counter of instructions."""
PLUGIN = _C / "plugin"
"""The library as an effect: for hosts of LADSPA and LV2, and as a client of JACK."""
INCLUDES = tuple(f"-I{folder}" for folder in (LIBRARY, BOARD, PORT, PLUGIN))
NETWORK_SOURCES = ("kernels.c", "voice.c", "crc32.c")
"""Sources that ``model.c`` needs."""
SOURCES = (*NETWORK_SOURCES, "front.c", "fft.c")
"""Sources that ``model.c`` and ``frame.c`` need: with them, the whole library."""
BOOT = ("boot.c", "ed25519.c", "sha2.c", "crc32.c")
"""Sources of the code that decides what a board starts, and checks its signature."""
BARE_METAL = ("startup.c", "memory.c")
LENT = ("port_semihosting.c",)
"""A core whose host lends it files."""
BARE = ("port_bare.c", "caches.c")
"""A core that is on its own, but for a mailbox."""
HOSTED = ("port_stdio.c",)
PROGRAM = ("main.c",)
"""Program that runs the chain on files, for tests and meters."""
KERNEL_CASES = ("kernel_cases.c",)
"""The kernels alone, on files."""

_WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wvla", "-Werror")
# One rounding per operation, on every core: the integers depend on it, and the front end stays equal between cores.
_ARITHMETIC = ("-std=c11", "-O2", "-ffp-contract=off", "-fno-math-errno")
_NO_SYSTEM = (
    "-ffreestanding",
    "-fshort-enums",
    "-nostdlib",
    f"-I{PORT / 'freestanding'}",
    "-Wl,-z,max-page-size=16",  # nobody maps pages here: at 64 KiB, what is left free between parts doubled an image
)
_ZIG_NO_SYSTEM = (
    "-fno-sanitize=undefined",
    "-fno-stack-protector",
    "-fomit-frame-pointer",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-Wl,--entry=etse_reset_handler",
)
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


@dataclass(frozen=True, kw_only=True)
class Program:
    """A linked program."""

    path: Path
    core: Core
    sections: Mapping[str, int]
    """Bytes by section; see :attr:`stored_bytes` and :attr:`memory_bytes`."""
    stored_bytes: int
    """Bytes to be flashed."""
    memory_bytes: int
    """Bytes of RAM, stack included. 0 for a program of an operating system."""


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


def c_source(name: str) -> Path:
    """A source by its name, which no two folders share."""
    return next(path for folder in (LIBRARY, BOARD, PORT, PROGRAMS, PLUGIN) if (path := folder / name).is_file())


def image_sources(generated: Iterable[str], core: Core, program: Sequence[str]) -> tuple[str, ...]:
    """Names of the sources that an image is compiled from besides ``generated``: the library, the program, and what starts it."""
    library = SOURCES if "frame.c" in generated else NETWORK_SOURCES
    return (*library, *program, *(HOSTED if not core.regions else (*BARE_METAL, *(BARE if core.mailbox else LENT))))


def zig() -> tuple[str, ...]:
    """The command of zig's C compiler. ``TargetError`` if it is not installed."""
    if find_spec("ziglang") is None:
        raise TargetError(f"compiling for a device needs ziglang: {install_line('firmware')}")
    return sys.executable, "-m", "ziglang", "cc"


def shared_library(
    generated: Mapping[str, str], to: Path, flags: Sequence[str] = (), compiler: Sequence[str] | None = None
) -> None:
    """Compile for this machine and write ``to``; ``generated`` comes from :mod:`firmware_bridge.codegen`.

    ``TargetError`` if the compiler is missing or refuses.
    """
    sources = SOURCES if "frame.c" in generated else NETWORK_SOURCES
    with replacing(to, TargetError) as temporary:
        _compile(generated, sources, temporary, ("-shared", "-fPIC", *flags), compiler or zig())


def linux_binary(generated: Mapping[str, str], program: Sequence[str], to: Path, flags: Sequence[str] = ()) -> None:
    """Compile library and ``program`` for any Linux on this kind of machine that has glibc 2.28 (2018) or newer, and write ``to``.

    ``TargetError`` as of :func:`shared_library`.
    """
    target = ("-target", f"{machine()}-linux-gnu.2.28", "-O3", "-fno-sanitize=undefined", "-Wl,-s")
    with replacing(to, TargetError) as temporary:
        _compile(generated, (*SOURCES, *program), temporary, (*target, *flags, "-ldl", "-lm"), zig())


_WASM = (
    *("-target", "wasm32-freestanding", "-mcpu=generic+simd128+bulk_memory"),
    *("-O3", "-ffreestanding", "-nostdlib", "-fno-sanitize=undefined", "-fno-stack-protector"),
    *("-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=65536"),
)
_WASM_EXPORTS = (
    *("etse_init", "etse_set_voice", "etse_reset", "etse_process", "etse_network", "etse_kernels", "etse_crc32"),
    *("web_measure", "web_sound", "web_features", "web_moves", "web_patch", "web_window", "web_levels"),
)


def wasm_module(generated: Mapping[str, str], to: Path) -> None:
    """Compile the library to a WebAssembly module that imports nothing, and write ``to``: ``web.c`` says what it exports.

    It needs the vectors of 128 bits that every browser has had since 2023. ``TargetError`` if zig is missing or refuses.
    """
    exports = [f"-Wl,--export={name}" for name in _WASM_EXPORTS]
    flags = (*_WASM, f"-I{PORT / 'freestanding'}", *exports)
    with replacing(to, TargetError) as temporary:
        _compile(generated, (*SOURCES, "web.c", "memory.c"), temporary, flags, zig())


def build_program(
    generated: Mapping[str, str],
    core: Core,
    to: Path,
    *,
    program: Sequence[str] = PROGRAM,
    flags: Sequence[str] = (),
    gcc: bool = False,
) -> Program:
    """Compile and link a program around the library and write ``to``.

    ``program``: sources that define ``program()`` of ``port.h``; ``flags``: more for the compiler; ``gcc``: with
    arm-none-eabi-gcc instead of zig. ``TargetError`` if the compiler is missing or refuses, or a region is too small.
    """
    if gcc and not core.gcc:
        raise TargetError(f"{core.name} is not compiled with arm-none-eabi-gcc: leave the compiler at zig")
    compiler = ("arm-none-eabi-gcc", *core.gcc) if gcc else (*zig(), *core.zig)
    sources = image_sources(generated, core, program)
    with replacing(to, TargetError) as temporary:
        if core.regions:
            system = (*_NO_SYSTEM, "-DETSE_MAILBOX" if core.mailbox else "-DETSE_SEMIHOSTING")
            system += (*(("-DETSE_CACHES",) if core.caches else ()), *(() if gcc else _ZIG_NO_SYSTEM))
            files = {**generated, "link.ld": linker_script(core)}
            _compile(files, sources, temporary, (*system, *flags), compiler)
        else:
            _compile(generated, sources, temporary, flags, compiler)
        parts = read_sections(temporary)
    return Program(
        path=to,
        core=core,
        sections={part.name: part.size_bytes for part in parts},
        stored_bytes=sum(part.size_bytes for part in parts if part.stored),
        memory_bytes=sum(part.size_bytes for part in parts if part.name in _CHANGING) if core.regions else 0,
    )


_CHANGING = (".mailbox", ".data", ".state", ".arena", ".voice", ".bss", ".stack")


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


def _compile(generated: Mapping[str, str], sources: Sequence[str], to: Path, flags: Sequence[str], compiler: Sequence[str]) -> None:
    """Compile. ``TargetError`` with the compiler's first complaint."""
    folder = to.with_name(f"{to.name}.c")
    folder.mkdir()
    try:
        for name, text in generated.items():
            (folder / name).write_text(text)
        own = [str(folder / name) for name in generated if name.endswith(".c")]
        script = [f"-Wl,-T,{folder / name}" for name in generated if name.endswith(".ld")]
        paths = [str(c_source(name)) for name in sources]
        include = [f"-I{folder}", *INCLUDES]
        command = [*compiler, *_ARITHMETIC, *_WARNINGS, *flags, *script, *include, *own, *paths, "-o", str(to)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise TargetError(f"{compiler[0]} does not run: {error.strerror}; install it or choose another compiler") from error
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line or "overflowed" in line]
        reason = (lines or done.stderr.splitlines() or ["no message"])[0].strip().replace(str(folder), "generated")
        raise TargetError(f"the compiler refuses the firmware: {reason}")
