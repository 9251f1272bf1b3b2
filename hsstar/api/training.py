"""Training from a file, without a database, as `hsstar train` does it."""

from pathlib import Path
from typing import Any, Literal

from hsstar.commands.train import FileTrainingReport, file_training, train_from_file
from hsstar.data.bad_rows import BadRows
from hsstar.recipe.base import parse_section
from hsstar.recipe.documents import merged
from hsstar.recipe.recipe import load_recipe
from hsstar.recipe.training import InitialisationSection, OptimisationSection, TrainingSection
from hsstar.settings import Settings


def train(
    kind: Literal["init", "sft", "dpo", "kto"],
    data: str | Path,
    model: str | Path,
    output: str | Path,
    *,
    recipe: str | Path | None = None,
    prompt: str | None = None,
    seed: int | None = None,
    skip_bad: int = 0,
    **changes: Any,
) -> FileTrainingReport:
    """Train a policy on solutions (`init`), responses (`sft`), pairs (`dpo`) or judged ones (`kto`).

    `output` is the folder of the new checkpoint. The settings are those of the recipe's table
    `initialisation` or `training`, with `changes` of its keys, as in `beta=0.2`. The same call continues
    after an interruption. Raise BadInputError for what is no data, CheckpointError for what is no policy,
    ConflictError if the folder holds something else.
    """
    loaded = load_recipe(Path(recipe), {} if seed is None else {"seed": seed}) if recipe is not None else None
    section: OptimisationSection
    if kind == "init":
        section = loaded.initialisation if loaded else InitialisationSection()
    else:
        section = loaded.training if loaded else TrainingSection()
    if kind == "kto":
        changes["objective"] = kind
    request = file_training(
        "sft" if kind == "init" else kind,
        str(data),
        str(model),
        Path(output),
        parse_section(type(section), merged(section.model_dump(), changes), "changes"),
        "initialise" if kind == "init" else "train",
        recipe=loaded,
        recipe_text=Path(recipe).read_text(encoding="utf-8") if recipe is not None else None,
        prompt=prompt,
        seed=seed,
        bad=BadRows(skip_bad),
    )
    return train_from_file(request, Settings.from_environment())
