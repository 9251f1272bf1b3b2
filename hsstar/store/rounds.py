"""Rounds: problems that one policy samples, in iterations, evaluations, labels of steps and by sources."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, text

from hsstar.domain.lifecycle import IterationState, JobKind, next_state
from hsstar.domain.problems import Repeat
from hsstar.store.database import analyse_rounds, execute_file, exists, row_of
from hsstar.store.runs import Run, look_again

RoundKind = Literal["iteration", "evaluation", "steps", "source"]


@dataclass(frozen=True, slots=True)
class Round:
    """A set of problems and the policy that is sampled for them."""

    id: int
    run_id: int
    kind: RoundKind
    number: int  # of the iteration, or t of the policy M_t
    model_id: int | None  # the policy; None while an iteration waits for it

    @property
    def has_rewards(self) -> bool:
        """Whether its samples are scored, where those of its run are."""
        return self.kind in ("iteration", "source")


class SampleQuality(NamedTuple):
    """What the samples of an iteration are like."""

    rewards: float | None  # chance that a correct sample has a higher reward than an incorrect one
    texts: float | None  # share of samples with a text that no earlier sample of their problem has


@dataclass(frozen=True, slots=True)
class Iteration:
    """One iteration of a run."""

    round: Round
    state: IterationState
    output_model_id: int | None
    keep_going: bool  # whether the run continues if it trains nothing

    def trained_nothing(self, run: Run) -> bool:
        """Tell whether its training was to make a new policy and did not."""
        unchanged = self.output_model_id is not None and self.output_model_id == self.round.model_id
        return unchanged and run.recipe.training.objective != "none"


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What problems of a round still lack."""

    undrawn: int  # samples of the allotment that are not drawn
    unverified: int  # samples without a cause
    unscored: int  # samples without a reward


_ROUNDS = "SELECT id, run_id, kind, number, model_id FROM rounds"


def all_iterations_done(connection: Connection, run_id: int) -> bool:
    """Tell whether no iteration of a run is under way."""
    query = text("""
        SELECT FROM iterations JOIN rounds ON rounds.id = round_id
        WHERE run_id = :run_id AND state <> 'done' LIMIT 1
    """)
    return not exists(connection, query, {"run_id": run_id})


def get_round(connection: Connection, round_id: int) -> Round:
    """Return the round of this id."""
    query = text(f"{_ROUNDS} WHERE id = :id")
    return Round(**connection.execute(query, {"id": round_id}).mappings().one())


def find_round(connection: Connection, round_id: int) -> Round | None:
    """Return the round of this id; None if its run has been deleted."""
    return row_of(connection.execute(text(f"{_ROUNDS} WHERE id = :id"), {"id": round_id}), Round)


_ITERATIONS = """
    SELECT id, run_id, kind, number, model_id, state, output_model_id, keep_going
    FROM rounds JOIN iterations ON iterations.round_id = rounds.id
"""


def has_open_rounds(connection: Connection, run_id: int) -> bool:
    """Tell whether a round of the run is not done."""
    query = text("""
        SELECT FROM rounds JOIN round_states ON round_states.round_id = rounds.id
        WHERE run_id = :run_id AND state <> 'done' LIMIT 1
    """)
    return exists(connection, query, {"run_id": run_id})


def list_iterations(connection: Connection, run_id: int) -> list[Iteration]:
    """Return the iterations of a run by number; of a fork its own alone."""
    query = text(f"{_ITERATIONS} WHERE run_id = :run_id ORDER BY number")
    return _iterations(connection.execute(query, {"run_id": run_id}))


def list_shared_iterations(connection: Connection, run_id: int) -> list[Iteration]:
    """Return the iterations of a run by number, with those that a fork shares."""
    query = text(f"{_ITERATIONS} WHERE id IN (SELECT rounds_of(:run_id)) ORDER BY number")
    return _iterations(connection.execute(query, {"run_id": run_id}))


def _iterations(rows: Iterable[Row[Any]]) -> list[Iteration]:
    return [
        Iteration(
            Round(row.id, row.run_id, row.kind, row.number, row.model_id),
            IterationState(row.state),
            row.output_model_id,
            row.keep_going,
        )
        for row in rows
    ]


def list_policies(connection: Connection, run_id: int) -> list[tuple[int, str]]:
    """Return (t, name of M_t) for every policy of a run: its first, and the output of each iteration.

    Those of a fork begin with the policies that it shares.
    """
    rows = connection.execute(
        text("""
            SELECT coalesce(forked_at, 0) AS number, models.name
            FROM runs JOIN models ON models.id = runs.model_id WHERE runs.id = :run_id
            UNION ALL
            SELECT number, models.name FROM rounds JOIN models ON models.id = rounds.model_id
            WHERE kind = 'iteration' AND rounds.id IN (SELECT rounds_of(:run_id)) AND run_id <> :run_id
            UNION ALL
            SELECT number + 1, models.name
            FROM rounds
            JOIN iterations ON iterations.round_id = rounds.id
            JOIN models ON models.id = iterations.output_model_id
            WHERE run_id = :run_id
            ORDER BY number
        """),
        {"run_id": run_id},
    )
    return [(row.number, row.name) for row in rows]


def add_round(
    connection: Connection,
    run_id: int,
    kind: RoundKind,
    number: int,
    model_id: int | None,
    evaluation_key: str = "",
) -> Round:
    """Add a round without problems; an iteration alone has no evaluation key."""
    values = {"run_id": run_id, "kind": kind, "number": number, "model_id": model_id}
    round_id = connection.execute(
        text(
            "INSERT INTO rounds (run_id, kind, number, model_id, evaluation_key) "
            "VALUES (:run_id, :kind, :number, :model_id, :evaluation_key) RETURNING id"
        ),
        values | {"evaluation_key": evaluation_key},
    ).scalar_one()
    return Round(round_id, run_id, kind, number, model_id)


def add_iterations(
    connection: Connection, run: Run, numbers: Sequence[int], *, keep_going: bool = False
) -> None:
    """Add waiting iterations; the conductor starts each one when its policy exists.

    With `keep_going` the run continues after one that trains nothing.
    """
    for number in numbers:
        added = add_round(connection, run.id, "iteration", number, None)
        connection.execute(
            text(
                "INSERT INTO iterations (round_id, pre_samples, keep_going) "
                "VALUES (:id, :pre_samples, :keep_going)"
            ),
            {
                "id": added.id,
                "pre_samples": run.recipe.sampling.budget.pre_samples,
                "keep_going": keep_going,
            },
        )


def begin_iteration(connection: Connection, round_id: int, model_id: int, per_problem: int) -> bool:
    """Give a waiting iteration, which has its problems, its policy and its budget; False if it has begun."""
    connection.execute(
        text("UPDATE rounds SET model_id = :model_id WHERE id = :id"), {"id": round_id, "model_id": model_id}
    )
    result = connection.execute(
        text("""
            UPDATE iterations
            SET state = 'pre_sampling', started_at = now(),
                budget = :n * (SELECT count(*) FROM round_problems WHERE round_id = :id)
            WHERE round_id = :id AND state = 'waiting'
        """),
        {"id": round_id, "n": per_problem},
    )
    return result.rowcount == 1


def leave_state(
    connection: Connection, round_id: int, state: IterationState, output_model_id: int | None = None
) -> bool:
    """Move an iteration from this state to the next; return False if it has another one by now.

    Record the policy that it made, if there is one.
    """
    result = connection.execute(
        text("""
            UPDATE iterations
            SET state = :next, output_model_id = coalesce(:output, output_model_id),
                finished_at = CASE WHEN :next = 'done' THEN now() END
            WHERE round_id = :id AND state = :state
        """),
        {"id": round_id, "state": state, "next": next_state(state), "output": output_model_id},
    )
    if result.rowcount == 0:
        return False
    look_again(connection, get_round(connection, round_id).run_id)
    return True


def begin_judging(connection: Connection, round_id: int) -> bool:
    """Record that the gate judges the pre-samples of an iteration now; return False if it has done so."""
    result = connection.execute(
        text("""
            UPDATE iterations SET gate_judged_at = now() WHERE round_id = :id AND gate_judged_at IS NULL
        """),
        {"id": round_id},
    )
    return result.rowcount == 1


def set_quality(connection: Connection, round_id: int, quality: SampleQuality) -> None:
    """Record how good the rewards of an iteration are, and how different its texts."""
    connection.execute(
        text("""
            UPDATE iterations SET reward_quality = :rewards, different_texts = :texts WHERE round_id = :id
        """),
        {"id": round_id, "rewards": quality.rewards, "texts": quality.texts},
    )


def assign_slice(
    connection: Connection,
    round_id: int,
    dataset_id: int,
    seed: int,
    limit: int | None,
    allotment: int,
    *,
    without_overlaps: bool = False,
    repeat: Repeat = "never",
) -> int:
    """Assign a round the first problems of a dataset in the run's seeded order; return how many.

    An iteration takes those first that the run has had least often, and of these the ones that may `repeat`.
    """
    result = execute_file(
        connection,
        "assign_slice",
        {
            "round_id": round_id,
            "dataset_id": dataset_id,
            "seed": seed,
            "limit": limit,
            "allotment": allotment,
            "without_overlaps": without_overlaps,
            "repeat": repeat,
        },
    )
    analyse_rounds(connection)
    return result.rowcount


def count_available_problems(
    connection: Connection,
    run_id: int,
    dataset_id: int,
    *,
    without_overlaps: bool = False,
    repeat: Repeat = "never",
) -> int:
    """Count the problems of a dataset that the next iteration of a run may take."""
    available: int = connection.execute(
        text("""
            SELECT count(*) FROM problems
            WHERE dataset_id = :dataset_id AND reference_readable AND NOT (
                :without_overlaps AND EXISTS (SELECT FROM problem_overlaps WHERE problem_id = problems.id)
            ) AND (:repeat = 'all' OR NOT EXISTS (
                SELECT FROM round_problems AS used
                JOIN rounds ON rounds.id = used.round_id
                WHERE used.problem_id = problems.id AND kind = 'iteration'
                  AND rounds.id IN (SELECT rounds_of(:run_id))
                  AND (:repeat = 'never' OR EXISTS (
                      SELECT FROM samples
                      WHERE samples.round_id = used.round_id AND samples.problem_id = problems.id
                        AND verdict = 'correct'
                  ))
            ))
        """),
        {
            "dataset_id": dataset_id,
            "run_id": run_id,
            "without_overlaps": without_overlaps,
            "repeat": repeat,
        },
    ).scalar_one()
    return available


def assign_problems(
    connection: Connection, round_id: int, problem_ids: Sequence[int], allotment: int
) -> None:
    """Assign a round exactly these problems, in this order."""
    connection.execute(
        text("""
            INSERT INTO round_problems (round_id, problem_id, position, allotment)
            SELECT :round_id, problem_id, place - 1, :allotment
            FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS ordered (problem_id, place)
        """),
        {"round_id": round_id, "ids": list(problem_ids), "allotment": allotment},
    )
    analyse_rounds(connection)


def has_problems(connection: Connection, round_id: int) -> bool:
    """Tell whether the round has its problems."""
    query = text("SELECT FROM round_problems WHERE round_id = :id LIMIT 1")
    return exists(connection, query, {"id": round_id})


def exclude(connection: Connection, round_id: int, reasons: dict[int, str]) -> None:
    """Leave problems out of a round from now on, each with its reason, by problem id."""
    connection.execute(
        text("""
            UPDATE round_problems SET exclusion = reasons.reason
            FROM unnest(CAST(:ids AS bigint[]), CAST(:reasons AS text[])) AS reasons (problem_id, reason)
            WHERE round_id = :round_id AND round_problems.problem_id = reasons.problem_id
              AND exclusion IS NULL
        """),
        {"round_id": round_id, "ids": list(reasons), "reasons": list(reasons.values())},
    )


def has_live_jobs(connection: Connection, round_id: int) -> bool:
    """Tell whether a job of the round is queued or running."""
    query = text("SELECT FROM jobs WHERE round_id = :id AND state IN ('queued', 'running') LIMIT 1")
    return exists(connection, query, {"id": round_id})


def runs_without_work(connection: Connection) -> list[int]:
    """Return the runs that may have to advance: a round is not done and has no live job."""
    return list(execute_file(connection, "runs_without_work", {}).scalars())


def list_idle(connection: Connection, run_id: int) -> tuple[datetime, list[int]]:
    """Return the time and the rounds of a run that are not done and have no live job."""
    row = connection.execute(
        text("""
            SELECT now() AS time, array(
                SELECT rounds.id FROM rounds
                JOIN round_states ON round_states.round_id = rounds.id
                WHERE run_id = :run_id AND round_states.state <> 'done' AND NOT EXISTS (
                      SELECT FROM jobs WHERE round_id = rounds.id AND state IN ('queued', 'running')
                  )
            ) AS ids
        """),
        {"run_id": run_id},
    ).one()
    return row.time, row.ids


def set_looked_at(connection: Connection, round_ids: Sequence[int], time: datetime | None) -> None:
    """Record when rounds were found to wait for something else than a job; None: look at them again."""
    connection.execute(
        text("UPDATE rounds SET looked_at = :time WHERE id = ANY (:ids)"),
        {"time": time, "ids": list(round_ids)},
    )


def problems_of(connection: Connection, round_id: int) -> list[int]:
    """Return the ids of the round's problems, in order."""
    query = text("SELECT problem_id FROM round_problems WHERE round_id = :id ORDER BY problem_id")
    return list(connection.execute(query, {"id": round_id}).scalars())


def mean_allotment(connection: Connection, round_id: int) -> float:
    """Return how many samples a problem of the round gets on average; 0 without problems."""
    query = text("SELECT CAST(coalesce(avg(allotment), 0) AS float) FROM round_problems WHERE round_id = :id")
    mean: float = connection.execute(query, {"id": round_id}).scalar_one()
    return mean


def shortfall(connection: Connection, round_id: int, problem_ids: Sequence[int]) -> Shortfall:
    """Count what these problems of the round still lack."""
    values = {"round_id": round_id, "problem_ids": list(problem_ids)}
    return Shortfall(**execute_file(connection, "shortfall", values).mappings().one())


def allocate(
    connection: Connection,
    round_id: int,
    kind: JobKind,
    job_samples: int,
    problem_ids: Sequence[int] | None = None,
    job_id: int | None = None,
) -> list[int]:
    """Enqueue the missing work of one kind of a round; return the ids of the new jobs.

    Only for these problems, and for the samples of this sampling job, where given. The caller holds the run's
    lock, for one job's samples shared. A second call enqueues nothing.
    """
    result = execute_file(
        connection,
        "allocate",
        {
            "round_id": round_id,
            "kind": kind.value,
            "problem_ids": None if problem_ids is None else list(problem_ids),
            "job_id": job_id,
            "job_samples": job_samples,
        },
    )
    return list(result.scalars())
