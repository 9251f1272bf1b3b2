"""The rules of the method over a whole round, an SQL statement each: labels, allotments, pairs, examples."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from hsstar.domain.verdict import Verdict
from hsstar.store import sources
from hsstar.store.database import execute_file, exists
from hsstar.store.rounds import Round, SampleQuality
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
            "with_reward": run.recipe.scored,
            "problem_ids": None if problem_ids is None else list(problem_ids),
        },
    )
    return result.rowcount


def bad_references(connection: Connection, iteration: Round) -> list[int]:
    """Return the problems of an iteration whose reference answer proved unreadable."""
    query = text("SELECT DISTINCT problem_id FROM samples WHERE round_id = :id AND cause = 'bad_reference'")
    return list(connection.execute(query, {"id": iteration.id}).scalars())


def build_pairs(
    connection: Connection, run: Run, iteration: Round, problem_ids: Sequence[int] | None = None
) -> int:
    """Build the preference pairs of an iteration's problems (None: all); return how many are new."""
    chosen = {"problem_ids": None if problem_ids is None else list(problem_ids)}
    return execute_file(connection, "pair", _choice(connection, run, iteration) | chosen).rowcount


def has_pairs(connection: Connection, iteration: Round) -> bool:
    """Tell whether an iteration has a preference pair."""
    query = text("SELECT FROM preference_pairs WHERE round_id = :id LIMIT 1")
    return exists(connection, query, {"id": iteration.id})


def count_pairs(connection: Connection, iteration: Round) -> int:
    """Count the preference pairs of an iteration."""
    query = text("SELECT count(*) FROM preference_pairs WHERE round_id = :id")
    return int(connection.execute(query, {"id": iteration.id}).scalar_one())


def sample_quality(connection: Connection, iteration: Round) -> SampleQuality:
    """Return how good the rewards of an iteration are, and how different its texts.

    It reads about `_QUALITY_SAMPLES` samples of a bigger iteration: the standard error is 0.001 then.
    """
    values = {"round_id": iteration.id, "most": _QUALITY_SAMPLES}
    row = execute_file(connection, "sample_quality", values).one()
    return SampleQuality(row.area, row.different)


def has_examples(connection: Connection, run: Run, iteration: Round, verdict: Verdict) -> bool:
    """Tell whether an iteration has a sample of this verdict that may be learnt from without a pair."""
    values = {
        "round_id": iteration.id,
        "verdict": verdict.value,
        "levels": [level.value for level in run.recipe.trained_levels],
        "cut": run.recipe.pairs.cut.value,
    }
    taught = sources.list_taught(connection, iteration.id)
    return execute_file(connection, "has_example", values | sources.columns_of(taught)).first() is not None


def choose_examples(
    connection: Connection, run: Run, iteration: Round, verdicts: Sequence[Verdict]
) -> list[int]:
    """Return the ids of the samples that are learnt from without pairs, in a fixed order."""
    values = _choice(connection, run, iteration) | {"verdicts": [verdict.value for verdict in verdicts]}
    return list(execute_file(connection, "example", values).scalars())


def _choice(connection: Connection, run: Run, iteration: Round) -> dict[str, object]:
    return {
        **sources.columns_of(sources.list_taught(connection, iteration.id)),
        "round_id": iteration.id,
        "levels": [level.value for level in run.recipe.trained_levels],
        "rule": run.recipe.pairs.rule.value,
        "at_most": run.recipe.pairs.at_most_per_problem,
        "distinct": run.recipe.pairs.distinct,
        "length": run.recipe.pairs.length.value,
        "cut": run.recipe.pairs.cut.value,
        "seed": run.recipe.seed,
        "iteration": iteration.number,
    }
