"""Addresses of rounds and samples read back as they are written, whatever the names in them."""

import pytest

from hsstar.domain.addresses import RoundAddress, SampleAddress
from hsstar.domain.errors import BadInputError


@pytest.mark.parametrize(
    ("text", "run", "measure", "number"),
    [
        ("demo/0", "demo", "iteration", 0),
        ("a+b.c-d/12", "a+b.c-d", "iteration", 12),
        ("demo/heldout@3", "demo", "heldout", 3),
        ("demo/gsm8k, avg@8 at 0.6/0.95@1", "demo", "gsm8k, avg@8 at 0.6/0.95", 1),
    ],
)
def test_addresses_read_back_as_written(text: str, run: str, measure: str, number: int) -> None:
    round_ = RoundAddress.parse(text)
    assert (round_, str(round_)) == (RoundAddress(run, measure, number), text)
    sample = SampleAddress.parse(f"{text}/17/3")
    assert (sample, str(sample)) == (SampleAddress(round_, 17, 3), f"{text}/17/3")


@pytest.mark.parametrize(
    "text", ["", "demo", "demo/", "/0", "demo/x", "demo/-1", "demo/@1", "demo/²", "demo/1 "]
)
def test_what_is_no_address_of_a_round_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="is no address of a round; expected RUN/ITERATION"):
        RoundAddress.parse(text)


@pytest.mark.parametrize(
    "text", ["", "demo/0", "demo/0/1", "demo/0/1/x", "demo/0//3", f"demo/0/1/{'9' * 30}"]
)
def test_what_is_no_address_of_a_sample_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="is no address of a"):
        SampleAddress.parse(text)
