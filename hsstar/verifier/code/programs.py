"""Find the program in a response: its last fenced block of Python."""

import re
from dataclasses import dataclass

from hsstar.domain.answers.visible import visible_part

_FENCE = re.compile(r"^[ \t>]*(?P<mark>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^\n`]*$", re.MULTILINE)
_PYTHON = frozenset({"python", "python3", "py", "py3", "python2", "pypy3"})
_LONGEST_PROGRAM = 200_000


@dataclass(frozen=True, slots=True)
class FoundProgram:
    """A program, or why there is none."""

    source: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Block:
    language: str
    source: str


def find_program(response: str, *, truncated: bool = False, is_answer: bool = False) -> FoundProgram:
    """Return the program of a response: its last block of Python, else its last block without a language.

    An answer without a fence is the program itself. In a response cut at its limit, an open block is none.
    """
    reply = response if is_answer else visible_part(response)
    blocks = _blocks(reply, truncated=truncated)
    programs = [block for block in blocks if block.language in _PYTHON]
    programs = programs or [block for block in blocks if not block.language]
    if programs:
        source = programs[-1].source
    elif is_answer and not blocks:
        source = reply
    elif blocks:
        return FoundProgram(None, f"the program is in {blocks[-1].language}; only Python is run")
    else:
        return FoundProgram(None, "no fenced program (```python … ```)")
    if not source.strip():
        return FoundProgram(None, "the program is empty")
    if len(source) > _LONGEST_PROGRAM:
        return FoundProgram(None, f"a program of more than {_LONGEST_PROGRAM:,} characters")
    return FoundProgram(source)


def _blocks(reply: str, *, truncated: bool) -> list[_Block]:
    blocks: list[_Block] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(reply):
        if opened is None:
            opened = fence
        elif _closes(fence, opened):
            blocks.append(_block(opened, reply[opened.end() : fence.start()]))
            opened = None
        elif fence["language"]:  # the one before was not closed
            blocks.append(_block(opened, reply[opened.end() : fence.start()]))
            opened = fence
    if opened is not None and not truncated:
        blocks.append(_block(opened, reply[opened.end() :]))
    return blocks


def _closes(fence: re.Match[str], opened: re.Match[str]) -> bool:
    return not fence["language"] and fence["mark"].startswith(opened["mark"])


def _block(opened: re.Match[str], source: str) -> _Block:
    return _Block(opened["language"].casefold(), source.removeprefix("\n"))
