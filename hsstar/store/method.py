"""The rules of the method over a whole round, an SQL statement each: labels, allotments, pairs, examples."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file, exists
from hsstar.store.rounds import Round
from hsstar.store.runs import Run

_QUALITY_SAMPLES = 250_000


def label_problems(
    connection: Connection, run: Run, iteration: Round, problem_ids: Sequence[int] | None = None
) -> int:
    """Label the problems (None: all) whose pre-samples are verified and scored; return how many are new."""
    difficulty = run.recipe.difficulty
    result = execute_file(
        connection,
        "label",
        {
            "round_id": iteration.id,
            "n_p": run.recipe.sampling.budget.pre_samples,
            "signal": difficulty.signal.value,
            "tau_low": difficulty.tau_low,
            "tau_high": difficulty.tau_high,
            "with_reward": run.recipe.reward.used,
            "problem_ids": None if problem_ids is None else list(problem_ids),
        },
    )
    return result.rowcount


def bad_references(connection: Connection, iteration: Round) -> list[int]:
    """Return the problems of an iteration whose reference answer proved unreadable."""
    query = text("SELECT DISTINCT problem_id FROM samples WHERE round_id = :id AND cause = 'bad_reference'")
    return list(connection.execute(query, {"id": iteration.id}).scalars())


@dataclass(frozen=True, slots=True)
class Shares:
    """What a problem of the re-sampled levels gets of the remaining budget."""

    share: int
    last: bytes | None  # hash of the last problem, in the shuffle, that gets one more


def shares(connection: Connection, run: Run, iteration: Round) -> Shares:
    """Share out the remaining budget over the problems of the re-sampled levels."""
    budget = run.recipe.sampling.budget
    values = _resampled(run, iteration) | {"n": budget.per_problem}
    row = execute_file(connection, "shares", values).one()
    return Shares(row.share, row.last)


def allot_budget(
    connection: Connection, run: Run, iteration: Round, shares: Shares, problem_ids: Sequence[int]
) -> None:
    """Give these problems their shares; they count when the iteration leaves pre-sampling."""
    values = _resampled(run, iteration) | asdict(shares) | {"problem_ids": list(problem_ids)}
    execute_file(connection, "allot", values)


def _resampled(run: Run, iteration: Round) -> dict[str, object]:
    return {
        "round_id": iteration.id,
        "n_p": run.recipe.sampling.budget.pre_samples,
        "levels": [level.value for level in run.recipe.difficulty.resample],
        "seed": run.recipe.seed,
        "iteration": iteration.number,
    }


def build_pairs(
    connection: Connection, run: Run, iteration: Round, problem_ids: Sequence[int] | None = None
) -> int:
    """Build the preference pairs of an iteration's problems (None: all); return how many are new."""
    chosen = {"problem_ids": None if problem_ids is None else list(problem_ids)}
    return execute_file(connection, "pair", _choice(run, iteration) | chosen).rowcount


def has_pairs(connection: Connection, iteration: Round) -> bool:
    """Tell whether an iteration has a preference pair."""
    query = text("SELECT FROM preference_pairs WHERE round_id = :id LIMIT 1")
    return exists(connection, query, {"id": iteration.id})


def reward_quality(connection: Connection, iteration: Round) -> float | None:
    """Return the chance that a correct sample has a higher reward than an incorrect one.

    It reads about `_QUALITY_SAMPLES` samples of a bigger iteration: its standard error is 0.001 then.
    """
    values = {"round_id": iteration.id, "most": _QUALITY_SAMPLES}
    area: float | None = execute_file(connection, "reward_quality", values).scalar_one()
    return area


def has_examples(connection: Connection, run: Run, iteration: Round) -> bool:
    """Tell whether an iteration has a sample for supervised fine-tuning."""
    query = text("""
        SELECT FROM samples
        JOIN difficulty_labels AS labels USING (round_id, problem_id)
        JOIN round_problems USING (round_id, problem_id)
        WHERE round_id = :id AND verdict = 'correct' AND level = ANY (:levels) AND exclusion IS NULL LIMIT 1
    """)
    levels = [level.value for level in run.recipe.difficulty.train]
    return exists(connection, query, {"id": iteration.id, "levels": levels})


def choose_examples(connection: Connection, run: Run, iteration: Round) -> list[int]:
    """Return the ids of the samples for supervised fine-tuning, in a fixed order."""
    return list(execute_file(connection, "example", _choice(run, iteration)).scalars())


def _choice(run: Run, iteration: Round) -> dict[str, object]:
    return {
        "round_id": iteration.id,
        "levels": [level.value for level in run.recipe.difficulty.train],
        "rule": run.recipe.pairs.rule.value,
        "at_most": run.recipe.pairs.at_most_per_problem,
        "seed": run.recipe.seed,
        "iteration": iteration.number,
    }
