"""Models load whole, also when several threads of a process load them at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from hsstar.data.builtins import builtin_checkpoints
from hsstar.engines.loading import load_policy


def test_tied_weights_stay_tied_whatever_else_is_loading() -> None:
    def load(_: int) -> Any:
        path = builtin_checkpoints()["builtin:demo-policy"]
        return load_policy(path, torch.device("cpu"), torch.float32)

    with ThreadPoolExecutor(4) as threads:
        models = [*threads.map(load, range(12)), load(12)]

    for model in models:
        assert model.lm_head.weight is model.model.embed_tokens.weight
