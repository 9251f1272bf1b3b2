"""Spans: how a process tells of the parts of its work where somebody traces it; by default nobody does."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

OpenSpan = Callable[..., AbstractContextManager[None]]
"""Opens a span of this name, with attributes as keywords; it is below the one that is open in the thread."""


def no_span(name: str, **attributes: str | int) -> AbstractContextManager[None]:
    """Open nothing."""
    return nullcontext()
