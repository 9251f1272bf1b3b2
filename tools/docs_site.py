"""Builds the site of the docs with Zensical: `python -m tools.docs_site`. A broken link fails.

The site holds the pages at the root of the repository, docs/, and every file that they link to, at the same
places as in the repository. So a link that works on the repository's host works on the site. Zensical checks
links to pages and their anchors. This program checks links to other files, and that the navigation names each
page.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

_CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_ELSEWHERE = re.compile(r"[a-z]+:")


def links(text: str) -> Iterator[str]:
    """The files that a page links to, relative to it; no addresses elsewhere, no anchors."""
    for link in _LINK.findall(_CODE.sub("", text)):
        path, _, _ = link.partition("#")
        if path and not _ELSEWHERE.match(link):
            yield path


def main_pages(root: Path) -> set[Path]:
    """The pages that a reader finds by the navigation."""
    return {path.relative_to(root) for path in (*root.glob("*.md"), *root.glob("docs/**/*.md"))}


def collect(root: Path) -> tuple[set[Path], list[str]]:
    """The files of the site, and what is wrong with their links."""
    files, waiting, errors = set[Path](), sorted(main_pages(root)), list[str]()
    while waiting:
        page = waiting.pop()
        if page in files:
            continue
        files.add(page)
        if page.suffix != ".md":
            continue
        for link in links((root / page).read_text()):
            target = (root / page.parent / link).resolve()
            if not target.is_relative_to(root) or not target.exists():
                errors.append(f"{page}: no file {link}")
            elif target.is_dir():
                errors.append(f"{page}: {link} is a folder; link to a file in it")
            else:
                waiting.append(target.relative_to(root))
    return files, errors


def navigation(entries: object) -> Iterator[str]:
    """The pages that a `nav` of zensical.toml names."""
    if isinstance(entries, str):
        yield entries
    elif isinstance(entries, dict):
        for entry in entries.values():
            yield from navigation(entry)
    elif isinstance(entries, list):
        for entry in entries:
            yield from navigation(entry)


def check_navigation(root: Path, entries: object) -> list[str]:
    """What is wrong with the navigation of the site."""
    named, pages = set(navigation(entries)), {str(page) for page in main_pages(root)}
    return [
        *(f"zensical.toml: nav names {page}, which does not exist" for page in sorted(named - pages)),
        *(f"zensical.toml: nav lacks {page}" for page in sorted(pages - named)),
    ]


def main() -> int:
    """Builds the site of the repository in the current folder."""
    root = Path.cwd().resolve()
    project = tomllib.loads((root / "zensical.toml").read_text())["project"]
    files, errors = collect(root)
    errors += check_navigation(root, project["nav"])
    if errors:
        print(*errors, sep="\n", file=sys.stderr)
        return 1
    pages = root / project["docs_dir"]
    shutil.rmtree(pages, ignore_errors=True)
    for file in files:
        (pages / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, pages / file)
    return subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"]).returncode


if __name__ == "__main__":
    sys.exit(main())
