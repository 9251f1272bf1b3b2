"""Blocks of thinking in a response: their marks, and what stands outside of them."""

import re
from dataclasses import dataclass

from hsstar.domain.answers.delimiters import contains_any
from hsstar.domain.errors import BadInputError

AUTO, NONE = "auto", "none"
"""Values of `policy.thinking`: all marks that are known, or none. Any other one names two marks."""

_NAMES = ("think", "thinking", "thought", "thoughts", "reasoning", "analysis", "scratchpad", "reflection")
_KNOWN = {
    **{f"<{name}>": f"</{name}>" for name in _NAMES},
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "◁think▷": "◁/think▷",
    "[THINK]": "[/THINK]",
    "<seed:think>": "</seed:think>",
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",
}
"""The closing mark by the opening one."""
_WORDS = ("think", "thought", "reasoning", "analysis", "scratchpad", "reflection")
_BY_PROMPT = "prompt"


def _pattern(closing_of: dict[str, str]) -> str:
    begins, ends = ("|".join(map(re.escape, marks)) for marks in (closing_of, closing_of.values()))
    return rf"(?P<begins>{begins})|{ends}"


_ANY_KNOWN = re.compile(_pattern(_KNOWN), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Thinking:
    """The marks of a block of thinking; `begun`: the prompt ends with the opening one."""

    opening: str
    closing: str
    begun: bool = False

    def is_open(self, response: str) -> bool:
        """Tell whether a response ends within a block."""
        begins, ends = response.rfind(self.opening), response.rfind(self.closing)
        return begins > ends or (self.begun and ends < 0)

    def outside(self, response: str) -> str:
        """Return what of a response stands outside of its blocks."""
        marks = re.compile(_pattern({self.opening: self.closing}))
        return _outside(response, marks, thinking=self.begun)


def marks_of(setting: str) -> Thinking | None:
    """Return the marks that `policy.thinking` names; None for `auto` and `none`.

    Raise BadInputError if it names no two marks.
    """
    if setting in (AUTO, NONE):
        return None
    opening, _, rest = setting.partition(",")
    closing, _, where = rest.partition(",")
    if not opening.strip() or not closing.strip() or opening == closing or where not in ("", _BY_PROMPT):
        raise BadInputError(
            "it is 'auto', 'none', or two different marks, as in '<think>,</think>', "
            "with ',prompt' behind them if the prompt ends with the first"
        )
    return Thinking(opening, closing, bool(where))


def reply_of(response: str, setting: str = AUTO) -> str:
    """Return what of a response is not thinking, by `policy.thinking`."""
    if setting == NONE:
        return response
    marks = marks_of(setting)
    return outside_thinking(response) if marks is None else marks.outside(response)


def without_thinking(response: str, setting: str = AUTO) -> str:
    """Return a response as if the policy had not thought; a block that the prompt begins ends at once.

    It is empty if there is nothing but thinking.
    """
    reply = reply_of(response, setting)
    if reply != response:
        reply = reply.lstrip()
    marks = marks_of(setting)
    return f"{marks.closing}\n\n{reply}" if marks and marks.begun and reply.strip() else reply


def begun_by(prompt: str) -> str | None:
    """Return `policy.thinking` for prompts that end with a known opening mark, as this one; else None."""
    end = prompt.rstrip()
    opening = next((mark for mark in _KNOWN if end.endswith(mark)), None)
    return None if opening is None else f"{opening},{_KNOWN[opening]},{_BY_PROMPT}"


def outside_thinking(response: str) -> str:
    """Return what stands outside of blocks with known marks.

    An unfinished block hides all that follows, an end without its beginning all that precedes.
    """
    folded = response.casefold()
    return _outside(response, _ANY_KNOWN) if contains_any(folded, _WORDS) else response


def _outside(response: str, pattern: re.Pattern[str], *, thinking: bool = False) -> str:
    parts, start = list[str](), 0
    for tag in pattern.finditer(response):
        if tag["begins"] and not thinking:
            parts.append(response[start : tag.start()])
            thinking = True
        elif not tag["begins"]:
            if not thinking:
                parts.clear()
            start, thinking = tag.end(), False
    return "".join(parts if thinking else [*parts, response[start:]])
