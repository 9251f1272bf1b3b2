"""Under which account of the operating system the servers run: never root."""

import os
import pwd
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hsstar.domain.errors import LocalStackError

UNPRIVILEGED = ("postgres", "nobody")  # the first of them that exists stands in for root


@dataclass(frozen=True)
class Account:
    """The account that runs the servers and owns their data."""

    name: str
    user_id: int
    group_id: int

    @property
    def is_ours(self) -> bool:
        """Whether this process already runs under the account."""
        return self.user_id == os.getuid()

    def command(self, argv: Sequence[str]) -> list[str]:
        """The argument list that runs `argv` under this account."""
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
        """The first folder on the way down to this one that stops the account; None if none does."""
        if self.is_ours:
            return None
        for step in (*reversed(folder.parents), folder):
            if step.exists() and step.stat().st_uid != self.user_id and not step.stat().st_mode & 0o001:
                return step
        return None


def starting_user() -> str:
    """The name of the user who runs this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError as error:
        raise LocalStackError(
            f"the user id {os.getuid()} has no name in /etc/passwd, which Postgres needs; "
            "add one, or set HSSTAR_DATABASE_URL to a server"
        ) from error


def account_for(data: Path) -> Account:
    """The account for servers with this data: we; for root the data's owner or an unprivileged one."""
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
