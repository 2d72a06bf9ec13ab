"""Who a command runs as: the user who called sudo, the one asked for, or the caller."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pwd import getpwnam, getpwuid
from typing import TYPE_CHECKING

from proctree_bpf.cli.errors import CliError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping

# The last 32-bit value is setresuid(2)'s "leave it as it is".
_NO_ID = 2**32 - 1
_ID_DIGITS = 10


@dataclass(frozen=True, slots=True)
class User:
    """Whom to become; ``name`` is None for a user id without an entry in the database."""

    uid: int
    gid: int
    name: str | None

    def become(self) -> None:
        """Give this process the ids and the groups of the user, for good, or raise OSError."""
        if self.name is None:
            os.setgroups([self.gid])
        else:
            os.initgroups(self.name, self.gid)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


def chosen_user(asked: str | None, environ: Mapping[str, str]) -> User | None:
    """Return whom to become: ``asked`` by name, else who called sudo; None to stay the caller.

    Raises:
        CliError: there is no such user, what sudo left makes no sense, or we are not
            root and may become nobody else.

    """
    is_root = os.geteuid() == 0
    if asked is not None:
        if not is_root:
            raise CliError("--as-user needs root; run it with sudo.", ExitCode.NO_PRIVILEGE)
        return _user_named(asked)
    if not is_root or "SUDO_UID" not in environ:
        return None
    uid = _parse_id("SUDO_UID", environ)
    try:
        entry = getpwuid(uid)
    except KeyError:
        return User(uid, _parse_id("SUDO_GID", environ), None)
    gid = _parse_id("SUDO_GID", environ) if "SUDO_GID" in environ else entry.pw_gid
    return User(uid, gid, entry.pw_name)


def _user_named(name: str) -> User:
    try:
        entry = getpwnam(name)
    except (KeyError, ValueError) as error:  # a ValueError is for a NUL in it
        raise CliError(
            f"there is no user {name!r}; name another one with --as-user.", ExitCode.USAGE
        ) from error
    return User(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _parse_id(variable: str, environ: Mapping[str, str]) -> int:
    text = environ.get(variable, "")
    plausible = text.isascii() and text.isdecimal() and len(text) <= _ID_DIGITS
    if plausible and int(text) < _NO_ID:
        return int(text)
    raise CliError(
        f"{variable} is {text!r}, which is not an id; name the user with --as-user.", ExitCode.USAGE
    )
