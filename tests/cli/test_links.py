"""What is written where others can write: their links are not followed, their files not used."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from support.program import AS_NOBODY, NOBODY, PROGRAM, environment, in_own_mounts, run
from support.waiting import PATIENCE_S

pytestmark = pytest.mark.kernel  # only root can make what is another user's

_OPTIONS = ("-o", "--record", "--stats-file")
_SHARED = (0o1777, 0o777, 0o775)
every_option = pytest.mark.parametrize("option", _OPTIONS)


def trace(option: str, target: object, **how: object) -> subprocess.CompletedProcess[str]:
    """Trace for a moment, with the source that starts fastest."""
    words = [*PROGRAM, "trace", "-d", "0", "--source", "proc-walker", option, str(target)]
    return subprocess.run(
        words,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        env=environment(),
        timeout=60,
        check=False,
        **how,
    )  # type: ignore[call-overload, no-any-return]


def refused(option: str, target: Path) -> str:
    """Expect the refusal of a place before anything is written there; return why."""
    done = trace(option, target)
    assert done.returncode == 2, done
    assert str(target) in done.stderr
    assert option in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def given_to(path: Path, uid: int) -> Path:
    """Make somebody the owner of a path, not of where it leads."""
    os.chown(path, uid, uid, follow_symlinks=False)
    return path


@pytest.fixture(params=_SHARED, ids=oct)
def shared(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a directory in which others can write too."""
    directory = tmp_path / "shared"
    directory.mkdir()
    os.chown(directory, 0, NOBODY)
    directory.chmod(request.param)
    return directory


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """Return a file of root's that nobody may lead us to."""
    path = tmp_path / "precious"
    path.write_text("precious\n")
    path.chmod(0o644)
    return path


class TestOfSomebodyElse:
    @every_option
    def test_a_link_is_not_followed(self, shared: Path, precious: Path, option: str) -> None:
        link = shared / "out"
        link.symlink_to(precious)
        assert "link of user" in refused(option, given_to(link, NOBODY))
        assert precious.read_text() == "precious\n"

    @every_option
    def test_a_link_to_what_is_not_there_makes_nothing(
        self, shared: Path, tmp_path: Path, option: str
    ) -> None:
        link = shared / "out"
        link.symlink_to(tmp_path / "made")
        refused(option, given_to(link, NOBODY))
        assert not (tmp_path / "made").exists()

    @every_option
    def test_a_link_on_the_way_is_not_followed(
        self, shared: Path, tmp_path: Path, option: str
    ) -> None:
        (tmp_path / "etc").mkdir()
        (shared / "directory").symlink_to(tmp_path / "etc")
        given_to(shared / "directory", NOBODY)
        refused(option, shared / "directory" / "out")
        assert list((tmp_path / "etc").iterdir()) == []

    @every_option
    def test_a_link_behind_one_of_our_own_is_not_followed(
        self, shared: Path, tmp_path: Path, precious: Path, option: str
    ) -> None:
        (shared / "theirs").symlink_to(precious)
        given_to(shared / "theirs", NOBODY)
        ours = tmp_path / "ours"
        ours.symlink_to(shared / "theirs")
        refused(option, ours)
        assert precious.read_text() == "precious\n"

    @every_option
    def test_a_hard_link_is_not_written_through(
        self, shared: Path, precious: Path, option: str
    ) -> None:
        os.link(precious, shared / "out")
        assert "another name" in refused(option, shared / "out")
        assert precious.read_text() == "precious\n"
        assert stat.S_IMODE(precious.stat().st_mode) == 0o644

    @every_option
    def test_a_file_laid_out_for_us_is_not_used(self, shared: Path, option: str) -> None:
        (shared / "out").write_text("theirs\n")
        assert "file of user" in refused(option, given_to(shared / "out", NOBODY))
        assert (shared / "out").read_text() == "theirs\n"

    @every_option
    def test_a_named_pipe_is_not_waited_for(self, shared: Path, option: str) -> None:
        os.mkfifo(shared / "out")
        assert "named pipe of user" in refused(option, given_to(shared / "out", NOBODY))

    @every_option
    def test_a_device_is_not_opened(self, shared: Path, option: str) -> None:
        try:
            os.mknod(shared / "out", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("no device can be made here; run on a host, or in a privileged container")
        assert "device of user" in refused(option, given_to(shared / "out", NOBODY))

    @every_option
    def test_a_link_in_their_own_directory_is_not_followed(
        self, tmp_path: Path, precious: Path, option: str
    ) -> None:
        home = tmp_path / "home"
        home.mkdir(mode=0o755)
        given_to(home, NOBODY)
        (home / "out").symlink_to(precious)
        refused(option, given_to(home / "out", NOBODY))
        assert precious.read_text() == "precious\n"

    def test_a_recording_does_not_go_into_a_file_that_its_owner_can_read(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "out").touch(mode=0o644)
        assert "could read it" in refused("--record", given_to(tmp_path / "out", NOBODY))

    def test_a_user_does_not_follow_another_users_link_either(
        self, shared: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "target"
        target.touch()
        target.chmod(0o666)
        (shared / "out").symlink_to(target)
        given_to(shared / "out", NOBODY - 1)
        result = run("trace", "-d", "0", "-o", str(shared / "out"), before=AS_NOBODY)
        assert result.code == 2
        assert "link of user" in result.sentence()


class TestOfOurOwn:
    """What must go on working."""

    @every_option
    def test_a_new_file_where_others_can_write(self, shared: Path, option: str) -> None:
        assert trace(option, shared / "out").returncode == 0
        assert (shared / "out").stat().st_size > 0
        assert [entry.name for entry in shared.iterdir()] == ["out"]
        assert trace(option, shared / "out").returncode == 0  # and once more

    @every_option
    def test_a_link_of_our_own(self, shared: Path, tmp_path: Path, option: str) -> None:
        (shared / "out").symlink_to(tmp_path / "target")
        assert trace(option, shared / "out").returncode == 0
        assert (tmp_path / "target").stat().st_size > 0
        assert (shared / "out").is_symlink()

    @every_option
    def test_links_that_only_root_can_make(self, tmp_path: Path, option: str) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "directory").symlink_to("real")
        given_to(tmp_path / "directory", NOBODY)  # it may have been theirs: they cannot change it
        assert trace(option, tmp_path / "directory" / ".." / "real" / "out").returncode == 0
        assert (tmp_path / "real" / "out").stat().st_size > 0

    @every_option
    def test_a_named_pipe_of_our_own(self, shared: Path, option: str) -> None:
        os.mkfifo(shared / "out")
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append((shared / "out").read_bytes()))
        reader.start()
        assert trace(option, shared / "out").returncode == 0
        reader.join(PATIENCE_S)
        assert got[0]

    @every_option
    @pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
    def test_stdout_by_name(self, place: str, option: str) -> None:
        done = subprocess.run(
            [*PROGRAM, "trace", "-d", "0", "--source", "proc-walker", "-o", "/dev/null", option,
             place],
            capture_output=True, env=environment(), timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout

    @every_option
    def test_stderr_by_name(self, option: str) -> None:
        assert trace(option, "/dev/stderr").returncode == 0

    @every_option
    def test_nothing_by_name(self, option: str) -> None:
        assert trace(option, "/dev/null").returncode == 0
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

    @every_option
    def test_the_substitution_of_a_process(self, tmp_path: Path, option: str) -> None:
        script = f'"$@" trace -d 0 --source proc-walker {option} >(cat >{tmp_path}/got); wait $!'
        done = subprocess.run(
            ["bash", "-c", script, "bash", *PROGRAM],
            stdout=subprocess.DEVNULL, env=environment(), timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0
        assert (tmp_path / "got").stat().st_size > 0

    @every_option
    def test_the_file_of_a_user_in_their_own_home_by_root(
        self, tmp_path: Path, option: str
    ) -> None:
        home = tmp_path / "home"
        home.mkdir(mode=0o755)
        given_to(home, NOBODY)
        assert trace(option, home / "out").returncode == 0
        assert (home / "out").stat().st_size > 0


class TestModes:
    def test_a_new_recording_is_for_nobody_else(self, tmp_path: Path) -> None:
        assert trace("--record", tmp_path / "out", umask=0).returncode == 0
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600

    def test_a_recording_takes_the_place_of_one_that_all_could_read(self, tmp_path: Path) -> None:
        (tmp_path / "out").touch()
        (tmp_path / "out").chmod(0o666)
        assert trace("--record", tmp_path / "out").returncode == 0
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600
        assert (tmp_path / "out").stat().st_size > 0

    def test_new_statistics_keep_the_owner_and_mode_of_the_earlier_ones(
        self, tmp_path: Path
    ) -> None:
        target = tmp_path / "stats"
        target.touch()
        target.chmod(0o640)
        os.chown(target, NOBODY, NOBODY)
        assert trace("--stats-file", target).returncode == 0
        found = target.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o640, NOBODY)


class TestStatistics:
    """They are written beside their place and renamed, so that none are ever half there."""

    def test_a_reader_of_the_earlier_ones_still_has_them(self, tmp_path: Path) -> None:
        target = tmp_path / "stats"
        target.write_text("earlier")
        with target.open() as earlier:
            assert trace("--stats-file", target).returncode == 0
            assert earlier.read() == "earlier"
        json.loads(target.read_text())
        assert [entry.name for entry in tmp_path.iterdir()] == ["stats"]

    def test_a_run_that_cannot_start_leaves_none(self, tmp_path: Path) -> None:
        options = ("--source", "proc-walker", "--ancestor-pid", "4194304")
        assert run("trace", *options, "--stats-file", str(tmp_path / "stats")).code != 0
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_is_a_mount_of_its_own_is_written_in_place(self, tmp_path: Path) -> None:
        target, mounted = tmp_path / "stats", tmp_path / "mounted"
        target.write_text("earlier, and longer than nothing")
        mounted.write_text("x" * 100_000)
        before = in_own_mounts(f"mount --bind '{mounted}' '{target}'")
        result = run("trace", "-d", "0", "--stats-file", str(target), before=before)
        assert result.code == 0
        json.loads(mounted.read_text())
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mounted", "stats"]

    def test_a_directory_in_which_nothing_can_be_made_is_enough_for_a_file_that_is_there(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "stats").touch()
        (tmp_path / "stats").chmod(0o666)
        tmp_path.chmod(0o755)
        result = run("trace", "-d", "0", "--stats-file", str(tmp_path / "stats"), before=AS_NOBODY)
        assert result.code == 0
        json.loads((tmp_path / "stats").read_text())
