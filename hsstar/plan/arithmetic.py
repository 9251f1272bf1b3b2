"""What a run takes, by arithmetic alone: samples, tokens, hours, bytes."""

from dataclasses import dataclass

from hsstar.domain.allocation.budget import Budget

SECONDS_PER_HOUR = 3600
FLOAT32_BYTES = 4
ADAM_MOMENTS = 2
FOUR_BIT_BYTES = 0.5
SAMPLE_ROW_BYTES = 700
"""Of a sample in the database besides its text: its row, rewards, job item and index entries."""
TEXT_BYTES_PER_TOKEN = 4.5
"""A response's text in the database."""


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """The samples of a run."""

    iterations: int
    policies: int  # how many are measured on held-out problems: M_0 and every new one, or 0
    pre_samples: int  # of one iteration
    re_samples: int  # of one iteration at most, as a level may be empty
    evaluation_samples: int | None  # of one policy; None if the held-out problems cannot be counted
    of_sources: int = 0  # of one iteration, drawn beside its policy; at most, as a level may be empty

    @property
    def training(self) -> int:
        """Samples of all iterations, which are verified, scored and made into pairs."""
        return self.iterations * (self.pre_samples + self.re_samples)

    @property
    def beside(self) -> int:
        """Samples of sources over all iterations, which are verified and scored too."""
        return self.iterations * self.of_sources

    @property
    def evaluation(self) -> int | None:
        """Samples of held-out problems, over all policies; None if these cannot be counted."""
        if not self.policies:
            return 0
        return None if self.evaluation_samples is None else self.policies * self.evaluation_samples


def plan_samples(
    budget: Budget,
    problems: int,
    *,
    iterations: int,
    policies: int,
    evaluation_samples: int | None,
    of_sources: int = 0,
) -> SamplePlan:
    """Count the samples of a run with `problems` per iteration; the rest as in `SamplePlan`."""
    return SamplePlan(
        iterations,
        policies,
        budget.pre_samples * problems,
        budget.remaining(problems),
        evaluation_samples,
        of_sources,
    )


@dataclass(frozen=True, slots=True)
class TokenPlan:
    """Response tokens of a run by their use, without prompts; None if not known."""

    sampled: float
    evaluated: float | None
    scored: float
    trained: float | None
    of_sources: float = 0.0


def plan_tokens(
    samples: SamplePlan,
    tokens_per_sample: float,
    *,
    scored: bool,
    pairs_per_sample: float | None,
    epochs: float,
) -> TokenPlan:
    """Count the response tokens of a run; evaluations are never scored.

    `tokens_per_sample` is a mean; a pair has two responses, and `pairs_per_sample` is None if not known.
    """
    sampled = samples.training * tokens_per_sample
    of_sources = samples.beside * tokens_per_sample
    return TokenPlan(
        sampled,
        None if samples.evaluation is None else samples.evaluation * tokens_per_sample,
        sampled + of_sources if scored else 0.0,
        None if pairs_per_sample is None else 2 * pairs_per_sample * sampled * epochs,
        of_sources,
    )


def hours(tokens: float, tokens_per_second: float) -> float:
    """Return the hours that one worker takes."""
    return tokens / tokens_per_second / SECONDS_PER_HOUR


def database_bytes(samples: SamplePlan, tokens_per_sample: float) -> float:
    """Estimate the size of the samples in the database; its log comes on top."""
    return (samples.training + samples.beside + (samples.evaluation or 0)) * (
        SAMPLE_ROW_BYTES + TEXT_BYTES_PER_TOKEN * tokens_per_sample
    )


def full_training_bytes(
    parameters: int, reference_bytes: float, shards: int, *, weights_shared: bool = True
) -> float:
    """Estimate the memory of DPO of all weights on each of `shards` devices; activations come on top.

    Weights, gradients and Adam's two moments in float32, and the frozen reference with `reference_bytes` a
    parameter. Without `weights_shared` (ZeRO-2) each device holds weights and reference whole, and at the
    beginning it does so always: every process loads both before it gives parts away.
    """
    weights = parameters * (FLOAT32_BYTES + reference_bytes)
    optimiser = parameters * (1 + ADAM_MOMENTS) * FLOAT32_BYTES
    return max(weights, (weights / shards if weights_shared else weights) + optimiser / shards)


def weight_bytes(parameters: int, bytes_per_parameter: float, shards: int = 1) -> float:
    """Return the memory of a model's weights on each of `shards` devices.

    DPO of a LoRA adapter takes little more: the frozen weights are the reference too. The adapter with its
    gradients and moments (a few parts in a hundred) and activations come on top.
    """
    return parameters * bytes_per_parameter / shards
