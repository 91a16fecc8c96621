"""``make wheels``: sdist and wheels for pip, in one folder, checked as far as a machine without the other processor can.

The C of the package is compiled by zig against the C library of 2012 (glibc 2.17, manylinux2014), for x86-64 and for aarch64,
from what is in the repository and nothing else. Each wheel is built from the sdist, which shows that the sdist is whole.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROCESSORS = ("x86_64", "aarch64")
GLIBC = "2.17"
TAGS = "manylinux_2_17_{0}.manylinux2014_{0}"
COMPILED = ("edge_tse/_front.abi3.so", "edge_tse/nn/_beam.abi3.so")


def main() -> None:
    """Build everything into ``--out``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    out: Path = parser.parse_args().out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = build(Path(folder), out)
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, made))
    for path in made:
        print(f"{path}: {path.stat().st_size:,} bytes")


def build(folder: Path, out: Path) -> list[Path]:
    """Sdist and wheels, written to ``out`` by way of ``folder``."""
    source = folder / "source"
    for name in run("git", "ls-files", "-z", cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    # The wheel's files are as old as the commit: equal commits give equal wheels.
    since = {"SOURCE_DATE_EPOCH": run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip()}
    run(sys.executable, "-m", "build", "--sdist", "--outdir", str(folder / "sdist"), str(source), env=since)
    (sdist,) = (folder / "sdist").glob("*.tar.gz")
    for old in out.glob("edge_tse-*"):  # of another version: who takes all that lies there takes one of each
        old.unlink()
    made = [Path(shutil.copy(sdist, out))]
    for processor in PROCESSORS:
        unpacked = folder / processor
        with tarfile.open(sdist) as archive:
            archive.extractall(unpacked, filter="data")
        (tree,) = unpacked.iterdir()
        environment = since | compiler(processor, unpacked)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", str(unpacked), str(tree), env=environment)
        (plain,) = unpacked.glob("*.whl")
        with zipfile.ZipFile(plain) as wheel:
            if missing := set(COMPILED) - set(wheel.namelist()):  # they are optional: elsewhere a missing compiler is no failure
                raise SystemExit(f"{plain.name} has no {', '.join(sorted(missing))}: zig could not compile it")
        run(sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", TAGS.format(processor), str(plain))
        (tagged,) = unpacked.glob("*.whl")
        told = " ".join(run(sys.executable, "-m", "auditwheel", "show", str(tagged)).split())
        if f"manylinux_2_17_{processor}" not in told:
            raise SystemExit(f"{tagged.name}: auditwheel does not agree with its tag: {told}")
        made.append(Path(shutil.copy(tagged, out)))
    return made


def compiler(processor: str, folder: Path) -> dict[str, str]:
    """Variables by which setuptools compiles with zig for that processor."""
    zig = f"{sys.executable} -m ziglang cc -target {processor}-linux-gnu.{GLIBC}"
    # Debian keeps one pyconfig.h for each processor. Both of ours are alike in all that the stable ABI asks of it.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = Path(sysconfig.get_config_h_filename()).resolve()
    headers = folder / "headers"
    for each in PROCESSORS:
        place = headers / f"{each}-linux-gnu" / version / "pyconfig.h"
        place.parent.mkdir(parents=True)
        shutil.copy(multiarch if (multiarch := Path("/usr/include") / place.relative_to(headers)).is_file() else own, place)
    return {
        "CC": zig,
        "CFLAGS": f"-g0 -fno-sanitize=undefined -I{headers}",
        "LDSHARED": f"{zig} -shared -s",
        "_PYTHON_HOST_PLATFORM": f"linux-{processor}",
    }


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Standard output of a command; if it fails, what it wrote, and the end."""
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
