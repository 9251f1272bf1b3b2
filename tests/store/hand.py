"""A worker without engines: it claims jobs and writes the rows that a script says."""

from collections.abc import Callable, Collection

from sqlalchemy import Connection, text

from hsstar.conductor import Conductor
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.seeds import derived_seed, slot_seed
from hsstar.domain.verdict import Cause, Judgement
from hsstar.store import models, rounds, runs, samples, training, votes
from hsstar.store.database import Database, lock_run
from hsstar.store.queue import jobs
from hsstar.store.queue.jobs import Job
from hsstar.store.samples import DrawnSample, SampleReward

Script = Callable[[str, int], tuple[Cause, float]]
"""Cause and minimum reward of a sample by problem key and slot."""

ATTEMPTS = 3


def three_levels(key: str, slot: int) -> tuple[Cause, float]:
    """A third of the problems is easy, a third too hard, and in between it depends on the sample."""
    chance = derived_seed(0, "outcome", key, slot) % 64
    match int(key[:4], 16) % 3:
        case 0:
            return Cause.CORRECT, 1.0
        case 1:
            return Cause.NO_ANSWER, 0.0
        case _:
            return Cause.CORRECT if chance % 2 else Cause.INCORRECT, chance / 64


def all_easy(key: str, slot: int) -> tuple[Cause, float]:
    """Every sample is right."""
    return Cause.CORRECT, 1.0


class Hand:
    """Does what workers do, one job after the other, by the store's own functions.

    The response of a sample is its address, so that later jobs know what the script says of it.
    """

    def __init__(self, database: Database, script: Script = three_levels, job_samples: int = 16) -> None:
        self.database = database
        self.script = script
        self.conductor = Conductor(database, job_samples, ATTEMPTS)
        self._job_samples = job_samples

    def queued(self, kinds: Collection[JobKind] = frozenset(JobKind)) -> list[int]:
        """The jobs of these kinds that can be taken."""
        with self.database.begin() as connection:
            rows = connection.execute(
                text("SELECT id FROM jobs WHERE state = 'queued' AND kind = ANY (:kinds) ORDER BY id"),
                {"kinds": list(kinds)},
            )
            return list(rows.scalars())

    def work(self, kinds: Collection[JobKind] = frozenset(JobKind)) -> None:
        """Does jobs of these kinds until there are none left."""
        self.conductor.sweep()
        while found := self.queued(kinds):
            for job_id in found:
                self.do(job_id)

    def do(self, job_id: int) -> None:
        """Does one job."""
        with self.database.begin() as connection:
            job = jobs.claim(connection, job_id, "hand", 60)
        assert job is not None
        with self.database.begin() as connection:
            touched = self._results(connection, job)
        self.conductor.after_job(job, touched)

    def _results(self, connection: Connection, job: Job) -> list[int]:
        match job.kind:
            case JobKind.SAMPLE:
                return self._sample(connection, job)
            case JobKind.VERIFY:
                return self._verify(connection, job)
            case JobKind.SCORE:
                return self._score(connection, job)
            case JobKind.TRAIN:
                return self._train(connection, job)

    def _sample(self, connection: Connection, job: Job) -> list[int]:
        drawn_for = rounds.get_round(connection, job.round_id)
        run = runs.get_run(connection, drawn_for.run_id)
        slots = samples.load_missing_slots(connection, job)
        drawn = [
            DrawnSample(
                slot.problem_id,
                slot.slot,
                f"{slot.problem_key} {slot.slot}",
                slot_seed(run.recipe.seed, drawn_for.number, slot.problem_key, slot.slot),
                tokens=10,
            )
            for slot in slots
        ]
        samples.write_samples(connection, job.round_id, drawn_for.model_id, job.worker, drawn)
        jobs.complete(connection, job)
        touched = sorted({slot.problem_id for slot in slots})
        lock_run(connection, run.id)
        rounds.allocate(connection, job.round_id, JobKind.VERIFY, self._job_samples, touched)
        if run.recipe.reward.used and drawn_for.kind == "iteration":
            rounds.allocate(connection, job.round_id, JobKind.SCORE, self._job_samples, touched)
        return touched

    def _verify(self, connection: Connection, job: Job) -> list[int]:
        found = samples.load_unverified(connection, job)
        judgements = [Judgement(self._outcome(sample.response)[0]) for sample in found]
        samples.write_verdicts(connection, [sample.id for sample in found], judgements)
        ballots = votes.load_ballots(connection, job)
        outcome = {problem: any(correct for _, correct in ballot) for problem, ballot in ballots.items()}
        votes.write_votes(connection, job.round_id, ballots, outcome)
        jobs.complete(connection, job)
        return sorted({sample.problem_id for sample in found})

    def _score(self, connection: Connection, job: Job) -> list[int]:
        run = runs.get_run(connection, rounds.get_round(connection, job.round_id).run_id)
        assert run.reward_model_id is not None
        found = samples.load_unscored(connection, job)
        scored = []
        for sample in found:
            reward = self._outcome(sample.response)[1]
            scored.append(SampleReward(sample.id, (1.0, reward), reward, False))
        samples.write_rewards(connection, run.reward_model_id, scored)
        jobs.complete(connection, job)
        return sorted({sample.problem_id for sample in found})

    def _train(self, connection: Connection, job: Job) -> list[int]:
        iteration = rounds.get_round(connection, job.round_id)
        run = runs.get_run(connection, iteration.run_id)
        assert iteration.model_id is not None
        objective = run.recipe.training.objective
        if objective == "sft":
            ids = [found[0] for found in training.load_examples(connection, run, iteration)]
        else:
            ids = [found[0] for found in training.load_pairs(connection, job.round_id)]
        record = training.begin_training(connection, job, iteration.model_id, objective, {}, ids)
        name = f"{run.name}-M{iteration.number + 1}"
        made = models.register_model(connection, name, f"/models/{name}", name, iteration.model_id)
        training.finish_training(connection, record, made.id, 0, 1, {"loss": 0.5})
        jobs.complete(connection, job)
        return []

    def _outcome(self, response: str) -> tuple[Cause, float]:
        key, slot = response.split()
        return self.script(key, int(slot))
