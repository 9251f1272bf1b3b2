"""Many runs at once, as a study looks at them: how far each is, and the figures of their iterations."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a run is.

    Attributes:
        iterations: enqueued, of which `done` are done.
        live_jobs: queued or running.
        failed_jobs: wait for `hsstar jobs retry`.
    """

    run: str
    iterations: int
    done: int
    live_jobs: int
    failed_jobs: int

    @property
    def under_way(self) -> bool:
        """Whether an enqueued iteration is not done."""
        return self.done < self.iterations

    @property
    def stuck(self) -> bool:
        """Whether failed jobs hold it up and nothing else moves."""
        return self.under_way and self.failed_jobs > 0 and self.live_jobs == 0


@dataclass(frozen=True, slots=True)
class IterationFigures:
    """What one iteration of a run came to.

    Attributes:
        budget, drawn: samples.
        accuracy_before, accuracy_after: of the policy that was sampled and of the one that it became.
        error_before, error_after: standard errors of these over the held-out problems.
        seconds: worker seconds of all its jobs, its evaluation left out.
    """

    run: str
    iteration: int
    problems: int
    inlier: int
    boundary: int
    outlier: int
    budget: int
    drawn: int
    pairs: int
    tokens: int
    accuracy_before: float
    error_before: float
    accuracy_after: float
    error_after: float
    seconds: float


def run_states(connection: Connection, names: Sequence[str]) -> dict[str, RunState]:
    """The states of those of the named runs that exist."""
    rows = connection.execute(
        text("""
            SELECT
                runs.name,
                (SELECT count(*) FROM rounds WHERE run_id = runs.id AND kind = 'iteration'),
                (
                    SELECT count(*) FROM rounds JOIN iterations ON iterations.round_id = rounds.id
                    WHERE run_id = runs.id AND state = 'done'
                ),
                count(jobs.id) FILTER (WHERE jobs.state IN ('queued', 'running')),
                count(jobs.id) FILTER (WHERE jobs.state = 'failed')
            FROM runs
            LEFT JOIN rounds ON rounds.run_id = runs.id
            LEFT JOIN jobs ON jobs.round_id = rounds.id AND jobs.state <> 'done'
            WHERE runs.name = ANY (CAST(:names AS text[]))
            GROUP BY runs.id
        """),
        {"names": list(names)},
    )
    return {row[0]: RunState(*row) for row in rows}


def iteration_figures(connection: Connection, names: Sequence[str]) -> list[IterationFigures]:
    """The figures of the finished iterations of the named runs, by run and number."""
    rows = connection.execute(
        text("""
            SELECT
                run, iteration, problems, inlier, boundary, outlier, budget, drawn, pairs,
                CAST(tokens AS bigint),
                heldout_accuracy_before, heldout_error_before, heldout_accuracy_after, heldout_error_after,
                CAST(seconds_sampling + seconds_verification + seconds_reward + seconds_training
                    AS double precision)
            FROM iteration_statistics
            WHERE run = ANY (CAST(:names AS text[])) AND state = 'done'
            ORDER BY run, iteration
        """),
        {"names": list(names)},
    )
    return [IterationFigures(*row) for row in rows]
