"""Writes studio/generated/golden/<subject>.json: the Python package's own numbers, with which the
tests compare what the tab computes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "generated/golden"

# subject → a function that returns what its test reads
SUBJECTS: dict[str, Callable[[], Any]] = {}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for subject, compute in SUBJECTS.items():
        (FOLDER / f"{subject}.json").write_text(json.dumps(compute()), encoding="utf-8")
