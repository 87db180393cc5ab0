"""ControlNets and T2I-Adapters on a model: networks that see a picture and steer each step."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fromnoise.checkpoints.configs import open_file
from fromnoise.checkpoints.formats import controlnet as formats
from fromnoise.errors import BadInput, FromnoiseError, NotFound, UnknownName
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.config import UNetConfig
from fromnoise.models.controlnet import ControlNet
from fromnoise.pipeline import pictures
from fromnoise.pipeline.addon_fields.control import Control, Kind
from fromnoise.pipeline.addons.files import find_file
from fromnoise.pipeline.addons.preprocessors import PREPROCESSORS
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.resizing import resize
from fromnoise.runtime import control as running
from fromnoise.runtime.prepare import Prepared

KEPT = 3  # networks that stay in memory; those for XL have 5 GB in fp32
# preprocessor → the kind of picture that it makes, as a Union calls it
MADE = {"canny": "canny", "depth": "depth", "depth_far": "depth", "scribble": "softedge"}
MADE |= {"tile": "tile", "inpaint": "inpaint"}
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, as Pillow's "L"


def put_on(
    model: LatentDiffusion, unet: Prepared, request: GenerationRequest, items: Sequence[Control]
) -> tuple[LatentDiffusion, Prepared, list[str]]:
    """See addons.KINDS. Raises NotFound, BadCheckpoint, UnknownName and BadInput."""
    steerings, notes = [], dict[str, None]()
    size = request.width or model.size, request.height or model.size
    for item in items:
        control = read_control(item, model.unet.config, unet.device, unet.dtype)
        control = choose_kind(control, item, unet.batch)
        running.check_made_for(control, model.unet.config, model.vae.config.factor)
        if item.mode == "guess" and not isinstance(control.network, ControlNet):
            raise BadInput(
                f"{item.name} is a T2I-Adapter, and the guess mode is one of ControlNets",
                "leave out the mode, or give prompt or control",
            )
        picture = make_picture(item, size, count_channels(control))
        steerings.append(running.Steering(control, picture, item.weight, item.mode))
        if item.weight == 0:
            notes[f"{item.name} has the weight 0: it does nothing"] = None
    if model.refiner is not None:
        notes["ControlNets and T2I-Adapters do not act where the refiner draws"] = None
    return model, running.steer(unet, steerings), [*notes]


def choose_kind(control: running.Control, item: Control, batch: int) -> running.Control:
    """The control for the kind of picture that it is shown, where it is a Union's. Raises
    BadInput."""
    network = control.network
    count = network.settings.kinds if isinstance(network, ControlNet) else 0
    if not count:
        if item.kind:
            raise BadInput(
                f"{item.name} is no ControlNet Union: it knows one kind of picture",
                "leave out the kind",
            )
        return control
    if batch > 1:
        raise BadInput(
            f"{item.name} is a ControlNet Union, in which the pictures of one call see each other",
            "draw one picture a call: leave out the batch",
        )
    known = get_args(Kind)[:count]
    name = item.kind or MADE.get(item.preprocess)
    if name not in known:
        told = f"{name!r} is none of its kinds" if name else "the kind of its picture is not told"
        raise BadInput(
            f"{item.name} is a ControlNet Union, and {told}",
            f"give one with --control-kind: {', '.join(known)}",
        )
    assert isinstance(network, ControlNet)
    return replace(control, network=network.choose(known.index(name)))


def find_network(item: Control) -> Path:
    """The file or folder of a control: a ControlNet's, or a T2I-Adapter's. Raises NotFound, and
    BadInput where several have its name."""
    try:
        return find_file("controlnet", item)
    except NotFound as missing:
        try:
            return find_file("t2i-adapter", item)
        except NotFound:
            raise missing from None


def read_control(
    item: Control, like: UNetConfig, device: torch.device, dtype: torch.dtype
) -> running.Control:
    """The network of a control, as it runs. Some stay in memory."""
    path = find_network(item)
    try:
        file = path.stat()
    except OSError:
        raise NotFound(
            f"there is no ControlNet {path}", "give a file, a folder or a name"
        ) from None
    return _read(path, like, device, dtype, (file.st_mtime_ns, file.st_size))


@lru_cache(KEPT)
def _read(
    path: Path,
    like: UNetConfig,
    device: torch.device,
    dtype: torch.dtype,
    version: tuple[int, int],
) -> running.Control:
    return formats.load(path, like).move(device, dtype)


def hash_network(path: Path) -> str:
    """The start of the SHA-256 of a network's file, kept until the file changes."""
    file = formats.find_weights_of(path)
    try:
        status = file.stat()
    except OSError:
        raise NotFound(f"there is no ControlNet {path}", "give a file or a folder") from None
    return _hash(file, status.st_mtime_ns, status.st_size)


@lru_cache(64)
def _hash(path: Path, changed: int, size: int) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:10]


def count_channels(control: running.Control) -> int:
    """Of the picture that it sees. Raises BadInput where they are neither grey nor RGB."""
    network = control.network
    known = network.settings if isinstance(network, ControlNet) else network.config
    if known.picture_channels not in (1, 3):
        raise BadInput(
            f"{control.name} sees pictures of {known.picture_channels} channels",
            "give a network for grey or RGB pictures",
        )
    return known.picture_channels


def make_picture(item: Control, size: tuple[int, int], channels: int = 3) -> Tensor:
    """What a control shows its network at a size (width, height): (1, channels, H, W). Raises
    NotFound, UnknownName and BadInput."""
    if item.preprocess not in PREPROCESSORS:
        raise UnknownName("preprocessor", item.preprocess, PREPROCESSORS)
    source = item.image if item.picture is None else item.picture
    if source is None:
        raise BadInput(
            f"{item.name} needs a picture, and there is none", "give it with --control-image"
        )
    entry = PREPROCESSORS[item.preprocess]
    for name, value, place in (("A", item.low, 0), ("B", item.high, 1)):
        if value is not None and place >= len(entry.usual):
            raise BadInput(f"{item.preprocess} takes no number {name}", "leave it out")
    module = import_module(f"fromnoise.pipeline.addons.preprocessors.{entry.module}")
    fit = partial(resize, size=size, how=item.resize)
    try:
        pixels = module.prepare(source, fit, item.low, item.high)  # (H, W, 3)
    except FromnoiseError as error:
        error.message = f"the picture for {item.name}: {error.message}"
        raise
    if channels == 1:
        pixels = np.rint(pixels @ GREY * 255)[..., None] / np.float32(255)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def show_canvas(
    request: GenerationRequest,
    whole: tuple[int, int],
    area: tuple[int, int, int, int],
    work: Image.Image,
    mask: Image.Image | None,
) -> GenerationRequest:
    """The request of an edit, whose controls see what is drawn: a control without a picture sees
    the one that is edited, with the mask as a hole; of others the part is cut that lies where
    `area` (left, top, right, bottom) lies in the `whole` (width, height)."""
    items = [show_one(item, whole, area, work, mask) for item in request.addons.controls]
    addons = request.addons.model_copy(update={"controls": tuple(items)})
    return request.model_copy(update={"addons": addons})


def show_one(
    item: Control,
    whole: tuple[int, int],
    area: tuple[int, int, int, int],
    work: Image.Image,
    mask: Image.Image | None,
) -> Control:
    source = item.image if item.picture is None else item.picture
    if source is None:
        picture = work.convert("RGB")
        if mask is not None and item.preprocess == "inpaint":
            picture.putalpha(mask.point([255 - level for level in range(256)]))
        return item.model_copy(update={"picture": picture, "resize": "stretch"})
    if area == (0, 0, *whole):
        return item
    picture = pictures.read_picture(source)
    fitted = resize(picture, whole, item.resize)
    return item.model_copy(update={"picture": fitted.crop(area), "resize": "stretch"})
