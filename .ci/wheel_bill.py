"""Bill of materials of a wheel: ``python .ci/wheel_bill.py WHEEL ENVIRONMENT``, where the wheel is installed in the environment.

CycloneDX in JSON: the packages that pip chose (cyclonedx-bom lists them), the wheel's name, version and SHA-256, and the models
that are shipped in it. Equal content gives equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MODELS = (".etse", ".pt")


def bill(wheel: Path, environment: Path) -> str:
    """The bill; ``CalledProcessError`` if the environment is none."""
    options = ("--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "--output-format", "JSON", "--spec-version", "1.6")
    command = [sys.executable, "-m", "cyclonedx_py", "environment", *map(str, options), str(environment)]
    content = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    with zipfile.ZipFile(wheel) as file:
        (about,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        stated = message_from_bytes(file.read(about))
        inside = {name: file.read(name) for name in sorted(file.namelist()) if name.endswith(MODELS)}
    name, version = stated["Name"], stated["Version"]
    subject = content["metadata"]["component"]
    subject |= {"version": version, "purl": f"pkg:pypi/{name}@{version}", "hashes": _sha256(wheel.read_bytes())}
    models: list[dict[str, Any]] = [
        {
            "type": "machine-learning-model",
            "bom-ref": path,
            "name": path,
            "version": version,
            "licenses": subject["licenses"],
            "hashes": _sha256(data),
        }
        for path, data in inside.items()
    ]
    content["components"] += models
    (own,) = (entry for entry in content["dependencies"] if entry["ref"] == subject["bom-ref"])
    own["dependsOn"] = sorted([*own.get("dependsOn", ()), *inside])
    content["dependencies"] += [{"ref": path} for path in inside]
    return json.dumps(content, indent=1) + "\n"


def _sha256(content: bytes) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]


if __name__ == "__main__":
    sys.stdout.write(bill(Path(sys.argv[1]), Path(sys.argv[2])))
