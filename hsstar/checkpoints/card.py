"""The README of a checkpoint: how it came to be, in a form that people and the Hugging Face hub read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsstar import __version__


@dataclass(frozen=True, slots=True)
class Score:
    """How a policy did on held-out problems.

    Attributes:
        dataset: the problems.
        accuracy: in [0, 1].
        error: its standard error.
    """

    dataset: str
    accuracy: float
    error: float

    def __str__(self) -> str:
        return f"{self.dataset} {self.accuracy:.3f} ± {self.error:.3f}"


@dataclass(frozen=True, slots=True)
class CardEntry:
    """Where a policy comes from.

    Attributes:
        name: of the policy.
        made: how, in a few words.
        parent: the policy that it was trained from; None where it was not trained here.
        objective: `dpo` or `sft`; None likewise.
        recipe: the recipe as text.
        settings: what the trainer was told.
    """

    name: str
    made: str
    parent: str | None = None
    objective: str | None = None
    recipe: str | None = None
    settings: Mapping[str, Any] | None = None
    scores: Sequence[Score] = field(default_factory=tuple)


def card(chain: Sequence[CardEntry], base: str) -> str:
    """The README of the last policy of a chain.

    Args:
        chain: from the first policy to the one that the card is about, each the parent of the next.
        base: the checkpoint that the first one is or was made from, as the user named it.
    """
    last = chain[-1]
    parts = [
        _front_matter(last, base),
        f"# {last.name}\n\nWritten by hsstar {__version__} (HS-STaR, arXiv 2505.19866). {last.name} was made "
        f"{last.made}.",
        _table(chain),
    ]
    if last.settings:
        parts.append(_block("Training settings", json.dumps(dict(last.settings), indent=2), "json"))
    if last.recipe:
        parts.append(_block("Recipe", last.recipe.strip(), "json" if last.recipe.startswith("{") else "toml"))
    return "\n\n".join(parts) + "\n"


def _front_matter(last: CardEntry, base: str) -> str:
    tags = ["hsstar", *([last.objective] if last.objective else [])]
    lines = ["library_name: transformers", f"base_model: {json.dumps(base)}", f"tags: [{', '.join(tags)}]"]
    return "\n".join(["---", *lines, "---"])


def _table(chain: Sequence[CardEntry]) -> str:
    rows = ["| policy | from | made | held-out accuracy |", "|---|---|---|---|"]
    for origin in chain:
        scores = ", ".join(map(str, origin.scores)) or "–"
        rows.append(f"| {origin.name} | {origin.parent or '–'} | {origin.made} | {scores} |")
    return "\n".join(["## How it came to be", "", *rows])


def _block(title: str, text: str, language: str) -> str:
    return f"## {title}\n\n```{language}\n{text}\n```"
