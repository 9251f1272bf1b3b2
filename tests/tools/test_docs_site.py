"""The site of the docs: it has what its pages link to, and a broken link fails."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tools.docs_site import check_navigation, collect

ROOT = Path(__file__).parents[2]


def site(folder: Path, page: str) -> Path:
    """A repository with a front page, this page and a picture."""
    (folder / "docs").mkdir()
    (folder / "README.md").write_text("[a page](docs/page.md#a-title)")
    (folder / "docs" / "page.md").write_text(f"# A title\n\n{page}\n")
    (folder / "picture.svg").write_text("<svg/>")
    text = (ROOT / "zensical.toml").read_text()
    text = re.sub(
        r"^nav = .*?^]$", 'nav = ["README.md", "docs/page.md"]', text, flags=re.DOTALL | re.MULTILINE
    )
    (folder / "zensical.toml").write_text(text)
    return folder


def test_the_links_of_this_repository_have_targets() -> None:
    assert collect(ROOT)[1] == []
    assert check_navigation(ROOT, tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]) == []


def test_a_linked_file_is_part_of_the_site(tmp_path: Path) -> None:
    page = "![](../picture.svg) `[code](no)` [](https://example.org) [](#a-title)"
    files, errors = collect(site(tmp_path, page))
    assert (sorted(map(str, files)), errors) == (["README.md", "docs/page.md", "picture.svg"], [])


@pytest.mark.parametrize("link", ["none.md", "../none.svg", "../../outside.md", "../docs"])
def test_a_link_without_a_file_is_an_error(tmp_path: Path, link: str) -> None:
    (tmp_path / "outside.md").touch()
    (tmp_path / "repository").mkdir()
    (error,) = collect(site(tmp_path / "repository", f"[x]({link})"))[1]
    assert error.startswith("docs/page.md: ") and link in error


def test_the_navigation_names_the_pages(tmp_path: Path) -> None:
    root = site(tmp_path, "")
    assert check_navigation(root, ["README.md", {"Part": [{"Page": "docs/page.md"}]}]) == []
    assert check_navigation(root, ["README.md", "docs/none.md"]) == [
        "zensical.toml: nav names docs/none.md, which does not exist",
        "zensical.toml: nav lacks docs/page.md",
    ]


@pytest.mark.parametrize(
    ("page", "code"), [("[x](#a-title)", 0), ("[x](#no-title)", 1), ("[x](../README.md#no-title)", 1)]
)
def test_a_broken_anchor_fails_the_build(tmp_path: Path, page: str, code: int) -> None:
    pytest.importorskip("zensical")
    build = [sys.executable, "-c", "import sys; from tools.docs_site import main; sys.exit(main())"]
    folder, path = site(tmp_path, page), {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(build, cwd=folder, env=path, capture_output=True)
    assert done.returncode == code, done
    assert (tmp_path / "site" / "index.html").exists()
