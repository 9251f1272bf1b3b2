"""`hsstar evaluate`: benchmarks are brought in, and policies measured on them.

An evaluation of this kind has a run of its own, without training problems: its name is derived from all
that decides its samples, so that the same wish finds the same run, and nothing is drawn twice.
"""

from collections.abc import Sequence

from hsstar.checkpoints.resolve import check_policy
from hsstar.commands.benchmarks import check_benchmark
from hsstar.commands.evaluation_run import Started, ensure_run, evaluation_recipe
from hsstar.commands.external_responses import find_given, given_results
from hsstar.commands.models import check_recipe_policy
from hsstar.recipe.evaluation import BenchmarkSection
from hsstar.recipe.policy import PolicySection
from hsstar.store import evaluations, models
from hsstar.store.database import Database, lock_run


def check_measurable(database: Database, name: str) -> None:
    """Refuses early what is neither a policy nor the name of given responses.

    Raises:
        CheckpointError: the checkpoint is missing, broken or no policy.
    """
    with database.begin() as connection:
        known = {model.name: model.location for model in models.list_models(connection)}
        given = find_given(connection, name)
    if given is None:
        check_policy(known.get(name, name))


def start_evaluation(
    database: Database, policy: PolicySection, benchmarks: Sequence[BenchmarkSection], seed: int
) -> Started:
    """The run that measures a policy on these benchmarks; what it lacks is added, the workers do the rest.

    Raises:
        CheckpointError: the policy is missing or broken, or has no chat template to use.
        NotFoundError: a benchmark has not been imported, or the policy is known by given responses alone.
        BadInputError: the engine does not know an option, or a dataset holds no problems.
    """
    with database.begin() as connection:
        given = find_given(connection, policy.model)
    if given is not None:
        return given_results(database, given, benchmarks)
    checked = check_recipe_policy(database, policy)
    with database.begin() as connection:
        model = models.register_model(connection, checked.name, checked.location, checked.fingerprint)
        recipe = evaluation_recipe(policy, model, seed)
        run = ensure_run(connection, recipe, model)
        lock_run(connection, run.id)
        for each in benchmarks:
            check_benchmark(connection, each)
            evaluations.ensure_benchmark(connection, run, 0, model.id, each)
    return Started(run, model.name, tuple((each.name, each.evaluation_key) for each in benchmarks))
