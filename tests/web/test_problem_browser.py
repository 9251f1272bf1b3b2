"""The pages of problems in a real browser: from a run to a pair, filters, two policies, keys alone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.web.chromium import LOOKS, MARKS, WATCH_POLICY, browser, url
from tests.web.test_problem_pages import COUPLE, database, ids

__all__ = ["browser", "database", "ids", "url"]
pytestmark = MARKS


@pytest.fixture(params=LOOKS)
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of one look, without a complaint of its console or its policy in the end."""
    look = request.param
    context = browser.new_context(**LOOKS[look])
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.add_init_script(WATCH_POLICY)
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    yield page
    assert page.title() != "owned"
    troubles += page.evaluate("violations")
    context.close()
    assert troubles == []


def keep(page: Page, name: str, folder: Path) -> None:
    """Keep a picture; nothing is wider than the screen."""
    folder = Path(os.environ.get("HSSTAR_SCREENSHOTS", folder))
    folder.mkdir(parents=True, exist_ok=True)
    scheme = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
    page.screenshot(path=folder / f"{name}-{scheme}-{page.evaluate('innerWidth')}.png")
    width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= room


def test_from_a_run_to_a_problem_a_sample_and_its_pair(
    page: Page, url: str, ids: dict[str, int], tmp_path: Path
) -> None:
    page.goto(f"{url}/runs/demo")
    page.get_by_role("link", name="Problems", exact=True).click()
    page.wait_for_url("**/runs/demo/problems")
    keep(page, "problems", tmp_path)
    page.get_by_role("link", name=str(ids["training"]), exact=True).click()
    page.get_by_text("why").first.click()
    page.get_by_text("extracted by").wait_for()
    keep(page, "problem", tmp_path)
    page.get_by_role("link", name="slot 0", exact=True).click()
    page.wait_for_url("**/samples/demo/0/*/0")
    page.get_by_role("link", name="chosen over").click()
    page.locator("mark").first.wait_for()
    keep(page, "pair", tmp_path)


def test_a_filter_is_an_address(page: Page, url: str, tmp_path: Path) -> None:
    page.goto(f"{url}/runs/demo/problems")
    page.get_by_label("level").select_option("inlier")
    page.wait_for_url("**/runs/demo/problems?level=inlier")
    assert page.locator("[data-row]").count() == 4
    page.keyboard.press("/")
    page.keyboard.type("no such words")
    page.keyboard.press("Enter")
    page.get_by_text("No problem is like that.").wait_for()


def test_two_policies_side_by_side(page: Page, url: str, ids: dict[str, int], tmp_path: Path) -> None:
    page.goto(f"{url}/runs/demo/compare?{COUPLE}")
    keep(page, "compare", tmp_path)
    page.locator("a.only_second").click()
    page.get_by_role("link", name=str(ids["learnt"]), exact=True).click()
    page.locator("mark").first.wait_for()
    assert page.locator(".statement-panel math").count() == 1
    keep(page, "compare-problem", tmp_path)


def test_keys_alone_go_through_problems(page: Page, url: str) -> None:
    page.goto(f"{url}/runs/demo/problems")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/demo/problems/*")
    first = page.url
    page.keyboard.press("j")
    page.wait_for_url(lambda address: address != first)
    page.keyboard.press("k")
    page.wait_for_url(first)


def test_thresholds_follow_their_sliders(page: Page, url: str, tmp_path: Path) -> None:
    page.goto(f"{url}/runs/demo/allocation?iteration=0")
    page.get_by_label("τ_l").fill("0.9")
    assert page.locator("[name=tau_high]").input_value() == "0.91"
    page.get_by_text("Compute it").click()
    page.locator("details [data-part]").wait_for()
    keep(page, "allocation", tmp_path)
