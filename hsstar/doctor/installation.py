"""Examine an installation: servers, schema, engines, GPUs, sandbox, disk, workers and jobs."""

from hsstar.commands.connection import locate_broker, locate_database
from hsstar.doctor.machine import check_disk, check_engines, check_gpus, check_sandbox
from hsstar.doctor.probes import Probe, examine
from hsstar.doctor.servers import check_broker, check_database
from hsstar.domain.errors import HsstarError
from hsstar.domain.findings import Finding
from hsstar.local.stack import Stack
from hsstar.settings import Settings

_SECONDS = 8.5
_IMPORT_SECONDS = 7.5


def examine_installation() -> list[Finding]:
    """Return what was found of the installation that the environment names, within ten seconds.

    A probe that hangs in a library is given up and its thread stays.
    """
    probes = [
        Probe("engines", lambda: check_engines(_IMPORT_SECONDS)),
        Probe("gpus", check_gpus),
        Probe("sandbox", check_sandbox),
    ]
    try:
        probes = [*_configured(Settings.from_environment()), *probes]
    except HsstarError as error:
        reason = error

        def refuse() -> list[Finding]:
            raise reason

        probes = [Probe("settings", refuse), *probes]
    return examine(probes, _SECONDS)


def _configured(settings: Settings) -> list[Probe]:
    folders = {"home": settings.home, "models": settings.models_dir}
    if settings.database_url is None:
        folders["database"] = Stack(settings).postgres.directory
    return [
        Probe("database", lambda: check_database(lambda: locate_database(settings))),
        Probe("broker", lambda: check_broker(lambda: locate_broker(settings), settings.broker_ca)),
        Probe("disk", lambda: check_disk(folders)),
    ]
