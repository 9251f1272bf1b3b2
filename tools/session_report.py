"""A pytest plugin that writes how a session ended: `-p tools.session_report --session-report FILE`.

A session that dies writes nothing.
"""

import json
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that names the file."""
    parser.addoption("--session-report", type=Path, required=True)


def pytest_configure(config: pytest.Config) -> None:
    """Watches the session, but not in xdist's workers, which see a part of it each."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Watch(config), "session-report-watch")


class _Watch:
    def __init__(self, config: pytest.Config) -> None:
        self._file: Path = config.getoption("--session-report")
        self._groups = config.getoption("dist", "no") == "loadgroup"
        self._outcomes: dict[str, str] = {}
        self._crashes: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid
        if self._groups and name.rfind("@") > name.rfind("]"):
            name = name[: name.rfind("@")]  # where xdist appends the group
        known = self._outcomes.get(name, "skipped")
        if report.failed or known == "failed":
            self._outcomes[name] = "failed"
        elif report.when == "call" and report.passed:
            self._outcomes[name] = "passed"
        else:
            self._outcomes[name] = known

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object, error: object) -> None:
        if error:
            self._crashes.append(str(error))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        report = {"exit": int(exitstatus), "crashes": self._crashes, "outcomes": self._outcomes}
        self._file.write_text(json.dumps(report))
