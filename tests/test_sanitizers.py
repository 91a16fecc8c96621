"""The C of a board under AddressSanitizer and UndefinedBehaviorSanitizer: the tests of the wire, the server, the boot code and the
audio entry once more, with every access to memory and every overflow checked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.board import FLAGS

SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
TESTS = ("test_wire.py", "test_device.py", "test_flash.py", "test_boot.py", "test_stream.py")
LEFT_OUT = ("emulated", "bare_metal", "real_interrupt", "power_may", "two_threads")
"""What is compiled for another core, or takes minutes here: power at every step, where power_goes_again takes it at random."""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """In which Python loads what was compiled with the sanitizers."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: nothing here has both sanitizers as libraries that Python can load")
    asan = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    if not Path(asan).is_absolute():
        pytest.skip("gcc has no libasan")
    # What Python itself never frees is not the subject.
    options = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return {**os.environ, **options, "LD_PRELOAD": asan, FLAGS: SANITIZERS}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("int a[2] = {0}; a[count + 1] = 1; return a[0];", "AddressSanitizer|runtime error: index"),
        ("char *p = malloc(2); p[count + 1] = 1; return p[0] + p[1];", "AddressSanitizer: heap-buffer-overflow"),
        ("volatile int big = 2147483647; big = big + count; return big > 0;", "runtime error: signed integer overflow"),
        ("return count + 1;", None),
    ],
)
def test_they_find_what_is_wrong(environment: dict[str, str], tmp_path: Path, body: str, found: str | None) -> None:
    (tmp_path / "a.c").write_text(f"#include <stdlib.h>\nint main(int count, char **words) {{ (void)words; {body} }}\n")
    subprocess.run(["gcc", *SANITIZERS.split(), str(tmp_path / "a.c"), "-o", str(tmp_path / "a")], check=True)
    done = subprocess.run([str(tmp_path / "a")], env=environment, capture_output=True, text=True, check=False)
    assert bool(re.search(found or "Sanitizer|runtime error", done.stderr)) == (found is not None), done.stderr


@pytest.mark.slow
def test_the_c_of_a_board_is_clean(environment: dict[str, str]) -> None:
    root = Path(__file__).parent
    chosen = " and ".join(f"not {name}" for name in LEFT_OUT)
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "-m", "not slow", "-k", chosen]
    done = subprocess.run(
        [*command, *(str(root / name) for name in TESTS)],
        cwd=root.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert re.search(r"\d{3} passed", done.stdout), done.stdout[-2000:]
