"""IP-Adapters, one file each: plain, plus (a resampler) and full (a network at each place of the
picture), for Stable Diffusion 1, 2 and XL."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fromnoise.checkpoints.foreign import recognise
from fromnoise.checkpoints.measures import Shapes, count, find
from fromnoise.checkpoints.sources import TensorSource, open_tensors
from fromnoise.checkpoints.tensors import Unfilled, check_fit, fill
from fromnoise.errors import BadCheckpoint, BadInput
from fromnoise.models.image_prompt import HEAD, KINDS, ImagePrompt, ImagePromptConfig, list_layers
from fromnoise.models.unet import UNet

PROJECTION, ATTENTION = "image_proj.", "ip_adapter."
LAYER = re.compile(r"ip_adapter\.(\d{1,4})\.(to_k_ip|to_v_ip)\.weight")
DEEPEST, MOST_TOKENS = 32, 1024
# number of layers and width of the text → what such an adapter is for
BASES = {
    (16, 768): "Stable Diffusion 1",
    (16, 1024): "Stable Diffusion 2",
    (70, 2048): "Stable Diffusion XL",
}
# what only the adapters have that read a face recogniser's numbers
FACES = ("perceiver_resampler.", "_lora.", "id_embed")
REMEDY = "give an IP-Adapter for Stable Diffusion 1, 2 or XL: plain, plus or full"


@dataclass(frozen=True, eq=False)
class AdapterFile:
    """An IP-Adapter still in its file. layers: the number that the file gives each
    cross-attention, in order."""

    source: TensorSource
    config: ImagePromptConfig
    layers: tuple[int, ...]

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """Of the matrices to keys and to values of each layer, in order."""
        ends = ("to_k_ip.weight", "to_v_ip.weight")
        keys = (f"{ATTENTION}{number}.{end}" for number in self.layers for end in ends)
        return [tuple(self.source.stored[key].shape) for key in keys]


@dataclass(frozen=True, eq=False)
class Adapter:
    """An IP-Adapter. layers: the matrices to keys and to values of each cross-attention, in the
    order of the file; digest: the start of the file's SHA-256."""

    prompt: ImagePrompt
    layers: tuple[tuple[Tensor, Tensor], ...]
    digest: str
    path: Path


def open_adapter(path: Path) -> AdapterFile:
    """The header of a file. Raises NotFound, and BadCheckpoint for what is no IP-Adapter, or one
    that reads a face recogniser's numbers (FaceID)."""
    source = open_tensors(path)
    shapes = {key: entry.shape for key, entry in source.stored.items()}
    found = recognise(shapes)
    if found is None or found.kind != "ip-adapter":
        what = f": it is {found.name} ({found.reason})" if found else ""
        raise BadCheckpoint(f"{path} is no IP-Adapter{what}", REMEDY)
    first = {key: shapes[key] for key in shapes if any(word in key for word in FACES)}
    inner = shapes.get(f"{PROJECTION}proj.0.weight")
    if first or (inner and f"{PROJECTION}norm.weight" in shapes):
        key = next(iter(first), f"{PROJECTION}proj.0.weight")
        raise BadCheckpoint(
            f"{path} is an IP-Adapter FaceID ({key[:200]}): it reads the numbers of a face "
            "recogniser, which this program does not have",
            "give one that reads pictures: plus-face, full-face, plus or plain",
        )
    numbers: dict[int, set[str]] = {}
    for key in shapes:
        if match := LAYER.fullmatch(key):
            numbers.setdefault(int(match[1]), set()).add(match[2])
        elif not key.startswith(PROJECTION):
            raise BadCheckpoint(f"{path} holds {key[:200]}, which no IP-Adapter has", REMEDY)
    half = [number for number, names in numbers.items() if len(names) < 2]
    if not numbers or half:
        what = f"half of the layer {half[0]}" if half else "no layers"
        raise BadCheckpoint(f"{path} holds {what}: keys and values of a picture", REMEDY)
    try:
        config = measure(shapes)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{path}: {error.message}", REMEDY) from None
    return AdapterFile(source, config, tuple(sorted(numbers)))


def measure(shapes: Shapes) -> ImagePromptConfig:
    """The network from CLIP's view to tokens, by its shapes. Raises BadCheckpoint."""
    p = PROJECTION
    if f"{p}latents" in shapes:
        _, tokens, width = find(shapes, f"{p}latents", 3)
        inner = find(shapes, f"{p}layers.0.0.to_q.weight", 2)[0]
        if inner % HEAD or tokens > MOST_TOKENS:
            what = f"{tokens} tokens" if tokens > MOST_TOKENS else f"{inner} channels of attention"
            raise BadCheckpoint(f"its resampler has {what}", REMEDY)
        return ImagePromptConfig(
            "plus",
            find(shapes, f"{p}proj_in.weight", 2)[1],
            find(shapes, f"{p}proj_out.weight", 2)[0],
            tokens,
            width,
            inner // HEAD,
            count(shapes, DEEPEST, lambda i: f"{p}layers.{i}.0.to_q.weight"),
            find(shapes, f"{p}layers.0.1.1.weight", 2)[0],
        )
    if f"{p}proj.3.weight" in shapes:
        inner = find(shapes, f"{p}proj.0.weight", 2)[1]
        return ImagePromptConfig("full", inner, find(shapes, f"{p}proj.3.weight", 1)[0])
    whole, inner = find(shapes, f"{p}proj.weight", 2)
    width = find(shapes, f"{p}norm.weight", 1)[0]
    if whole % width or whole // width > MOST_TOKENS:
        raise BadCheckpoint(f"{p}proj.weight has {whole} rows, no multiple of {width}", REMEDY)
    return ImagePromptConfig("plain", inner, width, whole // width)


def load(path: Path) -> Adapter:
    """The adapter of a file, its projection in fp32 on the CPU. Raises as `open_adapter`."""
    file = open_adapter(path)
    stored = file.source.stored
    own = {k.removeprefix(PROJECTION): k for k in stored if k.startswith(PROJECTION)}
    with Unfilled():
        projection = KINDS[file.config.kind](file.config)
    check_fit(projection, {ours: stored[key] for ours, key in own.items()}, path)
    tensors = file.source.read()
    fill(projection, ((ours, tensors[key]) for ours, key in own.items()))
    begins = (f"{ATTENTION}{number}.to" for number in file.layers)
    layers = [(tensors[f"{b}_k_ip.weight"], tensors[f"{b}_v_ip.weight"]) for b in begins]
    with path.open("rb") as whole:
        digest = hashlib.file_digest(whole, "sha256").hexdigest()[:10]
    return Adapter(ImagePrompt(file.config, projection), tuple(layers), digest, path)


def name_layers(adapter: Adapter, unet: UNet) -> dict[str, tuple[Tensor, Tensor]]:
    """The matrices by the names of this U-Net's cross-attentions. Raises BadInput where the adapter
    was made for another kind of model."""
    sizes = [tuple(matrix.shape) for pair in adapter.layers for matrix in pair]
    names = check_sizes(adapter.path, sizes, adapter.prompt.config, unet)
    return dict(zip(names, adapter.layers, strict=True))


def check_sizes(
    path: Path, sizes: Sequence[tuple[int, ...]], config: ImagePromptConfig, unet: UNet
) -> list[str]:
    """The names of this U-Net's cross-attentions. sizes: as AdapterFile has them. Raises BadInput
    where the adapter was made for another kind of model."""
    names, width = list_layers(unet), config.context_dim
    wanted = [tuple(unet.get_parameter(f"{name}.to_k.weight").shape) for name in names]
    if [*sizes] != [one for one in wanted for _ in range(2)] or width != unet.config.context_dim:
        theirs = describe_base(len(sizes) // 2, width)
        raise BadInput(
            f"the IP-Adapter {path} is for {theirs}, and this model is "
            f"{describe_base(len(names), unet.config.context_dim)}",
            "give one that was made for this kind of model",
        )
    return names


def describe_base(layers: int, width: int) -> str:
    """What has so many cross-attentions that read text of this width, in words."""
    kind = f"a U-Net of {layers} cross-attentions that read text of {width} channels"
    return BASES.get((layers, width), kind)
