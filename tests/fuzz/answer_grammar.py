r"""Requests of answers as models write them, right, wrong or damaged; the caller draws the choices."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from hsstar.verifier.contract import VerificationRequest

LONGEST_TEXT = 2_000
FRAMES = ["{}", r"\boxed{{{}}}", r"so \boxed{{{}}}.", "answer is {}.", "Answer: ${}$", "#### {}", r"\({}\)"]
_DEEPEST = 5
_GRAMMAR: dict[str, list[str]] = json.loads(Path(__file__).with_suffix(".json").read_text())
_SYMBOL = re.compile(r"<([a-z]+)>")

Choose = Callable[[int], int]
"""Returns a number below another one; 0 is the simplest choice."""
Noise = Callable[[int], str]
"""Returns any text of at most this length."""


def drawn_request(choose: Choose, noise: Noise) -> VerificationRequest:
    """Draw an answer, by itself or in a response, and a reference, which is the same text now and then."""
    is_answer = choose(2) == 0
    frame = "{}" if is_answer else FRAMES[choose(len(FRAMES))]
    answer = _text(choose, noise)
    reference = answer if choose(4) == 3 else _text(choose, noise)
    return VerificationRequest(frame.format(answer), reference, choose(2) == 1, is_answer)


def _text(choose: Choose, noise: Noise) -> str:
    """Draw an answer by the grammar, a damaged one, or any text."""
    kind = choose(8)
    if kind == 7:
        return noise(LONGEST_TEXT)
    text = _expanded("<answer>", choose, 0)
    for _ in range(choose(4) if kind > 3 else 0):
        text = _damaged(text, choose, noise(8))
    return text[:LONGEST_TEXT]


def _damaged(text: str, choose: Choose, noise: str) -> str:
    """Return a text with a piece removed, doubled, moved or replaced by noise."""
    start = choose(len(text) + 1)
    end = start + choose(min(len(text) - start, 8) + 1)
    before, piece, after = text[:start], text[start:end], text[end:]
    texts = [before + after, before + piece * 2 + after, piece + before + after, before + noise + after]
    return texts[choose(4)]


def _expanded(template: str, choose: Choose, depth: int) -> str:
    def expand(symbol: re.Match[str]) -> str:
        templates = _GRAMMAR[symbol[1]]
        template = templates[choose(len(templates)) if depth < _DEEPEST else 0]
        return _expanded(template, choose, depth + 1)

    return _SYMBOL.sub(expand, template)
