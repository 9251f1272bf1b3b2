"""Evaluations on any number of datasets, each with its decoding; benchmarks and what overlaps them."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# until now a run had one evaluation of each policy, on the dataset and with the decoding of its recipe
_FILL = """
    UPDATE evaluations
    SET dataset_id = datasets.id,
        samples = CAST(recipe -> 'evaluation' ->> 'samples' AS integer),
        temperature = CAST(recipe -> 'evaluation' ->> 'temperature' AS double precision),
        top_p = CAST(recipe -> 'evaluation' ->> 'top_p' AS double precision),
        max_new_tokens = CAST(recipe -> 'evaluation' ->> 'max_new_tokens' AS integer)
    FROM rounds
    JOIN runs ON runs.id = rounds.run_id
    JOIN datasets ON datasets.name = recipe -> 'evaluation' ->> 'dataset'
    WHERE rounds.id = evaluations.round_id
"""


def upgrade() -> None:
    op.add_column(
        "datasets",
        sa.Column("benchmark", sa.Text(), comment="which benchmark it is; null for any other dataset"),
    )
    op.add_column(
        "datasets", sa.Column("fingerprint", sa.Text(), comment="names the content of a benchmark's file")
    )
    op.create_check_constraint(
        op.f("ck_datasets_benchmark_has_fingerprint"),
        "datasets",
        "(benchmark IS NULL) = (fingerprint IS NULL)",
    )
    op.create_table(
        "problem_overlaps",
        sa.Column("problem_id", sa.BigInteger(), nullable=False),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("other_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('exact', '13-gram')", name=op.f("ck_problem_overlaps_kind_known")),
        sa.ForeignKeyConstraint(
            ["problem_id"], ["problems.id"], name=op.f("fk_problem_overlaps_problem_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_problem_overlaps_dataset_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["other_id"], ["problems.id"], name=op.f("fk_problem_overlaps_other_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("problem_id", "dataset_id", name=op.f("pk_problem_overlaps")),
        comment="problems that overlap a dataset of evaluations, each with one problem that shows it",
    )
    _extend_rounds()
    _extend_evaluations()
    op.execute(Path(__file__).with_name("0007_views.sql").read_text(encoding="utf-8"))


def _extend_rounds() -> None:
    op.add_column(
        "rounds",
        sa.Column(
            "measure", sa.Text(), nullable=False, server_default="", comment="what an evaluation measures"
        ),
    )
    op.execute("UPDATE rounds SET measure = 'heldout' WHERE kind = 'evaluation'")
    op.drop_constraint("uq_rounds_run_id_kind_number", "rounds")
    op.create_unique_constraint(
        op.f("uq_rounds_run_id_kind_number_measure"), "rounds", ["run_id", "kind", "number", "measure"]
    )
    op.create_check_constraint(
        op.f("ck_rounds_evaluation_has_measure"), "rounds", "(kind = 'evaluation') = (measure <> '')"
    )


def _extend_evaluations() -> None:
    op.add_column("evaluations", sa.Column("dataset_id", sa.BigInteger()))
    op.add_column("evaluations", sa.Column("samples", sa.Integer(), comment="per problem, at most"))
    op.add_column("evaluations", sa.Column("temperature", sa.Double()))
    op.add_column("evaluations", sa.Column("top_p", sa.Double()))
    op.add_column("evaluations", sa.Column("max_new_tokens", sa.Integer()))
    op.execute(_FILL)
    op.alter_column("evaluations", "dataset_id", nullable=False)
    op.alter_column("evaluations", "samples", nullable=False)
    op.create_foreign_key(
        op.f("fk_evaluations_dataset_id"), "evaluations", "datasets", ["dataset_id"], ["id"]
    )
    op.create_check_constraint(
        op.f("ck_evaluations_drawn_or_given_altogether"),
        "evaluations",
        "num_nulls(temperature, top_p, max_new_tokens) IN (0, 3)",
    )
    op.create_table_comment("evaluations", "the decoding stands here; it is null where responses were given")


def downgrade() -> None:
    op.execute("DROP VIEW evaluation_results")
    _restore_view("iteration_statistics")
    # rounds of further benchmarks have no place in the older schema
    op.execute("DELETE FROM rounds WHERE kind = 'evaluation' AND measure <> 'heldout'")
    op.drop_table_comment("evaluations")
    op.drop_constraint(op.f("ck_evaluations_drawn_or_given_altogether"), "evaluations")
    for column in ("max_new_tokens", "top_p", "temperature", "samples", "dataset_id"):
        op.drop_column("evaluations", column)
    op.drop_constraint(op.f("ck_rounds_evaluation_has_measure"), "rounds")
    op.drop_constraint(op.f("uq_rounds_run_id_kind_number_measure"), "rounds")
    op.drop_column("rounds", "measure")
    op.create_unique_constraint("uq_rounds_run_id_kind_number", "rounds", ["run_id", "kind", "number"])
    op.drop_table("problem_overlaps")
    op.drop_column("datasets", "fingerprint")
    op.drop_column("datasets", "benchmark")


def _restore_view(view: str) -> None:
    first = Path(__file__).with_name("0001_views.sql").read_text(encoding="utf-8")
    begin = first.index(f"CREATE VIEW {view} AS")
    op.execute(f"DROP VIEW {view}")
    op.execute(first[begin : first.index(";", begin)])
