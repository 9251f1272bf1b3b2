"""Evaluations: rounds of a policy on a dataset, their decoding, and what came out of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from hsstar.domain.benchmarks import Decoding
from hsstar.domain.evaluation import ProblemOutcome
from hsstar.recipe.evaluation import BenchmarkSection
from hsstar.store import datasets
from hsstar.store.database import refresh_statistics
from hsstar.store.rounds import Round, add_round, take_slice
from hsstar.store.runs import Run

HELD_OUT = "heldout"
"""The evaluation key of a recipe's held-out problems."""
UNREADABLE = "the reference answer cannot be read"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a policy is to be measured on.

    Attributes:
        evaluation_key: names dataset and decoding within a run; equal plans have equal names.
        dataset_id: where the problems are.
        samples: per problem, at most.
        decoding: how they are drawn; None where responses are given.
    """

    evaluation_key: str
    dataset_id: int
    samples: int
    decoding: Decoding | None


_WITH_ROUNDS = """
    SELECT id, run_id, kind, number, model_id
    FROM rounds JOIN evaluations ON evaluations.round_id = rounds.id
    WHERE run_id = :run_id
"""


def list_unfinished(connection: Connection, run_id: int) -> list[Round]:
    """The evaluations of a run that have no accuracy yet."""
    rows = connection.execute(
        text(f"{_WITH_ROUNDS} AND finished_at IS NULL ORDER BY number, evaluation_key"), {"run_id": run_id}
    )
    return [Round(*row) for row in rows]


def find_evaluation(connection: Connection, run_id: int, model_id: int, evaluation_key: str) -> Round | None:
    """The evaluation of a policy with this evaluation key, None if the run has none."""
    row = connection.execute(
        text(f"{_WITH_ROUNDS} AND model_id = :model_id AND evaluation_key = :evaluation_key"),
        {"run_id": run_id, "model_id": model_id, "evaluation_key": evaluation_key},
    ).first()
    return None if row is None else Round(*row)


def add_evaluation(connection: Connection, run_id: int, number: int, model_id: int, plan: Plan) -> Round:
    """Adds an evaluation without problems."""
    added = add_round(connection, run_id, "evaluation", number, model_id, plan.evaluation_key)
    decoding = plan.decoding
    connection.execute(
        text("""
            INSERT INTO evaluations (round_id, dataset_id, samples, temperature, top_p, max_new_tokens)
            VALUES (:id, :dataset_id, :samples, :temperature, :top_p, :max_new_tokens)
        """),
        {
            "id": added.id,
            "dataset_id": plan.dataset_id,
            "samples": plan.samples,
            "temperature": decoding and decoding.temperature,
            "top_p": decoding and decoding.top_p,
            "max_new_tokens": decoding and decoding.max_new_tokens,
        },
    )
    return added


def ensure_held_out(connection: Connection, run: Run, number: int, model_id: int) -> None:
    """Adds the evaluation of a policy on the recipe's held-out problems, unless the run has it already."""
    settings = run.recipe.evaluation
    if settings.dataset is None or find_evaluation(connection, run.id, model_id, HELD_OUT):
        return
    dataset = datasets.find_dataset(connection, settings.dataset)
    plan = Plan(HELD_OUT, dataset.id, settings.samples, settings.decoding)
    added = add_evaluation(connection, run.id, number, model_id, plan)
    take_slice(connection, added.id, dataset.id, run.recipe.seed, settings.problems, settings.samples)


def ensure_benchmark(
    connection: Connection, run: Run, number: int, model_id: int, wanted: BenchmarkSection
) -> Round:
    """The evaluation of a policy on a benchmark; added where the run has it not yet."""
    known = find_evaluation(connection, run.id, model_id, wanted.evaluation_key)
    if known is not None:
        return known
    dataset = datasets.find_dataset(connection, wanted.dataset)
    plan = Plan(wanted.evaluation_key, dataset.id, wanted.samples, wanted.decoding)
    added = add_evaluation(connection, run.id, number, model_id, plan)
    take_all_problems(connection, added.id, dataset.id, wanted.problems, wanted.samples)
    return added


def take_all_problems(
    connection: Connection, round_id: int, dataset_id: int, limit: int | None, allotment: int
) -> None:
    """Gives an evaluation every problem of a dataset, or the first `limit`, in the order of its file.

    Problems whose reference answer cannot be read are there, left out: nothing is drawn for them, and
    they count as not solved.
    """
    connection.execute(
        text("""
            INSERT INTO round_problems (round_id, problem_id, position, allotment, exclusion)
            SELECT :round_id, id, place - 1, :allotment, CASE WHEN NOT reference_readable THEN :unreadable END
            FROM (
                SELECT id, reference_readable, row_number() OVER (ORDER BY id) AS place
                FROM problems WHERE dataset_id = :dataset_id
            ) AS ordered
            WHERE CAST(:limit AS int) IS NULL OR place <= :limit
        """),
        {
            "round_id": round_id,
            "dataset_id": dataset_id,
            "limit": limit,
            "allotment": allotment,
            "unreadable": UNREADABLE,
        },
    )
    refresh_statistics(connection, "round_problems")


def keep_given(connection: Connection, round_id: int, counts: Mapping[int, int]) -> list[int]:
    """Fits an evaluation to given responses: each problem is allotted what it has, others are left out.

    Args:
        connection: an open transaction.
        round_id: the evaluation, with its problems.
        counts: responses by problem id.

    Returns the problems whose responses are wanted, in order.
    """
    connection.execute(
        text("""
            UPDATE round_problems
            SET allotment = given.responses,
                exclusion = coalesce(
                    exclusion, CASE WHEN given.responses = 0 THEN 'no response was given' END
                )
            FROM (
                SELECT problem_id, coalesce(responses, 0) AS responses
                FROM round_problems AS taken
                LEFT JOIN unnest(CAST(:problems AS bigint[]), CAST(:counts AS int[]))
                    AS counted (problem_id, responses) USING (problem_id)
                WHERE taken.round_id = :round_id
            ) AS given
            WHERE round_problems.round_id = :round_id AND round_problems.problem_id = given.problem_id
        """),
        {"round_id": round_id, "problems": list(counts), "counts": list(counts.values())},
    )
    rows = connection.execute(
        text("""
            SELECT problem_id FROM round_problems
            WHERE round_id = :round_id AND exclusion IS NULL ORDER BY position
        """),
        {"round_id": round_id},
    )
    return list(rows.scalars())


def find_decoding(connection: Connection, round_id: int) -> Decoding | None:
    """How the samples of a round are drawn; None for an iteration and where responses are given."""
    row = connection.execute(
        text("""
            SELECT temperature, top_p, samples, max_new_tokens FROM evaluations
            WHERE round_id = :id AND temperature IS NOT NULL
        """),
        {"id": round_id},
    ).first()
    return None if row is None else Decoding(*row)


def finish(connection: Connection, evaluation: Round) -> None:
    """Writes the accuracy of a completely verified evaluation: mean over problems of their own mean.

    A problem that is left out, or has no sample for another reason, counts as not solved. The standard
    error is that of the mean over problems.
    """
    connection.execute(
        text("""
            WITH
            per_problem AS (
                SELECT avg(CASE WHEN verdict = 'correct' THEN 1.0 ELSE 0.0 END) AS accuracy
                FROM round_problems
                LEFT JOIN samples USING (round_id, problem_id)
                WHERE round_id = :id GROUP BY problem_id
            ),
            overall AS (
                SELECT avg(accuracy) AS mean, coalesce(stddev_samp(accuracy), 0) / sqrt(count(*)) AS error
                FROM per_problem
                HAVING count(*) > 0
            )
            UPDATE evaluations SET finished_at = now(), accuracy = mean, standard_error = error
            FROM (SELECT 1) AS one LEFT JOIN overall ON true
            WHERE round_id = :id
        """),
        {"id": evaluation.id},
    )


def pending(connection: Connection, run_id: int, model_ids: Sequence[int]) -> bool:
    """Whether an evaluation of one of these policies is still without its accuracy."""
    found = connection.scalar(
        text(f"SELECT EXISTS ({_WITH_ROUNDS} AND model_id = ANY (:models) AND finished_at IS NULL)"),
        {"run_id": run_id, "models": list(model_ids)},
    )
    return bool(found)


def all_finished(connection: Connection, run_id: int, evaluation_keys: Sequence[str]) -> bool:
    """Whether a run's first policy has its accuracy for each of these evaluation keys."""
    finished: int = connection.execute(
        text("""
            SELECT count(DISTINCT evaluation_key) FROM rounds
            JOIN evaluations ON evaluations.round_id = rounds.id
            WHERE run_id = :run_id AND number = 0 AND finished_at IS NOT NULL
              AND evaluation_key = ANY (CAST(:evaluation_keys AS text[]))
        """),
        {"run_id": run_id, "evaluation_keys": list(evaluation_keys)},
    ).scalar_one()
    return finished == len(set(evaluation_keys))


def outcomes(connection: Connection, round_id: int) -> list[ProblemOutcome]:
    """What came out of an evaluation, problem by problem in its order."""
    rows = connection.execute(
        text("""
            SELECT problems.id, subject, level, reference_readable, exclusion,
                count(samples.id), count(*) FILTER (WHERE verdict = 'correct'),
                count(*) FILTER (WHERE samples.cause IS NOT NULL AND verdict IS NULL),
                coalesce(sum(tokens), 0), count(tokens), count(*) FILTER (WHERE finish_reason = 'length'),
                count(finish_reason),
                CASE WHEN count(samples.cause) > 1 THEN coalesce(vote.correct, false)
                    ELSE count(*) FILTER (WHERE verdict = 'correct') > 0 END
            FROM round_problems
            JOIN problems ON problems.id = round_problems.problem_id
            LEFT JOIN samples
                ON samples.round_id = round_problems.round_id
                AND samples.problem_id = round_problems.problem_id
            LEFT JOIN majority_votes AS vote
                ON vote.round_id = round_problems.round_id
                AND vote.problem_id = round_problems.problem_id
            WHERE round_problems.round_id = :id
            GROUP BY problems.id, position, exclusion, vote.correct
            ORDER BY position
        """),
        {"id": round_id},
    )
    return [ProblemOutcome(*row) for row in rows]


def results(connection: Connection, run_name: str) -> list[dict[str, Any]]:
    """The rows of the view `evaluation_results` for one run, by policy."""
    rows = connection.execute(
        text("SELECT * FROM evaluation_results WHERE run = :run ORDER BY iteration, measure"),
        {"run": run_name},
    )
    return [dict(row) for row in rows.mappings()]
