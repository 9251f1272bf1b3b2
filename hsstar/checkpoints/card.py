"""The README of a checkpoint: its history, for people and for the Hugging Face hub."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsstar import __version__
from hsstar.domain.rounding import NO_UPDATE, SampledUpdate


@dataclass(frozen=True, slots=True)
class Score:
    """The accuracy in [0, 1] of a policy on a held-out dataset, and its standard error."""

    dataset: str
    accuracy: float
    error: float

    def __str__(self) -> str:
        return f"{self.dataset} {self.accuracy:.3f} ± {self.error:.3f}"


@dataclass(frozen=True, slots=True)
class CardEntry:
    """The origin of one policy; `parent` and `objective` are None if it was registered as it is."""

    name: str
    made: str
    parent: str | None = None
    objective: str | None = None
    recipe: str | None = None
    settings: Mapping[str, Any] | None = None
    scores: Sequence[Score] = field(default_factory=tuple)
    update: SampledUpdate = NO_UPDATE
    measures: Mapping[str, str] = field(default_factory=dict)  # of a reward model, on held-out problems


def card(chain: Sequence[CardEntry], base: str) -> str:
    """Return the README of the last policy of a chain of parents; `base` names the first one's origin."""
    last = chain[-1]
    parts = [
        _front_matter(last, base),
        f"# {last.name}\n\nWritten by hsstar {__version__} (HS-STaR, arXiv 2505.19866). {last.name} was made "
        f"{last.made}.",
        _table(chain),
    ]
    if last.update.whole:
        parts.append(_rounding(last.update))
    if last.measures:
        lines = [
            "| on held-out problems | |",
            "|---|---|",
            *(f"| {key} | {value} |" for key, value in last.measures.items()),
        ]
        parts.append("\n".join(["## How good it is", "", *lines]))
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
    for entry in chain:
        scores = ", ".join(map(str, entry.scores)) or "–"
        rows.append(f"| {entry.name} | {entry.parent or '–'} | {entry.made} | {scores} |")
    return "\n".join(["## How it came to be", "", *rows])


def _rounding(update: SampledUpdate) -> str:
    rows = [
        f"| {row.format} | {row.changed:.1%} | {_share(row.kept)} | {_share(row.cosine)} |"
        for row in update.whole
    ]
    parts = [
        "## What rounding keeps",
        f"The update of the weights has the norm {update.norm:.4g}.",
        "\n".join(["| format | weights changed | update kept | cosine |", "|---|---|---|---|", *rows]),
    ]
    warning = [f"The policy: {update.warning}."] if update.warning else []
    return "\n\n".join([*parts, *warning])


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _block(title: str, text: str, language: str) -> str:
    return f"## {title}\n\n```{language}\n{text}\n```"
