"""Hands responses to verl's and verifiers' own classes, which have hsstar's rewards.

    python -m tests.verifier.adapter_program verl|rubric|task < PAIRS

PAIRS is a JSON list of [response, reference]; so is the list of rewards on standard output.
"""

import asyncio
import json
import sys
from typing import Any

Pairs = list[list[str]]


def verl_rewards(pairs: Pairs) -> list[float]:
    """What verl's reward manager writes to the last token of each response."""
    import numpy as np
    import torch
    from transformers import AutoTokenizer
    from verl import DataProto
    from verl.utils.import_utils import load_extern_object
    from verl.workers.reward_manager.naive import NaiveRewardManager

    from hsstar.checkpoints.resolve import check_policy

    tokenizer = AutoTokenizer.from_pretrained(check_policy("builtin:demo-policy").path)
    responses = [tokenizer(response)["input_ids"] for response, _ in pairs]
    longest = max(map(len, responses))
    padded = [ids + [0] * (longest - len(ids)) for ids in responses]
    mask = [[1] + [1] * len(ids) + [0] * (longest - len(ids)) for ids in responses]
    data = DataProto.from_dict(
        tensors={
            "prompts": torch.zeros(len(pairs), 1, dtype=torch.long),
            "responses": torch.tensor(padded),
            "attention_mask": torch.tensor(mask),
        },
        non_tensors={
            "data_source": np.array(["sums"] * len(pairs), dtype=object),
            "reward_model": np.array([{"ground_truth": reference} for _, reference in pairs], dtype=object),
            "extra_info": np.array([{} for _ in pairs], dtype=object),
        },
    )
    compute_score = load_extern_object("pkg://hsstar.verifier.adapters.verl", "compute_score")
    rewards = NaiveRewardManager(tokenizer, num_examine=0, compute_score=compute_score)(data)
    return [row[len(ids) - 1].item() for row, ids in zip(rewards, responses, strict=True)]


def rubric_rewards(pairs: Pairs) -> list[float]:
    """What a rubric of verifiers below 0.4 gives to each rollout."""
    import verifiers

    from hsstar.verifier.adapters.verifiers import correct_answer

    rubric = verifiers.Rubric(funcs=[correct_answer])

    def state(response: str, reference: str) -> Any:
        prompt = [{"role": "user", "content": "?"}]
        completion = [{"role": "assistant", "content": response}]
        return {"prompt": prompt, "completion": completion, "answer": reference, "task": "sums"}

    states = [state(*pair) for pair in pairs]

    async def score() -> None:
        await asyncio.gather(*map(rubric.score_rollout, states))

    asyncio.run(score())
    return [state["reward"] for state in states]


def task_rewards(pairs: Pairs) -> list[float]:
    """What a task of `verifiers.v1` gives to each trace, by its configuration."""
    from verifiers import v1

    class Sum(v1.TaskData):  # type: ignore[misc, unused-ignore]
        answer: str

    fn = "hsstar.verifier.adapters.verifiers:math_reward"
    config = v1.TaskConfig(rewards={"math": {"fn": fn}})

    def trace(task: Any, response: str) -> Any:
        message = v1.AssistantMessage(content=response)
        return v1.Trace.model_construct(nodes=[v1.MessageNode(message=message, sampled=True)], rewards={})

    async def score(response: str, reference: str) -> float:
        task = v1.Task[Sum, v1.State, v1.TaskConfig](Sum(answer=reference), config)
        judged = trace(task, response)
        await task.score(judged)
        return float(judged.reward)

    async def score_all() -> list[float]:
        return await asyncio.gather(*(score(*pair) for pair in pairs))

    return asyncio.run(score_all())


if __name__ == "__main__":
    rewards = {"verl": verl_rewards, "rubric": rubric_rewards, "task": task_rewards}[sys.argv[1]]
    given = json.load(sys.stdin)
    print(json.dumps(rewards(given)))
