"""Seeds and keys, derived from an address or a text: the same in every release; and stored text."""

from hashlib import sha256
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.seeds import derived_seed, evaluation_seed, shuffle_key, slot_seed
from hsstar.domain.text import content_key, storable

PROBLEM = "0123456789abcdef0123456789abcdef"
any_text = st.text(st.characters(exclude_categories=()))
parts = st.lists(st.integers() | st.text(), max_size=3)


def test_seeds_and_keys_are_the_same_on_every_machine_and_in_every_release() -> None:
    """A change here changes every run that was ever stored."""
    assert slot_seed(0, 0, PROBLEM, 0) == 1_309_411_703_537_824_601
    assert slot_seed(7, 2, PROBLEM, 5) == 4_337_977_124_985_788_392
    assert evaluation_seed(0, 0, PROBLEM, 0) == 7_232_893_516_461_671_599
    assert evaluation_seed(7, 2, PROBLEM, 5) == 4_482_457_490_229_492_076
    assert derived_seed(7, "study", 1, "x") == 6_567_036_019_023_970_958
    assert shuffle_key(7, "slice", PROBLEM) == sha256(f"7:slice:{PROBLEM}".encode()).digest()
    assert content_key("What is\n $1 + 1$?") == "ec9717030f96054c6821e7f9a2db44e3"


def test_every_slot_has_a_seed_of_its_own() -> None:
    problems = (f"{problem:032x}" for problem in range(40))
    addresses = list(product(range(3), range(3), problems, range(40)))
    seeds = {slot_seed(*address) for address in addresses}
    held_out = {evaluation_seed(*address) for address in addresses}
    assert len(seeds | held_out) == 2 * len(addresses)


@given(st.integers(0, 2**31 - 1), st.text(max_size=10), parts)
def test_a_seed_fits_a_signed_64_bit_integer(seed: int, purpose: str, parts: list[int | str]) -> None:
    assert 0 <= derived_seed(seed, purpose, *parts) < 2**63


@given(any_text)
def test_stored_text_is_valid_and_nothing_else_is_changed(text: str) -> None:
    stored = storable(text)
    stored.encode("utf-8")
    replaced = ("\ufffd" if char == "\x00" or "\ud800" <= char <= "\udfff" else char for char in text)
    assert stored == "".join(replaced)
    assert storable(stored) == stored


@given(any_text)
def test_every_text_has_a_key(text: str) -> None:
    key = content_key(text)
    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")


def test_white_space_does_not_make_another_problem() -> None:
    assert content_key(" What is\n 1 + 1? ") == content_key("What is 1 + 1?")
    assert content_key("What is 1 + 1?") != content_key("What is 1+1?")
