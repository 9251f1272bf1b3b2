"""Every page in a real browser under axe, in both themes and on a narrow screen: it finds nothing."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.web.chromium import LOOKS, MARKS, acting_url, browser
from tests.web.test_problem_pages import COUPLE, database, ids

__all__ = ["acting_url", "browser", "database", "ids"]
pytestmark = MARKS

ADDRESSES = (
    "/",
    "/?show=archived",
    "/runs/demo",
    "/runs/broken",
    "/runs/demo/problems",
    "/runs/demo/problems?text=no+such+words",
    "/runs/demo/problems/{training}",
    "/runs/demo/problems/{learnt}",
    "/samples/demo/0/{training}/0",
    "/explanations/demo/0/{training}/0",
    "/texts?first=demo/0/{training}/0&second=demo/0/{training}/1",
    f"/runs/demo/compare?{COUPLE}",
    f"/runs/demo/compare/{{learnt}}?{COUPLE}",
    "/runs/demo/allocation?iteration=0",
    "/runs/demo/allocation/calibration",
    "/runs/demo/allocation/replay?iteration=0",
    "/workers",
    "/sql?q=select+step,+loss+from+training_curves",
    "/sql?q=select+nothing",
    "/nowhere",
)
RULES = {"resultTypes": ["violations"]}


@pytest.fixture(params=LOOKS)
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(**LOOKS[request.param])
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def faults(page: Page) -> list[str]:
    """What axe finds: its rule, and the elements that break it."""
    return [
        f"{rule['id']} ({rule['help']}): {node['html'][:160]} {node['failureSummary'][:300]}"
        for rule in Axe().run(page, options=RULES).response["violations"]
        for node in rule["nodes"][:3]
    ]


def test_axe_finds_nothing_on_any_page(page: Page, acting_url: str, ids: dict[str, int]) -> None:
    found: dict[str, list[str]] = {}
    for address in ADDRESSES:
        page.goto(acting_url + address.format(**ids))
        page.wait_for_function("!document.querySelector('[data-load]')")
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        if listed := faults(page):
            found[address] = listed
    page.goto(acting_url)
    page.keyboard.press("?")
    assert not faults(page)
    assert not found, "\n".join(f"{address}\n  " + "\n  ".join(lines) for address, lines in found.items())
