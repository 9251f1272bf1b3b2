"""A run as a static site: what it has, what leads where, and what an interruption or a full folder leaves."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.store.database import Database
from hsstar.web import export
from hsstar.web.export import export_site
from tests.web.test_problem_pages import database, ids

__all__ = ["database", "ids"]


@pytest.fixture(scope="module")
def site(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run `demo` as files."""
    folder = tmp_path_factory.mktemp("export") / "site"
    export_site(database.url, "demo", folder)
    return folder


class Page(HTMLParser):
    """The tags, anchors and links of a file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.names.add(name)
            if name == "id":
                self.anchors.add(value or "")
            if name in ("href", "src", "action"):
                self.links.append(value or "")


@pytest.mark.slow
def test_every_link_of_every_file_leads_to_a_file_of_the_site(site: Path) -> None:
    pages = {file: Page(file) for file in site.rglob("*.html")}
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            assert not (parts.scheme or parts.netloc or parts.path.startswith("/")), (file, link)
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.is_file(), (file, link)
            assert target.is_relative_to(site)
            if parts.fragment:
                assert unquote(parts.fragment) in pages[target].anchors, (file, link)


def test_no_file_asks_a_server_or_shows_a_form_that_does_nothing(site: Path) -> None:
    for file in site.rglob("*.html"):
        page = Page(file)
        assert not {
            name for name in page.names if name in ("data-live", "data-load", "data-fetch", "data-events")
        }
        assert (
            page.tags.count("form") - page.names.issuperset({"data-counts"}) == 1
        )  # the list of keys is closed
        assert "submit" not in file.read_text(encoding="utf-8")


def test_the_site_has_the_pages_of_the_run_its_problems_samples_and_pairs(
    site: Path, ids: dict[str, int]
) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    assert "Pairs per problem" in index  # the figures need no second request
    assert " ago" not in index
    assert (site / f"problems/{ids['training']}.html").is_file()
    assert "extracted by" in (site / f"samples/demo/0/{ids['training']}/0.html").read_text(encoding="utf-8")
    texts = [file.read_text(encoding="utf-8") for file in (site / "texts").iterdir()]
    assert any("<mark>" in text for text in texts)
    for name in ("problems.html", "problems/level-boundary.html", "compare.html", "allocation.html"):
        assert (site / name).is_file(), name
    assert (site / "static/style.css").is_file()


@pytest.mark.slow
def test_beyond_the_size_problems_are_listed_without_a_page(
    database: Database, ids: dict[str, int], tmp_path: Path
) -> None:
    report = export_site(database.url, "demo", tmp_path / "site", 0)
    table = (tmp_path / "site/problems.html").read_text(encoding="utf-8")
    assert report.left_out >= 12
    assert not (tmp_path / "site/samples").exists() or not [*(tmp_path / "site/samples").rglob("*.html")]
    assert re.search(rf'<a class="name">{ids["training"]}</a>', table)


def test_a_folder_that_holds_something_keeps_it(database: Database, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConflictError, match="is not an empty folder"):
        export_site(database.url, "demo", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_run_that_is_not_there_leaves_no_folder(database: Database, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="demmo"):
        export_site(database.url, "demmo", tmp_path / "site")
    assert not [*tmp_path.iterdir()]


def test_an_interruption_leaves_nothing_half_done(database: Database, tmp_path: Path) -> None:
    def interrupt(pages: int) -> None:
        if pages == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.export_site(database.url, "demo", tmp_path / "site", tell=interrupt)
    assert not [*tmp_path.iterdir()]
