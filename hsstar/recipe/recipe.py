"""The recipe of a run: one TOML document with everything that decides its result."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hsstar.domain.allocation.budget import Budget
from hsstar.domain.allocation.policy import Settings
from hsstar.domain.difficulty import Difficulty, Signal, Thresholds
from hsstar.domain.preference import PairCut, PairLength, PairRule
from hsstar.domain.problems import Repeat
from hsstar.domain.rewards import RewardUse
from hsstar.recipe.allocation import AllocationSection
from hsstar.recipe.base import (
    MinP,
    Name,
    Natural,
    Positive,
    RepetitionPenalty,
    Section,
    Temperature,
    TopP,
    parse_section,
)
from hsstar.recipe.documents import load_document, merged
from hsstar.recipe.evaluation import EvaluationSection
from hsstar.recipe.fork import ForkSection
from hsstar.recipe.gate import GateSection
from hsstar.recipe.notify import NotifySection
from hsstar.recipe.policy import PolicySection
from hsstar.recipe.reward import NamedRewardSection, RewardSection
from hsstar.recipe.source import SourceSection
from hsstar.recipe.steps import StepsSection
from hsstar.recipe.texts import with_texts
from hsstar.recipe.training import InitialisationSection, TrainingSection
from hsstar.recipe.verification import VerificationSection


class ProblemsSection(Section):
    """The problems of an iteration: a slice of a dataset, in the run's seeded order."""

    dataset: Name
    """Imported dataset of training problems; `none` for a run that only evaluates."""
    per_iteration: Positive
    """Problems of one iteration, |D_t|."""
    overlaps: Literal["report", "exclude"] = "report"
    """Report problems that overlap a benchmark or held-out problems, or exclude them too."""
    repeat: Repeat = "never"
    """Which problems of earlier iterations may come again, after those that have come less often; `unsolved`:
    those without a correct sample so far."""

    @property
    def used(self) -> bool:
        """Whether the run has training problems; without them (`dataset = "none"`) it only evaluates."""
        return self.dataset != "none"


class SamplingSection(Section):
    """The budget and the decoding of samples."""

    n: Positive = 8
    """Samples per problem; an iteration may draw n · |D_t|."""
    n_p: Positive = 3
    """Pre-samples of every problem, at most `n`."""
    strategy: Literal["hierarchical", "uniform"] = "hierarchical"
    """`uniform` draws all `n` samples of every problem and re-samples nothing."""
    temperature: Temperature = 0.7
    """Sampling temperature; 0 is greedy."""
    wave_temperatures: tuple[Temperature, ...] = ()
    """Temperatures of the waves of re-sampling, in order; the last one holds for the rest. Empty:
    `temperature`."""
    top_p: TopP = 0.95
    """Nucleus mass."""
    top_k: Natural = 0
    """How many of the most probable tokens may be drawn; 0: all. It cuts before `top_p`."""
    min_p: MinP = 0.0
    """Least probability of a token that may be drawn, as a share of the most probable one's."""
    repetition_penalty: RepetitionPenalty = 1.0
    """Above 1 it makes the tokens of prompt and response less likely: positive logits are divided by it,
    negative ones multiplied."""
    max_new_tokens: Positive = 2048
    """Length limit of a sample, in tokens."""
    stop: tuple[str, ...] = ()
    """A sample ends before the first of these texts, in evaluation too."""
    stop_token_ids: tuple[Natural, ...] = ()
    """A sample ends with the first of these tokens, as with the end of the text, in evaluation too."""

    @model_validator(mode="after")
    def _pre_samples_within_budget(self) -> Self:
        if self.n_p > self.n:
            raise ValueError(
                f"n_p = {self.n_p} is more than n = {self.n}; pre-samples are part of the budget"
            )
        return self

    @model_validator(mode="after")
    def _waves_only_where_some_are(self) -> Self:
        if self.wave_temperatures and self.strategy == "uniform":
            raise ValueError("strategy = 'uniform' has no waves; leave wave_temperatures out")
        return self

    def temperature_of(self, wave: int) -> float:
        """Return the temperature of a wave of re-sampling, from 1 on; of the pre-samples for 0."""
        if not wave or not self.wave_temperatures:
            return self.temperature
        return self.wave_temperatures[:wave][-1]

    @property
    def budget(self) -> Budget:
        """The budget; under `uniform` every sample is a pre-sample."""
        return Budget(self.n, self.n if self.strategy == "uniform" else self.n_p)


class DifficultySection(Section):
    """The labelling of problems, and the levels for re-sampling and training."""

    signal: Signal = Signal.ACCURACY_AND_REWARD
    """What the difficulty is judged by."""
    tau_low: float = 0.15
    """τ_l: a problem below it is an outlier; 0 ≤ `tau_low` < `tau_high` ≤ 1."""
    tau_high: float = 0.65
    """τ_h: a problem above it is an inlier."""
    resample: tuple[Difficulty, ...] = (Difficulty.BOUNDARY,)
    """Levels that get the remaining budget; may be empty."""
    train: tuple[Difficulty, ...] = (Difficulty.BOUNDARY,)
    """Levels whose samples become preference pairs; at least one."""

    @model_validator(mode="after")
    def _ordered_thresholds(self) -> Self:
        if not 0 <= self.tau_low < self.tau_high <= 1:
            raise ValueError(
                f"tau_low = {self.tau_low} and tau_high = {self.tau_high} must satisfy "
                "0 ≤ tau_low < tau_high ≤ 1"
            )
        if not self.train:
            raise ValueError("train needs at least one of inlier, boundary, outlier")
        return self

    @property
    def thresholds(self) -> Thresholds:
        """`τ_l` and `τ_h`."""
        return Thresholds(self.tau_low, self.tau_high)


class PairsSection(Section):
    """The choice of preference pairs."""

    rule: PairRule = PairRule.HIGHEST_REWARD
    """Which samples are matched where one side has more than the other."""
    at_most_per_problem: Positive | None = None
    """Upper bound on the pairs of one problem, beside min(#correct, #incorrect)."""
    distinct: bool = False
    """Keep one pair of those with the same two texts."""
    length: PairLength = PairLength.ANY
    """`match`: rejected responses whose number of tokens is like that of the chosen ones come first; imported
    samples, whose tokens are not counted, are all alike."""
    cut: PairCut = PairCut.LEAVE_OUT
    """`keep`: a correct response that was cut at its token limit may be chosen, or an example of `sft`."""


_LONGEST_NAME = 200


class Recipe(Section):
    """Everything that decides the result of a run."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w+][\w.+-]*$")]
    """Name of the run and of its checkpoints' folder: 1 to 100 letters, digits and `_ . + -`, at first no `.`
    and no `-`; `runs create --name` replaces it."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Everything random derives from it; `runs create --seed` replaces it."""
    problems: ProblemsSection
    policy: PolicySection
    sources: tuple[SourceSection, ...] = ()
    """Further policies, such as a teacher, that draw samples beside the one in training."""
    sampling: SamplingSection = SamplingSection()
    verification: VerificationSection = VerificationSection()
    reward: RewardSection = RewardSection()
    rewards: tuple[NamedRewardSection, ...] = ()
    """Several rewards in place of `[reward]`."""
    steps: StepsSection = StepsSection()
    difficulty: DifficultySection = DifficultySection()
    allocation: AllocationSection = AllocationSection()
    pairs: PairsSection = PairsSection()
    training: TrainingSection = TrainingSection()
    initialisation: InitialisationSection = InitialisationSection()
    evaluation: EvaluationSection = EvaluationSection()
    fork: ForkSection | None = None
    gate: GateSection = GateSection()
    notify: NotifySection = NotifySection()

    @field_validator("name")
    @classmethod
    def _fits_a_folder(cls, name: str) -> str:
        if len(name.encode()) > _LONGEST_NAME:
            raise ValueError(f"it names a folder, which has at most {_LONGEST_NAME} bytes in UTF-8")
        return name

    @model_validator(mode="after")
    def _one_list_of_rewards(self) -> Self:
        if self.rewards and self.reward.used:
            raise ValueError(
                "[reward] and [[rewards]] exclude each other; make it one of [[rewards]], "
                "or set reward.model = 'none' where another recipe has it"
            )
        names = [reward.name for reward in self.rewards]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"rewards: two are called {twice[0]!r}; give each a name of its own")
        for reward in self.rewards:
            if reward.use is RewardUse.DIFFICULTY and not self.difficulty.signal.needs_reward:
                raise ValueError(
                    f"rewards: {reward.name!r} is for the difficulty, which difficulty.signal = 'accuracy' "
                    "judges without rewards; set use = 'record', or another signal"
                )
            if reward.use is RewardUse.PAIRS and self.pairs.rule is not PairRule.HIGHEST_REWARD:
                raise ValueError(
                    f"rewards: {reward.name!r} is for pairs, which pairs.rule = {self.pairs.rule.value!r} "
                    "makes without rewards; set use = 'record', or pairs.rule = 'highest-reward'"
                )
        for reward in self.scoring:
            if reward.limit is not None and reward.target >= reward.limit:
                raise ValueError(
                    f"target = {reward.target} of the reward {reward.name!r} must be below its limit, "
                    f"{reward.limit} tokens"
                )
        return self

    @model_validator(mode="after")
    def _rewards_where_needed(self) -> Self:
        needed = "one of [[rewards]] with that use" if self.rewards else "reward.model"
        uses = [reward.use for reward in self.scoring]
        if self.difficulty.signal.needs_reward and not any(use.labels for use in uses):
            raise ValueError(
                f"difficulty.signal = {self.difficulty.signal.value!r} needs {needed}; "
                "name one, or set difficulty.signal = 'accuracy'"
            )
        if self.pairs.rule is PairRule.HIGHEST_REWARD and not any(use.ranks for use in uses):
            raise ValueError(
                f"pairs.rule = 'highest-reward' needs {needed}; name one, or set pairs.rule = 'random'"
            )
        return self

    @model_validator(mode="after")
    def _sources_beside_the_policy(self) -> Self:
        names = [source.name for source in self.sources]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"sources: two are called {twice[0]!r}; give each a name of its own")
        for source in self.sources:
            if source.served == self.policy.served:
                raise ValueError(
                    f"sources: {source.name!r} has the policy's own model, {source.model}; sampling.n says "
                    "how much the policy draws, and a source needs another model"
                )
            if source.use.teaches and source.levels and not set(source.levels) & set(self.trained_levels):
                trained = ", ".join(self.trained_levels)
                raise ValueError(
                    f"sources: {source.name!r} draws for {', '.join(source.levels)} alone, and "
                    f"difficulty.train = {trained} learns nothing there; add a level, or set use = 'record'"
                )
        return self

    @model_validator(mode="after")
    def _temperatures_of_waves(self) -> Self:
        count, waves = len(self.sampling.wave_temperatures), self.allocation.waves
        if count > waves:
            raise ValueError(
                f"sampling.wave_temperatures has {count} values, and allocation.waves = {waves}; "
                "give one for each wave at most"
            )
        return self

    @model_validator(mode="after")
    def _room_for_an_answer(self) -> Self:
        limit = self.sampling.max_new_tokens
        rooms = [("policy", self.policy.thinking_tokens, "sampling", limit)]
        for source in self.sources:
            key = f"sources.{source.name}"
            rooms.append((key, source.thinking_tokens, key, source.max_new_tokens or limit))
        for key, budget, table, most in rooms:
            if budget is not None and budget >= most:
                raise ValueError(
                    f"{key}.thinking_tokens = {budget} leaves no room for an answer: "
                    f"{table}.max_new_tokens = {most}"
                )
        return self

    @model_validator(mode="after")
    def _nothing_decided_twice(self) -> Self:
        evaluation = self.evaluation
        samplers = (self.policy, *self.sources)
        options = {key for of in samplers if of.openai for key in of.openai.options}
        for key, plain in (("top_k", 0), ("min_p", 0.0), ("repetition_penalty", 1.0), ("stop_token_ids", ())):
            chosen = [
                getattr(table, key, plain) for table in (self.sampling, evaluation, *evaluation.benchmarks)
            ]
            if key in options and any(value != plain for value in chosen):
                raise ValueError(f"policy.openai.options and a table of the recipe both have {key}; keep one")
        return self

    @model_validator(mode="after")
    def _adapter_not_trained(self) -> Self:
        if self.policy.vllm and self.policy.vllm.lora and self.training.objective != "none":
            raise ValueError(
                "policy.vllm.lora needs training.objective = 'none': training starts from policy.model "
                "without the adapter; merge the two to train"
            )
        return self

    @model_validator(mode="after")
    def _gate_has_its_accuracies(self) -> Self:
        if self.gate.limits.judges_evaluations and not self.evaluation.used:
            raise ValueError(
                "gate.evaluation_drop_at_most needs evaluation.dataset or evaluation.benchmarks, "
                "on which policies are measured"
            )
        return self

    @model_validator(mode="after")
    def _server_can_load_new_policies(self) -> Self:
        trains = self.training.objective != "none"
        if self.policy.one_policy_only and trains and self.evaluation.used:
            key = "evaluation.dataset" if self.evaluation.dataset is not None else "evaluation.benchmarks"
            raise ValueError(
                f"{key} is measured for every new policy too, and under policy.openai.reload = 'none' "
                f"the server cannot load one; set reload = 'vllm', or leave {key} out"
            )
        return self

    @property
    def scoring(self) -> tuple[NamedRewardSection, ...]:
        """The rewards of a sample: `[[rewards]]`, or `[reward]` under the name `reward`; may be empty."""
        single = {"name": "reward", **self.reward.model_dump(exclude_unset=True)}
        chosen = self.rewards or ((NamedRewardSection(**single),) if self.reward.used else ())
        limit = self.sampling.max_new_tokens
        return tuple(
            reward.model_copy(update={"limit": limit})
            if reward.kind == "length" and reward.limit is None
            else reward
            for reward in chosen
        )

    def drawn_by(self, source: SourceSection) -> "Recipe":
        """Return the recipe by which a source draws: its own policy and decoding, and no evaluation."""
        sampling = self.sampling.model_copy(update={"wave_temperatures": (), **source.decoding})
        return self.model_copy(
            update={"policy": source.policy, "sampling": sampling, "evaluation": EvaluationSection()}
        )

    def thinking_of(self, source: str | None) -> str:
        """Return the marks of thinking of what draws: a source by its name, None: the policy."""
        named = (of.thinking for of in self.sources if of.name == source)
        return next(named, self.policy.thinking)

    @property
    def scored(self) -> bool:
        """Whether samples are scored."""
        return self.reward.used or bool(self.rewards)

    @property
    def allocation_settings(self) -> Settings:
        """What the allocation's policy may read."""
        chosen = self.allocation
        return Settings(frozenset(self.difficulty.resample), chosen.worth, chosen.pairs, chosen.ratio)

    @property
    def trained_levels(self) -> tuple[Difficulty, ...]:
        """The levels whose samples become pairs: all of them, unless the levels decide the allocation."""
        return self.difficulty.train if self.allocation.policy == "levels" else tuple(Difficulty)

    def document(self) -> dict[str, Any]:
        """Return the recipe as plain values with every default, as it is stored with a run."""
        return self.model_dump(mode="json")


def parse_recipe(document: dict[str, Any], source: str = "recipe") -> Recipe:
    """Return a recipe from plain values; errors as in `parse_section`."""
    return parse_section(Recipe, document, source)


def load_recipe(path: Path, changes: dict[str, Any] | None = None) -> Recipe:
    """Return the recipe of a TOML file, or a packaged one, with `changes`: tables key by key.

    Raises:
        RecipeError: a file is missing or not TOML, or the result is not a recipe.
    """
    changes = with_texts(changes or {}, Path(), str(path))
    return parse_recipe(merged(load_document(path), changes), str(path))
