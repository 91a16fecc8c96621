"""Files that are whole or not there: modes, links of others, leftovers of killed runs, sizes that have no end."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_tse.embeddings import read_embeddings
from edge_tse.errors import ArtifactError, AudioError, EdgeTseError
from edge_tse.files import check_outputs, erase, open_private, read_bytes, replacing, write_bytes
from edge_tse.voice import load_voice, save_voice
from tests import graphs
from tests.command import Run

ROOT = Path(__file__).parents[1]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestModes:
    def test_a_new_file_is_for_everybody_or_for_its_owner(self, tmp_path: Path) -> None:
        before = os.umask(0o022)
        try:
            write_bytes(tmp_path / "a", b"x")
            write_bytes(tmp_path / "b", b"x", private=True)
        finally:
            os.umask(before)
        assert (mode(tmp_path / "a"), mode(tmp_path / "b")) == (0o644, 0o600)

    @pytest.mark.parametrize("kept", [0o600, 0o640, 0o666])
    def test_a_file_that_is_replaced_keeps_its_mode(self, tmp_path: Path, kept: int) -> None:
        for name, private in (("a", False), ("b", True)):
            (tmp_path / name).write_bytes(b"old")
            (tmp_path / name).chmod(kept)
            write_bytes(tmp_path / name, b"new", private=private)
            assert (mode(tmp_path / name), (tmp_path / name).read_bytes()) == (kept, b"new")

    def test_a_voice_is_its_owners(self, tmp_path: Path) -> None:
        voice = graphs.voice(graphs.voice_model())
        save_voice(voice, tmp_path / "v")
        assert mode(tmp_path / "v") == 0o600
        (tmp_path / "v").chmod(0o640)
        save_voice(voice, tmp_path / "v")
        assert mode(tmp_path / "v") == 0o640

    def test_what_grows_is_its_owners(self, tmp_path: Path) -> None:
        with open_private(tmp_path / "a") as file:
            file.write(b"x")
        assert mode(tmp_path / "a") == 0o600
        (tmp_path / "a").chmod(0o644)
        with open_private(tmp_path / "a") as file:
            file.write(b"y")
        assert (mode(tmp_path / "a"), (tmp_path / "a").read_bytes()) == (0o644, b"y")


class TestLinks:
    @pytest.fixture
    def shared(self, tmp_path: Path) -> Path:
        folder = tmp_path / "shared"
        folder.mkdir()
        folder.chmod(0o1777)
        (tmp_path / "precious").write_bytes(b"mine")
        return folder

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's link")
    @pytest.mark.parametrize(
        "write", [lambda path: write_bytes(path, b"x", AudioError), lambda path: open_private(path, AudioError)]
    )
    def test_one_that_another_user_planted_is_refused(self, shared: Path, write: object) -> None:
        link = shared / "v"
        link.symlink_to("../precious")
        os.lchown(link, 4321, 4321)
        os.chown(shared, 1234, 1234)
        with pytest.raises(AudioError, match=r"symbolic link that user 4321 has put there, it leads to \.\./precious"):
            write(link)  # type: ignore[operator]
        (shared / "own").symlink_to(link)  # and not by way of one of ours
        with pytest.raises(AudioError, match="user 4321"):
            write(shared / "own")  # type: ignore[operator]
        assert (shared.parent / "precious").read_bytes() == b"mine"
        assert sorted(path.name for path in shared.iterdir()) == ["own", "v"]

    def test_ones_own_is_followed(self, shared: Path) -> None:
        (shared / "v").symlink_to("../precious")
        write_bytes(shared / "v", b"new")
        assert (shared / "v").is_symlink()
        assert (shared.parent / "precious").read_bytes() == b"new"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's link")
    def test_in_a_folder_that_is_not_shared_a_link_is_followed(self, tmp_path: Path) -> None:
        (tmp_path / "there").write_bytes(b"old")
        (tmp_path / "v").symlink_to("there")
        os.lchown(tmp_path / "v", 4321, 4321)
        write_bytes(tmp_path / "v", b"new")
        assert (tmp_path / "there").read_bytes() == b"new"


class TestLeftovers:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_the_next_run_removes_what_a_killed_one_left(self, tmp_path: Path, number: signal.Signals) -> None:
        code = (
            "import sys, time\nfrom pathlib import Path\nfrom edge_tse.files import replacing\n"
            "with replacing(Path(sys.argv[1])) as t:\n    t.write_bytes(b'half')\n"
            "    print('half', flush=True)\n    time.sleep(60)\n"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "a")]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert running.stdout is not None
        assert running.stdout.readline() == b"half\n"
        (left,) = tmp_path.iterdir()
        write_bytes(tmp_path / "b", b"x")  # while that one is at work
        assert left.exists()
        running.send_signal(number)
        running.wait(10)
        running.stdout.close()
        assert left.exists()
        write_bytes(tmp_path / "b", b"y")
        assert [path.name for path in tmp_path.iterdir()] == ["b"]

    def test_files_of_others_are_left_alone(self, tmp_path: Path) -> None:
        names = [".edge-tse-x", "edge-tse.tmp", ".x.tmp", ".edge-tsex.tmp"]
        for name in names:
            (tmp_path / name).write_bytes(b"x")
        write_bytes(tmp_path / "a", b"x")
        assert {path.name for path in tmp_path.iterdir()} == {"a", *names}

    def test_two_at_once_do_not_take_each_others(self, tmp_path: Path) -> None:
        with replacing(tmp_path / "a") as first:
            first.write_bytes(b"1")
            with replacing(tmp_path / "a") as second:
                second.write_bytes(b"2")
        assert (tmp_path / "a").read_bytes() == b"1"
        assert len(list(tmp_path.iterdir())) == 1


class TestReading:
    def test_no_more_than_so_many_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"12345")
        assert read_bytes(tmp_path / "a", 5) == b"12345"
        with pytest.raises(EdgeTseError, match="has more than 4 bytes"):
            read_bytes(tmp_path / "a", 4)

    def test_what_has_no_end_ends_at_once(self) -> None:
        began = time.monotonic()
        with pytest.raises(AudioError, match="/dev/zero has more than 268,435,456 bytes, embeddings has at most that"):
            read_embeddings(Path("/dev/zero"))
        with pytest.raises(ArtifactError, match="/dev/zero has more than 4,194,304 bytes, voice has at most that"):
            load_voice("/dev/zero")
        assert time.monotonic() - began < 5


class TestVoiceVerb:
    @pytest.fixture
    def voice(self, tmp_path: Path) -> Path:
        save_voice(graphs.voice(graphs.voice_model()), tmp_path / "alice.voice")
        return tmp_path / "alice.voice"

    def test_info(self, run: Run, voice: Path) -> None:
        told = run("voice", voice, "--json").json
        assert told["values"] == 128
        assert told["mode"] == "0600"
        assert told["shipped_models"] == []
        assert told["encoder"] == graphs.voice_model().encoder_digest
        assert "its owner alone" in run("voice", voice, "--info").out
        voice.chmod(0o644)
        assert "others than its owner" in run("voice", voice).out

    def test_delete_overwrites(self, run: Run, voice: Path, tmp_path: Path) -> None:
        os.link(voice, tmp_path / "kept")  # the same bytes under another name
        size = voice.stat().st_size
        assert run("voice", voice, "--delete", "--json").json == {"voice": str(voice), "deleted": True, "bytes": size}
        assert not voice.exists()
        assert (tmp_path / "kept").read_bytes() == b""

    def test_a_damaged_voice_can_be_deleted(self, run: Run, voice: Path) -> None:
        voice.write_bytes(voice.read_bytes()[:-40])
        assert "damaged" in run("voice", voice).complaint
        assert run("voice", voice, "--delete").code == 0

    def test_what_a_killed_erase_left_can_be_deleted(self, run: Run, voice: Path, tmp_path: Path) -> None:
        voice.write_bytes(b"")
        assert run("voice", voice, "--delete", "--json").json["bytes"] == 0
        assert not voice.exists()
        (tmp_path / "__init__.py").touch()
        assert "is not an edge-tse voice" in run("voice", tmp_path / "__init__.py", "--delete").complaint

    def test_nothing_else_is_deleted(self, run: Run, voice: Path, tmp_path: Path) -> None:
        (tmp_path / "x.wav").write_bytes(b"RIFF")
        (tmp_path / "link").symlink_to(voice)
        for path, complaint in (("x.wav", "is not an edge-tse voice"), ("link", "is a symbolic link"), ("none", "no such file")):
            assert complaint in run("voice", tmp_path / path, "--delete").complaint
        assert "exclude each other" in run("voice", voice, "--info", "--delete").complaint
        assert voice.exists()
        with pytest.raises(EdgeTseError, match="cannot be overwritten"):
            erase(tmp_path / "link")

    def test_what_is_overwritten_and_not_removed_is_said(self, voice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It said that it could not be overwritten: try again; then that it was no voice."""

        def refuse(self: Path) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "unlink", refuse)
        with pytest.raises(
            EdgeTseError, match="was overwritten and is empty, but not removed: Permission denied; remove it yoursel"
        ):
            erase(voice)
        assert voice.read_bytes() == b""


def test_two_outputs_of_one_name(tmp_path: Path) -> None:
    check_outputs([tmp_path / "a.json", tmp_path / "b.html"])
    with pytest.raises(EdgeTseError, match="was given for two different outputs"):
        check_outputs([tmp_path / "a.json", tmp_path / "." / "a.json"])
