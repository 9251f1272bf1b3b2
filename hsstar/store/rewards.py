"""The rewards of a run and of its samples: which there are, step rewards, and what they come to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from hsstar.domain.rewards import Aggregation, RewardRule, RewardUse
from hsstar.store.database import execute_file

if TYPE_CHECKING:
    from hsstar.domain.steps import Span
    from hsstar.recipe.reward import NamedRewardSection


@dataclass(frozen=True, slots=True)
class RunReward:
    """A reward of a run, and what gives it."""

    name: str
    reward_model_id: int
    rule: RewardRule


@dataclass(frozen=True, slots=True)
class SampleReward:
    """The step rewards of a sample, and its steps if a function of the user has split it."""

    sample_id: int
    step_rewards: tuple[float, ...]
    truncated: bool
    step_spans: "Sequence[Span] | None" = None


def add_to_run(
    connection: Connection, run_id: int, rewards: "Sequence[tuple[NamedRewardSection, int]]"
) -> None:
    """Store the rewards of a new run, each with the id of its reward model.

    Responses are shown with the step rewards of the first that has a model, else of the first one.
    """
    shown = next((place for place, (reward, _) in enumerate(rewards) if reward.has_model), 0)
    for place, (reward, reward_model_id) in enumerate(rewards):
        _add(connection, run_id, reward, reward_model_id, place, in_force=True, shown=place == shown)


def add_again(
    connection: Connection, run_id: int, reward: "NamedRewardSection", reward_model_id: int
) -> None:
    """Store that samples of a run are scored again, by another model in the place of a reward."""
    query = text("SELECT place FROM run_rewards WHERE run_id = :run_id AND name = :name AND in_force")
    place = connection.execute(query, {"run_id": run_id, "name": reward.name}).scalar() or 0
    _add(connection, run_id, reward, reward_model_id, place, in_force=False, shown=False)


def _add(
    connection: Connection,
    run_id: int,
    reward: "NamedRewardSection",
    reward_model_id: int,
    place: int,
    *,
    in_force: bool,
    shown: bool,
) -> None:
    connection.execute(
        text("""
            INSERT INTO run_rewards
                (run_id, name, reward_model_id, place, aggregation, weight, use, in_force, shown)
            VALUES (:run_id, :name, :reward_model_id, :place, :aggregation, :weight, :use, :in_force, :shown)
            ON CONFLICT (run_id, name, reward_model_id) DO NOTHING
        """),
        {
            "run_id": run_id,
            "name": reward.name,
            "reward_model_id": reward_model_id,
            "place": place,
            "aggregation": reward.aggregate.value,
            "weight": reward.weight,
            "use": reward.use.value,
            "in_force": in_force,
            "shown": shown,
        },
    )


def list_of_run(connection: Connection, run_id: int) -> list[RunReward]:
    """Return the rewards that a sample of a run needs, in the order of the recipe."""
    query = text("""
        SELECT name, reward_model_id, use, weight, aggregation FROM run_rewards
        WHERE run_id = :run_id AND in_force ORDER BY place
    """)
    return [
        RunReward(
            row.name,
            row.reward_model_id,
            RewardRule(RewardUse(row.use), row.weight, Aggregation(row.aggregation)),
        )
        for row in connection.execute(query, {"run_id": run_id})
    ]


def list_given(connection: Connection, sample_ids: Sequence[int]) -> set[tuple[int, int]]:
    """Return which of these samples have the rewards of which reward models."""
    query = text("SELECT sample_id, reward_model_id FROM rewards WHERE sample_id = ANY (:ids)")
    rows = connection.execute(query, {"ids": list(sample_ids)})
    return {(row.sample_id, row.reward_model_id) for row in rows}


def load_step_rewards(connection: Connection, sample_ids: Sequence[int]) -> dict[int, dict[int, list[float]]]:
    """Return the step rewards of samples, by sample and reward model."""
    query = text("SELECT sample_id, reward_model_id, step_rewards FROM rewards WHERE sample_id = ANY (:ids)")
    found: dict[int, dict[int, list[float]]] = {}
    for row in connection.execute(query, {"ids": list(sample_ids)}):
        found.setdefault(row.sample_id, {})[row.reward_model_id] = row.step_rewards
    return found


def write(connection: Connection, reward_model_id: int, scored: Sequence[SampleReward]) -> None:
    """Write step rewards; existing ones stay."""
    execute_file(
        connection,
        "write_rewards",
        {
            "reward_model_id": reward_model_id,
            "ids": [reward.sample_id for reward in scored],
            # repr of a float is exact
            "rewards": ["{" + ",".join(map(repr, reward.step_rewards)) + "}" for reward in scored],
            "truncated": [reward.truncated for reward in scored],
            "spans": [_array(reward.step_spans) for reward in scored],
        },
    )


def _array(spans: "Sequence[Span] | None") -> str | None:
    """Return spans as the text of a Postgres array of their ends in turns."""
    return None if spans is None else "{" + ",".join(str(end) for span in spans for end in span) + "}"


def combine(connection: Connection, run_id: int, worker: str, sample_ids: Sequence[int]) -> None:
    """Write what the rewards of samples come to on their rows, if they have all of them."""
    execute_file(connection, "combine_rewards", {"run_id": run_id, "worker": worker, "ids": list(sample_ids)})
