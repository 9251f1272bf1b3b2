"""Settings from the environment: places, servers and the queue. Standard library only."""

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from hsstar.domain.lifecycle import JobKind
from hsstar.remote.secrets import existing_file, read_secret, refusal

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
RESIDENT_ENGINES = ("auto", "one", "all")
DATABASE_SCHEMES = ("postgresql", "postgresql+psycopg", "postgres")
_STALL_SECONDS = {
    JobKind.SAMPLE: 3_600.0,
    JobKind.VERIFY: 900.0,
    JobKind.SCORE: 3_600.0,
    JobKind.TRAIN: 7_200.0,
}
"""Longer than an engine takes to load, and a batch or step of the largest models."""
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Settings:
    """The settings of the environment, checked and with defaults; the variable of `home` is HSSTAR_HOME."""

    home: Path  # data, logs and, by default, new checkpoints
    models_dir: Path  # new checkpoints
    database_url: str | None = None  # None: the embedded Postgres
    broker_url: str | None = None  # None: the embedded broker
    broker_ca: Path | None = None  # a file of CA certificates; None: the system's
    server_dir: Path | None = None  # parent of the embedded servers' data; None: by the user
    runtime_dir: Path | None = None  # parent of the embedded servers' sockets
    log_level: str = "info"
    lease_seconds: float = 60.0
    max_attempts: int = 3
    job_samples: int = 256  # samples per sampling job
    jobs_in_flight: int = 2  # sampling jobs that a worker runs at once
    resident_engines: str = "auto"  # one or all at a time; auto: one where there is a GPU
    swap_seconds: float = 60.0  # how long jobs of another engine wait while the present one has work
    train_processes: int = 1  # processes of one training on each of its machines, one per GPU
    train_nodes: int = 1  # machines of one training
    train_launcher: str | None = None  # what starts a program once on each of them, such as `srun …`
    accelerate_config: Path | None = None  # of `accelerate config`: how they share the model
    stall_seconds: float | None = None  # without progress, until a job counts as hung; None: by its kind

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read the settings; an empty variable counts as unset. Raise BadInputError with what is legal."""
        home = _folder(environ, "HSSTAR_HOME") or Path("~/.hsstar").expanduser().absolute()
        return cls(
            home=home,
            models_dir=_folder(environ, "HSSTAR_MODELS_DIR") or home / "models",
            database_url=_url(
                environ, "HSSTAR_DATABASE_URL", DATABASE_SCHEMES, "postgresql://user@host/database"
            ),
            broker_url=_url(environ, "HSSTAR_BROKER_URL", (), "redis://host:6379/0 or amqp://user@host//"),
            broker_ca=existing_file(environ, "HSSTAR_BROKER_CA"),
            server_dir=_folder(environ, "HSSTAR_SERVER_DIR"),
            runtime_dir=_folder(environ, "HSSTAR_RUNTIME_DIR"),
            log_level=_one_of(environ, "HSSTAR_LOG_LEVEL", LOG_LEVELS, cls.log_level),
            lease_seconds=_positive(environ, "HSSTAR_LEASE_SECONDS", cls.lease_seconds),
            max_attempts=_positive(environ, "HSSTAR_MAX_ATTEMPTS", cls.max_attempts),
            job_samples=_positive(environ, "HSSTAR_JOB_SAMPLES", cls.job_samples),
            jobs_in_flight=_positive(environ, "HSSTAR_JOBS_IN_FLIGHT", cls.jobs_in_flight),
            resident_engines=_one_of(
                environ, "HSSTAR_RESIDENT_ENGINES", RESIDENT_ENGINES, cls.resident_engines
            ),
            swap_seconds=_positive(environ, "HSSTAR_SWAP_SECONDS", cls.swap_seconds),
            train_processes=_positive(environ, "HSSTAR_TRAIN_PROCESSES", cls.train_processes),
            train_nodes=_positive(environ, "HSSTAR_TRAIN_NODES", cls.train_nodes),
            train_launcher=environ.get("HSSTAR_TRAIN_LAUNCHER", "").strip() or None,
            accelerate_config=existing_file(environ, "HSSTAR_ACCELERATE_CONFIG"),
            stall_seconds=_positive(environ, "HSSTAR_STALL_SECONDS", 0.0) or None,
        )

    @property
    def trainer_options(self) -> dict[str, Any]:
        """The arguments of `build_trainer`: where a training runs."""
        return {
            "processes": self.train_processes,
            "nodes": self.train_nodes,
            "node_launcher": self.train_launcher,
            "launch_config": self.accelerate_config,
        }

    def stall_limit(self, kind: JobKind) -> float:
        """Return for how many seconds a job of this kind may get no further."""
        return self.stall_seconds or _STALL_SECONDS[kind]

    def as_environment(self) -> dict[str, str]:
        """Return the variables that give a process in any folder the same settings."""
        values = {f"HSSTAR_{field.name.upper()}": getattr(self, field.name) for field in fields(self)}
        environment = {variable: str(value) for variable, value in values.items() if value is not None}
        return {
            **environment,
            **secret_environment("HSSTAR_DATABASE_URL", self.database_url),
            **secret_environment("HSSTAR_BROKER_URL", self.broker_url),
        }


def secret_environment(variable: str, value: str | None) -> dict[str, str]:
    """Return the variables that pass a secret to another process; they override a file."""
    return {} if value is None else {variable: value, f"{variable}_FILE": ""}


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that needs no settings of hsstar, and so none of its secrets."""
    return {name: value for name, value in environ.items() if not name.startswith("HSSTAR_")}


def _folder(environ: Mapping[str, str], variable: str) -> Path | None:
    value = environ.get(variable, "").strip()
    if not value:
        return None
    try:
        folder = Path(value).expanduser().absolute()
    except RuntimeError as error:  # "~name" of an unknown user
        raise refusal(variable, value, "a folder of an existing user") from error
    if folder.exists() and not folder.is_dir():
        raise refusal(variable, value, "a folder; a file lies there")
    return folder


def _url(environ: Mapping[str, str], variable: str, schemes: tuple[str, ...], example: str) -> str | None:
    value = read_secret(environ, variable)
    if value is None:
        return None
    scheme, separator, _ = value.partition("://")
    if not separator or not scheme or (schemes and scheme not in schemes):
        shown = f"{scheme}://…" if separator else "…"  # the rest may hold a password
        raise refusal(variable, shown, f"a URL such as {example}")
    return value


def _one_of(environ: Mapping[str, str], variable: str, words: tuple[str, ...], default: str) -> str:
    value = environ.get(variable, "").strip()
    if value.lower() not in ("", *words):
        raise refusal(variable, value, f"one of {', '.join(words)}")
    return value.lower() or default


def _positive(environ: Mapping[str, str], variable: str, default: Number) -> Number:
    value = environ.get(variable, "").strip()
    if not value:
        return default
    with suppress(ValueError):
        number = type(default)(value)
        if 0 < number < math.inf:
            return number
    legal = "a whole number of at least 1" if isinstance(default, int) else "a number greater than 0"
    raise refusal(variable, value, legal)
