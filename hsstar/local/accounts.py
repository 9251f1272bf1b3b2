"""The operating system's account that runs the servers: never root."""

import os
import pwd
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hsstar.domain.errors import LocalStackError

UNPRIVILEGED = ("postgres", "nobody")  # root's servers run under the first that exists


@dataclass(frozen=True)
class Account:
    """An account that runs servers and owns their data."""

    name: str
    user_id: int
    group_id: int

    @property
    def is_ours(self) -> bool:
        """Whether this process runs under the account."""
        return self.user_id == os.getuid()

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the argument list that runs `argv` under this account."""
        if self.is_ours:
            return list(argv)
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise LocalStackError(
                "root cannot run Postgres, and setpriv is missing: install util-linux, "
                "or start as an ordinary user"
            )
        switch = [f"--reuid={self.user_id}", f"--regid={self.group_id}", "--clear-groups"]
        return [setpriv, *switch, "--", *argv]

    def can_enter(self, folder: Path) -> Path | None:
        """Return the outermost folder on the path that the account cannot enter; None if it can enter all."""
        if self.is_ours:
            return None
        for step in (*reversed(folder.parents), folder):
            if step.exists() and step.stat().st_uid != self.user_id and not step.stat().st_mode & 0o001:
                return step
        return None


def starting_user() -> str:
    """Return the name of the user who runs this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError as error:
        raise LocalStackError(
            f"the user id {os.getuid()} has no name in /etc/passwd, which Postgres needs; "
            "add one, or set HSSTAR_DATABASE_URL to a server"
        ) from error


def account_for(data: Path) -> Account:
    """Return the account for servers with this data: ours, for root the data's owner or UNPRIVILEGED."""
    if os.getuid() != 0:
        entry = pwd.getpwnam(starting_user())
        return Account(entry.pw_name, os.getuid(), os.getgid())
    owner = data.stat().st_uid if data.exists() else 0
    for entry in pwd.getpwall():
        if owner and entry.pw_uid == owner:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise LocalStackError(
        f"root cannot run Postgres, and none of the accounts {', '.join(UNPRIVILEGED)} exists; "
        "start as an ordinary user"
    )
