"""Seeds: derived from the run's seed and an address, so they can be derived again and never repeat."""

from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.seeds import derived_seed, evaluation_seed, shuffle_key, slot_seed

PROBLEM = "0123456789abcdef0123456789abcdef"


def test_a_seed_is_the_same_on_every_machine() -> None:
    """A change here changes every run that was ever stored."""
    assert slot_seed(0, 0, PROBLEM, 0) == 1_309_411_703_537_824_601
    assert shuffle_key(7, "slice", PROBLEM).hex()[:16] == "f61f18f1d0e3b9a8"


def test_every_slot_has_a_seed_of_its_own() -> None:
    addresses = [
        (seed, iteration, f"{problem:032x}", slot)
        for seed in range(3)
        for iteration in range(3)
        for problem in range(40)
        for slot in range(40)
    ]
    seeds = {slot_seed(*address) for address in addresses}
    held_out = {evaluation_seed(*address) for address in addresses}
    assert len(seeds) == len(held_out) == len(addresses)
    assert not seeds & held_out


@given(
    st.integers(0, 2**31 - 1), st.text(max_size=10), st.lists(st.one_of(st.integers(), st.text()), max_size=3)
)
def test_a_seed_fits_a_signed_64_bit_integer(seed: int, purpose: str, parts: list[int | str]) -> None:
    assert 0 <= derived_seed(seed, purpose, *parts) < 2**63
