"""Tiny random networks equal those of diffusers and transformers, and every known trap is caught
when it is planted."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TypeVar

import pytest
import torch
from diffusers import AutoencoderKL, LatentConsistencyModelPipeline, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig as TheirTextConfig
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection
from transformers import CLIPVisionConfig as TheirVisionConfig

from fromnoise.errors import BadInput
from fromnoise.models import added_inputs, attention, layers, pixel_attention
from fromnoise.models.clip import MLP, CLIPText
from fromnoise.models.clip_vision import CLIPVision, CLIPVisionConfig
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.config import CLIPTextConfig, UNetConfig, VAEConfig
from fromnoise.models.unet import UNet
from fromnoise.models.vae import VAE

# Largest deviation over the output's RMS. fp64: rounding is about 1e-15 a layer, 1e-9 leaves room
# for depth and for other kernels, yet no formula that differs survives it. fp32: 1e-7 a layer over
# some 30 layers, in another order of sums; the autoencoder is deeper. A planted fault must exceed
# the coarse ones, though it is measured in fp64.
EXACT, COARSE, COARSE_VAE = 1e-9, 2e-5, 5e-5
M = TypeVar("M", bound=nn.Module)
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])


def randomize(module: M, dtype: torch.dtype, seed: int = 0) -> M:
    """Every parameter random, norms and biases too. Weights of half the usual size keep activations
    small enough for an epsilon of 1e-5 under a variance to show."""
    generator = torch.Generator().manual_seed(seed)
    scales = {id(m.weight) for m in module.modules() if isinstance(m, nn.GroupNorm | nn.LayerNorm)}
    for p in module.parameters():
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            if id(p) in scales:
                p.copy_(1 + 0.3 * noise)
            elif p.ndim > 1:
                p.copy_(0.5 * noise / p[0].numel() ** 0.5)
            else:
                p.copy_(0.1 * noise)
    return module.to(dtype).eval()


def draw_normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> torch.Tensor:
    return torch.randn(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


def measure_deviation(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    return ((ours - theirs).abs().max() / theirs.square().mean().sqrt()).item()


def copy_weights(ours: nn.Module, theirs: nn.Module, prefix: str = "") -> None:
    """Give ours the weights of theirs: the same names and shapes, none left over."""
    ours.to(next(theirs.parameters()).dtype).eval()
    ours.load_state_dict({prefix + k: v for k, v in theirs.state_dict().items()}, strict=True)


# ----------------------------------------------------------------------
# U-Net

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
UNETS = {
    # like SD 1.5 in small: convolutional projection, attention on all levels but the last, one head
    # count
    "sd1": UNetConfig(
        block_out_channels=(16, 32, 32),
        attention=(True, True, False),
        heads=(4, 4, 4),
        context_dim=24,
        norm_groups=8,
    ),
    # like SD 2: linear projection, heads per level; and a deeper transformer
    "sd2": UNetConfig(
        block_out_channels=(16, 32),
        layers_per_block=1,
        attention=(True, True),
        heads=(2, 4),
        context_dim=24,
        norm_groups=4,
        linear_projection=True,
        transformer_depth=(2,),
    ),
    # a small one of our own: attention below the finest level only
    "small": UNetConfig(
        in_channels=8,
        out_channels=8,
        block_out_channels=(16, 24, 32),
        layers_per_block=1,
        attention=(False, True, True),
        heads=(1, 2, 4),
        context_dim=24,
        norm_groups=8,
        linear_projection=True,
        flip_sin_to_cos=False,
        freq_shift=1,
    ),
    # no attention in the middle, which leaves one resnet there
    "bare middle": UNetConfig(
        block_out_channels=(16, 32),
        layers_per_block=1,
        attention=(False, True),
        heads=(4, 4),
        context_dim=24,
        norm_groups=8,
        mid_attention=False,
    ),
    # a latent consistency model: its guidance scale is an input
    "lcm": UNetConfig(
        block_out_channels=(16, 32),
        layers_per_block=1,
        attention=(True, True),
        heads=(4, 4),
        context_dim=24,
        norm_groups=8,
        guidance_dim=20,
    ),
    # like SDXL: a level without attention, deeper and deeper transformers, sizes and pooled text
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
    # its refiner: four levels, the outer ones without attention, five ids
    "refiner": UNetConfig(
        block_out_channels=(16, 32, 64, 64),
        attention=(False, True, True, False),
        heads=(2, 4, 8, 8),
        context_dim=24,
        transformer_depth=(4,),
        norm_groups=8,
        linear_projection=True,
        time_id_dim=8,
        added_dim=20 + 5 * 8,
    ),
}
UNETS["xl inpaint"] = replace(UNETS["xl"], in_channels=9)


def make_diffusers_unet(c: UNetConfig) -> UNet2DConditionModel:
    down = tuple(CROSS if a else PLAIN for a in c.attention)
    return UNet2DConditionModel(
        sample_size=c.sample_size,
        in_channels=c.in_channels,
        out_channels=c.out_channels,
        block_out_channels=c.block_out_channels,
        layers_per_block=c.layers_per_block,
        down_block_types=down,
        up_block_types=tuple(d.replace("Down", "Up") for d in reversed(down)),
        mid_block_type="UNetMidBlock2DCrossAttn" if c.mid_attention else "UNetMidBlock2D",
        attention_head_dim=c.heads,
        cross_attention_dim=c.context_dim,
        norm_num_groups=c.norm_groups,
        transformer_layers_per_block=c.transformer_depth,
        use_linear_projection=c.linear_projection,
        flip_sin_to_cos=c.flip_sin_to_cos,
        freq_shift=c.freq_shift,
        time_cond_proj_dim=c.guidance_dim,
        addition_embed_type="text_time" if c.added_dim else None,
        addition_time_embed_dim=c.time_id_dim,
        projection_class_embeddings_input_dim=c.added_dim,
    )


def make_unets(name: str, dtype: torch.dtype = torch.float64) -> tuple[UNet, UNet2DConditionModel]:
    theirs = randomize(make_diffusers_unet(UNETS[name]), dtype)
    ours = UNet(UNETS[name])
    copy_weights(ours, theirs)
    return ours, theirs


def compare_unets(
    ours: UNet, theirs: UNet2DConditionModel, side: tuple[int, int] = (8, 12)
) -> float:
    dtype = ours.conv_in.weight.dtype
    x, context = (
        draw_normal(2, ours.config.in_channels, *side, dtype=dtype),
        draw_normal(2, 7, 24, dtype=dtype, seed=2),
    )
    t = torch.tensor([17.25, 901.0])  # a fraction, and both ends of the schedule
    shown, added = Conditioning(context), None
    if ours.config.added_dim and ours.config.time_id_dim:
        ids = torch.tensor([[1024.0, 896.0, 0.0, 16.0, 1000.0, 2.5], [512, 640, 8, 0, 513, 6]])
        ids = ids[:, : (ours.config.added_dim - 20) // ours.config.time_id_dim]
        added = {"text_embeds": draw_normal(2, 20, dtype=dtype, seed=3), "time_ids": ids}
        shown = Conditioning(context, added["text_embeds"], ids)
    with torch.no_grad():
        wanted = theirs(x, t, context, added_cond_kwargs=added).sample
        return measure_deviation(ours(x, t, shown), wanted)


@DTYPES
@pytest.mark.parametrize("name", UNETS)
def test_unet(name: str, dtype: torch.dtype):
    assert compare_unets(*make_unets(name, dtype)) <= (EXACT if dtype == torch.float64 else COARSE)


def test_unet_that_takes_its_guidance_scale():
    ours, theirs = make_unets("lcm")
    x, context, t, scale = (
        draw_normal(2, 4, 8, 8),
        draw_normal(2, 7, 24, seed=2),
        torch.tensor([3.0, 900.0]),
        [1.5, 8.0],
    )
    # diffusers' own sinusoids of scale − 1; it has them as a method that needs nothing of its
    # pipeline
    sinusoids = LatentConsistencyModelPipeline.get_guidance_scale_embedding(
        SimpleNamespace(), torch.tensor(scale, dtype=torch.float64) - 1, 20, dtype=torch.float64
    )
    with torch.no_grad():
        wanted = theirs(x, t, context, timestep_cond=sinusoids).sample
        found = ours(x, t, Conditioning(context, guidance=torch.tensor(scale)))
        plain = ours(x, t, Conditioning(context))
    # ours computes the angles, up to 7000, in fp32: 6e-8 × 7000 = 4e-4 of a radian, times what a
    # weight makes of it
    assert measure_deviation(found, wanted) < 2e-3
    assert measure_deviation(plain, wanted) > 0.05
    with pytest.raises(BadInput, match="guidance"):
        make_unets("sd1")[0](x, t, Conditioning(context, guidance=torch.tensor(scale)))


def test_unet_of_odd_sides():
    assert compare_unets(*make_unets("sd1"), side=(9, 7)) <= EXACT


def test_unet_in_channels_last():
    ours, theirs = make_unets("sd1", torch.float32)
    assert compare_unets(ours.to(memory_format=torch.channels_last), theirs) <= COARSE


def test_unet_takes_the_residuals_of_a_controlnet():
    ours, theirs = make_unets("sd1")
    x, context, t = draw_normal(2, 4, 8, 8), draw_normal(2, 7, 24, seed=2), torch.tensor([3.0, 4.0])
    sides, widths = (8, 8, 8, 4, 4, 4, 2, 2, 2), (16, 16, 16, 16, 32, 32, 32, 32, 32)
    skips = tuple(
        draw_normal(2, c, s, s, seed=i) for i, (c, s) in enumerate(zip(widths, sides, strict=True))
    )
    middle = draw_normal(2, 32, 2, 2, seed=99)
    with torch.no_grad():
        a = ours(x, t, Conditioning(context), residuals=(dict(enumerate((*skips, middle))), {}))
        b = theirs(
            x,
            t,
            context,
            down_block_additional_residuals=skips,
            mid_block_additional_residual=middle,
        ).sample
    assert measure_deviation(a, b) <= EXACT


def test_unet_takes_concatenated_channels():
    ours, theirs = make_unets("small")
    x, context, t = draw_normal(2, 8, 8, 8), draw_normal(2, 7, 24, seed=2), torch.tensor([3.0, 4.0])
    with torch.no_grad():
        a = ours(x[:, :3], t, Conditioning(context, concat=x[:, 3:]))
        assert measure_deviation(a, theirs(x, t, context).sample) <= EXACT


def set_eps(kind: type[nn.Module], eps: float) -> Callable[[nn.Module, pytest.MonkeyPatch], None]:
    def plant(network: nn.Module, _: pytest.MonkeyPatch) -> None:
        for m in network.modules():
            for norm in m.children() if isinstance(m, kind) else ():
                if isinstance(norm, nn.GroupNorm):
                    norm.eps = eps

    return plant


def heads_are_a_width(network: nn.Module, _: pytest.MonkeyPatch) -> None:
    for m in network.modules():
        if isinstance(m, attention.Attention):
            m.heads = m.to_q.in_features // m.heads


def gelu_by_tanh(_: nn.Module, patch: pytest.MonkeyPatch) -> None:
    ours = SimpleNamespace(**vars(F))  # a copy: theirs must keep its own
    ours.gelu = partial(F.gelu, approximate="tanh")
    patch.setattr(attention, "F", ours)


def other_pad(network: nn.Module, _: pytest.MonkeyPatch) -> None:
    for m in network.modules():
        if isinstance(m, layers.Downsample):
            m.symmetric = not m.symmetric
            m.conv.padding = (1, 1) if m.symmetric else (0, 0)


def set_time(flip: bool, shift: int) -> Callable[[nn.Module, pytest.MonkeyPatch], None]:
    def plant(_: nn.Module, patch: pytest.MonkeyPatch) -> None:
        plain = layers.embed_timesteps
        patch.setattr(
            "fromnoise.models.unet.embed_timesteps",
            lambda t, dim, *_: plain(t, dim, flip, shift),
        )

    return plant


UNET_FAULTS = {
    "transformer norm eps 1e-5": set_eps(attention.Transformer, 1e-5),
    "resnet norm eps 1e-6": set_eps(layers.ResnetBlock, 1e-6),
    "attention_head_dim taken for a width": heads_are_a_width,
    "GEGLU by tanh": gelu_by_tanh,
    "asymmetric downsample pad": other_pad,
    "sin before cos": set_time(False, 0),
    "freq_shift 1": set_time(True, 1),
}


def swap_added(_: nn.Module, patch: pytest.MonkeyPatch) -> None:
    """The sinusoids before the pooled text."""
    joined = SimpleNamespace(cat=lambda parts, dim: torch.cat(parts[::-1], dim))
    patch.setattr(added_inputs, "torch", joined)


def swap_ids(_: nn.Module, patch: pytest.MonkeyPatch) -> None:
    """Width before height, as ComfyUI's node lists them."""
    plain = added_inputs.embed_timesteps
    order = [1, 0, 3, 2, 5, 4]
    patch.setattr(
        added_inputs,
        "embed_timesteps",
        lambda t, *rest: plain(t.view(-1, 6)[:, order].flatten(), *rest),
    )


def set_depth(network: nn.Module, _: pytest.MonkeyPatch) -> None:
    """The transformers on the way up of the depths on the way down, in that order."""
    for block in network.up_blocks:
        for transformer in block.attentions:
            transformer.transformer_blocks = transformer.transformer_blocks[:2]


def activate_early(network: nn.Module, _: pytest.MonkeyPatch) -> None:
    """The SiLU before the sum of both embeddings."""
    network.time_embedding.register_forward_hook(lambda *args: F.silu(args[2]))


XL_FAULTS = {
    "sizes before the pooled text": swap_added,
    "width before height": swap_ids,
    "depths in the wrong order": set_depth,
    "SiLU before the sum": activate_early,
}


@pytest.mark.parametrize("fault", XL_FAULTS)
def test_xl_unet_fault_shows(fault: str, monkeypatch: pytest.MonkeyPatch):
    ours, theirs = make_unets("xl")
    XL_FAULTS[fault](ours, monkeypatch)
    assert compare_unets(ours, theirs) > COARSE


def test_a_unet_says_what_it_needs_to_be_told():
    ours, _ = make_unets("xl")
    x, context = draw_normal(1, 4, 8, 8), draw_normal(1, 7, 24)
    pooled, ids = draw_normal(1, 20), torch.zeros(1, 6)
    with pytest.raises(BadInput, match="needs `pooled` and `time_ids`"):
        ours(x, torch.tensor(3.0), Conditioning(context, pooled))
    with pytest.raises(BadInput, match="20 and 5 time ids are 60 numbers"):
        ours(x, torch.tensor(3.0), Conditioning(context, pooled, ids[:, :5]))
    with pytest.raises(BadInput, match="no input for `guidance`"):
        ours(x, torch.tensor(3.0), Conditioning(context, pooled, ids, guidance=torch.ones(1)))


def test_attention_is_computed_in_fp32_where_the_model_asks_for_it(monkeypatch):
    """Of the math kernel, whose logits are of the inputs' type: beyond fp16's 65,504 they are
    infinite, and their softmax NaN."""
    network = UNet(replace(UNETS["small"], upcast_attention=True))
    layer = network.mid_block.attentions[0].transformer_blocks[0].attn1.half()
    types = []
    ours = SimpleNamespace(**vars(F))

    def attend(q: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        types.append(q.dtype)
        return F.scaled_dot_product_attention(q, *more)

    ours.scaled_dot_product_attention = attend
    monkeypatch.setattr(attention, "F", ours)
    x = torch.randn(1, 4, 32, dtype=torch.float16)
    assert layer(x).dtype == torch.float16
    layer.upcast = False
    layer(x)
    layer.upcast = True
    layer.float()(x.float())
    assert types == [torch.float32, torch.float16, torch.float32]


@pytest.mark.parametrize("fault", UNET_FAULTS)
def test_unet_fault_shows(fault: str, monkeypatch: pytest.MonkeyPatch):
    # sd2 has 8 channels a head at both levels and another count at each, so a mix-up changes both
    ours, theirs = make_unets("sd2")
    UNET_FAULTS[fault](ours, monkeypatch)
    assert compare_unets(ours, theirs) > COARSE


# ----------------------------------------------------------------------
# autoencoder

VAES = {
    "sd1": VAEConfig(block_out_channels=(16, 32, 32), norm_groups=8),
    "small": VAEConfig(
        latent_channels=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_groups=4,
        mid_attention=False,
        quant_conv=False,
    ),
}


def make_vaes(name: str, dtype: torch.dtype = torch.float64) -> tuple[VAE, AutoencoderKL]:
    c = VAES[name]
    n = len(c.block_out_channels)
    theirs = AutoencoderKL(
        block_out_channels=c.block_out_channels,
        down_block_types=("DownEncoderBlock2D",) * n,
        up_block_types=("UpDecoderBlock2D",) * n,
        layers_per_block=c.layers_per_block,
        latent_channels=c.latent_channels,
        norm_num_groups=c.norm_groups,
        mid_block_add_attention=c.mid_attention,
        use_quant_conv=c.quant_conv,
        use_post_quant_conv=c.quant_conv,
    )
    ours = VAE(c)
    copy_weights(ours, randomize(theirs, dtype))
    return ours, theirs


def compare_vaes(ours: VAE, theirs: AutoencoderKL) -> float:
    dtype = ours.encoder.conv_in.weight.dtype
    image, z = (
        draw_normal(2, 3, 16, 24, dtype=dtype),
        draw_normal(2, ours.config.latent_channels, 6, 4, dtype=dtype, seed=2),
    )
    noise = draw_normal(
        2,
        ours.config.latent_channels,
        *(n // ours.config.factor for n in (16, 24)),
        dtype=dtype,
        seed=3,
    )
    with torch.no_grad():
        a, b = ours.encode(image), theirs.encode(image).latent_dist
        pairs = [
            (a.mean, b.mean),
            (a.logvar, b.logvar),
            (a.sample(noise), b.mean + b.std * noise),
            (a.kl(), b.kl()),
            (ours.decode(z), theirs.decode(z).sample),
        ]
        return max(measure_deviation(x, y) for x, y in pairs)


@DTYPES
@pytest.mark.parametrize("name", VAES)
def test_vae(name: str, dtype: torch.dtype):
    assert compare_vaes(*make_vaes(name, dtype)) <= (
        EXACT if dtype == torch.float64 else COARSE_VAE
    )


def test_vae_clamps_the_log_variance_as_theirs():
    ours, theirs = make_vaes("small")
    for network in (ours, theirs):
        nn.init.constant_(network.encoder.conv_out.bias, 25.0)
        nn.init.constant_(network.encoder.conv_out.bias[8 + 4 :], -40.0)
    assert compare_vaes(ours, theirs) <= EXACT
    logvar = ours.encode(draw_normal(1, 3, 16, 16)).logvar
    assert (logvar.min(), logvar.max()) == (-30, 20)


VAE_FAULTS = {
    "symmetric downsample pad": other_pad,
    "resnet norm eps 1e-5": set_eps(layers.ResnetBlock, 1e-5),
    "attention norm eps 1e-5": set_eps(pixel_attention.PixelAttention, 1e-5),
}


@pytest.mark.parametrize("fault", VAE_FAULTS)
def test_vae_fault_shows(fault: str, monkeypatch: pytest.MonkeyPatch):
    ours, theirs = make_vaes("sd1")
    VAE_FAULTS[fault](ours, monkeypatch)
    assert compare_vaes(ours, theirs) > COARSE_VAE


# ----------------------------------------------------------------------
# CLIP

TEXT = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
TEXT |= {
    "max_position_embeddings": 10,
    "projection_dim": 16,
    "bos_token_id": 48,
    "eos_token_id": 49,
    "pad_token_id": 0,
}
IDS = torch.tensor([[48, 3, 7, 49, 49, 49, 49, 49, 49, 49], [48, 1, 2, 4, 8, 9, 20, 31, 49, 0]])
ACTIVATIONS = pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])


def make_texts(
    dtype: torch.dtype, activation: str, projection: bool = True
) -> tuple[CLIPText, nn.Module]:
    theirs = (CLIPTextModelWithProjection if projection else CLIPTextModel)(
        TheirTextConfig(**TEXT, hidden_act=activation)  # pyright: ignore
    )
    ours = CLIPText(
        CLIPTextConfig(50, 32, 3, 4, 64, 10, activation, 16 if projection else None, 49)
    )
    copy_weights(ours, randomize(theirs, dtype), "" if projection else "text_model.")
    return ours, theirs


def compare_texts(ours: CLIPText, theirs: nn.Module) -> float:
    with torch.no_grad():
        a, b = ours(IDS), theirs(IDS, output_hidden_states=True)
    pairs = [
        (a.last_hidden, b.last_hidden_state),
        *zip(a.hidden_states, b.hidden_states, strict=True),
    ]
    pairs.append((a.pooled, b.pooler_output) if a.embeds is None else (a.embeds, b.text_embeds))
    return max(measure_deviation(x, y) for x, y in pairs)


@DTYPES
@ACTIVATIONS
@pytest.mark.parametrize("projection", [True, False], ids=["projected", "plain"])
def test_clip_text(dtype: torch.dtype, activation: str, projection: bool):
    tolerance = EXACT if dtype == torch.float64 else COARSE
    assert compare_texts(*make_texts(dtype, activation, projection)) <= tolerance


def test_clip_text_with_tokens_that_none_sees():
    ours, theirs = make_texts(torch.float64, "gelu")
    seen = torch.ones_like(IDS)
    seen[0, 2], seen[1, 3:6] = 0, 0
    with torch.no_grad():
        wanted, found, all_seen = (
            theirs(IDS, attention_mask=seen).last_hidden_state,
            ours(IDS, seen.bool()),
            ours(IDS),
        )
    assert measure_deviation(found.last_hidden, wanted) <= EXACT
    assert measure_deviation(all_seen.last_hidden, wanted) > COARSE
    assert torch.equal(
        found.last_hidden[1, :3], all_seen.last_hidden[1, :3]
    )  # what comes before does not change


def make_visions(
    dtype: torch.dtype, activation: str
) -> tuple[CLIPVision, CLIPVisionModelWithProjection]:
    theirs = CLIPVisionModelWithProjection(
        TheirVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=16,
            patch_size=4,
            projection_dim=12,
            hidden_act=activation,
        )
    )
    ours = CLIPVision(CLIPVisionConfig(16, 4, 32, 3, 4, 64, activation, 12))
    copy_weights(ours, randomize(theirs, dtype))
    return ours, theirs


def compare_visions(ours: CLIPVision, theirs: CLIPVisionModelWithProjection) -> float:
    image = draw_normal(2, 3, 16, 16, dtype=ours.visual_projection.weight.dtype)
    with torch.no_grad():
        a, b = ours(image), theirs(image, output_hidden_states=True)
    pairs = [(a.embeds, b.image_embeds), (a.last_hidden, b.last_hidden_state)]
    return max(
        measure_deviation(x, y)
        for x, y in pairs + list(zip(a.hidden_states, b.hidden_states, strict=True))
    )


@DTYPES
@ACTIVATIONS
def test_clip_vision(dtype: torch.dtype, activation: str):
    assert compare_visions(*make_visions(dtype, activation)) <= (
        EXACT if dtype == torch.float64 else COARSE
    )


@ACTIVATIONS
def test_clip_fault_of_the_other_gelu_shows(activation: str):
    other = layers.ACTIVATIONS["gelu" if activation == "quick_gelu" else "quick_gelu"]
    for (ours, theirs), measure in (
        (make_texts(torch.float64, activation), compare_texts),
        (make_visions(torch.float64, activation), compare_visions),
    ):
        for m in ours.modules():
            if isinstance(m, MLP):
                m.activation = other
        assert measure(ours, theirs) > COARSE  # pyright: ignore[reportArgumentType]
