"""Upscalers by name, and the pictures that they enlarge."""

from pathlib import Path

from PIL import Image

from fromnoise.checkpoints.library import find_model, list_models
from fromnoise.errors import BadInput, NotFound, UnknownName, escape
from fromnoise.pipeline.enlarging.upscale_request import UpscaleRequest


def find_network(name: str) -> Path | None:
    """The file of the network with that name, which `fromnoise models` lists; None for a formula.
    Raises UnknownName. A path is no name: nothing outside of the models' folders is found."""
    from fromnoise.pipeline.enlarging.upscale import UPSCALERS  # which loads torch

    if name.strip().lower() in UPSCALERS:
        return None
    networks = [model.name for model in list_models() if model.kind == "upscaler"]
    try:
        return find_model(name, ["upscaler"])
    except (BadInput, NotFound) as error:
        choices = [*UPSCALERS, *networks]
        raise UnknownName("upscaler", escape(name)[:100], choices) from error


def enlarge(path: Path, request: UpscaleRequest, device: str) -> Image.Image:
    """The picture of a file, enlarged, with the settings that it had and those of this step."""
    from fromnoise.checkpoints.formats.upscaler import load
    from fromnoise.pipeline.enlarging import upscale
    from fromnoise.pipeline.pictures import read_rgb
    from fromnoise.pipeline.resizing import resize
    from fromnoise.runtime.devices import find_device

    before, network = read_rgb(path), find_network(request.upscaler)
    if network is None:
        method = upscale.UPSCALERS[request.upscaler.strip().lower()]
    else:
        method = load(network)
        method.network.to(find_device(device))
    size = request.find_size(before.size)
    if request.resize == "crop" and min(size) > 0:
        # first as large as covers the size, then its middle
        factor = max(size[0] / before.width, size[1] / before.height)
        cover = (max(round(before.width * factor), 1), max(round(before.height * factor), 1))
        after = resize(upscale.upscale_picture(before, cover, method), size, "crop")
    else:
        after = upscale.upscale_picture(before, size, method)
    scale = None if request.width or request.height else request.scale or 2.0
    after.info["parameters"] = upscale.describe_upscaling(path, scale, after.size, method)
    return after
