"""The conditional U-Net: a noisy picture, a time, a text → a prediction (Rombach 2022, §3.3)."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.models.attention import Attended, Attention, KeyValue, Record, Transformer
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.config import UNetConfig
from fromnoise.models.layers import (
    Downsample,
    ResnetBlock,
    TimeEmbedding,
    Upsample,
    embed_timesteps,
    zero_parameters,
)

# what a ControlNet adds to the skips, by place, the middle last; the same of a T2I-Adapter, which
Residuals = tuple[Mapping[int, Tensor], Mapping[int, Tensor]]  # adds on the way down


class Constants(NamedTuple):
    """What depends on the conditioning alone: computed once a run."""

    projected: dict[str, KeyValue]  # keys and values of every cross-attention, by layer name
    guidance: Tensor | None  # (B, guidance_dim) sinusoids
    added: Tensor | None  # (B, 4·width) what is added to the time embedding


def _make_resnet(config: UNetConfig, inp: int, out: int) -> ResnetBlock:
    block = ResnetBlock(inp, out, config.norm_groups, emb_dim=4 * config.block_out_channels[0])
    zero_parameters(block.conv2)
    return block


def _make_transformers(config: UNetConfig, level: int, count: int) -> nn.ModuleList:
    c, width, heads = config, config.block_out_channels[level], config.heads[level]
    options = c.context_dim, c.transformer_depth[level], c.norm_groups, c.linear_projection
    return nn.ModuleList(Transformer(width, heads, *options) for _ in range(count))


class DownBlock(nn.Module):
    """One level on the way down. Appends to `skips` the tensors that the way up needs."""

    def __init__(self, config: UNetConfig, level: int):
        super().__init__()
        out, n = config.block_out_channels[level], config.layers_per_block
        inp = config.block_out_channels[max(level - 1, 0)]
        last = level == len(config.block_out_channels) - 1
        self.resnets = nn.ModuleList(_make_resnet(config, out if i else inp, out) for i in range(n))
        self.attentions = _make_transformers(config, level, n if config.attention[level] else 0)
        self.downsamplers = nn.ModuleList([] if last else [Downsample(out, symmetric=True)])

    def forward(self, x: Tensor, emb: Tensor, skips: list[Tensor], attended: Attended) -> None:
        for i, layer in enumerate((*self.resnets, *self.downsamplers)):
            x = layer(x, emb) if i < len(self.resnets) else layer(x)
            if i < len(self.attentions):
                x = self.attentions[i](x, attended)
            if len(skips) in attended.features:
                x = x + attended.features[len(skips)]
            skips.append(x)


class MiddleBlock(nn.Module):
    """resnet, transformer, resnet at the coarsest level; a single resnet without attention."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        width, n = config.block_out_channels[-1], int(config.mid_attention)
        self.resnets = nn.ModuleList(_make_resnet(config, width, width) for _ in range(1 + n))
        self.attentions = _make_transformers(config, -1, n)

    def forward(self, x: Tensor, emb: Tensor, attended: Attended) -> Tensor:
        x = self.resnets[0](x, emb)
        for transformer, resnet in zip(self.attentions, self.resnets[1:], strict=True):
            x = resnet(transformer(x, attended), emb)
        return x


class UpBlock(nn.Module):
    """One level on the way up. `inputs`: the widths of its resnets' inputs, skips included."""

    def __init__(self, config: UNetConfig, level: int, inputs: list[int]):
        super().__init__()
        out = config.block_out_channels[level]
        self.resnets = nn.ModuleList(_make_resnet(config, inp, out) for inp in inputs)
        n = len(inputs) if config.attention[level] else 0
        self.attentions = _make_transformers(config, level, n)
        self.upsamplers = nn.ModuleList([Upsample(out)] if level else [])

    def forward(self, x: Tensor, emb: Tensor, skips: list[Tensor], attended: Attended) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat((x, skips.pop()), 1), emb)
            if self.attentions:
                x = self.attentions[i](x, attended)
        for upsample in self.upsamplers:
            x = upsample(x, skips[-1].shape[-2:])
        return x


class UNet(nn.Module):
    """The network of diffusion. Residual branches and output start as 0 (Dhariwal 2021)."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        widths, n = config.block_out_channels, config.layers_per_block
        levels = range(len(widths))
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], 4 * widths[0], config.guidance_dim)
        self.add_embedding = None
        if config.added_dim:
            self.add_embedding = TimeEmbedding(config.added_dim, 4 * widths[0])
        self.down_blocks = nn.ModuleList(DownBlock(config, level) for level in levels)
        self.mid_block = MiddleBlock(config)
        # the widths of the skips: conv_in's, then each level's and that of its downsampler
        skips = [widths[0]] + [widths[i] for i in levels for _ in range(n + (i < levels[-1]))]
        x, blocks = widths[-1], []
        for level in reversed(levels):
            inputs = [(widths[level] if i else x) + skips.pop() for i in range(n + 1)]
            blocks.append(UpBlock(config, level, inputs))
            x = widths[level]
        self.up_blocks = nn.ModuleList(blocks)
        self.conv_norm_out = nn.GroupNorm(config.norm_groups, widths[0], eps=1e-5)
        self.conv_out = zero_parameters(nn.Conv2d(widths[0], config.out_channels, 3, padding=1))
        for name, module in self.named_modules():
            if isinstance(module, Attention):
                module.name, module.upcast = name, config.upcast_attention

    def constants(self, conditioning: Conditioning) -> Constants:
        """What is constant over a run: give it to `forward`. Raises BadInput for a slot of the
        conditioning without an input in this network, and for an input without its slot."""
        layers = (layer for layer in self.modules() if isinstance(layer, Attention))
        context, guidance, added = conditioning.context, None, None
        projected = {a.name: a.project(context) for a in layers if a.name.endswith("attn2")}
        if self.add_embedding or conditioning.names - {"context", "concat"}:
            from fromnoise.models.added_inputs import embed_added  # only some networks have them

            guidance, added = embed_added(self.config, self.add_embedding, conditioning)
        return Constants(projected, guidance, added)

    def encode(
        self, x: Tensor, t: Tensor, known: Constants, attended: Attended, hint: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The way down: (the time embedding (B, 4·width), the skips and what the middle makes).
        hint: what a ControlNet adds to the first convolution's result."""
        c, t = self.config, t.expand(x.shape[0])  # len() would fix B in an export
        emb = embed_timesteps(t, c.block_out_channels[0], c.flip_sin_to_cos, c.freq_shift)
        emb = self.time_embedding(emb.to(x.dtype), known.guidance)
        emb = F.silu(emb if known.added is None else emb + known.added)  # once for all resnets
        skips = [self.conv_in(x) if hint is None else self.conv_in(x) + hint]
        for block in self.down_blocks:
            block(skips[-1], emb, skips, attended)
        return emb, [*skips, self.mid_block(skips[-1], emb, attended)]

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        conditioning: Conditioning,
        record: Record | None = None,
        constants: Constants | None = None,
        residuals: Residuals | None = None,
    ) -> Tensor:
        """x (B, C, H, W), t (B,) or () in [0, T), fractions allowed → (B, out_channels, H, W).

        record: a dict to fill with each cross-attention's map (B, heads, H'·W', N), or a function
        (name, map) to call with it; the output keeps its bits. constants: if they are known."""
        known, (added, features) = constants or self.constants(conditioning), residuals or ({}, {})
        attended = Attended(known.projected, record, features)
        if conditioning.concat is not None:
            x = torch.cat((x, conditioning.concat.expand(len(x), -1, -1, -1)), 1)
        emb, skips = self.encode(x, t, known, attended)
        *skips, x = [s + added[i] if i in added else s for i, s in enumerate(skips)]
        for block in self.up_blocks:
            x = block(x, emb, skips, attended)
        return self.conv_out(F.silu(self.conv_norm_out(x)))
