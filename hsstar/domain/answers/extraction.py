"""The order of the rules that find the final answer of a response."""

from dataclasses import dataclass
from enum import StrEnum

from hsstar.domain.answers.announced import (
    Announcement,
    announced,
    answer_line,
    correction,
    retracted_until,
)
from hsstar.domain.answers.endings import ending
from hsstar.domain.answers.marked import Boxes, MarkedAnswer, json_values, last_marked, tags
from hsstar.domain.answers.visible import visible_part


class ExtractionRule(StrEnum):
    """The rule that found an answer, from the surest to the weakest."""

    BOXED = "boxed"
    TAGGED = "tagged"
    FINAL_ANSWER = "final_answer"
    ANSWER = "answer"
    LAST_FORMULA = "last_formula"
    LAST_NUMBER = "last_number"


_SHORTEST_CORRECTION = len("No, 7")

GUESSED = frozenset({ExtractionRule.LAST_FORMULA, ExtractionRule.LAST_NUMBER})
"""The rules that take what stands at the end of a response, which names no answer."""


@dataclass(frozen=True, slots=True)
class ExtractedAnswer:
    """A final answer, and the rule that found it."""

    text: str
    """As written, without its box, math delimiters and surrounding white space; several boxes are joined."""
    rule: ExtractionRule


def extract_answer(response: str, truncated: bool = False, *, whole: bool = False) -> ExtractedAnswer | None:
    """Return the final answer of a response, None if it has none; `whole` keeps all lines of a tag.

    1. Text in blocks of thinking does not count.
    2. The last of the boxes, the tags `<answer>` and the keys "answer" of JSON.
    3. What follows the last "final answer is", then the last "answer is".
    4. The last line without words, the last formula, the last number.

    A response with an open box at its end has no answer: what stands before the box is work, not an answer. A
    response that was cut at its token limit (`truncated`) must hold its whole answer: an answer that reaches
    the cut may lack its end, and the last number is only the last before the cut.
    """
    reply = visible_part(response)
    boxes = Boxes(reply, truncated)
    if boxes.open_at_end:
        return None
    boxed = last_marked(reply, boxes.marks)
    tagged = last_marked(reply, [*tags(reply, truncated), *json_values(reply)])
    if tagged and not (boxed and boxed.end > tagged.end):
        return ExtractedAnswer(_inside_tag(tagged, whole), ExtractionRule.TAGGED)
    if boxed:
        return _unless_corrected(reply, boxed, truncated)
    announcements = announced(reply, truncated)
    if announcements.answer:
        return _announced(announcements.answer)
    found = None if truncated else ending(reply[announcements.denied_until :])
    if found is None:
        return None
    return ExtractedAnswer(
        found.text, ExtractionRule.LAST_NUMBER if found.number else ExtractionRule.LAST_FORMULA
    )


def _inside_tag(tagged: MarkedAnswer, whole: bool) -> str:
    """Return the answer within a tag: what is marked or announced there, else all of a single line.

    With `whole` it is all of any lines.
    """
    inside = extract_answer(tagged.text)
    if inside is None or (inside.rule in GUESSED and (whole or "\n" not in tagged.text)):
        return tagged.text
    return inside.text


def _announced(answer: Announcement) -> ExtractedAnswer:
    return ExtractedAnswer(
        answer.text, ExtractionRule.FINAL_ANSWER if answer.final else ExtractionRule.ANSWER
    )


def _unless_corrected(reply: str, boxed: MarkedAnswer, truncated: bool) -> ExtractedAnswer | None:
    """Return the box, unless the response takes it back or announces another answer behind it."""
    if not truncated and len(reply) - boxed.end > _SHORTEST_CORRECTION:
        later = correction(reply, boxed.end) or answer_line(reply, boxed.end)
        if later:
            return _announced(later)
        if retracted_until(reply, boxed.end):
            return None
    return ExtractedAnswer(boxed.text, ExtractionRule.BOXED)
