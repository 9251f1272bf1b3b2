"""What the checking processes of `PatternSearch` do.

A task is `{"pattern": …, "text": …, "whole": …, "ignore_case": …}`; its outcome is `{"found": text}`, or
cause and detail.
"""

import json
import re
from typing import Any

from hsstar.domain.verdict import Cause
from hsstar.verifier.process import AnswerTask


def load(setup: object) -> AnswerTask:
    """Nothing has to be loaded."""
    return _answer


def _answer(task: dict[str, Any]) -> str:
    flags = re.DOTALL | re.MULTILINE | (re.IGNORECASE if task["ignore_case"] else 0)
    try:
        pattern = re.compile(task["pattern"], flags)
    except (re.error, OverflowError, RecursionError) as error:
        return json.dumps({"cause": Cause.BAD_REFERENCE, "detail": f"not a regular expression: {error}"})
    whole = pattern.fullmatch(task["text"]) if task["whole"] else None
    matches = [whole] if whole else [] if task["whole"] else list(pattern.finditer(task["text"]))
    if not matches:
        return json.dumps({"cause": Cause.INCORRECT if task["whole"] else Cause.NO_ANSWER})
    found = matches[-1][1] if pattern.groups else matches[-1][0]
    return json.dumps({"found": found or ""})
