"""Answers that a phrase announces: "the final answer is", "Answer:", `####`, also in other languages."""

import re
from collections import deque
from dataclasses import dataclass

from hsstar.domain.answers.changing_words import (
    BOUND_BEHIND,
    CHANGED_BEHIND,
    CHANGES_NUMBER,
    changed_before,
)
from hsstar.domain.answers.delimiters import FORMULA, contains_any, strip_math_delimiters

_ADVERB = r"(?:,?\s+(?:therefore|thus|hence|simply|just|equal\s+to|given\s+by|then)\b,?)?"
_IS = (
    rf"(?:\b[^.\n:=]{{0,60}}?\b(?:is|equals|(?:should|must|will|would)\s+be)\b{_ADVERB}"
    r"|\s*(?:[-=]+>|[:=：]|→|⇒|⟹))[ \t:*_]*\s*"
)
_HEADING = r"[ \t*_]*\n\s*"
_VALUE_FOLLOWS = r"[ \t]+(?=[-+\d$(\\])"
_FINAL = re.compile(
    rf"\bfinal\s+answer\b\W{{0,4}}?{_IS}|^[\W_]{{0,8}}final\s+answer(?:{_HEADING}|{_VALUE_FOLLOWS})",
    re.I | re.M,
)
_VERB = r"(?:ist|lautet|beträgt|sind|es|son|est|sont|é|è|это|равен|равна|равно|является)"
_LATIN_OR_CYRILLIC = (
    r"\b(?:Antwort|Lösung|Lösungen|(?:End)?ergebnis|respuesta|soluci[oó]n|opci[oó]n|resultado|resposta|réponse"
    r"|solution|résultat|risposta|ответ(?:ом)?)\b\W{0,4}?"
    rf"(?:\b[^.\n:=]{{0,60}}?\b{_VERB}\b(?:\s+(?:also|donc|entonces|portanto|somit))?"
    r"|(?:\s+(?:final|correct|richtig)\w{0,2})?\s*[:=—–])[ \t:*_]*\s*(?:(?:la|el|die|le)\s+(?=\W?[A-J]\b))?"
)
_CHINESE = (
    r"(?:答案|答|正确选项)\s*(?:应该|应)?(?:是|为|為|等于|[:：])[ \t:：*]*\s*(?:选项|选)?|【答案】\s*"
    r"|(?:(?:故|因此|所以|应|应当)[，,]?(?:选择|选)|^选择?)\s*[:：]?\s*(?:选项)?"
)
_JAPANESE = r"(?:答え?|解答|正解|解)(?:は|[:：])[ \t:：*、]*\s*"
_KOREAN = r"(?:정답|답)\s*(?:은|는|[:：])[ \t:：*]*\s*"
_ANSWER = re.compile(
    rf"\banswer\b\W{{0,4}}?{_IS}|\banswers\b[^.\n:=]{{0,60}}?\bare\b:?\s*|\bans\b\W{{0,4}}?(?:\s*[:=]|\bis\b)\s*|\bans\.\s+"
    rf"|\b(?:correct|right|best)\s+(?:choice|option)\b\W{{0,4}}?{_IS}|\b(?:choice|option)\s+is\b[\s:*_]*"
    rf"|^[\W_]{{0,8}}(?:correct\s+)?answer(?:{_HEADING}|{_VALUE_FOLLOWS})"
    rf"|{_LATIN_OR_CYRILLIC}|{_CHINESE}|{_JAPANESE}|{_KOREAN}"
    r"|^####[ \t]*(?=[-+]?[$€£]?\s?[\d.][^\sA-Za-z]*[ \t]*$|\\|\$[^$\n]+\$[ \t]*$|[^\n]+\s*\Z)",
    re.I | re.M,
)
_CHOSEN = re.compile(
    r"(?<![\w.])\(?(?P<letter>[A-J])\)?[*_]{0,2}\s+is\s+(?:therefore\s+|thus\s+)?(?:the\s+)?(?:correct|right|best)\b"
    r"(?!\s+(?:for|that|when|if))"
)
_END_OF_SENTENCE = re.compile(
    r"\n|[.;!?](?=\s|\*|$)|[。！？；]|，(?!\s?[-\d$\\(])|,?\s+I hope\b|,?\s+(?:because|since)\b"
)
_POLITE_END = re.compile(
    r"\s*(?:です|である|でした|だ|となる|となります|になります|입니다|이다|이에요|예요)\Z"
)
_SENTENCE_BEFORE_FORMULA = re.compile(r"\d|\n|[.;!?]\s|[。，]")
_AMOUNT_THEN_WORDS = re.compile(
    r"([-+]?[$€£]?\s?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?)(?P<space>\s+)"
    r"(?!(?:sqrt|pi|and|or|oder|ou|o|und|y|et|plus|minus|times|over|mod|sin|cos|tan|log|ln|exp|[ap]\.?m)\b)[A-Za-z]{2,}"
)
_ANSWER_LINE = re.compile(
    r"^[\W_]{0,8}(?:final\s+|correct\s+)?answer\W{0,4}?:[\s*_]{0,6}"
    r"(?P<value>\(?[A-J]\)?|-?\d[\d,]*(?:\.\d+)?|\$[^$\n]{1,60}\$)[*_]{0,3}\.?[*_]{0,3}[ \t]*$",
    re.I | re.M,
)
_DOUBT = re.compile(
    r"\b(?:wait|hmm+|oops|sorry|scratch\s+that|correction|hold\s+on|on\s+second\s+thought)\b"
    r"|(?<=[.!?\n])\s{0,3}(?:no|actually)\b|\b(?:that|this|it)(?:['’]s|\s+is|\s+was)\s+(?:wrong|incorrect|a\s+mistake)"
    r"|\bmade\s+an?\s+(?:\w+\s+)?(?:mistake|error)\b|\bI\s+meant?\b|\bmake\s+that\b|等等|不对|不對|算错",
    re.I,
)
_WRONG = r"(?:['’]s|\s+is|\s+was)\s+(?:wrong|incorrect|not\s+(?:right|correct)|a\s+mistake)\b"
_RETRACTED = re.compile(
    rf"\b(?:wait|oops|sorry|no)\b[^.\n]{{0,40}}(?<!\w)(?:that|this|it|\$?-?\d[\d.,/]*\$?){_WRONG}|\bscratch\s+that\b",
    re.I,
)
_PARTS_OF_RETRACTIONS = ("wrong", "incorrect", "mistake", "not right", "not correct", "scratch")
_RETRACTED_AT_ONCE = re.compile(
    rf"[\s.,;$*)\]\\]{{0,9}}(?:(?:but|hmm+|however|no|wait)[\s,]+)?(?:that|this|it){_WRONG}", re.I
)
_SAID_AGAIN = re.compile(  # Correction: 7. No, 7. I mean 7.
    r"(?:\bcorrection\s*:|(?:\b(?:no|oops|sorry|wait|hmm+)\b[\s,:—-]*)+(?:it['’]s\s+)?|\bI\s+meant?\b|\bmake\s+that\b"
    r"|(?:应该是|应为|应当是))\s*(?P<value>\$[^$\n]{1,60}\$|\(?(?-i:[A-J])\)?|-?\d[\d,]*(?:\.\d+)?(?:/\d+)?)"
    r"(?=\s*(?:[.。!\n]|\Z))",
    re.I,
)
_STATES = re.compile(
    r"\b(?:it|that|this|(?:the|my)\s+(?:result|value|total|sum|answer|correct\s+(?:one|value|result|answer)))"
    r"(?:['’]s|\s+(?:is|should\s+be|must\s+be|equals|becomes))\s+(?:actually\s+|really\s+|in\s+fact\s+)?"
    r"(?=[-+$\\\d.(*]|(?-i:[A-J]\b))",
    re.I,
)
_LONGEST_SENTENCE = 2_000
_BULLET = re.compile(r"[ \t]*(?:[-*•+]|\(?(?:\d{1,2}|[a-h])[.)])[ \t]+(?P<item>[^\n]+)(?:\n\s*)?")
_EQUATION_LINE = re.compile(r"[$\s]{0,3}(?P<item>\$?[A-Za-z](?:_\{?\w\}?)?\s?=[^\n]+)(?:\n|\Z)")
_JOINS = re.compile(
    r"\s?(?P<comma>[,;、，]\s?)?(?:(?P<word>and|or|oder|und|o|ou|y|et|или|и|或者?|和|与|または|と|또는|와|과)\s?)?(?=[$\\])"
)
_BUT = re.compile(
    r"\s*(?:not|nicht|не)\s[^.\n]{1,60}?,?\s(?:but(?:\s+rather)?|it\s+is|sondern|а)\s(?=[-+$\\\d(])"
    r"|不是[^。\n]{1,40}?[，,]?而是\s*",
    re.IGNORECASE,
)
_BUT_OTHERWISE = re.compile(r"[^.\n]{1,60}?,?\s(?:sino|mais|but)\s(?=[-+$\\\d(])", re.IGNORECASE)
_VALUE = r"(?:\$[^$\n]{1,60}\$|\(?[A-J]\)?|-?\d[\d,]*(?:\.\d+)?(?:/\d+)?)"
_NOT_OTHERS = re.compile(rf"(?P<value>{_VALUE}),?\s(?:and\s)?not\s{_VALUE}\W*\Z")
_AMENDED = re.compile(  # 5, no wait, 7
    rf"{_VALUE}\W{{1,5}}(?:no|wait|sorry|oops|actually|I\smean|or\srather)\b[^.\d$]{{0,30}}?(?P<value>{_VALUE})\W*",
    re.IGNORECASE,
)
_MEASURE = re.compile(
    r"(?:[kcmn]?m|[km]?g|ft|in|lbs?|oz|s|min|h|hours?|minutes?|seconds?|days?|weeks?|months?|years?"
    r"|(?:centi|milli|kilo)?(?:met(?:er|re)s?|grams?)|inch(?:es)?|feet|foot|yards?|miles?|pounds?|cents?"
    r"|(?:[ZzCcKk][eé]nti|[Mm]illi|[Kk]il[oó])?(?:[Mm]eter|metros?|mètres?)|[Ss]tunden?|[Mm]inuten?|horas?|heures?)"
    r"(?:\^?\{?[23]\}?|[²³])?\.?\Z"
)
_AROUND = " \t*_`\"“”'"
_MOST_PHRASES = 8
_REFERS = re.compile(
    r"(?:see|shown|given|as|stated|written|the\s+one|found)?\s*(?:below|above|follows?|clear|correct|right|obvious"
    r"|verified|consistent|in\s+the\s+box|boxed|unique|here|this|that|it)(?:\s+(?:and|so|now|too|as|then)\b.*)?",
    re.IGNORECASE | re.DOTALL,
)
_DENYING = re.compile(rf"\b(?:no|nicht|ne|não|non|не)\s+(?:{_VERB})\b|\bn['’](?:est|è)\b", re.IGNORECASE)
_DENIED = re.compile(
    r"(?:definitely\s+|clearly\s+|certainly\s+|simply\s+)?(?:not|never)\s+(?:just\s+|simply\s+|equal\s+to\s+)?"
    r"[^A-Za-z\s]|(?:wrong|incorrect|false)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Announcement:
    """An answer that a phrase announces; `final`: the phrase says so; `end`: the position behind it."""

    text: str
    final: bool
    end: int


@dataclass(frozen=True, slots=True)
class Announcements:
    """What the phrases of a response announce; up to `denied_until`, nothing else may be an answer."""

    answer: Announcement | None
    denied_until: int = 0


def announced(response: str, truncated: bool) -> Announcements:
    """Return the answer after the last "final answer is", else after the last "answer is".

    Phrases that deny a value or refer elsewhere ("see below") announce none. If the response corrects itself
    afterwards ("Wait, … it is 7"), the correction is the answer.
    """
    denied_until = 0
    for final, phrase in ((True, _FINAL), (False, _ANSWER)):
        for match in reversed(deque(phrase.finditer(response), maxlen=_MOST_PHRASES)):
            denies = _DENYING.search(match[0])
            instead = _BUT_OTHERWISE.match(response, match.end()) if denies else None
            content = _content(response, instead.end() if instead else match.end(), truncated)
            if content is None:
                break
            text, end = content
            denied = _DENIED.match(text) or (denies and not instead)
            if denied or response.startswith("?", end - 1):
                denied_until = max(denied_until, end)
            elif text and not _REFERS.fullmatch(text):
                return _corrected(response, Announcement(text, final, end))
    chosen = deque(_CHOSEN.finditer(response), maxlen=1)
    if chosen:
        return Announcements(Announcement(chosen[0]["letter"], False, chosen[0].end()))
    return Announcements(None, denied_until)


def correction(response: str, start: int) -> Announcement | None:
    """Return the answer that a response gives instead of the one before `start`: "Wait, it is 7"."""
    doubt = _DOUBT.search(response, start)
    if doubt is None:
        return None
    for statement in reversed(deque(_STATES.finditer(response, doubt.end()), maxlen=_MOST_PHRASES)):
        content = _content(response, statement.end(), truncated=False)
        if content and content[0] and not _DENIED.match(content[0]):
            return Announcement(content[0], False, content[1])
    if again := _SAID_AGAIN.search(response, doubt.start()):
        return Announcement(strip_math_delimiters(again["value"]), False, again.end())
    return None


def retracted_until(response: str, start: int) -> int:
    """Return where the words end that take an answer back ("that is wrong"); 0 without any."""
    if not contains_any(response[start:].casefold(), _PARTS_OF_RETRACTIONS):
        return 0
    retracted = _RETRACTED_AT_ONCE.match(response, start) or _RETRACTED.search(response, start)
    return retracted.end() if retracted else 0


def _corrected(response: str, first: Announcement) -> Announcements:
    corrected = correction(response, first.end)
    if corrected is None and (end := retracted_until(response, first.end)):
        return Announcements(None, end)
    return Announcements(corrected or first)


def _content(response: str, start: int, truncated: bool) -> tuple[str, int] | None:
    """Return what a phrase announces, up to the end of its formulas or sentence, and the position behind it.

    Return None if it may reach beyond the cut.
    """
    if instead := _BUT.match(response, start):
        start = instead.end()
    if response.startswith("\n", start - 1) and (listed := _listed(response, start)):
        return listed
    sentence = response[start : start + _LONGEST_SENTENCE]
    end = _END_OF_SENTENCE.search(sentence)
    formula = FORMULA.search(sentence)
    if formula and not _SENTENCE_BEFORE_FORMULA.search(sentence, 0, formula.start()):
        text, stop = joined_formulas(sentence, formula)
        changed = changed_before(sentence, 0, formula.start())
        if not changed and not CHANGED_BEHIND.match(sentence, stop):
            return text, start + stop
        end = _END_OF_SENTENCE.search(sentence, stop)
    if truncated and (end is None or start + end.end() == len(response)):
        return None
    stop = end.start() if end else len(sentence)
    text = _POLITE_END.sub("", strip_math_delimiters(sentence[:stop].strip(_AROUND))).rstrip(", ")
    if others := _NOT_OTHERS.fullmatch(text) or _AMENDED.fullmatch(text):
        return strip_math_delimiters(others["value"]), start + stop + 1
    amount = _AMOUNT_THEN_WORDS.match(text)
    if amount and not (
        CHANGES_NUMBER.match(text, amount.end("space"))
        or BOUND_BEHIND.search(text)
        or _MEASURE.match(text, amount.end("space"))
    ):
        text = amount[1]
    return text, start + stop + 1


def joined_formulas(sentence: str, first: re.Match[str]) -> tuple[str, int]:
    """Return a formula with those joined to it, as in `$2$ and $3$`, and the position behind them."""
    text, stop = strip_math_delimiters(first[0]), first.end()
    while joins := _JOINS.match(sentence, stop):
        following = FORMULA.match(sentence, joins.end())
        if following is None or not (joins["word"] or joins["comma"]):
            break
        text += f" {joins['word']} " if joins["word"] else ", "
        text, stop = text + strip_math_delimiters(following[0]), following.end()
    return text, stop


def _listed(response: str, start: int) -> tuple[str, int] | None:
    """Return the values of a list, or of lines `x = 3`, as one answer; None if there are less than two."""
    for line in (_BULLET, _EQUATION_LINE):
        items, position = list[str](), start
        while item := line.match(response, position):
            items.append(strip_math_delimiters(item["item"].strip(_AROUND).rstrip(".;,")))
            position = item.end()
        if len(items) > 1:
            return ", ".join(items), position
    return None


def answer_line(response: str, start: int) -> Announcement | None:
    """Return the answer of the last line behind `start` that is nothing but "Answer: B" or "Answer: 7"."""
    lines = deque(_ANSWER_LINE.finditer(response, start), maxlen=1)
    return Announcement(strip_math_delimiters(lines[0]["value"]), False, lines[0].end()) if lines else None
