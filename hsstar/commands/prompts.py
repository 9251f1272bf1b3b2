"""Show and check the prompts of a recipe: that they can be rendered, and leave room for a response."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from hsstar.checkpoints.resolve import check_policy
from hsstar.commands.models import policy_location
from hsstar.domain.answers.thinking import AUTO, begun_by
from hsstar.domain.chat_prompts import chat_prompt, for_people
from hsstar.domain.errors import BadInputError, CheckpointError, MissingDependencyError
from hsstar.domain.findings import Finding, Level
from hsstar.engines.prompts import checking_renderer, count_tokens
from hsstar.recipe.policy import PolicySection
from hsstar.recipe.prompt import ExampleRow
from hsstar.recipe.recipe import Recipe
from hsstar.store import datasets
from hsstar.store.database import Database

_RENDERED = 1_000
"""Problems of a dataset that are rendered for a check; a chat template may fail on some only."""
_NAME = "context"
Policy = TypeVar("Policy", bound=PolicySection)
"""`[policy]`, or one of `[[sources]]`, which has the same keys."""


def with_examples(database: Database, policy: Policy) -> Policy:
    """Return `[policy]` with the examples of its prompt drawn from their dataset, if it has some.

    Raise NotFoundError if the dataset is not imported, BadInputError if too few of its problems have a
    solution.
    """
    examples = policy.prompt.examples
    if examples is None or examples.dataset is None or examples.rows:
        return policy
    with database.begin() as connection:
        dataset = datasets.find_dataset(connection, examples.dataset)
        wanted = examples.shown + 1  # one of them may be the problem itself
        drawn = datasets.draw_solved(connection, dataset.id, wanted, examples.seed)
    if len(drawn) < wanted:
        raise BadInputError(
            f"policy.prompt.examples needs {wanted} problems with a solution ({examples.shown} are shown, "
            f"never the problem itself), and dataset {dataset.name!r} has {len(drawn)}"
        )
    rows = tuple(ExampleRow(problem=statement, solution=solution) for statement, solution in drawn)
    section = examples.model_copy(update={"rows": rows})
    return policy.model_copy(update={"prompt": policy.prompt.model_copy(update={"examples": section})})


def with_thinking(policy: Policy, location: str) -> Policy:
    """Return `[policy]` with the marks of thinking if it says `auto` and prompts end with a known one."""
    if policy.thinking != AUTO:
        return policy
    render = checking_renderer(policy.prompt.resolved, location, messages=policy.sends_messages)
    begun = begun_by(render("1 + 1 = ?"))
    return policy if begun is None else policy.model_copy(update={"thinking": begun})


def check_rendering(database: Database, recipe: Recipe, policy: str) -> None:
    """Raise CheckpointError if the policy's chat template fails on one of the first problems of a dataset."""
    prompt = recipe.policy.prompt.resolved
    if not prompt.renders_by_a_program:
        return
    render = checking_renderer(prompt, policy, messages=recipe.policy.sends_messages)
    for name in dict.fromkeys(dataset for _, dataset, _ in _limits(recipe)):
        with database.begin() as connection:
            statements = datasets.first_statements(connection, name, _RENDERED)
        for statement in statements:
            render(statement)


@dataclass(frozen=True, slots=True)
class PromptLengths:
    """Tokens of the prompts of a dataset: of the first ones, if it has many."""

    dataset: str
    prompts: int
    least: int
    median: int
    nine_of_ten: int  # nine of ten prompts have as many or fewer
    most: int


def prompt_lengths(database: Database, section: PolicySection, policy: str, name: str) -> PromptLengths:
    """Count the tokens of a dataset's prompts; raise NotFoundError if it is not imported or empty."""
    with database.begin() as connection:
        datasets.first_problem(connection, datasets.find_dataset(connection, name))  # or there is none
        statements = datasets.first_statements(connection, name, _RENDERED)
    render = checking_renderer(section.prompt.resolved, policy, messages=section.sends_messages)
    counts = sorted(count_tokens(policy, [render(statement) for statement in statements]))
    last = len(counts) - 1
    return PromptLengths(
        name, len(counts), counts[0], counts[last // 2], counts[last * 9 // 10], counts[last]
    )


@dataclass(frozen=True, slots=True)
class ShownPrompt:
    """A prompt exactly as the policy sees it, or for people the messages that a chat server gets.

    Attributes:
        tokens: with a beginning-of-text token that the tokenizer adds.
        lengths: of the dataset that the problem is from.
    """

    text: str
    tokens: int
    lengths: PromptLengths | None = None


def show_prompt(section: PolicySection, policy: str, problem: str) -> ShownPrompt:
    """Render the prompt of a problem for the policy at a location, which needs no database."""
    prompt = checking_renderer(section.prompt.resolved, policy, messages=section.sends_messages)(problem)
    [tokens] = count_tokens(policy, [prompt])
    shown = for_people(chat_prompt(section.prompt.resolved, problem)) if section.sends_messages else prompt
    return ShownPrompt(shown, tokens)


def show_first_prompt(database: Database, section: PolicySection, name: str) -> ShownPrompt:
    """Render the prompt of the first problem of a dataset; raise NotFoundError without one."""
    with database.begin() as connection:
        problem = datasets.first_problem(connection, datasets.find_dataset(connection, name))
    section, policy = with_examples(database, section), policy_location(database, section.model)
    return replace(
        show_prompt(section, policy, problem), lengths=prompt_lengths(database, section, policy, name)
    )


def check_room(database: Database | None, recipe: Recipe, policy: str) -> list[Finding]:
    """Find where the longest prompt of a dataset and max_new_tokens exceed the context.

    Without a database, or where a dataset is not imported, prompts count nothing.
    """
    if database is not None:
        recipe = recipe.model_copy(update={"policy": with_examples(database, recipe.policy)})
    context = recipe.policy.context(check_policy(policy).context)
    if context is None:
        return [Finding(Level.UNCHECKED, _NAME, "the checkpoint does not say how many tokens it attends to")]
    room = _Room(database, recipe, policy, context)
    try:
        findings = [room.finding(*limit) for limit in _limits(recipe)]
    except MissingDependencyError as error:
        return [Finding(Level.UNCHECKED, _NAME, str(error))]
    except CheckpointError as error:
        return [Finding(Level.FAIL, _NAME, str(error))]
    fits = Finding(Level.OK, _NAME, f"prompts and max_new_tokens fit into {context:,} tokens")
    return [finding for finding in findings if finding is not None] or [fits]


def _limits(recipe: Recipe) -> Iterator[tuple[str, str, int]]:
    """Yield what limits responses, by its key, with its dataset."""
    if recipe.problems.used:
        yield "sampling.max_new_tokens", recipe.problems.dataset, recipe.sampling.max_new_tokens
    evaluation = recipe.evaluation
    if evaluation.dataset is not None:
        yield "evaluation.max_new_tokens", evaluation.dataset, evaluation.max_new_tokens
    for benchmark in evaluation.benchmarks:
        yield f"max_new_tokens of {benchmark.evaluation_key}", benchmark.dataset, benchmark.max_new_tokens


@dataclass(frozen=True, slots=True)
class _Room:
    """What a prompt and its response share."""

    database: Database | None
    recipe: Recipe
    policy: str
    context: int  # tokens

    def finding(self, key: str, dataset: str, limit: int) -> Finding | None:
        """Return a warning if responses of `limit` tokens to the problems of a dataset may not fit."""
        prompt = self._longest_prompt(dataset, limit)
        room = self.context - prompt
        if limit <= room:
            return None
        longest = f"the longest prompt of {dataset} ({prompt:,} tokens)" if prompt else "a prompt"
        if room <= 0:
            text = f"{longest} alone fills the context of {self.context:,}; such problems are left out"
        else:
            text = (
                f"{longest} and {key} = {limit:,} exceed the context of {self.context:,}: responses are cut "
                f"after {room:,} tokens or fewer; set it to less than that"
            )
        return Finding(Level.WARN, _NAME, text)

    def _longest_prompt(self, dataset: str, limit: int) -> int:
        """Return the tokens of the longest prompt; 0 if it surely leaves room or is not known."""
        if self.database is None:
            return 0
        with self.database.begin() as connection:
            statement = datasets.longest_statement(connection, dataset)
        if statement is None:
            return 0
        section = self.recipe.policy
        render = checking_renderer(section.prompt.resolved, self.policy, messages=section.sends_messages)
        prompt = render(statement)
        if len(prompt.encode()) + limit < self.context:  # a token has a byte at the least
            return 0
        return count_tokens(self.policy, [prompt])[0]
