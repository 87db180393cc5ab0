"""IP-Adapter: a picture as tokens of its own, which every cross-attention of a U-Net reads beside
the words (Ye et al. 2023 "IP-Adapter")."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.models.attention import Attention, merge_heads, split_heads
from fromnoise.models.clip_vision import VisionOutput
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.unet import Constants, UNet

HEAD = 64  # channels of a head in the resampler
BLOCKS = ("down_blocks", "up_blocks", "mid_block")  # the order in which files number the layers


@dataclass(frozen=True)
class ImagePromptConfig:
    """The network from CLIP's view of a picture to tokens. kind: "plain" reads the embedding; of
    the last state but one of every place "full" makes a token, and "plus" a few in all."""

    kind: str
    image_dim: int  # of what it reads
    context_dim: int  # of the tokens
    tokens: int = 4
    # of "plus" alone
    width: int = 768
    heads: int = 12
    depth: int = 4
    mlp_dim: int = 3072


class Projection(nn.Module):
    """ "plain": one embedding (B, image_dim) → (B, tokens, context_dim)."""

    def __init__(self, config: ImagePromptConfig):
        super().__init__()
        self.proj = nn.Linear(config.image_dim, config.tokens * config.context_dim)
        self.norm = nn.LayerNorm(config.context_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).unflatten(1, (-1, self.norm.normalized_shape[0])))


class PlaceMLP(nn.Module):
    """ "full": each state (B, N, image_dim) → a token, (B, N, context_dim)."""

    def __init__(self, config: ImagePromptConfig):
        super().__init__()
        inner, out = config.image_dim, config.context_dim
        layers = nn.Linear(inner, inner), nn.GELU(), nn.Linear(inner, out), nn.LayerNorm(out)
        self.proj = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class PerceiverAttention(nn.Module):
    """Latents (B, M, width) attend to states (B, N, width) and to themselves."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, inner = heads, heads * HEAD
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        latents = self.norm2(latents)
        k, v = self.to_kv(torch.cat((self.norm1(x), latents), 1)).chunk(2, -1)
        q, k, v = (split_heads(z, self.heads) for z in (self.to_q(latents), k, v))
        return self.to_out(merge_heads(F.scaled_dot_product_attention(q, k, v)))


class Resampler(nn.Module):
    """ "plus": states (B, N, image_dim) → (B, tokens, context_dim), as Flamingo's Perceiver
    Resampler (Alayrac et al. 2022, §3.1)."""

    def __init__(self, config: ImagePromptConfig):
        super().__init__()
        c, width = config, config.width
        self.latents = nn.Parameter(torch.empty(1, c.tokens, width))
        self.proj_in, self.proj_out = nn.Linear(c.image_dim, width), nn.Linear(width, c.context_dim)
        self.norm_out = nn.LayerNorm(c.context_dim)
        self.layers = nn.ModuleList()
        for _ in range(c.depth):
            up, down = (
                nn.Linear(*of, bias=False) for of in ((width, c.mlp_dim), (c.mlp_dim, width))
            )
            mlp = nn.Sequential(nn.LayerNorm(width), up, nn.GELU(), down)
            self.layers.append(nn.ModuleList([PerceiverAttention(width, c.heads), mlp]))

    def forward(self, x: Tensor) -> Tensor:
        latents, x = self.latents.expand(len(x), -1, -1), self.proj_in(x)
        layers: Any = self.layers
        for attention, mlp in layers:
            latents = latents + attention(x, latents)
            latents = latents + mlp(latents)
        return self.norm_out(self.proj_out(latents))


KINDS: dict[str, Callable[[ImagePromptConfig], nn.Module]] = {
    "plain": Projection,
    "full": PlaceMLP,
    "plus": Resampler,
}


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """The part of an adapter that makes tokens: `projection` is one of KINDS."""

    config: ImagePromptConfig
    projection: nn.Module

    def project(self, seen: VisionOutput) -> Tensor:
        """What CLIP sees of pictures → their tokens (B, M, context_dim)."""
        plain = self.config.kind == "plain"
        return self.projection(seen.embeds if plain else seen.hidden_states[-2])

    def project_nothing(self, blank: VisionOutput) -> Tensor:
        """The tokens of no picture, which go with the negative prompt: those of an embedding of
        zeros, or of what CLIP sees where all pixels are 0, as in diffusers."""
        if self.config.kind == "plain":
            return self.projection(torch.zeros_like(blank.embeds))
        return self.project(blank)


def list_layers(unet: UNet) -> list[str]:
    """The names of the cross-attentions, in the order of IP-Adapter's files: the middle last, since
    diffusers built it last."""
    names = [a.name for a in unet.modules() if isinstance(a, Attention)]
    crossed = [name for name in names if name.endswith("attn2")]
    return sorted(crossed, key=lambda name: BLOCKS.index(name.partition(".")[0]))


@dataclass(frozen=True, eq=False)
class Look:
    """The part of an adapter that reads them, by the names of the cross-attentions. layers: the
    matrices to keys and to values, (width, context_dim) each; tokens: how many of
    `Conditioning.image_tokens` are its own; scales: how strongly it acts there, 0: not at all."""

    layers: dict[str, tuple[Tensor, Tensor]]
    tokens: int
    scales: dict[str, float]


def add_looks(unet: UNet, looks: Sequence[Look]) -> UNet:
    """The same network, whose cross-attentions also read `image_tokens`, each adapter its own: z =
    attention to the words + Σ scale · attention to the tokens (Ye et al. 2023, eq. 5). Nothing of
    `unet` changes."""
    weight, read = next(unet.parameters()), unet.constants
    counts = [look.tokens for look in looks]
    moved = [{k: [m.to(weight) for m in of] for k, of in x.layers.items()} for x in looks]

    def constants(conditioning: Conditioning) -> Constants:
        known, projected = read(replace(conditioning, image_tokens=None)), {}
        assert conditioning.image_tokens is not None
        tokens = conditioning.image_tokens.split(counts, 1)
        for name, (k, *rest) in known.projected.items():
            views = [
                make_view(
                    look.scales[name], *(split_heads(part @ m.T, k.shape[1]) for m in of[name])
                )
                for look, part, of in zip(looks, tokens, moved, strict=True)
                if look.scales[name]
            ]
            projected[name] = (k, *rest, *views)
        return known._replace(projected=projected)

    other = copy(unet)
    other.constants = constants
    return other


def make_view(scale: float, key: Tensor, value: Tensor) -> Callable[[Tensor], Tensor]:
    """Queries (B, heads, N, d) → what they see of a picture, times its scale."""

    def look(q: Tensor) -> Tensor:
        return scale * F.scaled_dot_product_attention(q, key.to(q.dtype), value.to(q.dtype))

    return look
