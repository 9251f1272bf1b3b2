"""Pairs and examples as others publish them: prompts, responses, and which rows teach nothing."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hsstar.data.bad_rows import BadRows
from hsstar.data.conversations import Turn, implicit_prompt
from hsstar.data.training_rows import (
    CUT_CHOSEN,
    CUT_EXAMPLE,
    EXAMPLE_LAYOUTS,
    NO_PREFERENCE,
    NO_SOLUTION,
    PAIR_LAYOUTS,
    Conversation,
    ExampleRow,
    PairRow,
    Question,
    read_examples,
    read_pairs,
)
from hsstar.domain.errors import BadInputError

CASES = Path(__file__).parent / "field_files"


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def asked(*turns: str, system: str | None = None) -> Conversation:
    """A conversation in which user and assistant take turns."""
    spoken = tuple(Turn(("user", "assistant")[place % 2], turn) for place, turn in enumerate(turns))
    return Conversation((() if system is None else (Turn("system", system),)) + spoken)


def human(value: str) -> dict[str, str]:
    return {"from": "human", "value": value}


def gpt(value: str) -> dict[str, str]:
    return {"from": "gpt", "value": value}


SIDES = {"chosen": "c", "rejected": "r"}
ANSWERS = {"chosen": [assistant("c")], "rejected": [assistant("r")]}
WHOLE = {"chosen": [user("q"), assistant("c")], "rejected": [user("q"), assistant("r")]}
PAIR = PairRow(asked("q"), "c", "r")
CHATS, TEXTS = "TRL (conversations), UltraFeedback binarized", "TRL, hsstar"
ALPACA, SHAREGPT = "LLaMA-Factory (Alpaca), Orca", "LLaMA-Factory (ShareGPT)"
PAIRS: list[tuple[str, dict[str, Any], PairRow]] = [
    ("ms-swift 2", {"query": "q", "response": "c", "rejected_response": "r"}, PAIR),
    (
        "ms-swift 2",
        {"query": "q", "response": "c", "rejected_response": "r", "system": "s", "history": [["p", "a"]]},
        PairRow(asked("p", "a", "q", system="s"), "c", "r"),
    ),
    (TEXTS, {"prompt": "q\n"} | SIDES, PairRow("q\n", "c", "r")),
    (TEXTS, {"prompt": "q", **SIDES, "chosen_finish_reason": "stop", "rejected_finish_reason": "length"},
     PairRow("q", "c", "r", rejected_cut=True)),
    (TEXTS, {"chosen": "The sky is blue.", "rejected": "The sky is green."},
     PairRow("The sky is ", "blue.", "green.")),
    (TEXTS, {"chosen": "\n\nHuman: q\n\nAssistant: So it", "rejected": "\n\nHuman: q\n\nAssistant: So not"},
     PairRow("\n\nHuman: q\n\nAssistant:", " So it", " So not")),
    (CHATS, {"prompt": [user("q")]} | ANSWERS, PAIR),
    (CHATS, WHOLE, PAIR),
    (CHATS, {"prompt": "q", "prompt_id": "x", **WHOLE, "score_chosen": 8.0}, PAIR),
    (CHATS, {"prompt": "q"} | ANSWERS, PAIR),
    (CHATS, {"prompt": [user("q")]} | WHOLE, PAIR),
    (
        CHATS,
        {"chosen": [user("a"), assistant("b"), *WHOLE["chosen"]],
         "rejected": [user("a"), assistant("b"), *WHOLE["rejected"]]},
        PairRow(asked("a", "b", "q"), "c", "r"),
    ),
    (
        CHATS,
        {"prompt": [{"role": "system", "content": "s"}, user([{"type": "text", "text": "q"}])]} | ANSWERS,
        PairRow(asked("q", system="s"), "c", "r"),
    ),
    (ALPACA, {"instruction": "q", "input": ""} | SIDES, PAIR),
    (ALPACA, {"instruction": "q", "input": "1 2", "system": "s", "history": [["a", "b"]]} | SIDES,
     PairRow(asked("a", "b", "q\n1 2", system="s"), "c", "r")),
    (ALPACA, {"system": "", "question": "q"} | SIDES, PAIR),
    (SHAREGPT, {"conversations": [human("q")], "chosen": gpt("c"), "rejected": gpt("r")}, PAIR),
    (SHAREGPT,
     {"conversations": [human("a"), gpt("b"), human("q")], "system": "s",
      "chosen": gpt("c"), "rejected": gpt("r")},
     PairRow(asked("a", "b", "q", system="s"), "c", "r")),
    ("ms-swift", {"messages": WHOLE["chosen"], "rejected_response": "r"}, PAIR),
    ("ms-swift", {"messages": WHOLE["chosen"], "rejected_messages": WHOLE["rejected"]}, PAIR),
    (
        "UltraFeedback",
        {"instruction": "q", "completions": [
            {"response": "m", "overall_score": 5}, {"response": "r", "overall_score": 1.5},
            {"response": "c", "overall_score": 8.0},
        ]},
        PAIR,
    ),
]  # fmt: skip


def file_of(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs_of(path: Path, **options: Any) -> tuple[list[PairRow], dict[str, int]]:
    left_out = Counter[str]()
    return list(read_pairs([path], left_out, **options)), dict(left_out)


def examples_of(path: Path, **options: Any) -> tuple[list[ExampleRow], dict[str, int]]:
    left_out = Counter[str]()
    return list(read_examples([path], left_out, **options)), dict(left_out)


@pytest.mark.parametrize(("published", "row", "pair"), PAIRS)
def test_a_published_pair_is_read(tmp_path: Path, published: str, row: dict[str, Any], pair: PairRow) -> None:
    assert next(layout.published for layout in PAIR_LAYOUTS if layout.fits(row)) == published
    assert pairs_of(file_of(tmp_path, row, row)) == ([pair, pair], {})


def test_every_layout_of_pairs_is_tried() -> None:
    assert {layout.published for layout in PAIR_LAYOUTS} == {published for published, *_ in PAIRS}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "p", "chosen": "c"},
            "expected pairs with prompt, chosen and rejected.*found keys chosen, prompt",
        ),
        ({"prompt": "p", "chosen": "c", "rejected": 3}, "expected text under rejected, found a number"),
        ({"prompt": 1, "chosen": "c", "rejected": "r"}, "expected text under prompt, found a number"),
        ({"chosen": [], "rejected": []}, "expected messages under chosen, found a list"),
        (
            {"chosen": [user("q")], "rejected": [user("q")]},
            "one answer of the assistant at the end of chosen",
        ),
        (
            WHOLE | {"rejected": [user("other"), assistant("r")]},
            "at the end of chosen, found user, assistant",
        ),
        (
            WHOLE | {"rejected": [{"role": "critic", "content": "r"}]},
            "with roles assistant, bot, .*found critic",
        ),
        (
            WHOLE | {"rejected": [{"role": "user", "content": None}]},
            "turns of text under rejected, found null",
        ),
        (
            {"instruction": "q", "completions": [{"response": "a"}]},
            "response .text. and overall_score .number.",
        ),
        ({"instruction": "q", "history": ["a"]} | SIDES, "expected history as pairs of question and answer"),
    ],
)
def test_what_is_no_pair_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=rf"rows\.jsonl:1: .*{message}"):
        pairs_of(file_of(tmp_path, row, row))


def test_rows_without_a_preference_are_counted(tmp_path: Path) -> None:
    equal = {"instruction": "q", "completions": [{"response": text, "overall_score": 3} for text in "ab"]}
    none = {"instruction": "q", "completions": []}
    assert pairs_of(file_of(tmp_path, equal, none, PAIRS[-1][1])) == ([PAIR], {NO_PREFERENCE: 2})


def test_a_cut_response_is_not_chosen_unless_it_may_be(tmp_path: Path) -> None:
    row = {"prompt": "q", **SIDES}
    path = file_of(tmp_path, row, row | {"chosen_finish_reason": "length"})
    assert pairs_of(path) == ([PairRow("q", "c", "r")], {CUT_CHOSEN: 1})
    kept = [PairRow("q", "c", "r"), PairRow("q", "c", "r", chosen_cut=True)]
    assert pairs_of(path, keep_cut=True) == (kept, {})


EXAMPLES: list[tuple[dict[str, Any], list[ExampleRow]]] = [
    ({"messages": [user("q"), assistant("a")]}, [ExampleRow(asked("q"), "a")]),
    (
        {"messages": [user("q"), assistant("a"), user("p"), assistant("b")], "finish_reason": "stop"},
        [ExampleRow(asked("q"), "a"), ExampleRow(asked("q", "a", "p"), "b")],
    ),
    (
        {"conversations": [human("q"), gpt("a")], "system": "s"},
        [ExampleRow(asked("q", system="s"), "a")],
    ),
    ({"conversations": [gpt("hello"), human("q"), gpt("a")]},
     [ExampleRow(Conversation((Turn("assistant", "hello"), Turn("user", "q"))), "a")]),
    ({"instruction": "q", "input": "1", "output": "a"}, [ExampleRow(asked("q\n1"), "a")]),
    ({"instruction": "q", "output": "a", "history": []}, [ExampleRow(asked("q"), "a")]),
    ({"prompt": "q ", "completion": "a"}, [ExampleRow("q ", "a")]),
    ({"prompt": [user("q")], "completion": [assistant("a")]}, [ExampleRow(asked("q"), "a")]),
    ({"query": "q", "resp": "a", "ref_ans": "5"}, [ExampleRow(Question("q"), "a")]),
    ({"query": "q", "response": "The answer is: 5", "type": "MATH_FOBAR"},
     [ExampleRow(Question("q"), "The answer is: 5")]),
    ({"problem": "q", "expected_answer": "5", "generated_solution": "a"}, [ExampleRow(Question("q"), "a")]),
    ({"problem": "q", "solution": "a \\boxed{5}"}, [ExampleRow(Question("q"), "a \\boxed{5}")]),
    (
        {"problem": "q", "solution": "a \\boxed{5}", "source": "x", "messages": [user("q"), assistant("a")]},
        [ExampleRow(Question("q"), "a \\boxed{5}")],
    ),
    ({"question": "q", "answer": "a\n#### 5"}, [ExampleRow(Question("q"), "a\n#### 5")]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "examples"), EXAMPLES)
def test_a_published_example_is_read(tmp_path: Path, row: dict[str, Any], examples: list[ExampleRow]) -> None:
    assert examples_of(file_of(tmp_path, row)) == (examples, {})


def test_every_layout_of_examples_is_tried() -> None:
    found = [next((layout for layout in EXAMPLE_LAYOUTS if layout.fits(row)), None) for row, _ in EXAMPLES]
    assert set(found) == {*EXAMPLE_LAYOUTS, None}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"conversations": [human("q")]},
            "expected conversations with an answer of the assistant to somebody",
        ),
        ({"prompt": "q", "completion": [user("a")]}, "expected one answer of the assistant at the end of"),
        ({"instruction": "q", "output": None}, "expected text under output, found null"),
        ({"text": "t"}, "expected rows with problem/question/query/prompt"),
    ],
)
def test_what_is_no_example_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        examples_of(file_of(tmp_path, row))


def test_examples_that_teach_nothing_are_counted(tmp_path: Path) -> None:
    whole = {"query": "q", "resp": "a", "ref_ans": "5"}
    path = file_of(tmp_path, whole, whole | {"finish_reason": "length"})
    assert examples_of(path) == ([ExampleRow(Question("q"), "a")], {CUT_EXAMPLE: 1})
    assert examples_of(path, keep_cut=True)[0][1] == ExampleRow(Question("q"), "a", cut=True)
    path = file_of(
        tmp_path, {"problem": "q", "solution": "a"}, {"problem": "q", "solution": "", "answer": "5"}
    )
    assert examples_of(path) == ([ExampleRow(Question("q"), "a")], {NO_SOLUTION: 1})
    several = {"messages": [user("q"), assistant("a"), user("p"), assistant("b")], "finish_reason": "length"}
    assert examples_of(file_of(tmp_path, several)) == ([ExampleRow(asked("q"), "a")], {CUT_EXAMPLE: 1})


@pytest.mark.parametrize(
    ("one", "other", "prompt"),
    [
        ("", "", ""),
        ("ab", "ac", ""),
        ("a b", "a b", "a "),
        ("a b", "a bc", "a "),
        ("a\nb c", "a\nb d", "a\nb "),
    ],
)
def test_an_implicit_prompt_ends_with_a_word(one: str, other: str, prompt: str) -> None:
    assert implicit_prompt(one, other) == implicit_prompt(other, one) == prompt


def test_a_row_of_another_layout_is_named_by_its_line(tmp_path: Path) -> None:
    other = {"instruction": "q", "chosen": "a", "rejected": "b"}
    file = file_of(tmp_path, GOOD_PAIR, GOOD_PAIR, {"problem": "q"}, GOOD_PAIR)
    with pytest.raises(BadInputError, match=r"rows\.jsonl:3: expected `chosen` and `rejected`"):
        pairs_of(file)
    file = file_of(tmp_path, CHAT, CHAT, {"prompt": "q"}, CHAT)
    with pytest.raises(BadInputError, match=r"rows\.jsonl:3: expected `messages`"):
        examples_of(file)
    assert len(pairs_of(file_of(tmp_path, other, other))[0]) == 2


@pytest.mark.parametrize("name", ["dpo_conv", "dpo_implicit"])
def test_conversational_cases_are_read(name: str) -> None:
    pairs, left_out = pairs_of(CASES / f"{name}.jsonl")
    assert {pair.prompt for pair in pairs} == {asked("3*2*2=?\n")}
    assert pairs[0].chosen.endswith("\\boxed{12}")
    assert pairs[0].rejected.endswith("\\boxed{10}")
    assert left_out == {}


GOOD_PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
UNFIT_CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "oracle", "content": "a"}]}


@pytest.mark.parametrize(
    ("read", "good", "bad_row", "message"),
    [
        (pairs_of, GOOD_PAIR, GOOD_PAIR | {"chosen": None}, "expected text under chosen, found null"),
        (
            pairs_of,
            GOOD_PAIR,
            {"prompt": "q"},
            "as texts, with `prompt` or beginning with it; found keys prompt",
        ),
        (pairs_of, GOOD_PAIR, ["no object"], "expected a JSON object, found a list"),
        (examples_of, CHAT, UNFIT_CHAT, "an answer of the assistant"),
        (examples_of, {"prompt": "q", "completion": "a"}, {"prompt": "q"}, "completion"),
        (examples_of, {"instruction": "q", "output": "a"}, {"instruction": "q"}, "output"),
        (examples_of, {"query": "q", "resp": "a"}, {"query": " ", "resp": "a"}, "found empty text"),
        (examples_of, {"problem": "q", "solution": "a"}, {"problem": 5, "solution": "a"}, "found a number"),
    ],
)
def test_one_bad_row_ends_the_reading_or_is_left_out_and_named(
    tmp_path: Path, read: Any, good: Any, bad_row: Any, message: str
) -> None:
    file = file_of(tmp_path, good, bad_row, good)
    with pytest.raises(BadInputError, match=r"rows\.jsonl:"):
        read(file)
    bad = BadRows(1)
    rows, _ = read(file, bad=bad)
    assert (len(rows), bad.count) == (2, 1)
    assert "rows.jsonl:2: " in bad.messages[0]
    assert message in bad.messages[0]
    with pytest.raises(BadInputError, match=r"; more than 1 rows cannot be used"):
        read(file_of(tmp_path, good, bad_row, good, bad_row, good), bad=BadRows(1))
