"""What earlier runs have measured: lengths, yields and speeds, by the models they used."""

from dataclasses import dataclass

from sqlalchemy import Connection

from hsstar.store.database import execute_file


@dataclass(frozen=True, slots=True)
class Measurements:
    """Figures of runs that sampled from one policy (and its offspring); None where there is no row.

    Attributes:
        tokens_per_sample: mean response tokens of a sample.
        pairs_per_sample: preference pairs per sample, of iterations that have pairs.
        sampling_speed: response tokens per second of sampling, with the engine that was asked for.
        scoring_speed: the same of scoring, with the reward model that was asked for.
        training_speed: response tokens of pairs, times epochs, per second of training.
    """

    tokens_per_sample: float | None
    pairs_per_sample: float | None
    sampling_speed: float | None
    scoring_speed: float | None
    training_speed: float | None


def measure(connection: Connection, policy: str, engine: str, reward: str, objective: str) -> Measurements:
    """What the runs whose recipe names this policy have measured.

    Args:
        connection: an open transaction.
        policy: `policy.model` of the recipe.
        engine: `policy.engine`; a sampling speed is that of an engine.
        reward: `reward.model`.
        objective: `training.objective`.
    """
    parameters = {"policy": policy, "engine": engine, "reward": reward, "objective": objective}
    return Measurements(*execute_file(connection, "measure", parameters).one())
