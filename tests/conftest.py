"""What holds for every test: with `HSSTAR_TESTS_COMPLETE=1` a test that is skipped has failed."""

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# generated tests share the processors with others: how long an example takes says nothing
settings.register_profile("hsstar", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hsstar")
COMPLETE = os.environ.get("HSSTAR_TESTS_COMPLETE") == "1"

Report = pytest.TestReport | pytest.CollectReport


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
