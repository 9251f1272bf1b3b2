"""Checks of your own verifiers, reward models, samplers and allocation policies: call them in a test.

    from hsstar.testing import check_sampler

    def test_my_sampler() -> None:
        check_sampler(MySampler("models/m0", device="cpu", dtype="auto", batch_size=8), ["1+1=", "2*3="])

They are the checks by which hsstar tests its own. Each returns nothing, and raises BrokenPromiseError, an
AssertionError, whose text names the promise of the contract that is broken.
"""

from hsstar.testing.policy import check_policy
from hsstar.testing.promises import BrokenPromiseError
from hsstar.testing.reward_model import check_reward_model
from hsstar.testing.sampler import check_sampler
from hsstar.testing.verifier import check_verifier

__all__ = ["BrokenPromiseError", "check_policy", "check_reward_model", "check_sampler", "check_verifier"]
