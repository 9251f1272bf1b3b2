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
    r"|too\s+(?:many|few|much)|reciprocal|inclusive|exclusive"
)
_DENIALS = (
    r"(?:is|are|was|would\s+be|seems)\s+(?:not|wrong|incorrect|false|too|impossible|never|n['’]t)|isn['’]t|aren['’]t"
    r"|not|never|cannot|wrong|incorrect|false|except|excluding|without|unless|if|when|whenever|but|nor"
    r"|or|(?:to|through)(?=\s+[-\d])|other|any|else|instead|rather"
)
_FOREIGN = (
    r"mil|mill[oó]n|millones|mille|millions|Million(?:en)?|Mio|Mrd|Milliarden?|milliards?|tausend|hundert|cien(?:tos)?"
    r"|docenas?|decenas?|centenas?|Dutzend|douzaines?|dizaines?|centaines?|десят\w+|дюжин\w*|сотен|сотни|миллиард\w*|миллион\w*|тысяч\w*"
    r"|тыс|млн|млрд|не|nicht|pas|y\s+medio|et\s+demie?|с\s+половиной|bis(?=\s+\d)|[àa](?=\s+\d)|до(?=\s+\d)"
    r"|por(?=\s+\S)|(?:veces|fois)(?=\s+\S)|mal(?=\s+\d)|entre(?=\s+\d)|dividido|divisé|geteilt"
    r"|o\s+(?:más|menos)|ou\s+(?:plus|moins)|oder\s+(?:mehr|weniger)|или\s+(?:более|больше|менее|меньше)"
    r"|más|menos|plus|moins|mehr|weniger|больше|меньше|более|менее|mindestens|höchstens"
)
_CHANGES = (
    rf"(?<![^\W\d_])(?:(?:{'|'.join(SCALES)})s?|{_PARTS}|{_OPERATIONS}|{_BOUNDS}|{_DENIALS}|{_FOREIGN})\b"
    r"|[万亿億千百兆]"
)
CHANGES_NUMBER = re.compile(_CHANGES, re.IGNORECASE)
"""Begins where a word stands that changes the number before it."""

CHANGED_BEHIND = re.compile(rf"[\s*_]*(?:{_CHANGES})", re.IGNORECASE)

BOUND_BEHIND = re.compile(
    r"\b(?:or\s+(?:more|less|fewer|greater|larger|smaller|higher|lower)|at\s+(?:most|least))\b", re.IGNORECASE
)
"""Words that make a bound of the number some words before them."""

_SMALLER_OR_GREATER = r"(?:no\s+)?(?:more|less|fewer|greater|larger|smaller|higher|lower)\s+than"
CHANGED_BEFORE = re.compile(
    rf"(?:不是|不等于|不为|并非|아니라?|\b(?:minus|negative|not|never|isn['’]t|cannot|at\s+(?:most|least)|over|under"
    rf"|{_SMALLER_OR_GREATER}|above|below|up\s+to|except|without|excluding|either|neither|unless|other\s+than"
    r"|instead\s+of|rather\s+than|exceeds?|half|twice|thrice|double|triple|square\s+root|cube\s+root|square\s+of"
    r"|cube\s+of|no\s+es|nicht|n['’]est\s+pas|не\s+равен|не)\b)(?:\s+(?:equal\s+to|exactly|just|be|the|of))?"
    r"[\s$*\"(]*\Z",
    re.IGNORECASE,
)
"""Words before a number that change what it says, at the end of the text before it."""
