"""Seeds: every random choice follows from the run's seed and an address, so it can be repeated."""

import hashlib

Part = str | int


def shuffle_key(seed: int, purpose: str, *parts: Part) -> bytes:
    """Return the sort key of an item in the seeded shuffle named `purpose`.

    SQL computes the same bytes: `sha256(convert_to(concat_ws(':', seed, purpose, …), 'UTF8'))`.
    """
    return hashlib.sha256(":".join(map(str, (seed, purpose, *parts))).encode()).digest()


def derived_seed(seed: int, purpose: str, *parts: Part) -> int:
    """Return a seed in [0, 2**63) for the named purpose and address."""
    return int.from_bytes(shuffle_key(seed, purpose, *parts)[:8], "big") >> 1


def slot_seed(seed: int, iteration: int, problem_key: str, slot: int) -> int:
    """Return the seed of one sample of an iteration."""
    return derived_seed(seed, "sample", iteration, problem_key, slot)


def source_seed(seed: int, source: str, iteration: int, problem_key: str, slot: int) -> int:
    """Return the seed of one sample of an iteration that a source draws."""
    return derived_seed(seed, "source", source, iteration, problem_key, slot)


def continuation_seed(seed: int, iteration: int, problem_key: str, slot: int) -> int:
    """Return the seed of one continuation of a prefix of an iteration's response."""
    return derived_seed(seed, "continue", iteration, problem_key, slot)


def evaluation_seed(seed: int, model: int, problem_key: str, slot: int) -> int:
    """Return the seed of one sample of an evaluation of the policy M_`model`."""
    return derived_seed(seed, "evaluate", model, problem_key, slot)
