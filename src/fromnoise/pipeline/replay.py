"""A picture that says how it was drawn → the same again, and whether it is the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fromnoise import __version__
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline import infotext
from fromnoise.pipeline.generate import generate
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared

NEAR = 2  # levels of 255: the bound of the batched plan, see runtime.prepare


@dataclass(frozen=True, eq=False)
class Replay:
    """`difference` is the greatest in any pixel's channel, in levels of 255; None where the sizes are not equal."""

    picture: Image.Image
    difference: int | None
    reasons: tuple[str, ...]  # why it may differ
    unused: dict[str, str]  # what the picture says and no request can: see infotext.request

    @property
    def verdict(self) -> str:
        """ "identical", "near" or "different"."""
        if self.difference is None or self.difference > NEAR:
            return "different"
        return "near" if self.difference else "identical"


def plan_of(path: Path) -> tuple[str, str] | None:
    """(device, dtype) that a picture of this program was drawn on, or None."""
    *_, device, dtype = ["", *infotext.found(path).fields.get("Plan", "").split("-")]
    return (device, dtype) if device and dtype else None


def replay(path: Path, model: LatentDiffusion, unet: Prepared) -> Replay:
    """Draws the picture at `path` again, with as many threads as it was drawn with, and compares. Raises BadInput for a
    picture that says nothing, or not enough to draw it again."""
    info = infotext.found(path)
    given, unused = infotext.request(info)
    if given.get("seed") is None:
        raise BadInput(f"{path} does not say its seed", "nothing can draw it again: noise without a seed is lost")
    request = GenerationRequest.of(**given).resolved(model)
    threads = int(said) if (said := info.fields.get("Threads", "")).isdecimal() and 0 < int(said) <= 1024 else None
    with _threads(threads):
        picture = generate(model, unet, request)[0]
        now = {"Version": f"fromnoise {__version__}", "Model hash": model.digest, "Plan": unet.plan,
               "Torch": torch.__version__, "Threads": str(torch.get_num_threads())}  # fmt: skip
    reasons = [f"{key}: {was}, now {now[key]}" for key in now if (was := info.fields.get(key)) and was != now[key]]
    reasons += [f"{key}: not said" for key in now if now[key] and key not in info.fields]
    with Image.open(path) as file:
        if file.format != "PNG":
            reasons.append(f"{file.format} files keep no exact pixels")
        before, after = np.asarray(file.convert("RGB"), np.int16), np.asarray(picture, np.int16)
    if before.shape != after.shape:
        reasons.append(f"size: {before.shape[1]}x{before.shape[0]}, now {after.shape[1]}x{after.shape[0]}")
        return Replay(picture, None, tuple(reasons), unused)
    difference = int(np.abs(before - after).max())
    if difference and not reasons:
        reasons.append("all that is recorded is equal: another processor may add in another order")
    return Replay(picture, difference, tuple(reasons), unused)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
