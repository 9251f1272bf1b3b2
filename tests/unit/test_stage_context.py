"""Samples are attributed to the weights that made them, or not drawn."""

import pytest

from hsstar.checkpoints.resolve import fingerprint, resolve
from hsstar.domain.errors import CheckpointError
from hsstar.store.models import Model, checkpoint_of

POLICY = "builtin:demo-policy"


def test_a_registered_policy_is_found() -> None:
    assert checkpoint_of(Model(1, "M0", POLICY, fingerprint(POLICY), None)) == resolve(POLICY)


def test_a_place_that_holds_other_weights_by_now_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no longer holds the weights that were registered as 'M0'"):
        checkpoint_of(Model(1, "M0", POLICY, "of other weights", None))
