"""Check the prompts of a recipe: that they can be rendered, and leave room for a response."""

from collections.abc import Iterator
from dataclasses import dataclass

from hsstar.checkpoints.resolve import check_policy
from hsstar.domain.errors import CheckpointError, MissingDependencyError
from hsstar.domain.findings import Finding, Level
from hsstar.domain.prompts import CHAT
from hsstar.engines.prompts import count_tokens, prompt_renderer
from hsstar.recipe.recipe import Recipe
from hsstar.store import datasets
from hsstar.store.database import Database

_RENDERED = 1_000
"""Problems of a dataset that are rendered for a check; a chat template may fail on some only."""
_NAME = "context"


def check_rendering(database: Database, recipe: Recipe, policy: str) -> None:
    """Raise CheckpointError if the policy's chat template fails on one of the first problems of a dataset."""
    if recipe.policy.prompt != CHAT:
        return
    render = prompt_renderer(CHAT, policy)
    for name in dict.fromkeys(dataset for _, dataset, _ in _limits(recipe)):
        with database.begin() as connection:
            statements = datasets.first_statements(connection, name, _RENDERED)
        for statement in statements:
            render(statement)


def check_room(database: Database | None, recipe: Recipe, policy: str) -> list[Finding]:
    """Find where the longest prompt of a dataset and max_new_tokens exceed the context.

    Without a database, or where a dataset is not imported, prompts count nothing.
    """
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
        prompt = prompt_renderer(self.recipe.policy.prompt, self.policy)(statement)
        if len(prompt.encode()) + limit < self.context:  # a token has a byte at the least
            return 0
        return count_tokens(self.policy, prompt)
