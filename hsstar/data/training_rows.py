"""Rows to train on as others publish them: preference pairs and examples, with prompts yet to be rendered.

`PAIR_LAYOUTS` and `EXAMPLE_LAYOUTS` are in the order in which layouts are recognised; docs/formats.md shows
them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from hsstar.data.bad_rows import BadRows
from hsstar.data.columns import Row, has, keys_of, lowered, text_of
from hsstar.data.conversations import (
    Turn,
    alpaca_turns,
    answer_of,
    implicit_prompt,
    role_of,
    shared_turns,
    turns_of,
)
from hsstar.data.files import ProblemFiles, read_rows
from hsstar.data.rows import NumberedRow, naming
from hsstar.data.sample_layouts import hold_samples, read_samples
from hsstar.domain.errors import BadInputError

_ROWS_TO_DETECT_LAYOUT = 20
CUT = "length"
"""The finish reason of a response that was cut at its token limit."""
NO_PREFERENCE = "rows whose responses have equal scores"
CUT_CHOSEN = "pairs whose chosen response was cut at its limit"
CUT_EXAMPLE = "responses that were cut at their limit"
NO_SOLUTION = "problems without a solution"


@dataclass(frozen=True, slots=True)
class Question:
    """A problem that a prompt template renders."""

    statement: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns before a response, which the model's own template renders."""

    turns: tuple[Turn, ...]


Prompt = str | Question | Conversation
"""What stands before a response; a text stays as it is."""


@dataclass(frozen=True, slots=True)
class PairRow:
    """A preference pair; which of its responses were cut at their token limit."""

    prompt: Prompt
    chosen: str
    rejected: str
    chosen_cut: bool = False
    rejected_cut: bool = False


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """A response to learn; `cut` tells whether it was cut at its token limit."""

    prompt: Prompt
    response: str
    cut: bool = False


Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class RowLayout(Generic[Read]):
    """A published layout of rows to train on."""

    published: str  # who publishes it
    sign: str  # how it is recognised, in words
    fits: Callable[[Row], bool]
    parts: Callable[[Row], Read]

    def read(self, row: Row) -> Read:
        """Return what a row is; raise BadInputError if it does not fit, or a value is of the wrong kind."""
        row = lowered(row)
        if not self.fits(row):
            raise BadInputError(f"expected {self.sign}; found keys {keys_of(row)}")
        return self.parts(row)


def read_pairs(
    paths: Iterable[Path], left_out: Counter[str], *, keep_cut: bool = False, bad: BadRows | None = None
) -> Iterator[PairRow]:
    """Yield the pairs of some files, and count in `left_out` those that are none, by reason.

    A pair whose chosen response was cut at its limit is left out, unless `keep_cut`; `bad` takes rows that
    cannot be used. BadInputError as in `files.read_rows`, or if a row is no pair.
    """
    bad = bad or BadRows()
    expected = "pairs with prompt, chosen and rejected"
    for pair in chain.from_iterable(rows_in(PAIR_LAYOUTS, path, bad, expected) for path in paths):
        if pair is None:
            left_out[NO_PREFERENCE] += 1
        elif pair.chosen_cut and not keep_cut:
            left_out[CUT_CHOSEN] += 1
        else:
            yield pair


def read_examples(
    paths: Iterable[Path], left_out: Counter[str], *, keep_cut: bool = False, bad: BadRows | None = None
) -> Iterator[ExampleRow]:
    """Yield the examples of some files, and count in `left_out` those that are none, by reason.

    They are conversations, an example for each answer of the assistant, prompts with completions, samples, or
    problems with their solutions. A response that was cut at its limit is left out, unless `keep_cut`; `bad`
    takes rows that cannot be used. BadInputError as in `files.read_rows`, or if a row is none of these.
    """
    bad = bad or BadRows()
    for example in chain.from_iterable(_examples(path, bad) for path in paths):
        if isinstance(example.prompt, Question) and not example.response:
            left_out[NO_SOLUTION] += 1
        elif example.cut and not keep_cut:
            left_out[CUT_EXAMPLE] += 1
        else:
            yield example


def _examples(path: Path, bad: BadRows) -> Iterator[ExampleRow]:
    first, rows = _peeked(path, bad)
    layout = _detected(EXAMPLE_LAYOUTS, [row for _, row in first])
    if layout is None and not hold_samples([row for _, row in first]):
        for problem in ProblemFiles([path], bad=bad).read(path, rows):
            yield ExampleRow(Question(problem.statement), problem.solution or "")
        return
    for line, row in rows:
        with bad.left_out(), naming(path, line):
            yield from layout.read(row) if layout else _of_sample(row)


def rows_in(layouts: Sequence[RowLayout[Read]], path: Path, bad: BadRows, expected: str) -> Iterator[Read]:
    """Yield the rows of a file in the one of these layouts that most of the first rows have.

    Raise BadInputError with what was `expected` if they have none, and for a row that does not fit.
    """
    first, rows = _peeked(path, bad)
    with naming(path, first[0][0]):
        layout = _detected(layouts, [row for _, row in first])
        if layout is None:
            keys = keys_of(first[0][1])
            raise BadInputError(
                f"expected {expected}, or another layout of docs/formats.md, found keys {keys}"
            )
    for line, row in rows:
        with bad.left_out(), naming(path, line):
            yield layout.read(row)


def _peeked(path: Path, bad: BadRows) -> tuple[list[NumberedRow], Iterator[NumberedRow]]:
    """Return the first rows of a file, by which its layout is recognised, and all rows."""
    rows = read_rows(path, bad)
    first = list(islice(rows, _ROWS_TO_DETECT_LAYOUT))
    return first, chain(first, rows)


def _detected(layouts: Iterable[RowLayout[Read]], rows: Sequence[Row]) -> RowLayout[Read] | None:
    """Return the layout that all rows fit, else one that most of them fit: then the others are named."""
    plain = [lowered(row) for row in rows]
    fitting = [(layout, sum(map(layout.fits, plain))) for layout in layouts]
    for fewest in (len(rows), len(rows) // 2 + 1):
        for layout, count in fitting:
            if count >= fewest:
                return layout
    return None


def _of_sample(row: Row) -> list[ExampleRow]:
    samples = read_samples(row)
    question = Question(samples.problem.statement)
    return [ExampleRow(question, answer.text, answer.finish_reason == CUT) for answer in samples.responses]


def _text_pair(row: Row) -> PairRow:
    prompt = text_of(row, "prompt") if has(row, "prompt") else None
    chosen, rejected = text_of(row, "chosen"), text_of(row, "rejected")
    if prompt is None:
        prompt = implicit_prompt(chosen, rejected)
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    return _with_cuts(row, prompt, chosen, rejected)


def _chat_pair(row: Row) -> PairRow:
    chosen, rejected = turns_of("chosen", row["chosen"]), turns_of("rejected", row["rejected"])
    before: tuple[Turn, ...] = ()
    if has(row, "prompt") and chosen[0].role == "assistant":  # else both begin with the prompt
        prompt = row["prompt"]
        before = (Turn("user", prompt),) if isinstance(prompt, str) else turns_of("prompt", prompt)
    shared = shared_turns(chosen, rejected)
    sides = {"chosen": chosen, "rejected": rejected}
    answers = (answer_of(key, turns[len(shared) :]) for key, turns in sides.items())
    return _with_cuts(row, Conversation(before + shared), *answers)


def _alpaca_pair(row: Row) -> PairRow:
    return _with_cuts(
        row, Conversation(alpaca_turns(row)), *map(answer_text, (row["chosen"], row["rejected"]))
    )


def _sharegpt_pair(row: Row) -> PairRow:
    turns = turns_of("conversations", row["conversations"])
    if has(row, "system") and row["system"]:
        turns = (Turn("system", text_of(row, "system")), *turns)
    return _with_cuts(row, Conversation(turns), *map(answer_text, (row["chosen"], row["rejected"])))


def _swift_pair(row: Row) -> PairRow:
    """Of ms-swift: the last answer in `messages` is the chosen one."""
    turns = turns_of("messages", row["messages"])
    chosen = answer_of("messages", turns[-1:])
    if has(row, "rejected_messages"):
        key = "rejected_messages"
        rejected = answer_of(key, turns_of(key, row[key])[-1:])
    else:
        rejected = text_of(row, "rejected_response")
    return _with_cuts(row, Conversation(turns[:-1]), chosen, rejected)


def _query_pair(row: Row) -> PairRow:
    """Of ms-swift 2: the texts of the question and both answers."""
    answers = (text_of(row, key) for key in ("response", "rejected_response"))
    return _with_cuts(row, Conversation(alpaca_turns(row)), *answers)


def _scored_pair(row: Row) -> PairRow | None:
    """Of UltraFeedback: the completions with the best and the worst score; None if these are equal."""
    completions = row["completions"]
    if not isinstance(completions, list) or not all(map(_is_scored, completions)):
        raise BadInputError("expected completions with response (text) and overall_score (number)")
    scored = sorted(completions, key=lambda completion: float(completion["overall_score"]))
    if not scored or scored[0]["overall_score"] == scored[-1]["overall_score"]:
        return None
    asked = Conversation((Turn("user", text_of(row, "instruction")),))
    return PairRow(asked, scored[-1]["response"], scored[0]["response"])


def _is_scored(completion: Any) -> bool:
    if not isinstance(completion, Mapping):
        return False
    score = completion.get("overall_score")
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    return is_number and isinstance(completion.get("response"), str)


def _with_cuts(row: Row, prompt: Prompt, chosen: str, rejected: str) -> PairRow:
    cuts = (row.get(f"{side}_finish_reason") == CUT for side in ("chosen", "rejected"))
    return PairRow(prompt, chosen, rejected, *cuts)


def answer_text(value: Any) -> str:
    """Return a text, or the answer in turns; raise BadInputError without one."""
    return value if isinstance(value, str) else answer_of("chosen and rejected", turns_of("chosen", value))


def _conversation_examples(key: str, row: Row) -> list[ExampleRow]:
    """Return an example for each answer of the assistant, with all turns before it as its prompt."""
    turns = turns_of(key, row[key])
    if row.get("system") and turns[0].role != "system":
        turns = (Turn("system", text_of(row, "system")), *turns)
    answers = [place for place, turn in enumerate(turns) if turn.role == "assistant" and place > 0]
    if not answers:
        raise BadInputError(f"expected {key} with an answer of the assistant to somebody")
    cut = row.get("finish_reason") == CUT
    return [
        ExampleRow(Conversation(turns[:place]), turns[place].content, cut and place == len(turns) - 1)
        for place in answers
    ]


def _completion_example(row: Row) -> list[ExampleRow]:
    prompt, completion, cut = row["prompt"], row["completion"], row.get("finish_reason") == CUT
    if isinstance(prompt, str) and isinstance(completion, str):
        return [ExampleRow(prompt, completion, cut)]
    before = (Turn("user", prompt),) if isinstance(prompt, str) else turns_of("prompt", prompt)
    return [ExampleRow(Conversation(before), answer_text(completion), cut)]


def _alpaca_example(row: Row) -> list[ExampleRow]:
    response = text_of(row, "output")
    return [ExampleRow(Conversation(alpaca_turns(row)), response, row.get("finish_reason") == CUT)]


def _are_chats(row: Row) -> bool:
    return all(isinstance(row.get(key), list) for key in ("chosen", "rejected"))


def _are_texts(row: Row) -> bool:
    return all(isinstance(row.get(key), str) for key in ("chosen", "rejected"))


def _is_chat_only(row: Row) -> bool:
    """Tell whether messages are all that a row has, and somebody answers in them."""
    chat = row.get("messages")
    is_problem = any(has(row, key) for key in ("problem", "question", "query"))
    return isinstance(chat, list) and not is_problem and any(role_of(turn) == "assistant" for turn in chat)


PAIR_LAYOUTS: tuple[RowLayout[PairRow | None], ...] = (
    RowLayout(
        "UltraFeedback",
        "`instruction` with `completions`, each with `response` and `overall_score`",
        lambda row: has(row, "instruction", "completions"),
        _scored_pair,
    ),
    RowLayout(
        "ms-swift",
        "`messages` with `rejected_response` or `rejected_messages`",
        lambda row: has(row, "messages") and (has(row, "rejected_response") or has(row, "rejected_messages")),
        _swift_pair,
    ),
    RowLayout(
        "ms-swift 2",
        "`query` with `response` and `rejected_response`, perhaps `system` and `history`",
        lambda row: has(row, "query", "response", "rejected_response"),
        _query_pair,
    ),
    RowLayout(
        "LLaMA-Factory (ShareGPT)",
        "`conversations` with `chosen` and `rejected`",
        lambda row: has(row, "conversations", "chosen", "rejected"),
        _sharegpt_pair,
    ),
    RowLayout(
        "LLaMA-Factory (Alpaca), Orca",
        "`instruction` or `question`, perhaps `input` and `system`, with `chosen` and `rejected`",
        lambda row: (
            has(row, "chosen", "rejected")
            and not has(row, "prompt")
            and (has(row, "instruction") or has(row, "question"))
        ),
        _alpaca_pair,
    ),
    RowLayout(
        "TRL (conversations), UltraFeedback binarized",
        "`chosen` and `rejected` as messages, with `prompt` or beginning with it",
        lambda row: has(row, "chosen", "rejected") and _are_chats(row),
        _chat_pair,
    ),
    RowLayout(
        "TRL, hsstar",
        "`chosen` and `rejected` as texts, with `prompt` or beginning with it",
        lambda row: has(row, "chosen", "rejected") and (has(row, "prompt") or _are_texts(row)),
        _text_pair,
    ),
)

EXAMPLE_LAYOUTS: tuple[RowLayout[list[ExampleRow]], ...] = (
    RowLayout(
        "TRL, OpenAI, ms-swift",
        "`messages` with an answer of the assistant, and no problem beside",
        _is_chat_only,
        lambda row: _conversation_examples("messages", row),
    ),
    RowLayout(
        "LLaMA-Factory (ShareGPT)",
        "`conversations`",
        lambda row: has(row, "conversations"),
        lambda row: _conversation_examples("conversations", row),
    ),
    RowLayout(
        "LLaMA-Factory (Alpaca)",
        "`instruction`, perhaps `input`, `system` and `history`, with `output`",
        lambda row: has(row, "instruction", "output"),
        _alpaca_example,
    ),
    RowLayout(
        "TRL",
        "`prompt` with `completion`, texts or messages",
        lambda row: has(row, "prompt", "completion"),
        _completion_example,
    ),
)
