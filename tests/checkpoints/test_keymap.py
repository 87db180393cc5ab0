"""Key rules: diffusers' own converters turn our single files back into the very same parts; both
ways are the identity, on tensors and on shapes."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as peer
from transformers import CLIPTextConfig as PeerTextConfig
from transformers import CLIPTextModelWithProjection

from fromnoise.checkpoints.headers import Entry
from fromnoise.checkpoints.keymap import KeyMap, TextTower, rule_text, rule_unet, rule_vae
from fromnoise.checkpoints.tensors import Stored
from fromnoise.errors import BadCheckpoint
from fromnoise.models.config import CLIPTextConfig, UNetConfig, VAEConfig

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
UP = {CROSS: "CrossAttnUpBlock2D", PLAIN: "UpBlock2D"}
# the shapes of Stable Diffusion 1, 2, XL, the refiner, and of a network with one residual block a
# level and no transformer in the middle
UNETS = {
    "sd1": {
        "down": (CROSS, CROSS, CROSS, PLAIN),
        "linear": False,
        "depth": 1,
        "added": None,
        "n": 2,
    },
    "sd2": {"down": (CROSS, CROSS, PLAIN), "linear": True, "depth": 1, "added": None, "n": 2},
    "xl": {"down": (PLAIN, CROSS, CROSS), "linear": True, "depth": (1, 2, 3), "added": 32, "n": 2},
    "refiner": {
        "down": (PLAIN, CROSS, CROSS, PLAIN),
        "linear": True,
        "depth": 2,
        "added": 28,
        "n": 2,
    },
    "one": {"down": (CROSS, CROSS), "linear": False, "depth": 1, "added": None, "n": 1},
}


def make_unet(down, linear, depth, added, n):
    """(diffusers' network of random weights, the sizes that the rules ask for)."""
    widths = (8, 16, 16, 24)[: len(down)]
    more = {}
    if added:
        more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
        more |= {"projection_class_embeddings_input_dim": added}
    torch.manual_seed(0)
    network = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=widths,
        layers_per_block=n,
        down_block_types=down,
        up_block_types=[UP[kind] for kind in reversed(down)],
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=linear,
        transformer_layers_per_block=depth,
        **more,
    )
    attention = tuple(kind == CROSS for kind in down)
    config = UNetConfig(
        block_out_channels=widths,
        layers_per_block=n,
        attention=attention,
        heads=(2,) * len(down),
        context_dim=12,
        norm_groups=4,
        transformer_depth=depth if isinstance(depth, tuple) else (depth,) * len(down),
    )
    return network, config


def same(one, two):
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert value.dtype == two[key].dtype, key
        assert torch.equal(value, two[key]), key


@pytest.mark.parametrize("name", UNETS)
def test_diffusers_reads_our_unet(name):
    network, config = make_unet(**UNETS[name])
    weights, keymap = network.state_dict(), KeyMap(rule_unet(config))
    single = keymap.to_single({"unet": weights})
    same(peer.convert_ldm_unet_checkpoint(single, network.config), weights)
    parts, extras = keymap.to_parts(single)
    same(parts.pop("unet"), weights)
    assert not parts
    assert not extras


@pytest.mark.parametrize("n", [1, 2])
def test_diffusers_reads_our_vae(n):
    torch.manual_seed(0)
    network = AutoencoderKL(
        block_out_channels=(8, 16, 16),
        layers_per_block=n,
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
    )
    config = VAEConfig(block_out_channels=(8, 16, 16), layers_per_block=n, norm_groups=4)
    weights, keymap = network.state_dict(), KeyMap(rule_vae(config))
    single = keymap.to_single({"vae": weights})
    query = "first_stage_model.encoder.mid.attn_1.q.weight"
    assert single[query].shape == (16, 16, 1, 1)  # the original's 1×1 convolution
    same(peer.convert_ldm_vae_checkpoint(single, network.config), weights)
    same(keymap.to_parts(single)[0]["vae"], weights)
    # some files hold a matrix there; that too comes out as it came in
    matrices = single | {query: single[query][:, :, 0, 0]}
    parts, _ = keymap.to_parts(matrices)
    same(parts["vae"], weights)
    shapes = {key: tuple(value.shape) for key, value in matrices.items()}
    same(keymap.to_single(parts, shapes=shapes), matrices)


def make_text():
    torch.manual_seed(0)
    config = PeerTextConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        bos_token_id=1,
        num_attention_heads=2,
        projection_dim=12,
        max_position_embeddings=9,
        eos_token_id=2,
    )
    network = CLIPTextModelWithProjection(config)
    ours = CLIPTextConfig(50, 16, 3, 2, 32, 9, projection_dim=12)
    return network, ours


def test_diffusers_reads_our_open_clip():
    network, config = make_text()
    # diffusers cuts q, k and v apart by the first side of the projection; in published models the
    # projection is square
    network.config.projection_dim = config.dim
    network.text_projection = torch.nn.Linear(16, 16, bias=False)
    prefix = "conditioner.embedders.1.model."
    keymap = KeyMap(rule_text(TextTower("text_encoder_2", prefix, config, open_clip=True)))
    weights = network.state_dict()
    single = keymap.to_single({"text_encoder_2": weights})
    assert single[f"{prefix}transformer.resblocks.0.attn.in_proj_weight"].shape == (48, 16)
    assert torch.equal(single[f"{prefix}text_projection"], weights["text_projection.weight"].T)
    assert all(value.is_contiguous() for value in single.values())
    same(peer.convert_open_clip_checkpoint(network, single, prefix), weights)
    same(keymap.to_parts(single)[0]["text_encoder_2"], weights)


def test_diffusers_reads_our_clip():
    network, config = make_text()
    prefix = "cond_stage_model.transformer."
    keymap = KeyMap(rule_text(TextTower("text_encoder", prefix, config, open_clip=False)))
    single = keymap.to_single({"text_encoder": network.state_dict()})
    same(peer.convert_ldm_clip_checkpoint(single), network.state_dict())
    same(keymap.to_parts(single)[0]["text_encoder"], network.state_dict())


def test_rules_work_on_shapes_and_on_headers():
    network, config = make_text()
    keymap = KeyMap(rule_text(TextTower("text_encoder", "x.", config, open_clip=True)))
    weights = network.state_dict()
    single = keymap.to_single({"text_encoder": weights})
    shapes = {key: tuple(value.shape) for key, value in single.items()}
    stored = {key: Stored(torch.float16, shape, 0, 0) for key, shape in shapes.items()}
    entries = {key: Entry("F16", shape) for key, shape in shapes.items()}
    for header in (shapes, stored, entries):
        parts, extras = keymap.to_parts(header)
        assert not extras
        found = {key: getattr(v, "shape", v) for key, v in parts["text_encoder"].items()}
        assert found == {key: tuple(value.shape) for key, value in weights.items()}
        assert keymap.to_single(parts) == header
    assert all(entry.dtype == torch.float16 for entry in stored.values())


def test_what_has_no_slot_goes_into_the_extras_and_comes_out_again():
    network, config = make_text()
    keymap = KeyMap(rule_text(TextTower("text_encoder", "x.", config, open_clip=True)))
    single = keymap.to_single({"text_encoder": network.state_dict()})
    more = {"model_ema.decay": torch.tensor(0.5), "x.logit_scale": torch.tensor(4.6)}
    parts, extras = keymap.to_parts(single | more)
    assert extras == more
    same(keymap.to_single(parts, extras), single | more)
    with pytest.raises(BadCheckpoint, match=r"extras hold x\.ln_final\.bias, which a part"):
        keymap.to_single(parts, {"x.ln_final.bias": torch.zeros(16)})


def test_faults_are_named():
    network, config = make_text()
    keymap = KeyMap(rule_text(TextTower("text_encoder", "x.", config, open_clip=True)))
    weights = network.state_dict()
    fused = "x.transformer.resblocks.0.attn.in_proj_bias"
    with pytest.raises(BadCheckpoint, match=r"f: x.*in_proj_bias is \(47,\), not 3 equal"):
        keymap.to_parts({fused: torch.zeros(47)}, "f")
    with pytest.raises(BadCheckpoint, match="is \\(\\), not 3 equal"):
        keymap.to_parts({fused: ()})
    with pytest.raises(BadCheckpoint, match="text_encoder holds odd, an unknown key"):
        keymap.to_single({"text_encoder": {"odd": torch.zeros(1)}})
    key = "text_model.encoder.layers.0.self_attn.k_proj.bias"
    with pytest.raises(BadCheckpoint, match="differ in shape or type"):
        keymap.to_single({"text_encoder": weights | {key: weights[key].half()}})
    del weights[key]
    with pytest.raises(BadCheckpoint, match=f"but no {key}"):
        keymap.to_single({"text_encoder": weights})
    vae = KeyMap(rule_vae(VAEConfig()))
    query = "first_stage_model.encoder.mid.attn_1.q.weight"
    with pytest.raises(BadCheckpoint, match="not a 1×1 convolution"):
        vae.to_parts({query: (4, 4, 3, 3)})


def test_the_rules_need_no_torch():
    import subprocess
    import sys

    code = "import sys, fromnoise.checkpoints.keymap; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
