"""CLIP's image tower in the folder of `diffusers_folder`: a vision transformer or a residual
network."""

import os
from pathlib import Path

from torch import Tensor

from fromnoise.checkpoints.configs import Fields, Rule
from fromnoise.checkpoints.formats.diffusers_configs import CLIP, translate
from fromnoise.checkpoints.sources import TensorSource
from fromnoise.checkpoints.tensors import TensorFile
from fromnoise.errors import BadCheckpoint
from fromnoise.models.clip_vision import CLIPVision, CLIPVisionConfig
from fromnoise.models.resnet import CLIPResNet, CLIPResNetConfig

VISION = CLIP | {
    "image_size": Rule("image_size", int, 8, 1024),
    "patch_size": Rule("patch_size", int, 1, 256),
}
RESNET = {
    "image_size": Rule("image_size", int, 8, 1024),
    "stem": Rule("stem", int, 1, 8192),
    "widths": Rule("widths", int, 1, 8192, per_level=True),
    "blocks": Rule("blocks", int, 1, 32, per_level=True),
    "projection_dim": Rule("projection_dim", int, 1, 16384),
}


def build_tower(config: CLIPVisionConfig | CLIPResNetConfig) -> CLIPVision | CLIPResNet:
    """The network of an image tower."""
    return CLIPResNet(config) if isinstance(config, CLIPResNetConfig) else CLIPVision(config)


def read_vision(config: Fields) -> CLIPVisionConfig:
    """config.json of a CLIPVisionModelWithProjection."""
    config.get(Rule("model_type", str, choices=["clip_vision_model"]))
    ours = translate(VISION, config, CLIPVisionConfig)
    if ours.patch_size > ours.image_size:
        config.refuse("patch_size", f"at most image_size {ours.image_size}")
    return ours


def read_resnet(config: Fields) -> CLIPResNetConfig:
    """config.json of `image_tower/`."""
    return translate(RESNET, config, CLIPResNetConfig)


def read_head(path: Path, width: int) -> dict[str, Tensor]:
    """What completes CLIP: text_projection.weight (D, width) and logit_scale (), in fp32."""
    return read_head_of(TensorFile(path), width) if os.path.lexists(path) else {}


def read_head_of(file: TensorSource, width: int) -> dict[str, Tensor]:
    """The same from a file that is open. Raises BadCheckpoint for other tensors."""
    for key, entry in file.stored.items():
        right = key == "logit_scale" and entry.shape == ()
        right |= key == "text_projection.weight" and entry.shape[1:] == (width,)
        if not right or not entry.dtype.is_floating_point:
            reason = f"{file.path} holds {key[:200]} of {entry.shape} and {entry.dtype}"
            remedy = f"it holds text_projection.weight (D, {width}) and logit_scale (), no more"
            raise BadCheckpoint(reason, remedy)
    return {key: tensor.float() for key, tensor in file.read().items()}
