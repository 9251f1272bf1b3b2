"""Words behind or before a number that make another number of it, or a bound, or no number at all."""

import re

SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "score": 20,
    "gross": 144,
    "bn": 10**9,
    "lakh": 10**5,
    "crore": 10**7,
}
_OPERATIONS = (
    r"plus|minus|times(?!\s+(?:as|more|less|larger|greater|smaller|faster|longer|a|per|in|each|every)\b)(?=\s+\S)"
    r"|multiplied|divided|over(?=\s+\S)|squared|cubed|factorial|choose(?=\s+\d)|mod|modulo|(?:with\s+)?remainder"
    r"|(?:raised\s+)?to\s+the|pi|sqrt|root|and\s+(?:a|one|two|three)\b"
)
_PARTS = r"half|halves|(?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth|thousandth)s?"
_BOUNDS = (
    r"at\s+(?:most|least)|or\s+(?:more|less|fewer|greater|larger|smaller|higher|lower|above|below|so)"
    r"|(?:more|less|fewer|greater|larger|smaller|higher|lower)\s+than|and\s+(?:above|below|up|over|higher|lower)"
    r"|below|above|under|beyond|minimum|maximum|onwards?|upwards?|downwards?|less|fewer|tens|doubled|tripled|halved"
    r"|too\s+(?:many|few|much)|reciprocal|inclusive|exclusive|inverse|upside|at\s+(?:best|worst)"
)
_DENIALS = (
    r"(?:is|are|was|would\s+be|seems)\s+(?:not|wrong|incorrect|false|too|impossible|never|n['’]t)|isn['’]t|aren['’]t"
    r"|\w+n['’]t|(?:does|do|did|will|would|can|could|should)\s+not|fail(?:s|ed)?"
    r"|is\s+(?:extraneous|excluded|rejected|ruled|discarded|invalid|an?\s+(?:\w+\s+)?(?:bound|multiple|factor|divisor|contradiction))"
    r"|not|never|cannot|wrong|incorrect|false|except|excluded|excluding|without|unless|if|when|whenever|but|nor"
    r"|or|(?:to|through)(?=\s+[-\d])|other|any|else|instead|rather"
)
_FOREIGN = (
    r"mil|mill[oó]n|millones|mille|millions|Million(?:en)?|Mio|Mrd|Milliarden?|milliards?|tausend|hundert|cien(?:tos)?"
    r"|docenas?|decenas?|centenas?|Dutzend|douzaines?|dizaines?|centaines?|десят\w+|дюжин\w*|сотен|сотни|миллиард\w*|миллион\w*|тысяч\w*"
    r"|тыс|млн|млрд|не|nicht|pas|y\s+medio|et\s+demie?|с\s+половиной|bis(?=\s+\d)|[àa](?=\s+\d)|до(?=\s+\d)"
    r"|por(?=\s+\S)|(?:veces|fois)(?=\s+\S)|mal(?=\s+\d)|entre(?=\s+\d)|dividido|divisé|geteilt"
    r"|o\s+(?:más|menos)|ou\s+(?:plus|moins)|oder\s+(?:mehr|weniger)|или\s+(?:более|больше|менее|меньше)"
    r"|más|menos|plus|moins|mehr|weniger|больше|меньше|более|менее|mindestens|höchstens"
    r"|al\s+cu(?:adrado|bo)|au\s+c(?:arré|ube)|zum\s+Quadrat|hoch|в\s+(?:квадрате|кубе)"
    r"|como\s+m[ií]nimo|como\s+m[aá]ximo|al\s+menos|por\s+lo\s+menos|au\s+(?:plus|moins|maximum|minimum)"
)
MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_MONTH_BEHIND = (  # with its capital: 5 may be
    r"(?-i:(?:st|nd|rd|th)?(?:\sof)?\s?(?:January|February|March|April|May|June|July|August|September|October"
    r"|November|December)(?![A-Za-z]))"
)
_COUNTERS = "[个個人名位只张本条次种岁天元円枚回通개명권번장대마리]"
_CHANGES = (
    rf"(?<![^\W\d_])(?:(?:{'|'.join(SCALES)})s?|{_PARTS}|{_OPERATIONS}|{_BOUNDS}|{_DENIALS}|{_FOREIGN})\b|{_MONTH_BEHIND}"
    rf"|[万亿億千百兆]|(?:{_COUNTERS})?\s?(?:以上|以下|以内|未満|未满|より|多|ではな|ではありま|じゃな|[是为]?(?:不对|不對|错|不正确)|(?:时|は|を)?\s?(?:不成立|不适|不適|不符|舍去|以外))"
    rf"|(?:{_COUNTERS})?\s?(?:이상|이하|미만|초과|보다|[이가]\s?아니|[이가]\s?아닙)"
)
CHANGES_NUMBER = re.compile(_CHANGES, re.IGNORECASE)
"""Begins where a word stands that changes the number before it."""

CHANGED_BEHIND = re.compile(rf"[\s*_]*(?:{_CHANGES})", re.IGNORECASE)

BOUND_BEHIND = re.compile(
    r"\b(?:or\s+(?:more|less|fewer|greater|larger|smaller|higher|lower)|at\s+(?:most|least))\b", re.IGNORECASE
)
"""Words that make a bound of the number some words before them."""

_SMALLER_OR_GREATER = r"(?:no\s+)?(?:more|less|fewer|greater|larger|bigger|smaller|higher|lower)\s+than"
_CANNOT = (
    r"(?:\w+n['’]t|cannot|(?:does|do|did|is|are|was|can|could|must|should|will|would|may)\s+not)"
    r"(?:\s+(?:really|actually|even|possibly))?"
    r"(?:\s+(?:have|equal|be|get|use|take|include|contain|exceed|accept|allow|reach|count))?"
)
_EXCLUDES = (
    r"impossible\s+(?:to\s+\w+|that)|(?:false|untrue|wrong|incorrect)\s+that|no\s+\w+\s+(?:with|for|when|where)"
    r"|differs?\s+from|different\s+from|unequal\s+to|rul(?:es?|ed|ing)\s+out|none\s+of\s+(?:them|these|which)"
    r"|contradict(?:s|ing)?|assum(?:es?|ing)|suppos(?:e|ing)|let|try(?:ing)?|consider"
    r"|no\s+puede\s+ser|ne\s+peut\s+pas\s+être|не\s+может\s+быть(?:\s+рав\w+)?|descartamos|verwerfen|rejet(?:te|ons)"
    r"|отбрасываем|исключаем"
    r"|(?:exclud|eliminat)(?:es?|ed|ing)|(?:reject|discard)(?:s|ed|ing)?"
)
_RELATES = (
    r"bounded(?:\s+(?:above|below))?\s+by|divisible\s+by|(?:multiples?|factors?|divisors?|powers?)\s+of|divides"
    r"|(?:lies|is|are|be|ranges?|varies)\s+(?:between|from)|(?:between|from)\s+\$?[-\d.,]+\$?\s+(?:to|and)"
    r"|(?:in\s+)?base"
    r"|(?:all\s+)?(?:the\s+)?real\s+numbers\s+except(?:\s+for)?"
)
_OTHER_LANGUAGES = (
    r"(?:排除|舍去|舍弃|假设|假如|若|除了?|当|不是|不可能[是为]|不会是|不等于|不为|并非|至少|至多|最多|最少|不超过|不少于|不多于|不大于|不小于|不到|不足|超过|大于|小于|多于|少于"
    r"|不选|排除|少なくとも|多くとも|최소|최대|적어도|많아야)(?:等于|有|是|为|需要|要)?|아니라?"
)
_LABEL = r"\b(?:step|figure|theorem|lemma|method|problem|question|section|chapter)\s?[#(]?\s?\Z"
_CHANGED_BEFORE = re.compile(
    rf"{_LABEL}|(?:{_OTHER_LANGUAGES}|\b(?:{_CANNOT}|{_EXCLUDES}|{_RELATES}"
    r"|minus|negative|not|never|at\s+(?:most|least)|over|under"
    rf"|{_SMALLER_OR_GREATER}|above|below|up\s+to|except|without|excluding|either|neither|unless|other\s+than"
    r"|instead\s+of|rather\s+than|exceeds?|half|twice|thrice|double|triple|square\s+root|cube\s+root|square\s+of"
    r"|cube\s+of|no\s+es|nicht|n['’]est\s+pas|не\s+равен|не|más\s+de|menos\s+de|al\s+menos|plus\s+de|moins\s+de"
    r"|(?:mayor|menor)(?:\s+o\s+igual)?\s+(?:que|a)|(?:größer|kleiner|mehr|weniger)(?:\s+oder\s+gleich)?\s+als"
    r"|plus\s+(?:grand|petit)e?\s+que|(?:supérieur|inférieur)e?\s+[àa]|au\s+(?:plus|moins)|mindestens|höchstens|более|менее|больше|меньше)(?!\w))"
    r"(?:\s+(?:equal\s+to|exactly|just|be|is|the|of))?"
    r"[\s$*\"(]*\Z",
    re.IGNORECASE,
)
"""Words before a number that change what it says, at the end of the text before it."""

_LONGEST_BEFORE = 60
_BETWEEN = ' \t\n$*"('


def changed_before(text: str, start: int, end: int) -> re.Match[str] | None:
    """Return the words at the end of a part of a text that change the number behind it."""
    start = max(start, end - _LONGEST_BEFORE)
    words_end = len(text[start:end].rstrip(_BETWEEN))
    if not (words_end and (text[start + words_end - 1].isalpha() or text[start + words_end - 1] == "#")):
        return None
    return _CHANGED_BEFORE.search(text, start, end)
