"""What a check says of a contract that is not kept, and texts that no plug-in may stumble over."""

HOSTILE_TEXTS = (
    "",
    " \n\t",
    "\0",
    "\ud800",
    "\u202e1+1\u202c",
    "\x1b[31m7\x1b[0m",
    "{" * 5_000,
    "\\frac{" * 500,
    "𝟕" * 300,
    "9" * 50_000,
    "<think>" * 200,
    "\\boxed{" * 200 + "7",
)
"""Empty, unpaired, deep, long or misleading; a model can write each of them."""


class BrokenPromiseError(AssertionError):
    """A plug-in does not do what its contract promises; the text names the promise."""


def demand(kept: bool, promise: str, seen: object = None) -> None:
    """Raise BrokenPromiseError if a promise is not kept, with what was seen instead."""
    if not kept:
        shown = "" if seen is None else f"; seen: {str(seen)[:300]}"
        raise BrokenPromiseError(f"{promise}{shown}")
