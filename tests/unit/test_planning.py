"""What a run takes, against values worked out by hand for the paper's run."""

import pytest

from hsstar.checkpoints.size import ModelSize
from hsstar.domain.allocation.budget import Budget
from hsstar.plan import arithmetic
from hsstar.plan.arithmetic import SamplePlan, plan_samples, plan_tokens
from hsstar.plan.forecast import UserFigures, make_forecast
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.store.read.throughput import Throughput

PAPER = plan_samples(Budget(8, 3), 7500, iterations=3, policies=4, evaluation_samples=500)


def recipe(**sections: object) -> Recipe:
    document = {
        "name": "r",
        "problems": {"dataset": "d", "per_iteration": 100},
        "policy": {"model": "m"},
        "reward": {"model": "p"},
    }
    return parse_recipe(document | sections)


def test_the_papers_run_draws_60_000_samples_an_iteration() -> None:
    assert (PAPER.pre_samples, PAPER.re_samples) == (22_500, 37_500)
    assert PAPER.training == 180_000
    assert PAPER.evaluation == 4 * 500


def test_held_out_problems_that_cannot_be_counted_stay_unknown() -> None:
    unknown = plan_samples(Budget(8, 3), 10, iterations=1, policies=2, evaluation_samples=None)
    assert unknown.evaluation is None
    none = plan_samples(Budget(8, 3), 10, iterations=1, policies=0, evaluation_samples=None)
    assert none.evaluation == 0


def test_tokens_are_those_of_responses() -> None:
    tokens = plan_tokens(PAPER, 600, scored=True, pairs_per_sample=0.1, epochs=1)
    assert tokens.sampled == tokens.scored == 108e6
    assert tokens.evaluated == 1.2e6
    assert tokens.trained == pytest.approx(180_000 * 0.1 * 2 * 600)
    assert plan_tokens(PAPER, 600, scored=False, pairs_per_sample=0, epochs=1).scored == 0
    assert plan_tokens(PAPER, 600, scored=True, pairs_per_sample=0.1, epochs=2).trained == 43.2e6


def test_hours_are_tokens_by_speed() -> None:
    assert arithmetic.hours(108e6, 3000) == 10


def test_memory_of_training_is_16_bytes_a_parameter_and_the_reference() -> None:
    # 7.6 billion parameters: 16 bytes of weights, gradients and moments, 2 of the bfloat16 reference
    assert arithmetic.full_training_bytes(7_600_000_000, 2, 1) == pytest.approx(136.8e9)
    assert arithmetic.full_training_bytes(7_600_000_000, 2, 8) == pytest.approx(17.1e9)
    zero_2 = arithmetic.full_training_bytes(7_600_000_000, 2, 8, weights_shared=False)
    assert zero_2 == pytest.approx(7.6e9 * (6 + 12 / 8))
    assert arithmetic.weight_bytes(7_600_000_000, 2) == pytest.approx(15.2e9)
    assert arithmetic.weight_bytes(7_600_000_000, 2, 2) == pytest.approx(7.6e9)


def test_rows_take_their_fixed_part_and_their_text() -> None:
    one = SamplePlan(1, 0, 1, 0, None)
    assert arithmetic.database_bytes(one, 100) == arithmetic.SAMPLE_ROW_BYTES + 450


def test_given_figures_go_before_measured_ones_and_these_before_assumptions() -> None:
    measured = Throughput(50.0, 0.2, 1000.0, None, None)
    found = make_forecast(
        recipe(), 2, UserFigures(tokens_per_sample=40), measured, None, {}, gpu=True
    ).figures
    assert (found["tokens per sample"].value, found["tokens per sample"].source) == (40, "given")
    assert found["pairs per sample"].value == 0.2
    assert found["sampling speed"].source == "measured in earlier runs of m"
    assert found["scoring speed"].value is None
    assert "--scoring-tokens-per-second" in found["scoring speed"].source
    bare = make_forecast(recipe(), 2, UserFigures(), None, None, {}, gpu=True).figures
    assert bare["tokens per sample"].value == 512
    assert bare["tokens per sample"].source.startswith("assumed: 25% of max_new_tokens")


def test_hours_and_disk_follow_from_the_figures() -> None:
    given = UserFigures(100, 0.1, 1000, 2000, 500)
    evaluated = recipe(evaluation={"dataset": "e", "problems": 50})
    found = make_forecast(evaluated, 2, given, None, ModelSize(None, 10**9, True), {"e": 80}, gpu=True)
    # 2 × 800 samples × 100 tokens; 3 policies × 50 problems; 160 pairs × 2 responses
    assert found.hours == pytest.approx(
        {
            "sampling": 160_000 / 1000 / 3600,
            "evaluation": 15_000 / 1000 / 3600,
            "scoring": 160_000 / 2000 / 3600,
            "training": 32_000 / 500 / 3600,
        }
    )
    assert found.known_hours == pytest.approx(sum(filter(None, found.hours.values())))
    assert found.checkpoint_bytes == 2 * 2 * 10**9
    assert found.intermediate_bytes == 2 * 12 * 10**9


def test_benchmarks_are_measured_by_their_protocol() -> None:
    seven = ["gsm8k", "math500", "minerva_math", "olympiadbench", "college_math", "aime24", "amc23"]
    found = make_forecast(
        recipe(evaluation={"benchmarks": seven}), 3, UserFigures(), None, None, {}, gpu=True
    )
    assert found.samples.evaluation_samples == 1319 + 500 + 272 + 675 + 2818 + 32 * (30 + 40)
    assert found.samples.policies == 4
    of_mine = recipe(evaluation={"dataset": "e", "benchmarks": ["gsm8k", "mine"]})
    assert (
        make_forecast(of_mine, 1, UserFigures(), None, None, {"e": 10}, gpu=True).samples.evaluation_samples
        is None
    )
    known = make_forecast(of_mine, 1, UserFigures(), None, None, {"e": 10, "mine": 5}, gpu=True).samples
    assert known.evaluation_samples == 1319 + 15


def test_a_run_without_training_makes_no_policy() -> None:
    silent = recipe(training={"objective": "none"}, evaluation={"dataset": "e"})
    found = make_forecast(
        silent, 3, UserFigures(100), None, ModelSize(None, 10**9, True), {"e": 80}, gpu=True
    )
    assert found.samples.policies == 1
    assert found.tokens.trained == 0
    assert found.hours["training"] == 0
    assert found.checkpoint_bytes == found.intermediate_bytes == 0


def test_what_is_trained_on_correct_samples_alone_is_not_foreseen() -> None:
    given = UserFigures(100, training_speed=100)
    found = make_forecast(recipe(training={"objective": "sft"}), 1, given, None, None, {}, gpu=True)
    assert found.tokens.trained is None
    assert found.hours["training"] is None


def test_adapters_and_trainings_without_intermediate_checkpoints_need_no_room_for_them() -> None:
    size = ModelSize(None, 10**9, True)
    for training in ({"lora_rank": 8}, {"save_every_steps": 0}):
        found = make_forecast(recipe(training=training), 1, UserFigures(), None, size, {}, gpu=True)
        assert found.intermediate_bytes == 0


def test_uniform_sampling_re_samples_nothing() -> None:
    found = make_forecast(
        recipe(sampling={"strategy": "uniform"}), 1, UserFigures(), None, None, {}, gpu=True
    )
    assert (found.samples.pre_samples, found.samples.re_samples) == (800, 0)
