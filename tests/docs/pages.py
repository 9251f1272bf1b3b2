"""The pages of the docs, taken apart: code blocks, code in sentences, paragraphs."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_OTHER_STEP = re.compile(r"^(\||#|>|- |\d+\. |\s*$)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    info: str
    """What stands behind the fence: a language, and perhaps `title="FILE"`."""
    text: str

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def file(self) -> str | None:
        """The file that the block shows."""
        found = re.search(r'title="([^"]+)"', self.info)
        return found and found[1]


class Page:
    """One Markdown page."""

    def __init__(self, path: Path) -> None:
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text()
        self.blocks = [Block(info, text) for info, text in _BLOCK.findall(self.text)]
        self.prose = _COMMENT.sub("", _BLOCK.sub("", self.text))

    @property
    def spans(self) -> list[str]:
        """Code within sentences and tables."""
        return _SPAN.findall(self.prose)

    @property
    def paragraphs(self) -> list[str]:
        """Paragraphs and items of lists; no headings, no tables."""
        paragraphs, open_paragraph = list[str](), False
        for line in self.prose.splitlines():
            starts = _OTHER_STEP.match(line)
            if starts and (starts[1][:1] in ("|", "#") or not line.strip()):
                open_paragraph = False
            elif open_paragraph and not starts:
                paragraphs[-1] += " " + line
            else:
                paragraphs.append(line)
                open_paragraph = True
        return paragraphs


def words(text: str) -> int:
    """The words of a text, code included; the lines of tables and the marks of lists are none."""
    return sum(any(letter.isalnum() for letter in word) for word in text.split())


PAGES = [Page(path) for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]


def documented_views() -> dict[str, list[str]]:
    """The views of docs/sql.md with their columns, in order."""
    page = next(page for page in PAGES if page.name == "docs/sql.md")
    views = re.findall(r"^## `(\w+)`(.*?)(?=^## |\Z)", page.prose, re.DOTALL | re.MULTILINE)
    return {
        view: [name for cell in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
               for name in re.findall(r"`(\w+)`", cell)]
        for view, text in views
    }  # fmt: skip
