"""Rows of responses that are right or wrong, as others publish them: unpaired preferences, for KTO.

`JUDGED_LAYOUTS` are in the order in which layouts are recognised; docs/formats.md shows them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from hsstar.data.bad_rows import BadRows
from hsstar.data.columns import Row, first_value, has, keys_of, listed, text_of
from hsstar.data.conversations import Turn, alpaca_turns, answer_of, turns_of
from hsstar.data.training_rows import (
    CUT,
    CUT_EXAMPLE,
    Conversation,
    Prompt,
    Question,
    RowLayout,
    answer_text,
    rows_in,
)
from hsstar.domain.errors import BadInputError
from hsstar.domain.text import kind_of

NO_VERDICT = "responses without a verdict"
_LABELS = ("label", "kto_tag")
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A response to learn, or to avoid; `cut` tells whether it was cut at its token limit."""

    prompt: Prompt
    response: str
    desirable: bool
    cut: bool = False


def read_judged(
    paths: Iterable[Path], left_out: Counter[str], *, keep_cut: bool = False, bad: BadRows | None = None
) -> Iterator[JudgedRow]:
    """Yield the judged responses of some files, and count in `left_out` those that are none, by reason.

    A desirable response that was cut at its limit is left out, unless `keep_cut`; `bad` takes rows that
    cannot be used. BadInputError as in `files.read_rows`, or if a row is no judged response.
    """
    bad = bad or BadRows()
    expected = "rows with prompt, response and label (true or false)"
    for judged in chain.from_iterable(rows_in(JUDGED_LAYOUTS, path, bad, expected) for path in paths):
        if judged is None:
            left_out[NO_VERDICT] += 1
        elif judged.cut and judged.desirable and not keep_cut:
            left_out[CUT_EXAMPLE] += 1
        else:
            yield judged


def _label(row: Row, *keys: str) -> bool:
    """Return a truth value, which tables write as text or number; raise BadInputError for any other value."""
    entry = first_value(row, keys)
    if entry is None:
        raise BadInputError(f"expected {listed(keys)}, found keys {keys_of(row)}")
    key, value = entry
    truth = _TRUTHS.get(str(value).strip().lower()) if isinstance(value, bool | int | str) else None
    if truth is None:
        shown = repr(value) if isinstance(value, int | str) else kind_of(value)
        raise BadInputError(f"expected true or false under {key}, found {shown}")
    return truth


def _is_cut(row: Row) -> bool:
    return row.get("finish_reason") == CUT


def _prompted(row: Row) -> JudgedRow:
    key = "completion" if has(row, "completion") else "response"
    prompt, response, desirable = row["prompt"], row[key], _label(row, *_LABELS)
    if isinstance(prompt, str) and isinstance(response, str):
        return JudgedRow(prompt, response, desirable, _is_cut(row))
    if not isinstance(response, str | list):
        raise BadInputError(f"expected text or messages under {key}, found {kind_of(response)}")
    before = (Turn("user", prompt),) if isinstance(prompt, str) else turns_of("prompt", prompt)
    return JudgedRow(Conversation(before), answer_text(response), desirable, _is_cut(row))


def _chat(key: str, row: Row) -> JudgedRow:
    turns = turns_of(key, row[key])
    if row.get("system") and turns[0].role != "system":
        turns = (Turn("system", text_of(row, "system")), *turns)
    response = answer_of(key, turns[-1:])
    return JudgedRow(Conversation(turns[:-1]), response, _label(row, *_LABELS), _is_cut(row))


def _alpaca(row: Row) -> JudgedRow:
    turns = alpaca_turns(row)
    return JudgedRow(Conversation(turns), text_of(row, "output"), _label(row, *_LABELS), _is_cut(row))


def _sample(row: Row) -> JudgedRow | None:
    if row["correct"] is None:
        return None
    question = Question(text_of(row, "query"))
    return JudgedRow(question, text_of(row, "resp"), _label(row, "correct"), _is_cut(row))


def _has_label(row: Row) -> bool:
    return any(has(row, key) for key in _LABELS)


def _answers(row: Row) -> bool:
    return has(row, "completion") or has(row, "response")


def _chat_layout(published: str, key: str) -> RowLayout[JudgedRow | None]:
    def fits(row: Row) -> bool:
        return isinstance(row.get(key), list) and _has_label(row)

    def parts(row: Row) -> Any:
        return _chat(key, row)

    return RowLayout(published, f"`{key}` that end with the answer, and `label` or `kto_tag`", fits, parts)


JUDGED_LAYOUTS: tuple[RowLayout[JudgedRow | None], ...] = (
    RowLayout(
        "hsstar, HS-STaR",
        "`query` with `resp` and `correct`",
        lambda row: has(row, "query", "resp", "correct"),
        _sample,
    ),
    RowLayout(
        "TRL, hsstar",
        "`prompt` with `completion` or `response`, texts or messages, and `label`",
        lambda row: has(row, "prompt") and _answers(row) and _has_label(row),
        _prompted,
    ),
    _chat_layout("LLaMA-Factory (OpenAI), ms-swift", "messages"),
    _chat_layout("LLaMA-Factory (ShareGPT)", "conversations"),
    RowLayout(
        "LLaMA-Factory (Alpaca)",
        "`instruction`, perhaps `input`, `system` and `history`, with `output` and `kto_tag`",
        lambda row: has(row, "instruction", "output") and _has_label(row),
        _alpaca,
    ),
)
