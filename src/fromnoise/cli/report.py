"""What a drawing command did, as JSON for scripts: files, the request with its defaults decided, notes."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fromnoise.pipeline.request import GenerationRequest

if TYPE_CHECKING:
    from fromnoise.cli.generate import Run


def report(run: "Run", paths: list[Path], request: GenerationRequest) -> str:
    """One line."""
    drawn = [{"path": str(path), "seed": (request.seed or 0) + i} for i, path in enumerate(paths)]
    said = {"pictures": drawn, "request": request.model_dump(mode="json"), **run.facts}
    said |= {"notes": list(run.notes), "seconds": round(time.perf_counter() - run.started, 3)}
    return json.dumps(said, ensure_ascii=False)
