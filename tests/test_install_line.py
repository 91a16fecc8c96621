"""The line that installs what is missing works from where it is read."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_tse import install_line as module
from edge_tse.install_line import install_line

ROOT = Path(__file__).parent.parent


@pytest.fixture
def not_a_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The package as if it lay in site-packages, in an environment whose pip is the shell's."""
    monkeypatch.setattr(module, "_ROOT", tmp_path / "site-packages")
    monkeypatch.setattr(module, "which", lambda name: str(Path(sys.executable).parent / name))


def installed(monkeypatch: pytest.MonkeyPatch, direct_url: object) -> None:
    text = None if direct_url is None else json.dumps(direct_url)
    monkeypatch.setattr(metadata, "distribution", lambda name: SimpleNamespace(read_text=lambda file: text))


def test_a_source_tree_is_named_from_where_one_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert install_line("firmware").endswith(" install -e '.[firmware]'")
    monkeypatch.chdir(tmp_path)
    assert install_line("firmware").endswith(f" install -e '{ROOT}[firmware]'")
    assert install_line("audio", "litert").endswith("[audio,litert]'")


def test_pip_is_that_of_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "which", lambda name: "/somewhere/bin/pip")
    words = shlex.split(install_line("onnx"))
    assert words[1:4] == ["-m", "pip", "install"]
    assert Path(words[0]).absolute() == Path(sys.executable)
    monkeypatch.setattr(module, "which", lambda name: str(Path(sys.executable).parent / name))
    assert install_line("onnx").startswith("pip install ")


@pytest.mark.usefixtures("not_a_tree")
class TestInstalled:
    def test_from_a_wheel_on_the_disk(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        wheel = tmp_path / "my wheels" / "edge_tse-1-cp311-abi3-any.whl"
        wheel.parent.mkdir()
        wheel.touch()
        installed(monkeypatch, {"url": wheel.as_uri(), "archive_info": {}})
        assert install_line("live") == f"pip install '{wheel}[live]'"
        monkeypatch.chdir(tmp_path)
        assert install_line("live") == "pip install 'my wheels/edge_tse-1-cp311-abi3-any.whl[live]'"
        monkeypatch.chdir(wheel.parent)
        assert install_line("live") == "pip install './edge_tse-1-cp311-abi3-any.whl[live]'"

    def test_from_a_folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        installed(monkeypatch, {"url": tmp_path.as_uri(), "dir_info": {}})
        assert install_line("live") == f"pip install '{tmp_path}[live]'"

    @pytest.mark.parametrize("stated", [None, {"url": "file:///nowhere/edge_tse.whl"}, {"url": "https://a/b.whl"}, {}, 3])
    def test_from_an_index_or_a_place_that_is_gone(self, monkeypatch: pytest.MonkeyPatch, stated: object) -> None:
        installed(monkeypatch, stated)
        assert install_line("live") == "pip install 'edge-tse[live]'"

    def test_not_installed_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> None:
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(metadata, "distribution", missing)
        assert install_line() == "pip install 'edge-tse'"


def test_the_line_is_understood_by_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a network pip gets as far as the metadata of the folder, which it has then found, and its extra."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(install_line("audio"))
    program = "from pip._internal.req.constructors import install_req_from_editable as r; import sys; q = r(sys.argv[1]); "
    program += "print(q.name, sorted(q.extras), q.link.file_path)"
    done = subprocess.run([sys.executable, "-c", program, words[-1]], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=2)[1:] == ["['audio']", f"{ROOT}\n"]


def test_no_document_or_message_says_a_line_that_fails() -> None:
    """The name is on no index yet. Only this file, the function and the page of the package, which is for an index, have it."""
    done = subprocess.run(["git", "grep", "-lE", r"pip install '?edge-tse"], cwd=ROOT, capture_output=True, text=True, check=False)
    allowed = {"tests/test_install_line.py", "docs/package.md", "docs/decisions/0045-wheels-and-the-lines-that-install-them.md"}
    assert set(done.stdout.split()) <= allowed
