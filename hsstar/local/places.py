"""Where the embedded servers of a home keep their data and their sockets.

For root, and with HSSTAR_SERVER_DIR, the data lie outside of the home. So the home records where they are,
and they record whose they are: a home that was moved finds its data, a copy of it does not take another's.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hsstar.domain.errors import ConflictError, LocalStackError
from hsstar.local.accounts import Account
from hsstar.local.files import read_json, write_json

ROOT_DIRECTORY = Path("/var/lib/hsstar")  # for root's servers: their account cannot enter root's home
SOCKET_PARENT = Path("/tmp")  # noqa: S108 - the folder in it is checked
RECORD_FILE = "servers.json"  # in the home
OWNER_FILE = "home"  # in the servers' folder
SOCKET_BYTES = 107 - len("/.s.PGSQL.5432.lock")  # what a socket's folder may have; the system's limit is 107
_LINGER = Path("/var/lib/systemd/linger")
_LOGINS = Path("/run/user")


@dataclass(frozen=True)
class Record:
    """What a home says of itself and its servers' folders; that of the data is None if they are inside."""

    home: str
    folder: str | None
    sockets: str


def _read_record(home: Path) -> Record | None:
    try:
        return Record(**read_json(home / RECORD_FILE))
    except TypeError:
        return None


@dataclass(frozen=True)
class Places:
    """The folders of one home's servers.

    Attributes:
        label: names the stack on this machine.
        root: holds copies of the servers' programs.
        folder: the data, a folder for each server.
        sockets: where the sockets are; None before the first start.
        moved_from: where the home was at its last start, if that was elsewhere.
    """

    home: Path
    label: str
    root: Path
    folder: Path
    sockets: Path | None
    moved_from: Path | None = None

    @classmethod
    def find(cls, home: Path, server_dir: Path | None, *, anew: bool = False) -> "Places":
        """Find the places of a home; its record goes before HSSTAR_SERVER_DIR, unless it begins `anew`."""
        home = home.absolute()
        label = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]
        inside = home / "servers"
        record = None if anew else _read_record(home)
        sockets = None if record is None else Path(record.sockets)
        before = None if record is None else Path(record.home)
        before = None if before is None or before.resolve() == home.resolve() else before
        root = server_dir or (ROOT_DIRECTORY if os.getuid() == 0 else inside)
        if record is not None and record.folder is not None:
            folder = Path(record.folder)
            moved = root / folder.name
            folder = moved if moved.is_dir() and not folder.is_dir() else folder
            return cls(home, folder.name, folder.parent, folder, sockets, before)
        if root == inside or (inside / "postgres" / "data").is_dir():
            return cls(home, label, inside, inside, sockets, before)
        return cls(home, label, root, root / label, sockets, before)

    @property
    def is_inside(self) -> bool:
        """Whether the data move with the home."""
        return self.folder == self.home / "servers"

    def check(self, server_dir: Path | None) -> None:
        """Raise LocalStackError if the data are not where they should be, ConflictError if another's."""
        record = _read_record(self.home)
        if record is not None and record.folder is not None and not self.folder.is_dir():
            raise LocalStackError(
                f"the data of {self.home} were in {self.folder}, and nothing is there: put them back, or "
                "below HSSTAR_SERVER_DIR; for an empty database run: hsstar up --new-database"
            )
        if server_dir is not None and self.root != server_dir and self.folder.is_dir():
            target = server_dir / self.folder.name
            raise LocalStackError(
                f"the data of {self.home} are in {self.folder}, not in HSSTAR_SERVER_DIR; "
                + (
                    "unset HSSTAR_SERVER_DIR"
                    if self.is_inside
                    else f"unset HSSTAR_SERVER_DIR, or move them: mv {self.folder} {target}"
                )
            )
        owner = self._owner()
        if owner is not None and owner != self.home.resolve():
            of_owner = _read_record(owner)
            if of_owner is not None and of_owner.folder == str(self.folder):
                raise ConflictError(
                    f"{self.folder} holds the data of {owner}; if {self.home} is a copy of it, "
                    f"remove {self.home / RECORD_FILE} and run: hsstar up --new-database"
                )

    def record(self, sockets: Path) -> None:
        """Write down where data and sockets are, before the servers start."""
        self._write(self.moved_from or self.home, sockets)

    def settle(self) -> None:
        """Write down that the data are this home's, and that all in them knows where it is."""
        if self.moved_from is not None and self.sockets is not None:
            self._write(self.home, self.sockets)
        if not self.is_inside and self._owner() != self.home.resolve():
            (self.folder / OWNER_FILE).write_text(f"{self.home.resolve()}\n", encoding="utf-8")

    def _write(self, home: Path, sockets: Path) -> None:
        folder = None if self.is_inside else str(self.folder)
        write_json(self.home / RECORD_FILE, asdict(Record(str(home), folder, str(sockets))))

    def _owner(self) -> Path | None:
        try:
            return Path((self.folder / OWNER_FILE).read_text(encoding="utf-8").rstrip("\n"))
        except (OSError, ValueError):
            return None


def socket_directory(
    label: str, account: Account, runtime_dir: Path | None, environ: Mapping[str, str] = os.environ
) -> Path:
    """Return a folder for the sockets of a stack: below HSSTAR_RUNTIME_DIR, XDG_RUNTIME_DIR or /tmp.

    XDG_RUNTIME_DIR counts if the servers' account is ours and the folder outlives our login. Raises
    LocalStackError where HSSTAR_RUNTIME_DIR is too long for a socket.
    """
    name = f"hsstar-{account.user_id}-{label[:8]}"
    if runtime_dir is not None:
        folder = runtime_dir / name
        if len(os.fsencode(folder)) > SOCKET_BYTES:
            raise LocalStackError(
                f"HSSTAR_RUNTIME_DIR={runtime_dir} is too long: "
                f"a socket's folder has at most {SOCKET_BYTES} bytes"
            )
        return folder
    session = environ.get("XDG_RUNTIME_DIR", "")
    if session and account.is_ours and _outlives_login(Path(session), account):
        folder = Path(session) / name
        if len(os.fsencode(folder)) <= SOCKET_BYTES:
            return folder
    return SOCKET_PARENT / name


def _outlives_login(folder: Path, account: Account) -> bool:
    if not folder.is_absolute() or not folder.is_dir() or folder.stat().st_uid != account.user_id:
        return False
    by_login = folder == _LOGINS / str(account.user_id)
    return not by_login or (_LINGER / account.name).exists()  # else it goes with the last login
