"""From a registered policy or reward model to the folder that holds its weights."""

from pathlib import Path

from hsstar.checkpoints.resolve import fingerprint, resolve
from hsstar.domain.errors import CheckpointError
from hsstar.store import models


def checkpoint_of(registered: models.Model | models.RewardModel) -> Path:
    """The folder of a policy or reward model, whose content has to be what was registered.

    Raises:
        CheckpointError: it is gone, or holds other weights by now.
    """
    folder = resolve(registered.location)
    if fingerprint(folder) != registered.fingerprint:
        raise CheckpointError(
            f"{registered.location} no longer holds the weights that were registered as {registered.name!r}; "
            "put them back, or create a new run"
        )
    return folder
