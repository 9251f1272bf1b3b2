"""The verifier as the reward of other trainers: one module each. None of them imports the trainer.

`reference_of` and `text_of` read what the trainers' data sets hold.
"""

from collections.abc import Iterable
from typing import Any

from hsstar.domain.answers import ExtractionRule, extract_answer

_ANSWERING = ("assistant", None)
_ANNOUNCED = {ExtractionRule.BOXED, ExtractionRule.FINAL_ANSWER, ExtractionRule.ANSWER}


def reference_of(value: object) -> str:
    r"""Return the reference in a data set: a value, or a whole solution with `\boxed{…}` or `#### …`."""
    text = str(value)
    extracted = extract_answer(text)
    return extracted.text if extracted is not None and extracted.rule in _ANNOUNCED else text


def text_of(completion: str | Iterable[Any]) -> str:
    """Return the text of a completion; of a conversation that of the assistant's last message.

    A message is a dict or an object with `content`: text, a list of parts, or None. Without a `role` it is
    the assistant's.
    """
    if isinstance(completion, str):
        return completion
    contents = [_get(message, "content") for message in completion if _get(message, "role") in _ANSWERING]
    content = contents[-1] if contents else None
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(_get(part, "text") or "" for part in content)


def _get(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, dict) else getattr(message, name, None)
