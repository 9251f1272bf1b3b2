"""`choice`: the letter or the text of one of the options that the statement lists."""

import re
from collections.abc import Sequence

from hsstar.domain.verdict import Cause, CheckResult
from hsstar.verifier.contract import VerificationRequest
from hsstar.verifier.kinds.texts import TextVerifier
from hsstar.verifier.references import ReferenceKind

_OPTION = re.compile(r"^[ \t]*(?:\(([A-J])\)|([A-J])[.):])[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_LETTER = re.compile(r"\(?([A-Ja-j])\)?[.:]?")
_LETTER_AND_TEXT = re.compile(r"(?:\(([A-Ja-j])\)|([A-J])[.):])\s*(\S.*)", re.DOTALL)
_WRAPPED = re.compile(r"\\(?:text|mathrm|textbf|mathbf|boxed)\s*\{([^{}]*)\}")
_LETTERS = "ABCDEFGHIJ"


class ChoiceVerifier(TextVerifier):
    """Compare options by letter or text, never by place: 2 is the option that reads 2."""

    def compare(self, answer: str, request: VerificationRequest) -> CheckResult:
        """Compare the option that an answer names with the one that the reference names."""
        options = options_of(request.problem)
        right = named_option(request.reference, options)
        if right is None:
            return CheckResult(Cause.BAD_REFERENCE, _names_none("the reference", request.reference, options))
        chosen = named_option(answer, options)
        if chosen is None:
            return CheckResult(Cause.UNPARSABLE, _names_none("the answer", answer, options))
        return CheckResult(Cause.CORRECT if chosen == right else Cause.INCORRECT, f"option {chosen}")

    def _answers(self, requests: Sequence[VerificationRequest]) -> list[str | CheckResult]:
        """Return the answers; where one names no option, the option with which the response ends."""
        answers = super()._answers(requests)
        for place, (request, answer) in enumerate(zip(requests, answers, strict=True)):
            options = options_of(request.problem)
            if self._patterns is None and not _names_something(answer, options):
                answers[place] = _option_at_the_end(request.response, options) or answer
        return answers

    def examine(self, requests: Sequence[VerificationRequest]) -> list[ReferenceKind]:
        """A reference has to name one of the options in its statement."""
        named = [named_option(request.reference, options_of(request.problem)) for request in requests]
        return [ReferenceKind.UNREADABLE if letter is None else ReferenceKind.WORDS for letter in named]


def options_of(statement: str) -> dict[str, str]:
    """Return the options of a statement by letter: the last lines `(A) …`, `A. …` or `A) …` in order from A.

    Empty if there are fewer than two.
    """
    options: dict[str, str] = {}
    for match in _OPTION.finditer(statement):
        letter = match[1] or match[2]
        if letter == "A":
            options = {}
        if len(options) < len(_LETTERS) and letter == _LETTERS[len(options)]:
            options[letter] = match[3]
    return options if len(options) > 1 else {}


def named_option(text: str, options: dict[str, str]) -> str | None:
    """Return the letter of the option that a text names by its letter, its text, or both alike.

    A letter alone is one, also where another option reads so. None if a text names none, two, or letter and
    text of different ones.
    """
    text = _plain(text)
    letter = _LETTER.fullmatch(text)
    if letter is not None and letter[1].upper() in options:
        return letter[1].upper()
    same = [name for name, option in options.items() if _plain(option).casefold() == text.casefold()]
    if same:
        return same[0] if len(same) == 1 else None
    both = _LETTER_AND_TEXT.fullmatch(text)
    if both is None or (both[1] or both[2]).upper() not in options:
        return None
    named = (both[1] or both[2]).upper()
    rest = _plain(both[3]).casefold()
    other = [letter for letter, option in options.items() if _plain(option).casefold() == rest]
    return named if not other or named in other else None


def _names_something(answer: str | CheckResult, options: dict[str, str]) -> bool:
    """Whether an answer names an option, or at least one by its letter."""
    if isinstance(answer, CheckResult):
        return False
    return named_option(answer, options) is not None or _LETTER_AND_TEXT.fullmatch(_plain(answer)) is not None


def _option_at_the_end(response: str, options: dict[str, str]) -> str | None:
    """Return the text of the option with which the last line of a response ends, if it names no other."""
    lines = response.rpartition("</think>")[2].strip().splitlines()
    last = _plain(lines[-1]).casefold() if lines else ""
    texts = [_plain(option).casefold() for option in options.values()]
    named = [text for text in texts if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", last) and len(text) > 1]
    longest = max(named, key=len, default="")
    if not longest or not last.endswith(longest) or any(text not in longest for text in named):
        return None
    return longest if texts.count(longest) == 1 else None


def _plain(text: str) -> str:
    """Return a text without the marks that only show it: `$`, `\\text{}`, `**`, a last full stop, spaces."""
    text = _WRAPPED.sub(r"\1", text.replace("**", "").strip())
    return " ".join(text.strip("$ \n").rstrip(".").split())


def _names_none(what: str, text: str, options: dict[str, str]) -> str:
    if not options:
        return "the statement lists no options"
    return f"{what} names none of the options {', '.join(options)}: {' '.join(text.split())[:60]!r}"
