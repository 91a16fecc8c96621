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
from firmware_bridge.cores import Core, linker_script
from firmware_bridge.elf import read_sections

__all__ = [
    "BOARD",
    "BOOT",
    "INCLUDES",
    "KERNEL_CASES",
    "LIBRARY",
    "PLUGIN",
    "PORT",
    "PROGRAM",
    "PROGRAMS",
    "SOURCES",
    "Program",
    "build_program",
    "c_source",
    "image_sources",
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
