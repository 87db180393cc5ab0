"""Families are told from names and shapes: at true size, where diffusers and transformers make the
shapes, for every part alone, and for files that are no model."""

import subprocess
import sys
import time

import peers
import pytest

from fromnoise.checkpoints.families import read_setting, tell_family
from fromnoise.checkpoints.foreign import recognise
from fromnoise.checkpoints.tensors import Unfilled
from fromnoise.models.clip import CLIPText
from fromnoise.models.config import CLIPTextConfig
from fromnoise.models.unet import UNet
from fromnoise.models.vae import VAE

EPS_NORM = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


@pytest.mark.parametrize("name", peers.TRUE_SIZES)
def test_a_model_of_true_size(name):
    shapes, expected = peers.true_shapes(name), peers.TRUE_SIZES[name]
    start = time.perf_counter()
    family = tell_family(shapes, read=lambda key: [0.2, -0.2] * 160)
    print(f"{name}: {len(shapes):,} tensors in {time.perf_counter() - start:.3f} s")
    assert (family.kind, family.base, family.concat) == ("model", expected.base, expected.concat)
    assert family.problems == ()
    config = family.unet
    assert config is not None
    for key, value in peers.read_sizes(expected.unet).items():
        assert getattr(config, key) == value, key
    assert family.vae is not None
    assert family.vae.block_out_channels == (128, 256, 512, 512)
    assert family.vae.layers_per_block == 2
    assert family.vae.scaling_factor == (0.13025 if "xl" in name else 0.18215)
    assert family.vae.sample_size == family.unet.sample_size * 8
    assert [tower.part for tower in family.texts] == list(expected.texts)
    for tower, text in zip(family.texts, expected.texts.values(), strict=True):
        wanted = CLIPTextConfig(
            49408,
            text.hidden_size,
            text.num_hidden_layers,
            text.num_attention_heads,
            text.intermediate_size,
            77,
            text.hidden_act,
            text.projection_dim if tower.part == "text_encoder_2" else None,
        )
        assert tower.config == wanted
    # all the keys, and no others, come back from the parts
    parts, extras = family.make_keymap().to_parts(shapes)
    assert not extras
    assert {part: {k: tuple(v) for k, v in p.items()} for part, p in parts.items()} == {
        part: peers.true_part(name, part) for part in parts
    }
    assert family.make_keymap().to_single(parts) == shapes
    # and they are those of our own networks
    with Unfilled():
        networks = {"unet": UNet(family.unet), "vae": VAE(family.vae)}
        networks |= {tower.part: CLIPText(tower.config) for tower in family.texts}
    for part, network in networks.items():
        keys = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        assert keys == {k: v for k, v in parts[part].items() if not k.endswith("position_ids")}


def test_what_a_file_holds_beside_its_parts_is_named():
    shapes = dict(peers.true_shapes("sd2"))
    last = "cond_stage_model.model.transformer.resblocks.22."
    more = {k.replace(".22.", ".23."): v for k, v in shapes.items() if k.startswith(last)}
    more |= {"cond_stage_model.model.text_projection": (1024, 1024), "betas": (1000,)}
    more |= {"cond_stage_model.model.logit_scale": (), "model_ema.decay": (), "v_pred": ()}
    more |= {"sqrt_recipm1_alphas_cumprod": (1000,), "posterior_variance": (1000,)}
    family = tell_family(shapes | more)
    assert family.texts[0].config.layers == 23
    assert family.problems == ()
    assert len(family.unused) == 5
    assert family.make_keymap().to_parts(shapes | more)[1] == more
    odd = {"model.diffusion_model.input_blocks.1.0.odd": (1,)}
    [problem] = tell_family(shapes | odd | {"zzz": (1,)}).problems
    assert problem == f"no part has a place for {next(iter(odd))} and 1 more" or "odd" in problem


def test_eps_or_v_is_told_in_this_order():
    shapes = peers.true_shapes("sd2")
    spread = {0.08: "eps", 0.1: "v"}
    for value, prediction in spread.items():
        asked = []

        def read(key, value=value, asked=asked):
            asked.append(key)
            return [value, -value] * 160

        family = tell_family(shapes, read=read)
        assert asked == [EPS_NORM]
        assert (family.prediction, family.guessed) == (prediction, True)
        assert f"spreads by {value:.3f}" in family.prediction_reason
        assert family.unet.sample_size == (96 if prediction == "v" else 64)
    unknown = tell_family(shapes)
    assert (unknown.prediction, unknown.guessed) == ("", True)
    marked = tell_family(shapes | {"v_pred": (), "ztsnr": ()}, read=read)
    assert (marked.prediction, marked.guessed, marked.zero_snr) == ("v", False, True)
    metadata = {"modelspec.prediction_type": "epsilon"}
    assert tell_family(shapes, metadata, read).prediction == "eps"
    beside = 'model:\n  params:\n    parameterization: "v"  # of 768 pixels\n'
    family = tell_family(shapes, read=lambda key: [0.0] * 320, beside=beside)
    assert (family.prediction, family.guessed) == ("v", False)
    assert family.prediction_reason == "the configuration beside it"
    assert tell_family(shapes | {"v_pred": ()}, beside="parameterization: eps").prediction == "v"
    plain = tell_family(peers.true_shapes("sd1"))
    assert (plain.prediction, plain.guessed) == ("eps", False)
    assert tell_family(peers.true_shapes("sd1"), beside=beside).prediction == "v"


def test_settings_are_read_from_yaml_and_json():
    names = ("parameterization", "prediction_type")
    assert read_setting("  parameterization: v\n", names) == "v"
    assert read_setting("#parameterization: v\n", names) == ""
    assert read_setting('{"a": 1, "prediction_type": "v_prediction"}', names) == "v_prediction"
    assert read_setting("x_parameterization: v", names) == ""
    start = time.perf_counter()
    assert read_setting(" " * (1 << 20) + "x", names) == ""
    assert read_setting("#" + "parameterization: v," * 50_000, names) == ""
    assert read_setting("{" * (1 << 20) + "parameterization", names) == ""
    took = time.perf_counter() - start
    print(f"two megabytes of nothing: {took:.3f} s")
    assert took < 5


def test_parts_alone():
    shapes = peers.true_shapes("sd1")
    only = {k: v for k, v in shapes.items() if k.startswith("model.diffusion_model.")}
    family = tell_family(only)
    assert (family.kind, family.base) == ("model", "sd1")
    assert family.problems == ("it holds no VAE", "it holds no text encoder")
    bare = {k.removeprefix("model.diffusion_model."): v for k, v in only.items()}
    family = tell_family(bare)
    assert (family.kind, family.original, family.name) == (
        "unet",
        True,
        "U-Net of Stable Diffusion 1",
    )
    folder = peers.true_part("sd1", "unet")
    family = tell_family(folder)
    assert (family.kind, family.original) == ("unet", False)
    assert family.unet == tell_family(bare).unet
    for shapes, original in (
        (peers.true_part("sd1", "vae"), False),
        (peers.original_part("sd1", "vae", "first_stage_model."), True),
        (peers.original_part("sd1", "vae", ""), True),
    ):
        family = tell_family(shapes)
        assert (family.kind, family.original) == ("vae", original)
        assert family.vae is not None
        assert family.vae.block_out_channels == (128, 256, 512, 512)
        assert not family.make_keymap().to_parts(shapes)[1] or not original
    text = peers.true_part("sd1", "text_encoder")
    flat = {k.removeprefix("text_model."): v for k, v in text.items()}
    for shapes in (text, flat, {f"cond_stage_model.transformer.{k}": v for k, v in flat.items()}):
        family = tell_family(shapes)
        assert family.kind == "text encoder"
        assert family.texts[0].config.dim == 768
        assert family.make_keymap().to_parts(shapes) == ({"text_encoder": text}, {})


FOREIGN = {
    "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": "lora",
    "unet.down_blocks.0.attentions.0.proj_in.lora_A.weight": "lora",
    "lora_unet_mid_block.hada_w1_a": "lora",
    "emb_params": "embedding",
    "clip_g": "embedding",
    "<cat>": "embedding",
    "control_model.input_hint_block.0.weight": "controlnet",
    "controlnet_cond_embedding.conv_in.weight": "controlnet",
    "adapter.body.0.block1.weight": "controlnet",
    "image_proj.proj.weight": "ip-adapter",
    "body.0.rdb1.conv1.weight": "upscaler",
    "model.1.sub.0.RDB1.conv1.0.weight": "upscaler",
    "down_blocks.0.motion_modules.0.temporal_transformer.norm.bias": "motion",
    "double_blocks.0.img_attn.norm.key_norm.scale": "other",
    "model.diffusion_model.joint_blocks.1.x_block.attn.qkv.weight": "other",
    "decoder.layers.0.weight": "tiny vae",
    "1.weight": "tiny vae",
    "vision_model.embeddings.class_embedding": "image encoder",
    "encoder.block.0.layer.0.SelfAttention.q.weight": "other",
    "model.diffusion_model.time_stack.0.x": "other",
    "model.diffusion_model.label_emb.weight": "other",
}


@pytest.mark.parametrize("key", FOREIGN)
def test_other_files_are_recognised_by_name(key):
    family = tell_family({"a": (1,), key: (4, 4), "z": (1,)})
    assert family.kind == FOREIGN[key]
    assert key in family.reason
    assert family.name not in ("unknown", "")


def test_no_model_is_taken_for_another_kind():
    for name in peers.TRUE_SIZES:
        assert recognise(peers.true_shapes(name)) is None
        for part in ("unet", "vae", *peers.TRUE_SIZES[name].texts):
            assert recognise(peers.true_part(name, part)) is None


def test_unknown_and_damaged_files_are_families_too():
    family = tell_family({"\x1b[31mred": (1,)})
    assert (family.kind, family.name) == ("other", "unknown")
    assert "\x1b" not in family.reason
    assert tell_family({}).reason == "no known network has a tensor nothing"
    shapes = dict(peers.true_shapes("sd1"))
    for key, shape in (
        ("model.diffusion_model.input_blocks.0.0.weight", (320,)),
        ("model.diffusion_model.input_blocks.0.0.weight", (320, 1 << 60, 3, 3)),
        ("model.diffusion_model.input_blocks.2.0.in_layers.2.weight", (640, 320, 3, 3)),
        ("first_stage_model.decoder.conv_in.weight", ()),
        ("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", (0, 768)),
    ):
        family = tell_family(shapes | {key: shape})
        assert (family.kind, len(family.problems)) == ("other", 1), key
    del shapes["model.diffusion_model.out.2.weight"]
    [problem] = tell_family(shapes).problems
    assert problem == "there is no model.diffusion_model.out.2.weight"


def test_telling_a_family_needs_no_torch():
    code = "import sys, fromnoise.checkpoints.families as f; f.tell_family({'a': (1,)})"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_telling_is_linear_in_the_header():
    """A header of 4 MB, of many keys or of long ones: a second is the bar of hostile files."""
    shapes = peers.true_shapes("xl")
    many = {f"cond_stage_model.{'a' * 60}.{i}.w": (3,) for i in range(30_000)}
    odd = {f"model.diffusion_model.odd.{i}.weight": (3,) for i in range(40_000)}
    long = {"body." + "1" * 1_900_000: (1,), "." * 1_900_000: (2,)}
    for hostile in (many, shapes | many, shapes | odd, long):
        start = time.perf_counter()
        family = tell_family(hostile)
        took = time.perf_counter() - start
        print(f"{len(hostile):,} keys: {took:.2f} s (bar 1 s)")
        assert took < 10
        assert family.kind in ("model", "other")
