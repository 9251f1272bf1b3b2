"""Measure the scored tokens per second of the Skywork engine beside the plain loop of the published scripts.

    python -m bench.reward [--runs 3] [--shape small] [--problems 24] [--responses FILE] [--no-made]

The plain loop pads four responses to the longest and computes the logits of the whole vocabulary, as the
published inference code does. Both read the same random checkpoint, and their rewards are compared. On a CPU
the seconds are processor time (OMP_NUM_THREADS=1: of one core). Three mixes are scored; no response is longer
than the paper's 2,048 tokens:

- the responses of FILE, which has one problem with all its responses a line, problem by problem
- the same responses in random order
- without `--no-made`, made responses of log-normal length, eight to a problem, which share the statement only

The shape `135m` is that of the policy of `make real`, without its tied weights. The shapes `1.5b` and `7b`
are those of the published checkpoints, for a GPU in bfloat16. On a GPU, memory and the share of its own rate
of matrix products are measured too.
"""

import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, takewhile
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import linear
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from bench.setup import benchmark_parser, describe_host, median_and_range, seconds, table
from hsstar.data.samples import SampleFiles
from hsstar.domain.steps import split_steps
from hsstar.engines.loading import load_tokenizer, pick_device, pick_dtype, read_tensors
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.engines.rewards.skywork import SkyworkRewardModel
from hsstar.engines.rewards.token_tree import tree_sizes

RESPONSES = Path(__file__).parents[1].parent / "shared" / "data" / "responses" / "math_sampled_8.jsonl"
PLAIN_BATCH = 4
JOB_SAMPLES = 256
LONGEST = 2_048  # tokens of a response, by the paper's sampling
SAMPLES = 8
HEADS = ("v_head.summary.weight", "v_head.summary.bias")


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Qwen2 model; only `trained` entries of its vocabulary are used, by the tokenizer."""

    hidden: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    trained: int = 16_384
    target: str = "2.0"  # times the plain loop

    @property
    def layer_weights(self) -> int:
        """The number of weights in all layers that a token is multiplied by."""
        head = self.hidden // self.heads
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * head * self.key_heads
        return self.layers * (attention + 3 * self.hidden * self.inner)

    def operations(self, lengths: Sequence[int]) -> float:
        """Count the floating-point operations that texts need, without padding and vocabulary logits."""
        attention = 2 * self.layers * self.hidden * sum(length**2 for length in lengths)  # causal
        return 2 * self.layer_weights * sum(lengths) + attention


SHAPES = {
    # the vocabulary has the same share of the work as in the 1.5B model, 15 %
    "small": Shape(192, 1_152, 3, 3, 1, 2_112, trained=2_112),
    "135m": Shape(576, 1_536, 30, 9, 3, 49_152, target="3.0"),
    "1.5b": Shape(1_536, 8_960, 28, 12, 2, 151_936),
    "7b": Shape(3_584, 18_944, 28, 28, 4, 152_064),
}


def load_problems(path: Path) -> list[list[RewardRequest]]:
    """Read the responses of a file by their problem; return none if the file does not exist."""
    if not path.exists():
        return []
    return [
        [RewardRequest(row.problem.statement, split_steps(response.text)) for response in row.responses]
        for row in SampleFiles([path]).by_problem()
    ]


def make_problems(number: int) -> list[list[RewardRequest]]:
    """Make responses of log-normal length: the median is about 450 tokens, some are at the limit."""
    generator = random.Random(0)

    def words(count: int) -> list[str]:
        return [str(generator.randrange(1_000)) for _ in range(count)]

    def response() -> tuple[str, ...]:
        text = words(min(LONGEST, round(generator.lognormvariate(5.7, 0.7))))
        return tuple(" ".join(text[start : start + 20]) for start in range(0, len(text), 20))

    statements = ["What is the sum of " + " and ".join(words(20)) + "?" for _ in range(number)]
    return [[RewardRequest(statement, response()) for _ in range(SAMPLES)] for statement in statements]


def cut(request: RewardRequest, tokenizer: Any) -> RewardRequest:
    """Cut a response at the paper's token limit."""
    lengths = accumulate(len(tokenizer.encode(step)) + 1 for step in request.steps)
    kept = sum(1 for _ in takewhile(lambda length: length <= LONGEST, lengths))
    return RewardRequest(request.problem, request.steps[:kept])


def write_tokenizer(folder: Path, shape: Shape, requests: Sequence[RewardRequest]) -> None:
    """Write a byte-level tokenizer that is trained on the texts themselves."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=shape.trained, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(chain.from_iterable(request.steps for request in requests), trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def write_checkpoint(folder: Path, shape: Shape, device: torch.device, dtype: torch.dtype) -> None:
    """Write a random reward model: a language model with a value head."""
    configuration = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        max_position_embeddings=8_192,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    with device:
        model = Qwen2ForCausalLM._from_config(configuration, dtype=dtype)
    width = shape.hidden
    heads = {HEADS[0]: torch.randn(1, width) / math.sqrt(width), HEADS[1]: torch.zeros(1)}
    save_file(dict(model.state_dict()) | heads, folder / "model.safetensors", {"format": "pt"})
    model.config.save_pretrained(folder)


class PlainLoop:
    """Score like the published scripts: the whole language model, logits included, on four responses."""

    def __init__(self, path: Path, device: torch.device, dtype: torch.dtype) -> None:
        self.tokenizer = load_tokenizer(path)
        self.model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device).eval()
        self.head = [tensor.to(device) for tensor in read_tensors(path, HEADS)]
        self.device = device

    def tokens_of(self, request: RewardRequest) -> tuple[list[int], list[int]]:
        """Return the tokens, and the places of the separators among them."""
        tokens = self.tokenizer.encode(request.problem + "\n")
        separator = self.tokenizer.encode("\n")[-1]
        ends = []
        for step in request.steps:
            tokens += [*self.tokenizer.encode(step), separator]
            ends.append(len(tokens) - 1)
        return tokens, ends

    @torch.inference_mode()
    def score(self, requests: Sequence[RewardRequest]) -> list[list[float]]:
        """Return the step rewards of each request."""
        rewards = []
        for start in range(0, len(requests), PLAIN_BATCH):
            texts = [self.tokens_of(request) for request in requests[start : start + PLAIN_BATCH]]
            rows = [torch.tensor(tokens) for tokens, _ in texts]
            output = self.model(
                input_ids=pad_sequence(rows, batch_first=True).to(self.device),
                attention_mask=pad_sequence([torch.ones_like(row) for row in rows], True).to(self.device),
                output_hidden_states=True,
            )
            output.logits.float()  # as the published value-head wrapper does
            values: Tensor = linear(output.hidden_states[-1].float(), *self.head)[..., 0].sigmoid().cpu()
            rewards += [values[row, ends].tolist() for row, (_, ends) in enumerate(texts)]
        return rewards


def score_in_jobs(model: SkyworkRewardModel, requests: Sequence[RewardRequest]) -> list[tuple[float, ...]]:
    """Return the step rewards, scored job by job like a worker."""
    jobs = (requests[start : start + JOB_SAMPLES] for start in range(0, len(requests), JOB_SAMPLES))
    return [result.rewards for job in jobs for result in model.score(job)]


def timed(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return seconds (on a CPU those of this process only), and on a GPU the peak of memory in GB."""
    if device.type != "cuda":
        started = time.process_time()
        work()
        return time.process_time() - started, 0.0
    torch.cuda.reset_peak_memory_stats(device)
    torch.cuda.synchronize(device)

    def finished() -> None:
        work()
        torch.cuda.synchronize(device)

    taken = seconds(finished)
    return taken, torch.cuda.max_memory_allocated(device) / 1e9


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the device's operations per second in a product of large square matrices."""
    size = 8_192 if device.type == "cuda" else 1_536
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        left @ right
    taken = statistics.median(timed(lambda: left @ right, device)[0] for _ in range(10))
    return 2 * size**3 / taken


def padded_share(lengths: Sequence[int]) -> float:
    """Return the share of padding in the plain loop's batches."""
    batches = [lengths[start : start + PLAIN_BATCH] for start in range(0, len(lengths), PLAIN_BATCH)]
    return 1 - sum(lengths) / sum(max(batch) * len(batch) for batch in batches)


def shared_share(texts: Sequence[list[int]]) -> float:
    """Return the share of tokens that another text of the job begins with as well."""
    jobs = (sorted(texts[start : start + JOB_SAMPLES]) for start in range(0, len(texts), JOB_SAMPLES))
    return 1 - sum(list(tree_sizes(job))[-1] for job in jobs) / sum(map(len, texts))


def measure(path: Path, shape: Shape, orders: dict[str, list[RewardRequest]], runs: int) -> str:
    """Load both, measure each order `runs` times in turns, and return the table."""
    device = pick_device("auto")
    dtype = pick_dtype("auto", device)
    plain, packed = PlainLoop(path, device, dtype), SkyworkRewardModel(path)
    rate = matrix_rate(device, dtype)
    notes = [f"- {rate / 1e12:,.2f} T operations/s in a product of large matrices, {dtype} on {device}"]
    rows = []
    for name, requests in orders.items():
        texts = [plain.tokens_of(request)[0] for request in requests]
        lengths = [len(text) for text in texts]
        ways: dict[str, Callable[[], Sequence[Sequence[float]]]] = {
            "plain loop": partial(plain.score, requests),
            "engine": partial(score_in_jobs, packed, requests),
        }
        plain_rewards, rewards = (list(chain.from_iterable(way())) for way in ways.values())
        largest = max(abs(left - right) for left, right in zip(plain_rewards, rewards, strict=True))
        notes.append(
            f"- {name}: {len(lengths)} responses, {sum(lengths):,} tokens, median "
            f"{statistics.median(lengths):.0f}, longest {max(lengths):,}; {padded_share(lengths):.0%} of the "
            f"plain loop's batches is padding, {shared_share(texts):.0%} of the tokens are shared; rewards "
            f"of the two ways differ by {largest:.1e} at most"
        )
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(runs):
            for way, work in ways.items():
                taken[way].append(timed(work, device))
        rows += way_rows(name, sum(lengths), shape.operations(lengths) / rate, taken, shape.target)
    heading = ["tokens per second, padding not counted", "median", "smallest", "largest", "× plain loop",
               "target", "share of matrix rate", "memory"]  # fmt: skip
    return "\n".join([*notes, "", table(heading, rows)])


def way_rows(
    name: str, tokens: int, least: float, taken: dict[str, list[tuple[float, float]]], target: str
) -> list[list[str]]:
    """Return a row for each way.

    `taken` holds seconds and memory of every repetition, by way; `least` are the seconds that the texts would
    take one by one at the rate of matrix products.
    """
    ratios = [slow[0] / fast[0] for slow, fast in zip(*taken.values(), strict=True)]
    rows = []
    for way, figures in taken.items():
        rates = [tokens / figure for figure, _ in figures]
        share = statistics.median(rates) / tokens * least
        peak = max(memory for _, memory in figures)
        compared = [f"{statistics.median(ratios):.2f}", target] if way == "engine" else ["", ""]
        memory = f"{peak:.1f} GB" if peak else "–"
        rows.append([f"{name}, {way}", *median_and_range(rates, ",.0f"), *compared, f"{share:.0%}", memory])
    return rows


def make_orders(responses: Path, number: int, made: bool) -> dict[str, list[RewardRequest]]:
    """Return the mixes by name; raise SystemExit without one."""
    orders = {}
    if problems := load_problems(responses):
        chosen = random.Random(0).sample(problems, min(number, len(problems)))
        requests = list(chain.from_iterable(chosen))
        orders["sampled, problem by problem"] = requests
        orders["sampled, in random order"] = random.Random(0).sample(requests, len(requests))
    if made:
        orders["made, problem by problem"] = list(chain.from_iterable(make_problems(number)))
    if not orders:
        raise SystemExit(f"{responses} does not exist, and --no-made leaves nothing else")
    return orders


def main() -> None:
    """Write a checkpoint, measure, and print a table."""
    parser = benchmark_parser(__doc__, runs=3)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--problems", type=int, default=24, help="problems in each mix")
    parser.add_argument("--responses", type=Path, default=RESPONSES, metavar="FILE")
    parser.add_argument("--no-made", action="store_true", help="only the responses of the file")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    orders = make_orders(arguments.responses, arguments.problems, not arguments.no_made)
    device = pick_device("auto")
    print(describe_host())
    threads = torch.get_num_threads()
    print(f"- PyTorch {torch.__version__}, {threads} threads, transformers {transformers.__version__}")
    if device.type == "cuda":
        print(f"- {torch.cuda.get_device_name(device)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        write_tokenizer(path, shape, list(chain.from_iterable(orders.values())))
        write_checkpoint(path, shape, device, pick_dtype("auto", device))
        tokenizer = load_tokenizer(path)
        orders = {
            name: [cut(request, tokenizer) for request in requests] for name, requests in orders.items()
        }
        print(measure(path, shape, orders, arguments.runs))


if __name__ == "__main__":
    main()
