"""Answers in words and figures: what CLIP sees in pictures."""

from dataclasses import asdict
from typing import Any

from fromnoise.data.sources import open_source
from fromnoise.pipeline.pictures import read_rgb
from fromnoise.pipeline.seeing.clip import ClipEmbedder
from fromnoise.pipeline.seeing.request import DescribeRequest, SimilarityRequest
from fromnoise.serve.work.engines import Engine
from fromnoise.serve.work.worker import Task


def look(engine: Engine, task: Task) -> Any:
    """The answer to a task. Raises BadInput for a model that sees no pictures."""
    if engine.embedder is None:  # which remembers texts
        engine.embedder = ClipEmbedder(engine.model)
    embedder, request = engine.embedder, task.request
    if isinstance(request, SimilarityRequest):
        items = [*request.pictures, *request.texts]
        kinds = ["picture"] * len(request.pictures) + ["words"] * len(request.texts)
        return {"kinds": kinds, "cosines": embedder.cosines(items, items).tolist()}
    assert isinstance(request, DescribeRequest)
    phrases = request.phrases or open_source(request.source)
    rows = embedder.describe(read_rgb(task.inputs["image"]), phrases, request.top)
    return {"captions": [asdict(row) for row in rows]}
