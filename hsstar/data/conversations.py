"""Conversations as data sets write them: turns by `role` and `content`, or by `from` and `value`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hsstar.data.columns import Row, has, text_of
from hsstar.domain.errors import BadInputError
from hsstar.domain.text import kind_of

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
}
_LAST_MARK = "\n\nAssistant:"
"""Begins the answers of texts in the form of Anthropic's HH."""


class Turn(NamedTuple):
    """A turn of a conversation."""

    role: str
    content: str


def role_of(turn: Any) -> str | None:
    """Return who speaks: `system`, `user`, `assistant` or `tool`; None if that is unknown."""
    if not isinstance(turn, Mapping):
        return None
    return _ROLES.get(str(turn.get("role", turn.get("from"))))


def turns_of(key: str, value: Any) -> tuple[Turn, ...]:
    """Return the turns of a conversation, or of one turn; raise BadInputError if it is none or empty."""
    turns = [value] if isinstance(value, Mapping) else value
    if not isinstance(turns, list) or not turns:
        raise BadInputError(f"expected messages under {key}, found {kind_of(value)}")
    parsed = []
    for turn in turns:
        role = role_of(turn)
        if role is None:
            name = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else kind_of(turn)
            raise BadInputError(f"expected {key} with roles {', '.join(sorted(_ROLES))}, found {name}")
        parsed.append(Turn(role, _content(key, turn.get("content", turn.get("value")))))
    return tuple(parsed)


def answer_of(key: str, turns: Sequence[Turn]) -> str:
    """Return the only turn, which is the assistant's; raise BadInputError if it is not."""
    if len(turns) != 1 or turns[0].role != "assistant":
        roles = ", ".join(turn.role for turn in turns) or "nothing"
        raise BadInputError(f"expected one answer of the assistant at the end of {key}, found {roles}")
    return turns[0].content


def shared_turns(one: Sequence[Turn], other: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return the turns that two conversations begin with; the last of each is not among them."""
    count = 0
    for mine, its in zip(one[:-1], other[:-1], strict=False):
        if mine != its:
            break
        count += 1
    return tuple(one[:count])


def implicit_prompt(one: str, other: str) -> str:
    """Return the prompt that two texts begin with: as far as they are equal, up to a whole word.

    Where the equal part has `Assistant:`, as in Anthropic's HH, it ends with the last one.
    """
    count = next(
        (place for place, (mine, its) in enumerate(zip(one, other, strict=False)) if mine != its),
        min(len(one), len(other)),
    )
    shared = one[:count]
    if (mark := shared.rfind(_LAST_MARK)) >= 0:
        return shared[: mark + len(_LAST_MARK)]
    return shared[: max(map(shared.rfind, (" ", "\n"))) + 1]


def alpaca_turns(row: Row) -> tuple[Turn, ...]:
    """Return the turns of a row: `instruction`, `question` or `query`, with `input`, `system`, `history`."""
    asked = text_of(row, "instruction", "question", "query")
    if has(row, "input") and row["input"]:
        asked += "\n" + text_of(row, "input")
    turns = [Turn("system", text_of(row, "system"))] if row.get("system") else []
    for entry in row.get("history") or []:
        if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(text, str) for text in entry):
            raise BadInputError("expected history as pairs of question and answer")
        turns += [Turn("user", entry[0]), Turn("assistant", entry[1])]
    return (*turns, Turn("user", asked))


def _content(key: str, value: Any) -> str:
    """Return the text of a turn, which may be a list of parts."""
    if isinstance(value, list) and all(map(_is_text, value)):
        value = "".join(part["text"] for part in value)
    if not isinstance(value, str):
        raise BadInputError(f"expected turns of text under {key}, found {kind_of(value)}")
    return value


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
