"""Training over machines: a process that dies and comes back, and examples of jobs that say what the commands take."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command import options_of

ROOT = Path(__file__).parent.parent
JOBS = ROOT / "docs" / "cluster"

# ---------------------------------------------------------------------------------------------------------- training

PROGRAM = """
import os, signal, sys
from pathlib import Path
from quantization import arithmetic, loop
from quantization.train import train

# Two runs are compared, and each would try for itself which arithmetic is faster: the weights differ with it.
arithmetic._tried = lambda *shape: {f"{what}_{kind}": 1.0 for what in ("layer", "step") for kind in ("float32", "bfloat16")}
loop.CHECKPOINT_EVERY_S = 0.0
data, run, mark = map(Path, sys.argv[1:])

def watch(told):
    if told.phase == "extraction" and told.step == 4 and os.environ["RANK"] == "1" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)

# With a beam: a batch of one ear leaves other weights without a gradient than a batch of two.
train("smoke_beam", run, data, steps=6, resume=True, watch=watch)
"""


def two_machines(program: Path, *arguments: Path, dies: bool = False) -> None:
    """Train with two launchers of one process each, as on two machines, to the end or until one ``dies``."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": str(ROOT),
    }
    store = f"--rdzv-endpoint=127.0.0.1:{29000 + os.getpid() % 1000}"
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", store]
    command += ["--rdzv-id=test", "--max-restarts=0", "--local-addr=127.0.0.1", str(program), *map(str, arguments)]
    launchers = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        said = [launcher.communicate(timeout=300)[1] for launcher in launchers]
    finally:
        for launcher in launchers:
            launcher.kill()
    assert [launcher.returncode != 0 for launcher in launchers] == [dies, dies], said[0][-3000:] + said[1][-3000:]


@pytest.mark.slow
def test_a_process_that_is_killed_changes_no_weight(data: Path, tmp_path: Path) -> None:
    """Two launchers, as on two machines; the process of one dies after four steps, and with it the job; begun again, it goes on.

    torchrun can also begin again by itself (``--max-restarts``), but gloo does not always find its peers then.
    """
    torch = pytest.importorskip("torch", reason="training extra not installed")
    pytest.importorskip("lightning_fabric", reason="training extra not installed")
    from quantization.checkpoint import load_checkpoint

    program, mark = tmp_path / "program.py", tmp_path / "mark"
    program.write_text(PROGRAM)
    two_machines(program, data, tmp_path / "killed", mark, dies=True)
    assert mark.exists()
    assert load_checkpoint(tmp_path / "killed").step < 6
    two_machines(program, data, tmp_path / "killed", mark)
    two_machines(program, data, tmp_path / "whole", mark)
    killed, whole = load_checkpoint(tmp_path / "killed"), load_checkpoint(tmp_path / "whole")
    assert killed.step == whole.step == 6
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, killed.student.state_dict()[name]), name


# --------------------------------------------------------------------------------------------------- examples of jobs


def calls(words: list[str]) -> list[tuple[str, set[str]]]:
    """Verbs of edge-tse among the words of a command, with their options."""
    found = []
    for i, word in enumerate(words[:-1]):
        if word in ("edge-tse", "edge_tse"):
            found.append((words[i + 1], {name.partition("=")[0] for name in words[i + 2 :] if name.startswith("-")}))
    return found


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((JOBS / name).read_text()))


@pytest.mark.parametrize(("name", "verb"), [("train.sh", "train"), ("evaluate.sh", "evaluate")])
def test_a_slurm_script_is_sound(name: str, verb: str) -> None:
    path = JOBS / name
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text()
    directives = re.findall(r"^#SBATCH --([a-z-]+)(=\S+)?$", text, re.MULTILINE)
    assert len(directives) == text.count("#SBATCH")
    assert {"nodes", "ntasks-per-node", "time", "requeue"} <= {option for option, _ in directives}
    # Directives after the first command are comments to SLURM.
    assert text.index("set -euo") > text.rindex("#SBATCH")
    joined = text.replace("\\\n", " ")
    ((found, options),) = [call for line in joined.splitlines() if not line.startswith("#") for call in calls(shlex.split(line))]
    assert found == verb
    assert options <= options_of(verb), options - options_of(verb)


@pytest.mark.parametrize("name", ["train.sh", "evaluate.sh"])
def test_shellcheck_has_nothing_to_say(name: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    done = subprocess.run(["shellcheck", JOBS / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def structure_errors(documents: list[dict[str, Any]]) -> list[str]:
    """What Kubernetes would refuse, or never find, in manifests of the kinds used here."""
    versions = {"Service": "v1", "Job": "batch/v1", "Deployment": "apps/v1"}
    found = []
    labels = [document["spec"]["template"]["metadata"]["labels"] for document in documents if document["kind"] != "Service"]
    for document in documents:
        kind, name, spec = document["kind"], document["metadata"]["name"], document["spec"]
        if document["apiVersion"] != versions[kind]:
            found.append(f"{kind} {name}: apiVersion {document['apiVersion']}")
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name):
            found.append(f"{kind} {name}: not a name of DNS")
        if kind == "Service":
            if spec["selector"] not in labels:
                found.append(f"Service {name} selects no pod")
            continue
        template = spec["template"]
        if kind == "Deployment" and spec["selector"]["matchLabels"] != template["metadata"]["labels"]:
            found.append(f"Deployment {name} does not select its own pods")
        if kind == "Job" and template["spec"].get("restartPolicy") not in ("OnFailure", "Never"):
            found.append(f"Job {name}: restartPolicy")
        volumes = {volume["name"] for volume in template["spec"].get("volumes", ())}
        for container in template["spec"]["containers"]:
            if not {"name", "image", "command"} <= container.keys():
                found.append(f"{kind} {name}: a container without name, image or command")
            if not all(isinstance(word, str) for word in container["command"]):
                found.append(f"{kind} {name}: a word of the command is no string")
            mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
            if mounted - volumes:
                found.append(f"{kind} {name}: no volume {mounted - volumes}")
    return found


@pytest.mark.parametrize(("name", "verb"), [("train.yaml", "train"), ("evaluate.yaml", "evaluate")])
def test_a_manifest_is_sound(name: str, verb: str) -> None:
    documents = manifests(name)
    assert structure_errors(documents) == []
    pods = [document["spec"]["template"]["spec"] for document in documents if document["kind"] != "Service"]
    commands = [container["command"] for pod in pods for container in pod["containers"]]
    ((found, options),) = [call for words in commands for call in calls(words)]
    assert found == verb
    assert options <= options_of(verb), options - options_of(verb)
    services = {document["metadata"]["name"] for document in documents if document["kind"] == "Service"}
    hosts = {host.rpartition(".")[2] for words in commands for host in re.findall(r"([a-z0-9.-]+):(?:8786|29400)", " ".join(words))}
    assert {host.rpartition("/")[2].rpartition("=")[2] for host in hosts} == services


def test_unsound_manifests_are_found() -> None:
    documents = manifests("evaluate.yaml")
    service, scheduler, worker, job = documents
    service["spec"]["selector"] = {"app": "nobody"}
    scheduler["apiVersion"] = "v1"
    worker["spec"]["template"]["spec"]["volumes"] = []
    job["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    assert len(structure_errors(documents)) == 4
