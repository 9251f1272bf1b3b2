"""The site of the docs: it has what its pages link to, and a broken link fails."""

import shutil
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
    shutil.copy(ROOT / "zensical.toml", folder)
    text = (folder / "zensical.toml").read_text()
    start, end = text.index("nav = ["), text.index("[project.theme]")
    (folder / "zensical.toml").write_text(
        f'{text[:start]}nav = ["README.md", "docs/page.md"]\n\n{text[end:]}'
    )
    return folder


def test_the_links_of_this_repository_have_targets() -> None:
    assert collect(ROOT)[1] == []
    assert check_navigation(ROOT, tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]) == []


def test_a_linked_file_is_part_of_the_site(tmp_path: Path) -> None:
    files, errors = collect(
        site(tmp_path, "![](../picture.svg) `[code](no)` [](https://example.org) [](#a-title)")
    )
    assert sorted(map(str, files)) == ["README.md", "docs/page.md", "picture.svg"]
    assert errors == []


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
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from tools.docs_site import main; sys.exit(main())"],
        cwd=site(tmp_path, page),
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").exists()
