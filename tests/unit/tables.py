"""The tables of examples beside the tests: of each module, by name."""

import json
from pathlib import Path
from typing import Any


def tables(module: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = json.loads(Path(__file__).with_name(f"{module}.json").read_text("utf-8"))
    return found
