"""Tiny random ControlNets and T2I-Adapters, as diffusers builds them and as we do."""

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers import T2IAdapter as TheirAdapter
from torch import nn

from fromnoise.models.config import UNetConfig
from fromnoise.models.controlnet import ControlNet, ControlNetConfig
from fromnoise.models.t2i_adapter import T2IAdapter, T2IAdapterConfig

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
# U-Nets like those of Stable Diffusion in small
UNETS = {
    "sd1": UNetConfig(
        block_out_channels=(16, 32, 32, 32),
        attention=(True, True, True, False),
        heads=(4,) * 4,
        context_dim=24,
        norm_groups=8,
    ),
    "sd2": UNetConfig(
        block_out_channels=(16, 32, 32, 32),
        attention=(True, True, True, False),
        heads=(2, 4, 4, 4),
        context_dim=24,
        norm_groups=8,
        linear_projection=True,
    ),
    "xl": UNetConfig(
        block_out_channels=(16, 32, 64),
        attention=(False, True, True),
        heads=(2, 4, 8),
        context_dim=24,
        transformer_depth=(1, 2, 3),
        norm_groups=8,
        linear_projection=True,
        time_id_dim=8,
        added_dim=20 + 6 * 8,
    ),
    # a small ControlNet for SDXL has no attention, and one resnet in the middle
    "xl small": UNetConfig(
        block_out_channels=(16, 32, 64),
        attention=(False, False, False),
        heads=(2, 4, 8),
        context_dim=24,
        norm_groups=8,
        linear_projection=True,
        mid_attention=False,
        time_id_dim=8,
        added_dim=20 + 6 * 8,
    ),
}
HINT = (4, 8, 8, 16)


def randomize(module: nn.Module, seed: int = 0, scale: float = 0.5) -> None:
    """Every parameter random, norms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    norms = {id(m.weight) for m in module.modules() if isinstance(m, nn.GroupNorm | nn.LayerNorm)}
    for p in module.parameters():
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        if id(p) in norms:
            p.data = (1 + 0.3 * noise).to(p.dtype)
        elif p.ndim > 1:
            p.data = (scale * noise / p[0].numel() ** 0.5).to(p.dtype)
        else:
            p.data = (0.1 * noise).to(p.dtype)
    module.eval()


def describe(c: UNetConfig) -> dict:
    """What diffusers calls the parts of a U-Net's configuration that a ControlNet shares."""
    return {
        "in_channels": c.in_channels,
        "block_out_channels": c.block_out_channels,
        "layers_per_block": c.layers_per_block,
        "down_block_types": tuple(CROSS if a else PLAIN for a in c.attention),
        "mid_block_type": "UNetMidBlock2DCrossAttn" if c.mid_attention else "UNetMidBlock2D",
        "attention_head_dim": c.heads,
        "cross_attention_dim": c.context_dim,
        "norm_num_groups": c.norm_groups,
        "transformer_layers_per_block": c.transformer_depth,
        "use_linear_projection": c.linear_projection,
        "addition_embed_type": "text_time" if c.added_dim else None,
        "addition_time_embed_dim": c.time_id_dim,
        "projection_class_embeddings_input_dim": c.added_dim,
    }


def make_their_unet(c: UNetConfig, seed: int = 0) -> UNet2DConditionModel:
    shared = describe(c)
    up = tuple(kind.replace("Down", "Up") for kind in reversed(shared["down_block_types"]))
    theirs = UNet2DConditionModel(**shared, out_channels=c.out_channels, up_block_types=up)
    randomize(theirs, seed)
    return theirs


def make_their_controlnet(
    c: UNetConfig, seed: int = 1, hint: tuple[int, ...] = HINT, **more
) -> ControlNetModel:
    theirs = ControlNetModel(**describe(c), conditioning_embedding_out_channels=hint, **more)
    randomize(theirs, seed)
    # so much that the picture's share can be seen behind eight convolutions
    randomize(theirs.controlnet_cond_embedding, seed, 1.5)
    return theirs


def make_controlnets(name: str, seed: int = 1, **more) -> tuple[ControlNet, ControlNetModel]:
    theirs = make_their_controlnet(UNETS[name], seed, **more)
    config = ControlNetConfig(
        UNETS[name],
        hint_widths=more.get("hint", HINT),
        blue_first=more.get("controlnet_conditioning_channel_order") == "bgr",
        pooled=more.get("global_pool_conditions", False),
    )
    ours = ControlNet(config).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


# each fits one of UNETS: its widths, and what becomes channels
ADAPTERS = {
    "full": T2IAdapterConfig("full_adapter", 3, (16, 32, 32, 32), 2, 8),
    "grey": T2IAdapterConfig("full_adapter", 1, (16, 32, 32, 32), 2, 8),
    "light": T2IAdapterConfig("light_adapter", 3, (16, 32, 32), 4, 8),
    "xl": T2IAdapterConfig("full_adapter_xl", 3, (16, 32, 64, 64), 2, 16),
}


def make_adapters(name: str, seed: int = 5) -> tuple[T2IAdapter, TheirAdapter]:
    c = ADAPTERS[name]
    theirs = TheirAdapter(c.picture_channels, list(c.widths), c.layers_per_block, c.factor, c.kind)
    randomize(theirs, seed)
    ours = T2IAdapter(c).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def make_their_union(c: UNetConfig, seed: int = 8, hint: tuple[int, ...] = HINT, kinds: int = 8):
    """A ControlNet Union of diffusers, with every parameter random."""
    from diffusers import ControlNetUnionModel

    width, shared = c.block_out_channels[0], describe(c)
    del shared["mid_block_type"]
    theirs = ControlNetUnionModel(
        **shared,
        conditioning_embedding_out_channels=hint,
        num_control_type=kinds,
        num_trans_channel=width,
        num_proj_channel=width,
        num_trans_layer=2,
    )
    randomize(theirs, seed)
    randomize(theirs.controlnet_cond_embedding, seed, 1.5)
    return theirs
