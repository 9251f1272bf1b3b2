r"""A grammar of final answers as models write them, right or wrong; the caller draws the choices."""

import json
import re
from collections.abc import Callable
from pathlib import Path

_DEEPEST = 5

_GRAMMAR: dict[str, list[str]] = json.loads(Path(__file__).with_suffix(".json").read_text())
_SYMBOL = re.compile(r"<([a-z]+)>")


def written_answer(choose: Callable[[int], int]) -> str:
    """Write an answer by the grammar; `choose(n)` returns a number below n, and 0 is the simplest choice."""
    return _expanded("<answer>", choose, 0)


def damaged(text: str, choose: Callable[[int], int], noise: str) -> str:
    """Return a text with a piece removed, doubled, moved or replaced by noise."""
    start = choose(len(text) + 1)
    end = start + choose(min(len(text) - start, 8) + 1)
    before, piece, after = text[:start], text[start:end], text[end:]
    return [before + after, before + piece * 2 + after, piece + before + after, before + noise + after][
        choose(4)
    ]


def _expanded(template: str, choose: Callable[[int], int], depth: int) -> str:
    def expand(symbol: re.Match[str]) -> str:
        templates = _GRAMMAR[symbol[1]]
        template = templates[choose(len(templates)) if depth < _DEEPEST else 0]
        return _expanded(template, choose, depth + 1)

    return _SYMBOL.sub(expand, template)
