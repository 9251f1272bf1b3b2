"""The pages in a real browser: keys, live progress, both themes, a narrow screen; no error, no broken policy.

Screenshots go to the folder that HSSTAR_SCREENSHOTS names, else to the test's own.
"""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from hsstar.store.database import Database
from tests.store.factory import execute
from tests.web.chromium import LOOKS, MARKS, WATCH_POLICY, browser, url

__all__ = ["browser", "url"]
pytestmark = MARKS

ADDRESSES = {
    "runs": "/",
    "run": "/runs/demo",
    "broken": "/runs/broken",
    "workers": "/workers",
    "sql": "/sql?q=select+step,+loss,+reward_margin+from+training_curves+where+iteration+=+0",
    "missing": "/runs/nothing",
}


@pytest.fixture
def troubles() -> list[str]:
    return []


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def open_page(browser: Browser, address: str, troubles: list[str], look: str = "light") -> Page:
    """A page that is loaded, and a list of what its console and its policy complain of."""
    page = browser.new_context(**LOOKS[look]).new_page()
    page.set_default_timeout(60_000)
    page.add_init_script(WATCH_POLICY)
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(address)
    page.wait_for_function("!document.querySelector('[data-load]')")
    return page


def close_page(page: Page, troubles: list[str]) -> None:
    assert page.title() != "owned"
    troubles += page.evaluate("violations")
    page.context.close()
    assert [text for text in troubles if "404" not in text] == []


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_page_fits_its_screen_in_both_themes(
    browser: Browser, url: str, name: str, look: str, troubles: list[str], tmp_path: Path
) -> None:
    page = open_page(browser, url + ADDRESSES[name], troubles, look)
    if name == "run":
        page.get_by_text("Pairs per problem").wait_for()
    folder = Path(os.environ.get("HSSTAR_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}-{look}.png", full_page=True)
    width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= room
    close_page(page, troubles)


def test_keys_alone_lead_to_an_iteration_and_to_help(browser: Browser, url: str, troubles: list[str]) -> None:
    page = open_page(browser, url, troubles)
    page.keyboard.press("/")
    page.keyboard.type("demo")
    assert page.locator("[data-row]:visible").count() == 1
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/demo")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/demo?iteration=0")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    close_page(page, troubles)


def test_a_theme_that_is_chosen_stays(browser: Browser, url: str, troubles: list[str]) -> None:
    page = open_page(browser, url, troubles)
    page.get_by_label("Light or dark").click()
    page.goto(f"{url}/workers")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    close_page(page, troubles)


def test_a_change_of_the_rows_is_seen_without_a_reload(
    browser: Browser, url: str, database: Database, troubles: list[str]
) -> None:
    page = open_page(browser, f"{url}/runs/broken", troubles)
    page.evaluate("window.kept = true")
    held = "UPDATE runs SET held = 'paused', held_reason = 'asked by bob' WHERE name = 'broken'"
    with database.begin() as connection:
        execute(connection, held)
    page.get_by_text("asked by bob").wait_for()
    assert page.evaluate("window.kept")
    with database.begin() as connection:
        execute(connection, "UPDATE runs SET held = NULL, held_reason = NULL WHERE name = 'broken'")
    close_page(page, troubles)


def test_pages_can_be_read_without_script(browser: Browser, url: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{url}/runs/demo")
    page.get_by_text("Distributions, budget and training curves").click()
    page.get_by_text("Pairs per problem").wait_for()
    context.close()
