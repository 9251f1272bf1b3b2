"""The throughput of earlier runs: lengths, yields and speeds, by the models that they used."""

from dataclasses import dataclass

from sqlalchemy import Connection

from hsstar.store.database import execute_file


@dataclass(frozen=True, slots=True)
class Throughput:
    """Lengths, yields and speeds of the runs of one policy (and its offspring); None where no row says it.

    Attributes:
        tokens_per_sample: mean response tokens of a sample.
        pairs_per_sample: preference pairs per sample, of iterations that have pairs.
        sampling_speed: response tokens per second of sampling by this engine.
        scoring_speed: response tokens per second of scoring by this reward model.
        training_speed: response tokens of pairs, times epochs, per second of training.
    """

    tokens_per_sample: float | None
    pairs_per_sample: float | None
    sampling_speed: float | None
    scoring_speed: float | None
    training_speed: float | None


def throughput(connection: Connection, policy: str, engine: str, reward: str, objective: str) -> Throughput:
    """Return the throughput of the runs whose recipes name this policy.

    The arguments are values of the recipe: `policy.model`, `policy.engine`, `reward.model` and
    `training.objective`.
    """
    parameters = {"policy": policy, "engine": engine, "reward": reward, "objective": objective}
    return Throughput(**execute_file(connection, "throughput", parameters).mappings().one())
