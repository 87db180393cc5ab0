"""CLIP's image tower as a vision transformer: images → the space shared with captions (Radford
2021)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fromnoise.errors import BadInput
from fromnoise.models.clip import LayerStack
from fromnoise.models.config_faults import check, heads_rule


@dataclass(frozen=True)
class CLIPVisionConfig:
    """CLIP's image tower: a vision transformer. Raises BadInput."""

    image_size: int = 224
    patch_size: int = 32
    dim: int = 768
    layers: int = 12
    heads: int = 12
    mlp_dim: int = 3072
    activation: str = "quick_gelu"
    projection_dim: int = 512

    def __post_init__(self) -> None:
        check(self, heads_rule(self.dim, self.heads))


class VisionOutput(NamedTuple):
    """The tower's output for images."""

    last_hidden: Tensor  # (B, 1 + patches, dim), before the final norm
    pooled: Tensor  # (B, dim) class token after the final norm
    hidden_states: tuple[Tensor, ...]  # the first layer's input, then each layer's output
    embeds: Tensor  # (B, projection_dim), not normalized


class VisionEmbeddings(nn.Module):
    """Image (B, 3, S, S) → class token and patches with positions (B, 1 + (S/patch)², dim)."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(config.dim))
        nn.init.normal_(self.class_embedding, std=config.dim**-0.5)
        self.patch_embedding = nn.Conv2d(
            3, config.dim, config.patch_size, stride=config.patch_size, bias=False
        )
        self.position_embedding = nn.Embedding(
            1 + (config.image_size // config.patch_size) ** 2, config.dim
        )
        nn.init.normal_(self.position_embedding.weight, std=config.dim**-0.5)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch_embedding(image).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(image.shape[0], 1, -1)
        return torch.cat((first, patches), 1) + self.position_embedding.weight


class VisionTower(nn.Module):
    """The vision transformer (Dosovitskiy 2021)."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.dim)  # every published file has this spelling
        self.encoder = LayerStack(config, causal=False)
        self.post_layernorm = nn.LayerNorm(config.dim)


class CLIPVision(nn.Module):
    """CLIP's image encoder with its projection into the shared space."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.config = config
        self.vision_model = VisionTower(config)
        self.visual_projection = nn.Linear(config.dim, config.projection_dim, bias=False)
        nn.init.normal_(self.visual_projection.weight, std=config.dim**-0.5)

    def forward(self, image: Tensor) -> VisionOutput:
        """image (B, 3, image_size, image_size), normalized as in training. Raises BadInput for
        another size."""
        size = self.config.image_size
        if image.shape[-2:] != (size, size):
            raise BadInput(
                f"an image of {tuple(image.shape[-2:])} does not fit the encoder's {size}×{size}",
                f"scale it to {size}×{size}",
            )
        tower = self.vision_model
        states = tower.encoder(tower.pre_layrnorm(tower.embeddings(image)))
        pooled = tower.post_layernorm(states[-1][:, 0])
        return VisionOutput(states[-1], pooled, states, self.visual_projection(pooled))
