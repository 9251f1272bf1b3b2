"""The benchmarks of the published evaluation protocol with their decoding."""

from dataclasses import dataclass

from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import ProblemFormat
from hsstar.domain.suggestions import did_you_mean

_DATASET_PREFIX = "benchmarks/"


@dataclass(frozen=True, slots=True)
class Decoding:
    """How an evaluation draws `samples` per problem; temperature 0 is greedy."""

    temperature: float
    top_p: float
    samples: int
    max_new_tokens: int
    top_k: int = 0  # 0: no limit
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @property
    def greedy(self) -> bool:
        """Whether each problem has one sample, the most likely one."""
        return self.temperature == 0 and self.samples == 1

    @property
    def shown(self) -> str:
        """The decoding in words; equal decodings have equal words."""
        parts = ["greedy"] if self.temperature == 0 else [f"temperature {self.temperature:g}"]
        if self.temperature and self.top_p < 1:
            parts.append(f"top-p {self.top_p:g}")
        if self.temperature and self.top_k:
            parts.append(f"top-k {self.top_k}")
        if self.temperature and self.min_p:
            parts.append(f"min-p {self.min_p:g}")
        if self.repetition_penalty != 1:
            parts.append(f"repetition penalty {self.repetition_penalty:g}")
        if self.samples > 1:
            parts.append(f"{self.samples} samples")
        return ", ".join([*parts, f"{self.max_new_tokens} tokens"])


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A published set of problems with its protocol."""

    name: str  # in recipes and commands; also the stem of its file
    title: str  # in tables
    problems: int
    decoding: Decoding
    problem_format: ProblemFormat
    hub: str  # its data set on the Hugging Face hub
    hub_folder: str = ""  # the prefix of the file's path in that data set

    @property
    def dataset(self) -> str:
        """The name of its imported dataset."""
        return f"{_DATASET_PREFIX}{self.name}"


GREEDY = Decoding(temperature=0.0, top_p=1.0, samples=1, max_new_tokens=2048)
_AVERAGED = Decoding(temperature=0.6, top_p=0.95, samples=32, max_new_tokens=2048)

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("gsm8k", "GSM8K", 1319, GREEDY, ProblemFormat.GSM8K, "openai/gsm8k", "main/test"),
        Benchmark("math500", "MATH-500", 500, GREEDY, ProblemFormat.MATH, "HuggingFaceH4/MATH-500", "test"),
        Benchmark(
            "minerva_math", "Minerva Math", 272, GREEDY, ProblemFormat.MATH, "math-ai/minervamath", "test"
        ),
        Benchmark(
            "olympiadbench", "OlympiadBench", 675, GREEDY, ProblemFormat.MATH, "math-ai/olympiadbench", "test"
        ),
        Benchmark(
            "college_math", "College Math", 2818, GREEDY, ProblemFormat.MATH, "di-zhang-fdu/College_Math_Test"
        ),
        Benchmark("aime24", "AIME 2024", 30, _AVERAGED, ProblemFormat.MATH, "HuggingFaceH4/aime_2024"),
        Benchmark("amc23", "AMC 2023", 40, _AVERAGED, ProblemFormat.MATH, "math-ai/amc23", "test"),
    )
}
"""By name, in the order of the published tables."""


def find_benchmark(name: str) -> Benchmark:
    """Return the benchmark of this name; raise BadInputError, which names the known ones, without it."""
    if name not in BENCHMARKS:
        raise BadInputError(
            f"there is no benchmark {name!r}; known: {', '.join(BENCHMARKS)}{did_you_mean(name, BENCHMARKS)}"
        )
    return BENCHMARKS[name]


def dataset_of(name: str) -> str:
    """Return the dataset of a name in `evaluation.benchmarks`: a benchmark's, else the one of this name."""
    return BENCHMARKS[name].dataset if name in BENCHMARKS else name


def is_benchmark_dataset(name: str) -> bool:
    """Tell whether a dataset's name is reserved for benchmarks."""
    return name.startswith(_DATASET_PREFIX)
