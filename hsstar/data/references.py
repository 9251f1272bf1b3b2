"""Reference answers as data sets write them: as text, or empty where they say that there is none."""

import json
import math
import re
from typing import Any

from hsstar.domain.answers import GUESSED, ExtractionRule, extract_answer, strip_math_delimiters
from hsstar.domain.errors import BadInputError
from hsstar.domain.program_tests import holds_program_tests
from hsstar.domain.text import kind_of, storable

_NOTHING = re.compile(
    r"proof|proved|prove|(?:answer )?not ?found|none|null|nan|n/a|n\.a|nil|unknown|unanswered|tbd|todo"
    r"|omitted|answer|solution|no (?:final |reference |unique )?answer"
    r"|not (?:available|applicable|provided|given|specified)"
    r"|no (?:answer|solution|proof) (?:available|provided|given|found)"
    r"|q\.?e\.?d|[-–—?.*_/\s∎□■]+|\\(?:qed|blacksquare|square|qedhere)"
    r"|(?:the |this )?proof (?:by|of|that|see|follows|is|omitted|required|question|problem)\b.*"
    r"|(?:it|this|which) (?:is|was|has been) (?:proved|proven|shown)\b.*"
    r"|(?:see|refer to|as in|given in|shown in|cf\.?) (?:the |our |its )?(?:\w+ )?"
    r"(?:solutions?|proofs?|explanations?|above|below|answers?|figures?|diagrams?|graphs?|text|attached)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mbox|boxed)\s*\{([^{}]*)\}")
_SEPARATED_NUMBER = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_VERB = (
    r"is|are|was|were|has|have|had|will|would|can|could|should|must|needs?|gets?|got|gives?|makes?|made|takes?|took"
    r"|costs?|equals?|becomes?|leaves?|left|sold|spent|spends?|earned|earns?|paid|pays?|weighs?|requires?|remains?"
    r"|bought|ate|saved|saves|received|receives|does|do|follows|reaches|holds|contains|shows|cannot|exists?"
)
_SENTENCE = re.compile(
    rf"\A\s*(?:so|therefore|thus|hence|then|finally)\b|(?<![A-Za-z\\])(?:{_VERB})(?![A-Za-z])", re.IGNORECASE
)
_WORD = re.compile(r"(?<![A-Za-z\\{])[A-Za-z]{2,}")
_VALUE = re.compile(
    r"\$[^$]+\$|\\\(.+?\\\)|(?<![\w.])-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?|\\frac\{[^{}]*\}\{[^{}]*\}"
)
_WORDS_OF_A_SENTENCE = 3


def reference_text(key: str, value: Any) -> str:
    """Return an answer as text, empty if it is none: null, NaN, `proof`, `not found`, `see solution`.

    Several answers are joined by commas, also where their list is JSON as text; a whole number loses its
    ".0"; true and false are words. Tests of a program stay as they are, an object or a list as JSON. Raise
    BadInputError for another object.
    """
    if isinstance(value, dict | list) and holds_program_tests(text := json.dumps(value, ensure_ascii=False)):
        return storable(text)
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() if holds_program_tests(value):
            return storable(value)
        case str():
            return _from_text(key, value)
        case list():
            return ", ".join(filter(None, (reference_text(key, part) for part in value)))
        case float() if not math.isfinite(value):
            return ""
        case float() if value.is_integer():
            return str(int(value))
        case int() | float():
            return str(value)
    raise BadInputError(f"expected text or a number under {key}, found {kind_of(value)}")


def boxed_answer(solution: str) -> str:
    """Return the last box of a solution; empty if it has none."""
    answer = extract_answer(solution)
    return from_solution(answer.text) if answer and answer.rule is ExtractionRule.BOXED else ""


def marked_answer(worked: str) -> str:
    """Return what follows the last `####` of a worked answer, without separators; empty without the mark."""
    _, mark, final = worked.rpartition("####")
    plain = _SEPARATED_NUMBER.sub("", final.strip().removeprefix("$")).strip()
    return from_solution(plain.partition("\n")[0]) if mark else ""


def announced_answer(worked: str) -> str:
    """Return the answer that a worked answer marks by a box, `####` or "The answer is"; empty without one."""
    if marked := boxed_answer(worked) or marked_answer(worked):
        return marked
    answer = extract_answer(worked)
    return "" if answer is None or answer.rule in GUESSED else from_solution(answer.text)


def from_solution(text: str) -> str:
    """Return an answer that stands in a solution; empty if it says that there is none."""
    return "" if says_nothing(text) else storable(text)


def says_nothing(text: str) -> bool:
    """Tell whether a text says that there is no answer: `proof`, `N/A`, `See solution.`"""
    plain = " ".join(_WRAPPED.sub(r"\1", text).split()).strip(" .:!()[]\"'")
    return not plain or _NOTHING.fullmatch(plain) is not None


def is_sentence(reference: str) -> bool:
    """Tell whether a reference is a sentence, not a value: at least three words with a verb among them."""
    return len(_WORD.findall(reference)) >= _WORDS_OF_A_SENTENCE and bool(_SENTENCE.search(reference))


def value_of_sentence(sentence: str) -> str:
    """Return the one value of a sentence, as it is found in a response; empty if it has none or several."""
    answer = extract_answer(sentence)
    if answer is None or _WORD.search(answer.text):
        return ""
    if len(_VALUE.findall(sentence)) > 1 and answer.rule in GUESSED:
        return ""
    return from_solution(answer.text)


def _from_text(key: str, value: str) -> str:
    text = strip_math_delimiters(value)
    if text.startswith("[") and text.endswith("]") and '"' in text:
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            listed = None
        if isinstance(listed, list) and all(isinstance(part, str) for part in listed):
            return reference_text(key, listed)
    return from_solution(text)
