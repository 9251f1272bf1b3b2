"""Evaluations: rounds of a policy on a dataset, how they are decoded, and their results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from hsstar.domain.benchmarks import Decoding
from hsstar.domain.evaluation import ProblemOutcome
from hsstar.store import datasets, stored_outcomes
from hsstar.store.database import analyse_rounds, execute_file, exists, row_of, rows_of
from hsstar.store.rounds import Round, add_round, assign_slice
from hsstar.store.runs import Run, look_again

if TYPE_CHECKING:
    from hsstar.recipe.evaluation import BenchmarkSection

HELD_OUT = "heldout"
"""The evaluation key of a recipe's held-out problems."""
UNREADABLE = "the reference answer cannot be read"


@dataclass(frozen=True, slots=True)
class EvaluationSpec:
    """A dataset and a decoding to evaluate a policy with."""

    evaluation_key: str  # names dataset and decoding within a run; equal specs have equal keys
    dataset_id: int
    samples: int  # per problem, at most
    decoding: Decoding | None  # None for external responses


_DECODING = [field.name for field in fields(Decoding)]
_EVALUATIONS = """
    SELECT id, run_id, kind, number, model_id
    FROM rounds JOIN evaluations ON evaluations.round_id = rounds.id
"""
_ROUNDS = f"{_EVALUATIONS} WHERE run_id = :run_id"


def list_unfinished(connection: Connection, run_id: int) -> list[Round]:
    """Return the evaluations of a run that have no accuracy yet."""
    query = text(f"{_ROUNDS} AND finished_at IS NULL ORDER BY number, evaluation_key")
    return rows_of(connection.execute(query, {"run_id": run_id}), Round)


def find_evaluation(connection: Connection, run_id: int, model_id: int, evaluation_key: str) -> Round | None:
    """Return the evaluation of a policy with this key, a shared one too; None if the run has none."""
    query = text(
        f"{_EVALUATIONS} WHERE rounds.id IN (SELECT rounds_of(:run_id)) "
        "AND model_id = :model_id AND evaluation_key = :evaluation_key"
    )
    values = {"run_id": run_id, "model_id": model_id, "evaluation_key": evaluation_key}
    return row_of(connection.execute(query, values), Round)


def add_evaluation(
    connection: Connection, run_id: int, number: int, model_id: int, spec: EvaluationSpec
) -> Round:
    """Add an evaluation without problems."""
    added = add_round(connection, run_id, "evaluation", number, model_id, spec.evaluation_key)
    chosen = dict.fromkeys(_DECODING) if spec.decoding is None else asdict(spec.decoding)
    connection.execute(
        text("""
            INSERT INTO evaluations (
                round_id, dataset_id, samples,
                temperature, top_p, max_new_tokens, top_k, min_p, repetition_penalty
            )
            VALUES (
                :id, :dataset_id, :samples,
                :temperature, :top_p, :max_new_tokens, :top_k, :min_p, :repetition_penalty
            )
        """),
        chosen | {"id": added.id, "dataset_id": spec.dataset_id, "samples": spec.samples},
    )
    return added


def ensure_held_out(connection: Connection, run: Run, number: int, model_id: int) -> None:
    """Add the evaluation of a policy on the recipe's held-out problems, unless the run has it."""
    settings = run.recipe.evaluation
    if settings.dataset is None or find_evaluation(connection, run.id, model_id, HELD_OUT):
        return
    dataset = datasets.find_dataset(connection, settings.dataset)
    spec = EvaluationSpec(HELD_OUT, dataset.id, settings.samples, settings.decoding)
    added = add_evaluation(connection, run.id, number, model_id, spec)
    assign_slice(connection, added.id, dataset.id, run.recipe.seed, settings.problems, settings.samples)


def ensure_benchmark(
    connection: Connection, run: Run, number: int, model_id: int, benchmark: "BenchmarkSection"
) -> Round:
    """Return the evaluation of a policy on a benchmark; add it if the run has none."""
    known = find_evaluation(connection, run.id, model_id, benchmark.evaluation_key)
    if known is not None:
        return known
    dataset = datasets.find_dataset(connection, benchmark.dataset)
    spec = EvaluationSpec(benchmark.evaluation_key, dataset.id, benchmark.samples, benchmark.decoding)
    added = add_evaluation(connection, run.id, number, model_id, spec)
    assign_all_problems(connection, added.id, dataset.id, benchmark.problems, benchmark.samples)
    return added


def assign_all_problems(
    connection: Connection, round_id: int, dataset_id: int, limit: int | None, allotment: int
) -> None:
    """Assign an evaluation every problem of a dataset, or the first `limit`, in the order of its file.

    Problems with an unreadable reference answer are assigned as excluded: they get no sample and count as
    not solved.
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
    analyse_rounds(connection)


def fit_to_responses(connection: Connection, round_id: int, counts: Mapping[int, int]) -> list[int]:
    """Allot each problem of an evaluation its number of external responses; exclude those without any.

    `counts` are the responses by problem id. Return the ids of the problems that stay, in order.
    """
    values = {"round_id": round_id, "problems": list(counts), "counts": list(counts.values())}
    execute_file(connection, "fit_to_responses", values)
    rows = connection.execute(
        text("""
            SELECT problem_id FROM round_problems
            WHERE round_id = :round_id AND exclusion IS NULL ORDER BY position
        """),
        {"round_id": round_id},
    )
    return list(rows.scalars())


def find_decoding(connection: Connection, round_id: int) -> Decoding | None:
    """Return the decoding of a round; None for an iteration and for external responses."""
    rows = connection.execute(
        text("""
            SELECT temperature, top_p, samples, max_new_tokens, top_k, min_p, repetition_penalty
            FROM evaluations
            WHERE round_id = :id AND temperature IS NOT NULL
        """),
        {"id": round_id},
    )
    return row_of(rows, Decoding)


def finish(connection: Connection, evaluation: Round) -> None:
    """Write the accuracy of a completely verified evaluation: the mean over problems of their own mean."""
    execute_file(connection, "finish_evaluation", {"round_id": evaluation.id})
    stored_outcomes.write(connection, evaluation.id)
    stored_outcomes.use(connection, evaluation.id, stored=True)
    look_again(connection, evaluation.run_id)


def pending(connection: Connection, run_id: int, model_ids: Sequence[int]) -> bool:
    """Tell whether an evaluation of one of these policies still lacks its accuracy."""
    query = text(f"{_ROUNDS} AND model_id = ANY (:models) AND finished_at IS NULL LIMIT 1")
    return exists(connection, query, {"run_id": run_id, "models": list(model_ids)})


def finished_up_to(connection: Connection, run_id: int, number: int) -> bool:
    """Tell whether a run, with what it shares, has the accuracies of its policies up to M_number."""
    query = text(
        f"{_EVALUATIONS} WHERE rounds.id IN (SELECT rounds_of(:run_id)) "
        "AND number <= :number AND finished_at IS NULL LIMIT 1"
    )
    return not exists(connection, query, {"run_id": run_id, "number": number})


def accuracies(connection: Connection, run_id: int, model_id: int | None) -> dict[str, float]:
    """Return the accuracies of a policy in a run, with what it shares, by evaluation key."""
    rows = connection.execute(
        text("""
            SELECT evaluation_key, accuracy
            FROM rounds JOIN evaluations ON evaluations.round_id = rounds.id
            WHERE rounds.id IN (SELECT rounds_of(:run_id)) AND model_id = :model_id AND accuracy IS NOT NULL
        """),
        {"run_id": run_id, "model_id": model_id},
    )
    return {row.evaluation_key: row.accuracy for row in rows}


def all_finished(connection: Connection, run_id: int, evaluation_keys: Sequence[str]) -> bool:
    """Tell whether a run's first policy has its accuracy for each of these evaluation keys."""
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
    """Return the outcome of an evaluation, problem by problem in its order."""
    return rows_of(execute_file(connection, "outcomes", {"round_id": round_id}), ProblemOutcome)


def results(connection: Connection, run_name: str) -> list[dict[str, Any]]:
    """Return the rows of the view `evaluation_results` for one run, shared ones too, by policy."""
    query = text(
        "SELECT * FROM evaluation_results WHERE round_id IN "
        "(SELECT rounds_of(id) FROM runs WHERE name = :run) ORDER BY iteration, measure"
    )
    return rows_of(connection.execute(query, {"run": run_name}), dict)
