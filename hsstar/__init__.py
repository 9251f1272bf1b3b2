"""HS-STaR as a data-centric job queue: problems in, a better model out.

    import hsstar

    db = hsstar.connect()
    db.run("demo").samples(iteration=1, verdict="correct").to_pandas()

The names are imported when they are first used, so `import hsstar` takes milliseconds. `__init__.pyi` says
their types.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "Client": "hsstar.api.client",
    "connect": "hsstar.api.client",
    "upgrade": "hsstar.api.client",
    "split_solutions": "hsstar.api.data",
    "write_demo_problems": "hsstar.api.data",
    "EvaluationHandle": "hsstar.api.evaluation",
    "check_recipe": "hsstar.api.recipes",
    "prompt": "hsstar.api.recipes",
    "prompt_templates": "hsstar.api.recipes",
    "RunHandle": "hsstar.api.run",
    "Rows": "hsstar.api.selection",
    "Selection": "hsstar.api.selection",
    "train": "hsstar.api.training",
    "explain": "hsstar.api.verification",
    "verify": "hsstar.api.verification",
    "examine_installation": "hsstar.doctor.installation",
    "BadInputError": "hsstar.domain.errors",
    "ConflictError": "hsstar.domain.errors",
    "DatabaseError": "hsstar.domain.errors",
    "HeldError": "hsstar.domain.errors",
    "HsstarError": "hsstar.domain.errors",
    "MissingDependencyError": "hsstar.domain.errors",
    "NotFoundError": "hsstar.domain.errors",
    "recipe_schema": "hsstar.recipe.schema",
    "ProblemFilter": "hsstar.store.read.problems",
    "SampleFilter": "hsstar.store.read.samples",
}
"""Where a public name is."""

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hsstar' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
