"""From what a client asks for to a job's ticket, and from a job to the task of a worker."""

import hashlib
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fromnoise.errors import BadInput
from fromnoise.pipeline.enlarging.upscale_request import UpscaleRequest
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.serve.queue.jobs import Job
from fromnoise.serve.settings import Limits
from fromnoise.serve.store.files import UPLOADS, Files
from fromnoise.serve.work.kinds import find_request, map_uploads
from fromnoise.serve.work.tracing import TRACE
from fromnoise.serve.work.upscalers import find_network
from fromnoise.serve.work.worker import Task, build_task

SEEDS = 2**32  # as many are drawn from


def fix_seeds(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values with every seed decided, so that a job that is begun again draws the same."""
    fixed = dict(values)
    if "seed" in find_request(kind).model_fields and fixed.get("seed") is None:
        fixed["seed"] = secrets.randbelow(SEEDS)
    if fixed.get("variation_strength") and fixed.get("variation_seed") is None:
        fixed["variation_seed"] = secrets.randbelow(SEEDS)
    return fixed


def digest_of(*values: Any) -> str:
    """The SHA-256 of what a client asked for: the same request has the same one."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def check_limits(kind: str, values: dict[str, Any], limits: Limits, size: tuple[int, int]) -> None:
    """Raises BadInput for values beyond the server's limits. size: (width, height) of the picture
    that is enlarged, or that a model draws where none is asked for."""
    wide, high = values.get("width") or size[0], values.get("height") or size[1]
    if kind == "upscale":
        request = UpscaleRequest.of(**{k: v for k, v in values.items() if k != "image"})
        wide, high = request.find_size(size)
        find_network(request.upscaler)
    if kind == "grid":
        for cell in list_cells(values, limits.cells):
            check_limits("generate", cell.model_dump(), limits, size)
    if kind == "hires":
        scale = values.get("hires_scale", 2.0)
        wider, higher = values.get("hires_width"), values.get("hires_height")
        if wider or higher:
            ratio = wide / high
            wide, high = wider or (higher or 0) * ratio, higher or (wider or 0) / ratio
        else:
            wide, high = wide * scale, high * scale
        if (upscaler := values.get("hires_upscaler")) is not None:
            find_network(upscaler)
    wide += values.get("extend_left", 0) + values.get("extend_right", 0)
    high += values.get("extend_top", 0) + values.get("extend_bottom", 0)
    steps = max(values.get("steps") or 1, values.get("hires_steps") or 1)
    for what, value, limit in (
        ("steps", steps, limits.steps),
        ("pictures", values.get("count", 1), limits.count),
        ("frames", values.get("frames", 0), limits.frames),
        ("pixels in a picture", wide * high, limits.pixels),
    ):
        if value > limit:
            raise BadInput(
                f"{value:,.0f} {what} are more than this server draws", f"ask for {limit:,} at most"
            )


def list_cells(values: dict[str, Any], most: int) -> list[GenerationRequest]:
    """The cells of a grid's values. Raises BadInput and UnknownName."""
    from fromnoise.pipeline.sequences.grid_request import GridRequest, plan_grid  # loads torch

    own = {k: v for k, v in values.items() if k in GridRequest.model_fields}
    return plan_grid(GridRequest.of(**own), most).cells


def find_inputs(
    kind: str, values: dict[str, Any], hash_of: Callable[[str], str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(values with the hash of each upload in place of its id, all these hashes). hash_of: raises
    Refusal for an upload that is not there."""
    found: dict[str, None] = {}

    def change(identifier: str) -> str:
        digest = hash_of(identifier)
        found[digest] = None
        return digest

    return map_uploads(kind, values, change), tuple(found)


def read_task(job: Job, files: Files, max_cost: float) -> Task:
    """The task of a job. Raises BadInput."""

    def find(digest: str) -> Path:
        path = files.path(UPLOADS, digest)
        if not path.is_file():
            raise BadInput("an upload of this job is gone from the disk", "upload it again")
        return path

    kind, values = job.kind, json.loads(job.request)
    if kind == TRACE:
        kind, values = values["of"], values["values"]
    return build_task(kind, job.model, values, find, max_cost)
