"""What trackers are sent of a run: its iterations and policies that are done, and its optimiser steps."""

from typing import Any

from sqlalchemy import Connection, text

from hsstar.store import evaluations
from hsstar.store.database import rows_of
from hsstar.store.read import metrics, progress
from hsstar.store.read.metrics import PolicyAccuracy
from hsstar.store.runs import Run

Row = dict[str, Any]


def iterations_done(connection: Connection, run: Run, after: int) -> list[Row]:
    """Return the statistics of the iterations behind `after` that are done, up to the first that is not."""
    query = text("""
        SELECT number, state FROM iterations JOIN rounds ON rounds.id = round_id
        WHERE run_id = :run_id AND number > :after ORDER BY number
    """)
    done = []
    for row in connection.execute(query, {"run_id": run.id, "after": after}):
        if row.state != "done":
            break
        done.append(row.number)
    if not done:
        return []
    return [row for row in progress.iteration_statistics(connection, run.name) if row["iteration"] in done]


def policies_measured(connection: Connection, run: Run, after: int) -> list[list[PolicyAccuracy]]:
    """Return the accuracies of the policies behind M_`after`, up to the first with an open evaluation."""
    open_policies = [round_.number for round_ in evaluations.list_unfinished(connection, run.id)]
    end = min(open_policies, default=None)
    by_policy: dict[int, list[PolicyAccuracy]] = {}
    for row in metrics.policy_accuracies(connection, [run.id]):
        if row.policy > after and (end is None or row.policy < end):
            by_policy.setdefault(row.policy, []).append(row)
    return list(by_policy.values())


def optimiser_steps(connection: Connection, run: Run, after: int, most: int) -> list[Row]:
    """Return the optimiser steps behind `after`, counted over all trainings of the run, at most `most`."""
    query = text("""
        SELECT run_step AS step, iteration, recorded_at, loss, reward_margin, reward_accuracy, reward_chosen,
            reward_rejected, logp_chosen, logp_rejected, token_accuracy, grad_norm, learning_rate,
            tokens_per_second
        FROM training_curves WHERE run = :run AND run_step > :after ORDER BY run_step LIMIT :most
    """)
    values = {"run": run.name, "after": after, "most": most}
    return rows_of(connection.execute(query, values), dict)
