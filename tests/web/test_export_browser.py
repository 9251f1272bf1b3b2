"""The static site in a real browser: as files, and below a path of a server that knows nothing of hsstar."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Request

from tests.web.chromium import LOOKS, MARKS, WATCH_POLICY, browser
from tests.web.test_export import database, ids, site

__all__ = ["browser", "database", "ids", "site"]
pytestmark = MARKS


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(params=["files", "below a path"])
def address(request: pytest.FixtureRequest, site: Path) -> Iterator[str]:
    """Where the site begins."""
    if request.param == "files":
        yield site.as_uri()
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site.parent)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{site.name}"
        server.shutdown()


def failed(request: Request) -> str | None:
    """What could not be loaded; an icon that is left behind with its page is no trouble."""
    return None if request.failure == "net::ERR_ABORTED" else request.url


def test_from_the_run_to_a_problem_a_sample_and_its_pair(
    browser: Browser, address: str, ids: dict[str, int]
) -> None:
    context = browser.new_context(**LOOKS["light"])
    page = context.new_page()
    page.add_init_script(WATCH_POLICY)
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "requestfailed", lambda request: troubles.append(failure) if (failure := failed(request)) else None
    )
    page.on("response", lambda answer: troubles.append(answer.url) if answer.status >= 400 else None)
    page.goto(f"{address}/index.html")
    page.get_by_text("Pairs per problem").wait_for()
    page.get_by_role("link", name="Problems", exact=True).click()
    page.wait_for_url("**/problems.html")
    page.keyboard.press("j")
    page.get_by_role("link", name=str(ids["training"]), exact=True).click()
    page.wait_for_url(f"**/problems/{ids['training']}.html")
    page.get_by_role("link", name="slot 0", exact=True).click()
    page.get_by_text("extracted by").wait_for()
    page.get_by_role("link", name="chosen over").click()
    page.locator("mark").first.wait_for()
    page.goto(f"{address}/problems/measure-heldout.html")
    page.get_by_role("link", name=str(ids["learnt"]), exact=True).click()
    page.locator(".statement-panel math").first.wait_for()
    troubles += page.evaluate("violations")
    context.close()
    assert troubles == []
