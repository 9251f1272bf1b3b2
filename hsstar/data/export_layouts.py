"""The layouts in which pairs, samples, problems and rewards are written; each is a function from row to row.

`EXPORT_LAYOUTS` has them by what is exported and the name of the layout; docs/formats.md shows it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from hsstar.domain.answers.thinking import reply_of
from hsstar.domain.steps import StepRule, shown_steps

Exported = Literal["pairs", "samples", "problems", "rewards", "groups", "evaluations", "difficulty"]

Row = Mapping[str, Any]
Written = dict[str, Any]
Layout = Callable[[Row], Written | None]
"""Returns the row as the layout has it; None for one that the layout cannot say."""

_BESIDE = ("asked", "prefill", "thinking", "step_rule", "step_spans")
"""What a row has beside: the prompt as text or turns, the prefill that it holds, `policy.thinking`, and the
rule of its steps."""
_SOLVED = 0.5
"""The least reward of a step that TRL's layout calls right."""


_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _said(role: str, content: str) -> dict[str, str]:
    return {"from": _SPEAKERS[role], "value": content}


def _conversation(row: Row) -> list[dict[str, str]]:
    """The turns up to the question; for a policy that was asked by a text, the problem alone."""
    asked = row["asked"]
    return asked if isinstance(asked, list) else [_turn("user", row["query"])]


def _response(row: Row, text: str) -> str:
    """What the assistant said in a conversation; a text that was asked ends in its beginning."""
    return f"{row['prefill']}{text}"


def _without(*keys: str) -> Layout:
    return lambda row: {key: value for key, value in row.items() if key not in keys}


def _only(*keys: str) -> Layout:
    return lambda row: {key: row[key] for key in keys}


def _renamed(**names: str) -> Layout:
    return lambda row: {new: row[old] for new, old in names.items()}


def _answer(row: Row, text: str) -> str | list[dict[str, str]]:
    return [_turn("assistant", _response(row, text))] if isinstance(row["asked"], list) else text


def _trl_pair(row: Row) -> Written:
    return {
        "prompt": row["asked"],
        "chosen": _answer(row, row["chosen"]),
        "rejected": _answer(row, row["rejected"]),
        "chosen_finish_reason": row["chosen_finish_reason"],
        "rejected_finish_reason": row["rejected_finish_reason"],
    }


def _sharegpt_pair(row: Row) -> Written:
    return {
        "conversations": [_said(**turn) for turn in _conversation(row)],
        "chosen": _said("assistant", _response(row, row["chosen"])),
        "rejected": _said("assistant", _response(row, row["rejected"])),
        "chosen_finish_reason": row["chosen_finish_reason"],
        "rejected_finish_reason": row["rejected_finish_reason"],
    }


def _trl_sample(row: Row) -> Written | None:
    """TRL's unpaired preferences; a sample without a verdict is none."""
    if row["correct"] is None:
        return None
    return {
        "prompt": row["asked"],
        "completion": _answer(row, row["resp"]),
        "label": row["correct"],
        "finish_reason": row["finish_reason"],
    }


def _messages_of_sample(row: Row) -> Written:
    kept = {key: row[key] for key in ("correct", "finish_reason")}
    return {"messages": _messages(row)} | kept


def _sharegpt_sample(row: Row) -> Written:
    kept = {key: row[key] for key in ("correct", "finish_reason")}
    return {"conversations": [_said(**turn) for turn in _messages(row)]} | kept


def _messages(row: Row) -> list[dict[str, str]]:
    return [*_conversation(row), _turn("assistant", _response(row, row["resp"]))]


def _trl_problem(row: Row) -> Written:
    return {"prompt": [_turn("user", row["problem"])], "solution": row["answer"]}


def _verl_problem(row: Row) -> Written:
    names = {"index": row["id"] or row["key"], "level": row["level"], "subject": row["subject"]}
    return {
        "data_source": row["dataset"],
        "prompt": [_turn("user", row["problem"])],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": row["answer"]},
        "extra_info": names,
    }


def _trl_reward(row: Row) -> Written:
    """TRL's stepwise supervision: the steps that have a reward, and whether each is right."""
    reply = reply_of(row["resp"], row["thinking"])
    steps = [*shown_steps(reply, StepRule(row["step_rule"]), row["step_spans"])][: len(row["reward"])]
    labels = [reward >= _SOLVED for reward in row["reward"][: len(steps)]]
    return {"prompt": row["asked"], "completions": steps, "labels": labels}


EXPORT_LAYOUTS: dict[Exported, dict[str, Layout]] = {
    "pairs": {
        "hsstar": _without(*_BESIDE, "query"),
        "hs-star": _only("prompt", "chosen", "rejected"),
        "trl": _trl_pair,
        "sharegpt": _sharegpt_pair,
    },
    "samples": {
        "hsstar": _without(*_BESIDE),
        "hs-star": _only("query", "resp", "ref_ans", "ans", "correct", "reward"),
        "trl": _trl_sample,
        "verl": _messages_of_sample,
        "sharegpt": _sharegpt_sample,
    },
    "problems": {
        "hsstar": _without("dataset"),
        "hs-star": _renamed(query="problem", ref_ans="answer", id="id"),
        "trl": _trl_problem,
        "verl": _verl_problem,
    },
    "rewards": {
        "hsstar": _only("query", "resp", "reward", "step_rewards", "correct"),
        "hs-star": _only("query", "resp", "reward", "correct"),
        "trl": _trl_reward,
    },
    "groups": {"hsstar": dict},
    "evaluations": {"hsstar": dict},
    "difficulty": {"hsstar": dict},
}
