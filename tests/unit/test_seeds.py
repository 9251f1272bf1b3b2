"""Seeds: derived from the run's seed and an address, so they can be derived again and never repeat."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.seeds import derived_seed, evaluation_seed, shuffle_key, slot_seed

PROBLEM = "0123456789abcdef0123456789abcdef"


def test_a_seed_is_the_same_on_every_machine_and_in_every_release() -> None:
    """A change here changes every run that was ever stored."""
    assert slot_seed(0, 0, PROBLEM, 0) == 1_309_411_703_537_824_601
    assert slot_seed(7, 2, PROBLEM, 5) == 4_337_977_124_985_788_392
    assert evaluation_seed(0, 0, PROBLEM, 0) == 7_232_893_516_461_671_599
    assert evaluation_seed(7, 2, PROBLEM, 5) == 4_482_457_490_229_492_076
    assert derived_seed(7, "study", 1, "x") == 6_567_036_019_023_970_958
    assert shuffle_key(7, "slice", PROBLEM) == sha256(f"7:slice:{PROBLEM}".encode()).digest()


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
