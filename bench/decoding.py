"""Measure the sampler on transformers: the choice of tokens, and the passes that refilling a batch saves.

    python -m bench.decoding [--lengths FILE] [--rows 32] [--runs 9]

The choice is timed on logits that fall with the rank by a power law, at temperature 0.7 and top_p 0.95,
beside the plain way that sorts the whole vocabulary. A decoding step is that of a Llama of 135 million random
weights, greedy, behind a prompt of 128 tokens. Where vLLM for a CPU is installed, its cut of a nucleus is
timed beside ours, which takes its place. Times are processor times; set OMP_NUM_THREADS=1.

Passes through the model are counted, not timed: a tiny model draws rows whose limits are the lengths in FILE,
one a line; without a file 256 lengths from a lognormal distribution with median 120 and sigma 0.6.
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench.setup import MEDIAN_HEADING, benchmark_parser, describe_host, median_and_range, table
from hsstar.engines.sampling.choice import choose_tokens
from hsstar.engines.sampling.hf import REFILL_SHARE
from hsstar.engines.sampling.hf_batching import ContinuousBatch
from hsstar.engines.sampling.hf_decoding import Batch, DrawSettings, Row
from tests.engines.plain_choice import choose_plainly, peaked

VOCABULARIES = {49_152: "≤ 8", 151_936: "≤ 14"}
"""With the target in milliseconds for 32 rows."""
STEP_TARGET = "< 3 %"
PROMPT_TOKENS = 128
SETTINGS = (0.7, 0.95)
GREEDY = DrawSettings(0.0, 1.0, (), (), None)


def llama(vocabulary: int, hidden: int, layers: int, heads: int, kv_heads: int, inner: int) -> Any:
    """Return a Llama with random weights."""
    torch.manual_seed(0)
    sizes = {"vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": inner}
    attention = {"num_attention_heads": heads, "num_key_value_heads": kv_heads}
    configuration = LlamaConfig(
        **sizes,
        **attention,
        num_hidden_layers=layers,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(configuration).eval()


def milliseconds(action: Callable[[], object]) -> float:
    """Return the processor time of an action."""
    started = time.process_time()
    action()
    return 1_000 * (time.process_time() - started)


def lengths_of(path: Path | None) -> list[int]:
    """Return the lengths of a file, or drawn ones."""
    if path:
        return [int(line) for line in path.read_text().split()]
    drawn = random.Random(0)
    return [max(1, round(drawn.lognormvariate(math.log(120), 0.6))) for _ in range(256)]


@torch.inference_mode()
def choice_times(rows: int, vocabulary: int, runs: int) -> dict[str, list[float]]:
    """Return the milliseconds of both ways."""
    logits = peaked(rows, vocabulary, torch.Generator().manual_seed(0))
    arguments = logits, torch.arange(rows), torch.arange(rows), *SETTINGS
    assert torch.equal(choose_tokens(*arguments), choose_plainly(*arguments))
    ways = {"plain": partial(choose_plainly, *arguments), "choose_tokens": partial(choose_tokens, *arguments)}
    return {name: [milliseconds(way) for _ in range(runs)] for name, way in ways.items()}


@torch.inference_mode()
def cut_times(rows: int, vocabulary: int, runs: int) -> dict[str, list[float]]:
    """Return the milliseconds in which vLLM's way on a CPU and ours find the tokens that may be drawn."""
    from hsstar.engines.vllm.nucleus import apply_top_k_top_p
    from hsstar.engines.vllm.process import topk_topp_sampler

    temperature, top_p = SETTINGS
    logits = peaked(rows, vocabulary, torch.Generator().manual_seed(0)) / temperature
    masses = torch.full((rows,), top_p)
    ways = {"vLLM's cut": topk_topp_sampler.apply_top_k_top_p_pytorch, "ours in vLLM": apply_top_k_top_p}
    first, second = (way(logits.clone(), None, masses) for way in ways.values())
    assert (first != second).sum() <= rows  # sums of masses round apart
    return {
        name: [milliseconds(partial(way, logits.clone(), None, masses)) for _ in range(runs)]
        for name, way in ways.items()
    }


def step_times(rows: int, runs: int) -> list[float]:
    """Return the milliseconds of decoding steps of a model of 135 million weights."""
    model = llama(49_152, hidden=576, layers=30, heads=9, kv_heads=3, inner=1_536)
    batch = Batch(model, [Row([row] * PROMPT_TOKENS, row, 10_000) for row in range(rows)], GREEDY)
    batch.step()
    return [milliseconds(batch.step) for _ in range(runs)]


def passes(lengths: Sequence[int], rows: int, refill_share: float) -> int:
    """Return how many passes through the model it takes to draw rows of these lengths."""
    batch, count = ContinuousBatch(rows, refill_share), 0

    def see(*_: Any) -> None:
        nonlocal count
        count += 1

    batch.model = llama(64, hidden=16, layers=1, heads=1, kv_heads=1, inner=16)
    batch.model.register_forward_pre_hook(see)
    drawn = list(batch.draw([Row([1] * 8, seed, length) for seed, length in enumerate(lengths)], GREEDY))
    assert sum(len(row.draw.tokens) for row, _ in drawn) == sum(lengths)
    return count


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = benchmark_parser(__doc__, runs=9)
    parser.add_argument("--rows", type=int, default=32, help="of a batch")
    parser.add_argument("--lengths", type=Path, metavar="FILE", help="lengths of responses in tokens")
    return parser.parse_args()


def main() -> None:
    """Measure and print tables."""
    arguments = parse()
    print(describe_host())
    print(f"- PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.rows} rows\n")
    lines, share = [], {}
    for vocabulary, target in VOCABULARIES.items():
        for name, times in choice_times(arguments.rows, vocabulary, arguments.runs).items():
            goal = target if name == "choose_tokens" else ""
            lines.append([f"{name}, {vocabulary:,} ids", *median_and_range(times, ".1f"), goal])
            share[name, vocabulary] = statistics.median(times)
        cuts = cut_times(arguments.rows, vocabulary, arguments.runs) if find_spec("vllm") else {}
        for name, times in cuts.items():
            lines.append([f"{name}, {vocabulary:,} ids", *median_and_range(times, ".1f"), ""])
    steps = step_times(arguments.rows, arguments.runs)
    lines.append(["step of a model of 135 M, 49,152 ids, greedy", *median_and_range(steps, ".1f"), ""])
    print(table(["milliseconds", *MEDIAN_HEADING, "target"], lines) + "\n")
    for name in ("plain", "choose_tokens"):
        part = 100 * share[name, 49_152] / (share[name, 49_152] + statistics.median(steps))
        print(f"- share of `{name}` in a step, 49,152 ids: {part:.1f} % (target {STEP_TARGET})")
    lengths = lengths_of(arguments.lengths)
    before, after = (passes(lengths, arguments.rows, part) for part in (1.0, REFILL_SHARE))
    print(f"- {len(lengths)} rows of {sum(lengths):,} tokens, the longest {max(lengths)}")
    print(f"- passes: {before:,} without refilling, {after:,} with it: {before / after:.2f} times fewer")


if __name__ == "__main__":
    main()
