"""What the checking processes of `GymVerifier` do: make an entry of reasoning-gym again, and score an answer.

A problem is named `TASK-SEED-INDEX`, and behind that, where its task had other options than size and seed,
these as a JSON object. A task is `{"answer": …, "problem": …, "source_id": …, "is_reference": …}`; its
outcome is cause and detail. A reference of an entry without an answer is right.
"""

import json
import re
from functools import lru_cache
from typing import Any

from hsstar.domain.verdict import Cause
from hsstar.verifier.process import AnswerTask

_NAME = re.compile(r"(?P<task>\w+)-(?P<seed>\d+)-(?P<index>\d+)(?: (?P<options>\{.*\}))?", re.DOTALL)


def load(setup: dict[str, Any]) -> AnswerTask:
    """Load reasoning-gym; return what scores an answer, which is right from `threshold` on."""
    from reasoning_gym.factory import DATASETS, create_dataset

    threshold = setup["threshold"]

    @lru_cache(maxsize=4)
    def entry(task: str, seed: int, index: int, options: str) -> tuple[Any, Any]:
        dataset = create_dataset(task, **{"seed": seed, "size": index + 1, **json.loads(options)})
        return dataset, dataset[index]

    def answer_task(task: dict[str, Any]) -> str:
        named = _NAME.fullmatch(task["source_id"])
        if named is None or named["task"] not in DATASETS:
            return _outcome(Cause.BAD_REFERENCE, f"{task['source_id']!r} names no problem of reasoning-gym")
        try:
            place = int(named["seed"]), int(named["index"])
            dataset, made = entry(named["task"], *place, named["options"] or "{}")
            if " ".join(made["question"].split()) != " ".join(task["problem"].split()):
                version = "this version of reasoning-gym makes another problem"
                return _outcome(Cause.BAD_REFERENCE, f"{version} of {task['source_id']}")
            if task["is_reference"] and made["answer"] is None:
                return _outcome(Cause.CORRECT, "the task names no answer")
            score = float(dataset.score_answer(task["answer"], made))
        except Exception as error:  # each task fails in its own way
            return _outcome(Cause.CHECK_FAILED, f"{type(error).__name__}: {error}")
        right = score >= threshold
        return _outcome(Cause.CORRECT if right else Cause.INCORRECT, f"score {score:g}")

    return answer_task


def _outcome(cause: Cause, detail: str) -> str:
    return json.dumps({"cause": cause, "detail": detail})
