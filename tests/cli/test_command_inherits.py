"""``trace -- COMMAND``: what the command inherits, and as whom it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from support.program import AS_NOBODY, NOBODY, PROGRAM, run
from support.traced_command import QUICK, of_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.kernel


# What a program inherits, as the program itself sees it; Python changes what it ignores.
_INHERITED = """
import json, os
status = dict(line.split(':\\t') for line in open('/proc/self/status') if ':\\t' in line)
kept = 'SigBlk Umask NoNewPrivs CapInh CapAmb CapPrm CapEff CapBnd Groups Uid Gid Seccomp'
print(json.dumps({
    'status': {name: status[name] for name in kept.split()},
    'group': os.getpgrp(), 'session': os.getsid(0), 'cwd': os.getcwd(), 'nice': os.nice(0),
    'fds': sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1],
    'limits': open('/proc/self/limits').read(),
    'environ': open('/proc/self/environ', encoding='latin-1').read(),
    'oom': open('/proc/self/oom_score_adj').read(),
}))
"""


def inherits(before: Sequence[str], prefix: Sequence[str], env: Mapping[str, str]) -> Any:
    read, write = os.pipe()
    os.set_inheritable(read, True)  # noqa: FBT003 - the standard library's signature

    def seen_by(*program: str) -> str:
        return subprocess.run(
            [*before, *prefix, *program],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=env, pass_fds=[read], timeout=60, check=True, text=True,
        ).stdout  # fmt: skip

    try:
        found = json.loads(seen_by(sys.executable, "-I", "-c", _INHERITED))
        found["signals"] = seen_by("grep", "Sig[BIC]", "/proc/self/status")
    finally:
        os.close(read)
        os.close(write)
    return found


class TestInheritance:
    @pytest.mark.parametrize(
        "before",
        [
            (),
            ("nohup",),
            ("sh", "-c", 'trap "" INT QUIT USR1 CHLD; exec "$@"', "sh"),
            ("sh", "-c", 'umask 027; ulimit -n 77; cd /; exec "$@"', "sh"),
            ("setsid", "--wait"),
            ("nice", "-n", "5"),
            AS_NOBODY,
        ],
        ids=["nothing", "nohup", "ignored signals", "limits", "session", "nice", "nobody"],
    )
    def test_the_command_inherits_what_it_would_without_us(self, before: Sequence[str]) -> None:
        env = {"PATH": os.environ["PATH"], "ODD": "\udcff\n=", "HOME": "/x"}
        bare = inherits(before, (), env)
        ours = inherits(before, [*PROGRAM, "trace", *QUICK, "--"], env)
        if "setsid" in before:  # another session each time: only that it is a new one is the same
            for found in (bare, ours):
                assert found.pop("group") == found.pop("session") != os.getsid(0)
        assert ours == bare

    def test_a_broken_pipe_ends_it_as_it_would_without_us(self) -> None:
        done = of_command(*QUICK, "--", "bash", "-c", "yes | head -1; echo ${PIPESTATUS[*]}")
        assert done.out == b"y\n141 0\n"


class TestUser:
    SUDO: ClassVar = {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY), "SUDO_USER": "nobody"}

    def test_under_sudo_it_runs_as_who_called_it(self) -> None:
        left = {**self.SUDO, "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh"}
        seen = "id; echo $HOME $USER $LOGNAME $SHELL $SUDO_UID; grep Cap[^IB] /proc/self/status"
        done = of_command(*QUICK, "--", "sh", "-c", seen, env=left)
        assert done.out.decode().splitlines() == [
            "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)",
            f"/root root root /bin/sh {NOBODY}",
            *(f"Cap{name}:\t{0:016x}" for name in ("Prm", "Eff", "Amb")),
        ]

    @pytest.mark.parametrize("user", ["games", "daemon", "root"])
    def test_another_may_be_chosen_with_all_groups(self, user: str) -> None:
        done = of_command(*QUICK, "--as-user", user, "--", "id", env=self.SUDO)
        assert done.out == subprocess.run(["id", user], capture_output=True, check=True).stdout

    def test_without_sudo_it_runs_as_the_caller(self) -> None:
        assert of_command(*QUICK, "--", "id", "-u").out == b"0\n"
        nobody = of_command(*QUICK, "--", "id", "-u", before=AS_NOBODY, env={"SUDO_UID": "0"})
        assert (nobody.code, nobody.out) == (0, f"{NOBODY}\n".encode())

    def test_a_user_without_a_name_is_possible(self) -> None:
        left = {"SUDO_UID": "4000000000", "SUDO_GID": "4000000001"}
        done = of_command(*QUICK, "--", "id", env=left)
        assert done.out == b"uid=4000000000 gid=4000000001 groups=4000000001\n"

    @pytest.mark.parametrize(
        "left",
        [{"SUDO_UID": text} for text in ("", "-1", "x", "1 ", "4294967295", "9" * 5000, "\u0661")]
        + [{"SUDO_UID": "65534", "SUDO_GID": "4294967295"}, {"SUDO_UID": "4000000000"}],
        ids=lambda left: ",".join(left.values())[:12],
    )
    def test_what_sudo_cannot_have_left_is_refused(self, left: dict[str, str]) -> None:
        result = run("trace", "--", "true", env=left)
        assert (result.code, result.out) == (2, "")
        assert "SUDO_" in result.sentence()

    def test_only_root_may_choose(self) -> None:
        result = run("trace", "--as-user", "games", "--", "true", before=AS_NOBODY)
        assert (result.code, result.out) == (77, "")
        assert "sudo" in result.sentence()

    def test_one_who_does_not_exist_is_a_usage_error(self) -> None:
        result = run("trace", "--as-user", "no such", "--", "true")
        assert (result.code, result.out) == (2, "")
        assert "'no such'" in result.sentence()

    def test_files_are_found_with_the_users_rights(self, tmp_path: Path) -> None:
        (tmp_path / "tool").symlink_to("/bin/true")
        tmp_path.chmod(0o700)
        result = run("trace", "--as-user", "nobody", "--", f"{tmp_path}/tool")
        assert result.code == 126
        assert "Permission denied" in result.sentence()
