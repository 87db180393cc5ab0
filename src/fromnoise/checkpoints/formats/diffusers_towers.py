"""CLIP's image tower in the folder of `diffusers_folder`: a vision transformer or a residual
network."""

from dataclasses import fields

from fromnoise.checkpoints.formats.diffusers_configs import CLIP, translated
from fromnoise.models.clip_vision import CLIPVision
from fromnoise.models.config import CLIPVisionConfig
from fromnoise.models.resnet import CLIPResNet, CLIPResNetConfig

VISION = CLIP | {"image_size": "image_size", "patch_size": "patch_size"}


def build(configs: dict[str, dict]) -> CLIPVision | CLIPResNet:
    """The network that `image_tower` or `image_encoder` describes."""
    if "image_tower" in configs:
        return CLIPResNet(resnet_config(configs["image_tower"]))
    return CLIPVision(vision_config(configs["image_encoder"]))


def vision_config(config: dict) -> CLIPVisionConfig:
    """config.json of a CLIPVisionModelWithProjection."""
    return translated(VISION, config, CLIPVisionConfig)


def resnet_config(config: dict) -> CLIPResNetConfig:
    """config.json of `image_tower/`."""
    return translated({f.name: f.name for f in fields(CLIPResNetConfig)}, config, CLIPResNetConfig)
