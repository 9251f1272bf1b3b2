"""The tables, with every invariant that a constraint can enforce.

A *round* draws samples for a set of problems from one policy. It belongs to an iteration (its samples are the
training budget) or to an evaluation. Both share the addresses of samples, (round, problem, slot), and so one
sampler, one verifier and one allocator.
"""

from collections.abc import Iterable

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from hsstar.domain.contamination import OverlapKind
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.lifecycle import IterationState, JobKind, JobState
from hsstar.domain.verdict import LASTING_CAUSES, Cause, Verdict

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# a new round is a small part of a large table, and good plans need its statistics
_FRESH_STATISTICS = {"autovacuum_analyze_scale_factor": "0.01"}


def _id() -> Column[int]:
    return Column("id", BigInteger, Identity(), primary_key=True)


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _time(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True))


def _reference(
    name: str, target: str, *, nullable: bool = False, key: bool = False, cascade: bool = True
) -> Column[int]:
    rule = "CASCADE" if cascade else None
    return Column(
        name, BigInteger, ForeignKey(f"{target}.id", ondelete=rule), nullable=nullable, primary_key=key
    )


def _one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    legal = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({legal})", name=f"{column}_known")


datasets = Table(
    "datasets",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    _now("created_at"),
    Column("benchmark", Text, comment="which benchmark it is; null for any other dataset"),
    Column("fingerprint", Text, comment="fingerprint of a benchmark's file"),
    CheckConstraint("(benchmark IS NULL) = (fingerprint IS NULL)", name="benchmark_has_fingerprint"),
)

problems = Table(
    "problems",
    metadata,
    _id(),
    _reference("dataset_id", "datasets"),
    Column("key", Text, nullable=False, comment="identifies the statement by its content"),
    Column("statement", Text, nullable=False),
    Column("reference_answer", Text, nullable=False),
    Column("reference_readable", Boolean, nullable=False, server_default=text("true")),
    Column("solution", Text),
    Column("subject", Text),
    Column("level", Text),
    Column("source_id", Text),
    UniqueConstraint("dataset_id", "key"),
)

problem_overlaps = Table(
    "problem_overlaps",
    metadata,
    _reference("problem_id", "problems", key=True),
    _reference("dataset_id", "datasets", key=True),
    _reference("other_id", "problems"),
    Column("kind", Text, nullable=False),
    _one_of("kind", OverlapKind),
    comment="problems that overlap an evaluation dataset, each with one problem of it as evidence",
)

models = Table(
    "models",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("location", Text, nullable=False, comment="folder, hub name or builtin: name"),
    Column("fingerprint", Text, nullable=False),
    _reference("parent_id", "models", nullable=True, cascade=False),
    _now("created_at"),
    comment="policy checkpoints",
)

reward_models = Table(
    "reward_models",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("location", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    _now("created_at"),
)

runs = Table(
    "runs",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("recipe", JSONB, nullable=False, comment="the complete recipe with every default"),
    Column("seed", BigInteger, nullable=False),
    _reference("model_id", "models", cascade=False),
    _reference("reward_model_id", "reward_models", nullable=True, cascade=False),
    _now("created_at"),
)

rounds = Table(
    "rounds",
    metadata,
    _id(),
    _reference("run_id", "runs"),
    Column("kind", Text, nullable=False),
    Column("number", Integer, nullable=False, comment="of the iteration, or t of the evaluated M_t"),
    _reference("model_id", "models", nullable=True, cascade=False),
    Column(
        "evaluation_key",
        Text,
        nullable=False,
        server_default="",
        comment="names dataset and decoding of an evaluation",
    ),
    UniqueConstraint("run_id", "kind", "number", "evaluation_key"),
    _one_of("kind", ("iteration", "evaluation")),
    CheckConstraint("(kind = 'evaluation') = (evaluation_key <> '')", name="evaluation_has_key"),
)

round_problems = Table(
    "round_problems",
    metadata,
    _reference("round_id", "rounds", key=True),
    _reference("problem_id", "problems", key=True, cascade=False),
    Column("position", Integer, nullable=False, comment="in the run's seeded order"),
    Column("allotment", Integer, nullable=False, comment="samples to draw in the whole round"),
    Column("exclusion", Text, comment="why the problem is excluded; null if it is not"),
    CheckConstraint("allotment >= 0", name="allotment_not_negative"),
    postgresql_with=_FRESH_STATISTICS,
)

iterations = Table(
    "iterations",
    metadata,
    _reference("round_id", "rounds", key=True),
    Column("state", Text, nullable=False, server_default=IterationState.WAITING.value),
    Column("budget", Integer, nullable=False, server_default="0", comment="n · |D_t|"),
    Column("pre_samples", Integer, nullable=False, comment="n_p: slots below it are pre-samples"),
    _reference("output_model_id", "models", nullable=True, cascade=False),
    _now("created_at"),
    _time("started_at"),
    _time("finished_at"),
    _one_of("state", IterationState),
    CheckConstraint("(state = 'done') = (finished_at IS NOT NULL)", name="done_has_time"),
)

evaluations = Table(
    "evaluations",
    metadata,
    _reference("round_id", "rounds", key=True),
    Column("accuracy", Double),
    Column("standard_error", Double),
    _now("created_at"),
    _time("finished_at"),
    _reference("dataset_id", "datasets", cascade=False),
    Column("samples", Integer, nullable=False, comment="per problem, at most"),
    Column("temperature", Double),
    Column("top_p", Double),
    Column("max_new_tokens", Integer),
    CheckConstraint(
        "num_nulls(temperature, top_p, max_new_tokens) IN (0, 3)", name="drawn_or_given_altogether"
    ),
    comment="an evaluation with its decoding, which is null for external responses",
)

jobs = Table(
    "jobs",
    metadata,
    _id(),
    _reference("round_id", "rounds"),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=JobState.QUEUED.value),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("lease_token", Uuid),
    _time("lease_expires_at"),
    Column("worker", Text),
    Column("error", Text),
    Column("traceback", Text),
    _now("created_at"),
    _now("available_at"),
    _time("wakeup_sent_at"),
    _time("started_at"),
    _time("finished_at"),
    _one_of("kind", JobKind),
    _one_of("state", JobState),
    CheckConstraint("(state = 'running') = (lease_token IS NOT NULL)", name="running_has_lease"),
    CheckConstraint("(lease_token IS NULL) = (lease_expires_at IS NULL)", name="lease_has_expiry"),
    CheckConstraint(
        "(state IN ('done', 'failed', 'discarded')) = (finished_at IS NOT NULL)", name="ended_has_time"
    ),
    CheckConstraint("state NOT IN ('failed', 'discarded') OR error IS NOT NULL", name="failed_has_error"),
    Index("ix_jobs_held", "round_id", "kind", postgresql_where=text("state <> 'done'")),
    Index("ix_jobs_live", "state", "kind", postgresql_where=text("state IN ('queued', 'running')")),
    Index("ix_jobs_queued", "id", postgresql_where=text("state = 'queued'")),
)

job_items = Table(
    "job_items",
    metadata,
    _reference("job_id", "jobs", key=True),
    _reference("problem_id", "problems", key=True, cascade=False),
    Column("slots", ARRAY(Integer), nullable=False),
    CheckConstraint("cardinality(slots) > 0", name="slots_not_empty"),
    comment="the samples that a job draws, verifies or scores",
)

samples = Table(
    "samples",
    metadata,
    _id(),
    _reference("round_id", "rounds"),
    _reference("problem_id", "problems", cascade=False),
    Column("slot", Integer, nullable=False),
    Column("verdict", Text),
    Column("cause", Text),
    Column("min_reward", Double),
    Column("tokens", Integer),
    Column("finish_reason", Text),
    Column("cumulative_logprob", Double),
    Column("seed", BigInteger),
    Column("answer", Text),
    _reference("model_id", "models", nullable=True, cascade=False),
    Column("worker", Text),
    _now("created_at"),
    Column("engine", Text, comment="name and version of the engine that drew it"),
    Column("milliseconds", Double),
    UniqueConstraint("round_id", "problem_id", "slot"),
    _one_of("verdict", Verdict),
    _one_of("cause", Cause),
    CheckConstraint("verdict IS NULL OR cause IS NOT NULL", name="verdict_has_cause"),
    CheckConstraint("min_reward BETWEEN 0 AND 1", name="reward_in_range"),
    CheckConstraint("slot >= 0", name="slot_not_negative"),
    # leaves room on each page for the later verdict and minimum reward
    postgresql_with={"fillfactor": "80", **_FRESH_STATISTICS},
)

sample_responses = Table(
    "sample_responses",
    metadata,
    _reference("sample_id", "samples", key=True),
    Column("response", Text, nullable=False),
)

majority_votes = Table(
    "majority_votes",
    metadata,
    _reference("round_id", "rounds", key=True),
    _reference("problem_id", "problems", key=True, cascade=False),
    Column(
        "verdicts",
        Integer,
        nullable=False,
        comment="that the vote covers; it counts while there are no others",
    ),
    Column("correct", Boolean, nullable=False, comment="whether the most frequent answer is"),
    CheckConstraint("verdicts > 1", name="several_verdicts"),
    comment="maj@k of an evaluation, by problem; none where a problem has one sample",
)

known_verdicts = Table(
    "known_verdicts",
    metadata,
    Column("verifier_version", Text, primary_key=True),
    Column(
        "pair_key", LargeBinary, primary_key=True, comment="identifies answer and reference by their content"
    ),
    Column("cause", Text, nullable=False),
    _now("decided_at"),
    _one_of("cause", sorted(LASTING_CAUSES)),
    comment="findings of the algebra, so that no pair is computed twice",
)

rewards = Table(
    "rewards",
    metadata,
    _reference("sample_id", "samples", key=True),
    _reference("reward_model_id", "reward_models", key=True, cascade=False),
    Column("step_rewards", ARRAY(Double), nullable=False),
    Column("truncated", Boolean, nullable=False, server_default=text("false")),
)

difficulty_labels = Table(
    "difficulty_labels",
    metadata,
    _reference("round_id", "rounds", key=True),
    _reference("problem_id", "problems", key=True, cascade=False),
    Column("level", Text, nullable=False),
    Column("accuracy", Double, nullable=False),
    Column("process_quality", Double),
    _now("created_at"),
    _one_of("level", Difficulty),
    postgresql_with=_FRESH_STATISTICS,
)

preference_pairs = Table(
    "preference_pairs",
    metadata,
    _id(),
    _reference("round_id", "rounds"),
    _reference("problem_id", "problems", cascade=False),
    _reference("chosen_sample_id", "samples"),
    _reference("rejected_sample_id", "samples"),
    UniqueConstraint("chosen_sample_id"),
    UniqueConstraint("rejected_sample_id"),
    Index("ix_preference_pairs_round_id_problem_id", "round_id", "problem_id"),
)

training_runs = Table(
    "training_runs",
    metadata,
    _id(),
    _reference("round_id", "rounds"),
    Column("job_id", BigInteger, ForeignKey("jobs.id", ondelete="SET NULL")),
    _reference("model_id", "models", cascade=False),
    _reference("output_model_id", "models", nullable=True, cascade=False),
    Column("objective", Text, nullable=False),
    Column("settings", JSONB, nullable=False),
    Column("pairs", Integer, nullable=False),
    Column("truncated", Integer),
    Column("steps_done", Integer, nullable=False, server_default="0"),
    Column("steps", Integer),
    Column("metrics", JSONB),
    _now("started_at"),
    _time("finished_at"),
    Column(
        "item_ids",
        ARRAY(BigInteger),
        nullable=False,
        server_default=text("'{}'::bigint[]"),
        comment="of preference_pairs, or of samples for supervised fine-tuning",
    ),
    Column("left_out", Integer, comment="items without room for a response"),
    Column("lengths", JSONB, comment="tokens before any cut, by part and quantile"),
    Column("resumed_at", Integer, comment="steps that were done when the last attempt started"),
    Column("log", Text, nullable=False, server_default="", comment="events, a line each"),
    Index("ix_training_runs_round_id", "round_id"),
)

training_steps = Table(
    "training_steps",
    metadata,
    _reference("training_run_id", "training_runs", key=True),
    Column("step", Integer, primary_key=True),
    Column("loss", Double),
    Column("reward_chosen", Double),
    Column("reward_rejected", Double),
    Column("reward_margin", Double),
    Column("reward_accuracy", Double),
    Column("token_accuracy", Double),
    Column("grad_norm", Double),
    Column("learning_rate", Double),
    Column("tokens_per_second", Double),
    _now("recorded_at"),
    comment="a row per optimiser step",
)

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("process", Integer, nullable=False, comment="operating system process id"),
    Column("role", Text, nullable=False, comment="the queues it serves, comma-separated"),
    Column("state", Text, nullable=False),
    Column("jobs_done", Integer, nullable=False, server_default="0"),
    _now("started_at"),
    _now("last_heartbeat"),
    Column("note", Text, comment="the last error of its engine"),
    _time("noted_at"),
    Column("gpu", Text, comment="the GPUs that it may use"),
    Column(
        "tokens_done",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="tokens of the samples that it drew",
    ),
    Column("version", Text, comment="hsstar version that it runs"),
    _time("stop_requested_at"),
    _one_of("state", ("idle", "busy", "stopped")),
)
