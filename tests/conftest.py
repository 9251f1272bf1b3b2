"""What holds for every test: with `HSSTAR_TESTS_COMPLETE=1` a test that is skipped has failed."""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.generated import register_profiles

COMPLETE = os.environ.get("HSSTAR_TESTS_COMPLETE") == "1"

Report = pytest.TestReport | pytest.CollectReport


def pytest_configure(config: pytest.Config) -> None:
    """Let generated tests draw all examples where they are asked for by their mark."""
    register_profiles()
    settings.load_profile("full" if "hypothesis" in config.option.markexpr else "quick")


def _refuse_skip(report: Report) -> None:
    if COMPLETE and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"everything has to run (HSSTAR_TESTS_COMPLETE=1), but this was skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skipped module into a failed one."""
    report = yield
    _refuse_skip(report)
    return report
