"""What jobs became, in A1111's words: pictures in base64, and `info`."""

import base64
import json
import time
from io import BytesIO
from typing import Any

from PIL import Image

from fromnoise import __version__
from fromnoise.pipeline.provenance.exif import choose_save_options
from fromnoise.pipeline.provenance.infotext import LONGEST, parse
from fromnoise.serve.dialects.a1111.asking import Wish
from fromnoise.serve.dialects.a1111.shapes import Drawing
from fromnoise.serve.queue.jobs import Job
from fromnoise.serve.refusals import Refusal
from fromnoise.serve.server import Server
from fromnoise.serve.store.files import PICTURES
from fromnoise.serve.store.gallery import Picture

STATUS = {"fault": 500, "crash": 500, "filtered": 400, "NotFound": 404}
LONG = 1_000  # letters: a longer text in `parameters` is a picture


def refuse_failed(job: Job) -> Refusal:
    """For a job that has no pictures."""
    error = json.loads(job.error or "{}")
    kind = error.get("type", job.state)
    message, remedy = error.get("message", f"the job is {job.state}"), error.get("remedy", "")
    return Refusal(STATUS.get(kind, 422), kind.lower(), message, remedy)


def encode(server: Server, picture: Picture, suffix: str = ".png") -> str:
    """A picture's file in base64. Raises Refusal."""
    path = server.files.path(PICTURES, picture.hash)
    try:
        data = path.read_bytes()
    except OSError:
        raise Refusal(404, "not_found", "the picture's file is gone from the disk", "") from None
    if suffix != ".png":
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            changed, data = BytesIO(), b""
            flat = image.convert("RGB") if suffix == ".jpg" else image
            flat.save(changed, **choose_save_options(suffix, picture.infotext or None))
        data = changed.getvalue()
    return base64.b64encode(data).decode()


def write_info(
    asked: Drawing, wish: Wish, jobs: list[Job], pictures: list[Picture], interrupted: bool
) -> str:
    """A1111's `info`, a text of JSON, and in it what was ignored and what a user should know."""
    text = pictures[0].infotext[:LONGEST] if pictures else ""
    fields = parse(text).fields if text else {}
    number = len(pictures) or wish.batch * wish.rounds
    prompt, negative = asked.prompt or "", asked.negative_prompt or ""
    varies = bool(asked.subseed_strength)
    seeds = [int(picture.seed) for picture in pictures]
    subseeds = [wish.subseed + i for i in range(number)]
    warnings = dict.fromkeys(note for job in jobs for note in json.loads(job.notes))
    info: dict[str, Any] = {
        "prompt": prompt,
        "all_prompts": [prompt] * number,
        "negative_prompt": negative,
        "all_negative_prompts": [negative] * number,
        "seed": seeds[0] if seeds else wish.seed,
        "all_seeds": seeds,
        "subseed": wish.subseed,
        "all_subseeds": subseeds,
        "subseed_strength": asked.subseed_strength or 0,
        "width": pictures[0].width if pictures else asked.width,
        "height": pictures[0].height if pictures else asked.height,
        "sampler_name": fields.get("Sampler", asked.sampler_name or ""),
        "scheduler": fields.get("Schedule type", asked.scheduler or ""),
        "cfg_scale": to_number(fields.get("CFG scale"), asked.cfg_scale),
        "steps": to_number(fields.get("Steps"), asked.steps),
        "batch_size": wish.batch,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": jobs[0].model if jobs else wish.model,
        "sd_model_hash": fields.get("Model hash"),
        "sd_vae_name": fields.get("VAE"),
        "sd_vae_hash": fields.get("VAE hash"),
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": asked.denoising_strength,
        "extra_generation_params": {k: v for k, v in fields.items() if k.startswith("Hires")},
        "index_of_first_image": 0,
        "infotexts": [picture.infotext for picture in pictures],
        "styles": asked.styles or [],
        "job_timestamp": time.strftime(
            "%Y%m%d%H%M%S", time.gmtime(jobs[0].created if jobs else None)
        ),
        "clip_skip": wish.values.get("clip_skip", 1),
        "is_using_inpainting_conditioning": False,
        "version": f"fromnoise {__version__}",
        # beside A1111's own
        "ignored": wish.ignored,
        "warnings": [*warnings],
        "interrupted": interrupted,
        "pictures": [picture.id for picture in pictures],
    }
    if not varies:
        info["all_subseeds"] = [wish.subseed] * number
    return json.dumps(info, ensure_ascii=False)


def to_number(text: str | None, usual: float | None) -> float | int | None:
    """A number of an infotext."""
    try:
        value = float(text or "")
    except ValueError:
        return usual
    return int(value) if value.is_integer() else value


def show_parameters(asked: Drawing) -> dict[str, Any]:
    """What was asked for, as far as A1111 has such fields, without its pictures."""
    shown = asked.model_dump(include=set(type(asked).model_fields))
    if not shown.get("include_init_images"):
        shown |= {name: None for name in ("init_images", "mask") if name in shown}
        shown["alwayson_scripts"] = leave_out(shown["alwayson_scripts"])
    return shown


def leave_out(value: Any) -> Any:
    """A value without the pictures in it."""
    if isinstance(value, dict):
        return {key: leave_out(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [leave_out(inner) for inner in value]
    return None if isinstance(value, str) and len(value) > LONG else value
