"""The throughput of earlier runs: lengths, yields and speeds, by the models that they used."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from hsstar.store.database import execute_file


@dataclass(frozen=True, slots=True)
class Throughput:
    """Lengths, yields and speeds of the runs of one policy (and its offspring); None where no row says it."""

    tokens_per_sample: float | None  # mean response tokens of a sample
    pairs_per_sample: float | None  # preference pairs per sample, of iterations that have pairs
    sampling_speed: float | None  # response tokens per second of sampling by this engine
    scoring_speed: float | None  # response tokens per second of scoring by these reward models
    training_speed: float | None  # response tokens of pairs, times epochs, per second of training


def throughput(
    connection: Connection, policy: str, engine: str, rewards: Sequence[str], objective: str
) -> Throughput:
    """Return the throughput of the runs whose recipes have these values (`objective` is the training's)."""
    parameters = {"policy": policy, "engine": engine, "rewards": list(rewards), "objective": objective}
    return Throughput(**execute_file(connection, "throughput", parameters).mappings().one())
