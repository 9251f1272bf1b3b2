"""What is simulated of a fleet: what jobs cost, how engines sample, who works, and what comes out."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import NormalDist
from typing import Any

from hsstar.domain.lifecycle import JobKind
from hsstar.stages import sample

JOBS_EACH, FEWEST_JOBS_EACH, MANY_JOBS = 64, 8, 4_096
"""Enough that the end of a round, where some slots have no job, hardly shifts the line: by up to three per
cent, and in large fleets, which get fewer jobs for each slot, by up to eight."""
HEADROOM = 1.2
"""How much more verification and scoring a fleet of several roles can do than its samplers need."""
KINDS = (JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE)
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Cost:
    """What one unit of work costs: seconds of processor time, numbers, bytes."""

    server: float = 0.0  # of Postgres
    client: float = 0.0  # of the worker
    statements: float = 0.0
    commits: float = 0.0  # that wait for the disk
    wal: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.server + other.server,
            self.client + other.client,
            self.statements + other.statements,
            self.commits + other.commits,
            self.wal + other.wal,
        )

    def __mul__(self, times: float) -> "Cost":
        return Cost(
            self.server * times,
            self.client * times,
            self.statements * times,
            self.commits * times,
            self.wal * times,
        )


@dataclass(frozen=True)
class Costs:
    """Measured costs, as `measure` stores them."""

    job: Mapping[str, Cost]  # by kind
    sample: Mapping[str, Cost]  # by kind, of one sample of a job
    write: Cost  # of one more transaction that writes samples
    beat: Cost
    sweep: Cost
    claim: Cost  # of a claim that finds nothing
    start: Cost  # of a sample, when a round begins
    labelled: Cost  # of a sample, at the end of pre-sampling
    paired: Cost  # of a sample, at the end of the round
    flush_seconds: float
    message_seconds: float  # processor time of the broker, to take one and to deliver it
    message_bytes: float
    listening_seconds: float  # processor time of the broker, for one worker and second without messages
    storage_bytes: float  # of a sample, indices included
    connection_bytes: float  # of a session of Postgres

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Costs":
        """Read what `to_json` wrote; other keys do not count."""
        values = {each.name: document[each.name] for each in fields(cls)}
        for name in ("job", "sample"):
            values[name] = {kind: Cost(**cost) for kind, cost in values[name].items()}
        for name in ("write", "beat", "sweep", "claim", "start", "labelled", "paired"):
            values[name] = Cost(**values[name])
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return a document of numbers."""
        return asdict(self)


@dataclass(frozen=True)
class Engines:
    """How long engines take."""

    tokens_per_second: float  # of one sampler, all sequences together
    sequence_tokens_per_second: float  # of one sequence among them
    tokens: float  # of a response, on average
    spread: float  # standard deviation of the logarithm of a response's tokens
    verify_seconds: float  # of a sample
    score_seconds: float  # of a sample

    def sampling_seconds(self, samples: int, generator: random.Random) -> tuple[float, float]:
        """Draw the lengths of a job's responses; return engine time, and the time of the longest alone.

        The logarithm of a length is normal. The sum of many is nearly normal too, and the longest of n is the
        quantile of the n-th root of a number from 0 to 1.
        """
        deviation = self.tokens * math.sqrt(math.expm1(self.spread**2))
        total = samples * self.tokens + math.sqrt(samples) * deviation * generator.gauss()
        quantile = (1 - generator.random()) ** (1 / samples)
        longest = 1.0
        if self.spread and quantile < 1:
            longest = math.exp(self.spread * _NORMAL.inv_cdf(quantile) - self.spread**2 / 2)
        longest *= self.tokens
        total = max(total, longest)
        return total / self.tokens_per_second, longest / self.sequence_tokens_per_second

    def seconds(self, kind: JobKind) -> float:
        """Return the mean engine time of a sample."""
        return {
            JobKind.SAMPLE: self.tokens / self.tokens_per_second,
            JobKind.VERIFY: self.verify_seconds,
            JobKind.SCORE: self.score_seconds,
        }[kind]


@dataclass(frozen=True)
class Fleet:
    """Workers, and one round for them."""

    workers: int
    samples: int
    engines: Engines
    cores: int  # of the database's host
    shared: bool = False  # workers compute on the same cores
    round_trip: float = 0.0  # seconds from a worker to the database and back
    pre_share: float = 3 / 8
    job_samples: int = 256
    jobs_in_flight: int = 2
    write_seconds: float = sample._BATCH_SECONDS

    @property
    def groups(self) -> dict[tuple[JobKind, ...], int]:
        """How many workers take which kinds: up to three take all, more are divided by the engines' times."""
        if self.workers < len(KINDS) + 1:
            return {KINDS: self.workers}
        need = {
            kind: self.engines.seconds(kind) * (1.0 if kind is JobKind.SAMPLE else HEADROOM) for kind in KINDS
        }
        others = {
            kind: max(1, math.ceil(self.workers * need[kind] / sum(need.values()))) for kind in KINDS[1:]
        }
        groups: dict[tuple[JobKind, ...], int] = {
            (JobKind.SAMPLE,): max(1, self.workers - sum(others.values()))
        }
        return groups | {(kind,): count for kind, count in others.items()}

    def slots(self, kinds: Sequence[JobKind]) -> int:
        """Return how many jobs a worker of these kinds has at once."""
        return self.jobs_in_flight if tuple(kinds) == (JobKind.SAMPLE,) else 1

    @property
    def samplers(self) -> int:
        """How many workers sample."""
        return next(count for kinds, count in self.groups.items() if JobKind.SAMPLE in kinds)

    @property
    def longest(self) -> int:
        """How many samples are simulated job by job."""
        slots = sum(count * self.slots(kinds) for kinds, count in self.groups.items() if KINDS[0] in kinds)
        jobs = min(JOBS_EACH * slots, max(FEWEST_JOBS_EACH * slots, MANY_JOBS))
        return jobs * self.job_samples


@dataclass(slots=True)
class Totals:
    """What a round takes in all; everything is a sum, so that two rounds give a line."""

    samples: float = 0.0
    seconds: float = 0.0
    sampling: float = 0.0  # of engines, in seconds
    verifying: float = 0.0
    scoring: float = 0.0
    server: float = 0.0  # processor seconds of Postgres
    client: float = 0.0
    statements: float = 0.0
    commits: float = 0.0
    flushes: float = 0.0
    wal: float = 0.0
    visits: float = 0.0
    waited: float = 0.0  # seconds that visits waited for a core
    messages: float = 0.0
    stale: float = 0.0  # messages that named a job which another worker had
    stored_messages: float = 0.0  # at the peak
    broker: float = 0.0  # processor seconds
    ending: float = 0.0  # seconds in which one process begins, labels or pairs and all others wait

    def extended(self, half: "Totals", samples: int) -> "Totals":
        """Return the totals of a round of `samples`: on the line through `half` and this round."""
        times = (samples - self.samples) / (self.samples - half.samples)
        return Totals(
            **{
                each.name: getattr(self, each.name)
                + times * (getattr(self, each.name) - getattr(half, each.name))
                for each in fields(self)
            }
        )
