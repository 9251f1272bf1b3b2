r"""Find the final answer in a response.

`extraction` states the order of the rules, from the surest to the weakest. Every rule takes time linear in
the length of the response. One module per subject: `visible` (what of a response counts), `marked` (boxes,
tags, JSON), `announced` (phrases such as "the answer is"), `endings` (the last formula or number),
`changing_words` (words that make a number another one), `delimiters` (braces and signs of a formula).
"""

from hsstar.domain.answers.delimiters import balanced_braces, contains_any, strip_math_delimiters
from hsstar.domain.answers.extraction import GUESSED, ExtractedAnswer, ExtractionRule, extract_answer

__all__ = [
    "GUESSED",
    "ExtractedAnswer",
    "ExtractionRule",
    "balanced_braces",
    "contains_any",
    "extract_answer",
    "strip_math_delimiters",
]
