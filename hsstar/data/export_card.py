"""The README of exported rows on the Hugging Face hub: what they are and what they come from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from hsstar import __version__


@dataclass(frozen=True, slots=True)
class ExportCard:
    """A card whose front matter names the files of the data set, a configuration each."""

    text: str

    def with_files(self, files: Sequence[str]) -> str:
        """Return the README of a data set of these files."""
        lines = ["---", "tags: [hsstar, math]", "configs:"]
        for file in files:
            lines += [f"- config_name: {PurePosixPath(file).stem}", f"  data_files: {json.dumps(file)}"]
        return "\n".join([*lines, "---", "", self.text])


def export_card(
    repository: str,
    exported: str,
    origin: str | None,
    layout: str,
    rows: int,
    recipe: Mapping[str, Any] | None,
) -> ExportCard:
    """Return the card of exported rows; `origin` is the run or dataset (None: all runs)."""
    kind = "dataset" if exported == "problems" else "run"
    source = f"the {kind} {origin}" if origin is not None else "all runs"
    parts = [
        f"# {repository}",
        f"{rows} {exported} of {source}, in the layout `{layout}`, written by hsstar {__version__} (HS-STaR, "
        "arXiv 2505.19866).",
    ]
    if recipe is not None:
        parts.append(f"## Recipe\n\n```json\n{json.dumps(recipe, indent=2, ensure_ascii=False)}\n```")
    return ExportCard("\n\n".join(parts) + "\n")
