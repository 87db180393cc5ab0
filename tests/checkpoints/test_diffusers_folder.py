"""The folder format: save∘load is the identity, diffusers opens it and draws the same picture,
faults are named."""

import json
import logging

import fakes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fromnoise.api import load
from fromnoise.checkpoints import hub
from fromnoise.checkpoints.configs import Fields
from fromnoise.checkpoints.formats import diffusers_configs as reading
from fromnoise.checkpoints.formats import diffusers_folder as folders
from fromnoise.checkpoints.formats import diffusers_folder_save as writing
from fromnoise.checkpoints.formats import diffusers_old as old
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.schedules import (
    make_cosine,
    make_flow,
    make_linear,
    rescale_zero_terminal_snr,
)
from fromnoise.errors import BadCheckpoint, BadInput, NotFound
from fromnoise.models.config import CLIPTextConfig
from fromnoise.models.resnet import CLIPResNet, CLIPResNetConfig
from fromnoise.pipeline.request import GenerationRequest


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    writing.save(fakes.model(folder / "words", steps=20, spacing="trailing"), folder / "m")
    return folder / "m"


@pytest.fixture
def copied(saved, tmp_path):
    import shutil

    return shutil.copytree(saved, tmp_path / "copy")


def test_save_of_load_is_the_identity_on_every_byte(saved, tmp_path):
    writing.save(folders.load(saved), tmp_path)
    names = sorted(p.relative_to(saved) for p in saved.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    for name in names:
        assert (saved / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_a_residual_image_tower_lies_beside_diffusers_own_parts(tmp_path):
    model = fakes.model(tmp_path / "w")
    model.vision = CLIPResNet(CLIPResNetConfig(32, 4, (4, 8), (1, 1), 12)).eval()
    writing.save(model, tmp_path / "a")
    index = json.loads((tmp_path / "a" / "model_index.json").read_text())
    assert index["image_encoder"] == [None, None]  # diffusers knows no such tower and need not
    assert "image_tower" not in index
    again = folders.load(tmp_path / "a")
    assert isinstance(again.vision, CLIPResNet)
    assert again.vision.config == model.vision.config
    assert again.vision(torch.zeros(1, 3, 32, 32)).embeds.shape == (1, 12)
    writing.save(again, tmp_path / "b")
    for part in ("config.json", "model.safetensors"):
        one, two = ((tmp_path / side / "image_tower" / part).read_bytes() for side in "ab")
        assert one == two
    assert folders.load(tmp_path / "a", image_tower=False).vision is None


def test_without_the_encoder_pictures_come_out_the_same_and_none_go_in(saved, tmp_path):
    whole, half = folders.load(saved), folders.load(saved, encoder=False)
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole.vae.to_image(latents), half.vae.to_image(latents))
    assert not [key for key in half.vae.state_dict() if key.startswith(("encoder.", "quant_conv."))]
    with pytest.raises(BadInput, match="has no encoder"):
        half.vae.to_latents(torch.zeros(1, 3, 32, 32))
    with pytest.raises(BadInput, match="without its autoencoder's encoder"):
        writing.save(half, tmp_path / "half")


def test_weights_are_loaded_as_fp32_and_nothing_is_left_on_meta(saved):
    model = folders.load(saved)
    for network in (model.unet, model.vae, model.text_encoder, model.vision):
        for name, tensor in network.state_dict().items():
            assert tensor.dtype == torch.float32, name
            assert tensor.device.type == "cpu", name
    assert model.text_projection.shape == (12, 16)
    assert float(model.logit_scale) == 2.5
    assert model.defaults == {"steps": 20, "spacing": "trailing"}
    assert (model.size, model.multiple) == (32, 8)


# The U-Net of a random model is smooth, so rounding stays rounding: 20 steps of fp32 differ by
# about 1e-5 from another order of sums.
@pytest.mark.parametrize(
    ("prediction", "schedule", "spacing", "tolerance", "ends_at_first"),
    [
        (
            "eps",
            NoiseSchedule.scaled_linear(),
            "leading",
            5e-5,
            True,
        ),  # as Stable Diffusion 1.5's own scheduler says
        ("v", NoiseSchedule.scaled_linear(), "trailing", 5e-5, False),
        ("eps", NoiseSchedule.scaled_linear(), "leading", 5e-5, False),
        ("v", make_cosine(), "leading", 5e-5, False),
        ("x0", make_linear(1e-4, 0.03), "trailing", 1e-4, False),
        ("v", rescale_zero_terminal_snr(NoiseSchedule.scaled_linear()), "trailing", 5e-5, False),
        (
            "v",
            NoiseSchedule.from_betas(torch.linspace(0.001, 0.02, 1000) ** 1.1),
            "trailing",
            5e-5,
            False,
        ),
    ],
)
def test_diffusers_opens_the_folder_and_draws_the_same_picture(
    tmp_path, prediction, schedule, spacing, tolerance, ends_at_first
):
    from diffusers import StableDiffusionPipeline

    logging.disable(logging.WARNING)
    writing.save(fakes.model(tmp_path / "w", prediction, schedule, spacing=spacing), tmp_path / "m")
    (tmp_path / "m" / "fromnoise.json").unlink()  # so that the scheduler decides here too
    if ends_at_first:
        rewrite(tmp_path / "m" / "scheduler" / "scheduler_config.json", set_alpha_to_one=False)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "m")
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = pipeline(
        "a neon cat in space",
        negative_prompt="a dog",
        latents=latents,
        guidance_scale=5.0,
        num_inference_steps=20,
        width=32,
        height=32,
        output_type="np",
    ).images[0]
    engine = load(tmp_path / "m")
    settings = {"negative_prompt": "a dog", "cfg": 5, "steps": 20}
    *_, last = engine.steps("a neon cat in space", latents=latents, **settings)
    with torch.inference_mode():
        image = engine.model.vae.to_image(last.x)[0].permute(1, 2, 0).numpy()
    assert expected.std() > 0.1  # a picture, not a flat field in which anything agrees
    assert np.abs((image / 2 + 0.5).clip(0, 1) - expected).max() < tolerance


def test_diffusers_draws_the_same_with_a_latent_consistency_model(tmp_path):
    """One step, so that no noise is added that would be another generator's."""
    from diffusers import LatentConsistencyModelPipeline

    writing.save(fakes.model(tmp_path / "w", "eps", vision=False, guidance_dim=12), tmp_path / "m")
    rewrite(tmp_path / "m" / "scheduler" / "scheduler_config.json", _class_name="LCMScheduler")
    index = tmp_path / "m" / "model_index.json"
    rewrite(
        index, _class_name="LatentConsistencyModelPipeline", scheduler=["diffusers", "LCMScheduler"]
    )
    pipeline = LatentConsistencyModelPipeline.from_pretrained(tmp_path / "m")
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = pipeline(
        "a neon cat",
        latents=latents,
        guidance_scale=6.0,
        num_inference_steps=1,
        width=32,
        height=32,
        output_type="np",
    ).images[0]
    engine = load(tmp_path / "m")
    own = GenerationRequest.of(prompt="a neon cat").resolve(engine.model)
    assert (own.sampler, own.spacing, own.steps, own.cfg) == ("lcm", "distilled", 4, 8.0)
    found = engine.generate("a neon cat", latents=latents, steps=1, cfg=6.0)
    assert expected.std() > 0.1
    assert (
        np.abs(np.asarray(found) / 255 - expected).max() < 1 / 255
    )  # rounding to 8 bits, and the fp32 sinusoids


SCHEDULERS = {
    "PNDMScheduler": {"skip_prk_steps": True, "set_alpha_to_one": False},
    "EulerDiscreteScheduler": {"use_karras_sigmas": True, "timestep_spacing": "leading"},
    "DPMSolverMultistepScheduler": {"solver_order": 3, "use_karras_sigmas": True},
    "UniPCMultistepScheduler": {"timestep_spacing": "trailing"},
}


@pytest.mark.filterwarnings("ignore:__array_")  # diffusers calls numpy in an older way
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_saved_folder_keeps_its_scheduler_here_and_in_diffusers(tmp_path, name):
    from diffusers import StableDiffusionPipeline

    logging.disable(logging.WARNING)
    writing.save(fakes.model(tmp_path / "w", "eps", vision=False), tmp_path / "a")
    config = tmp_path / "a" / "scheduler" / "scheduler_config.json"
    kept = {k: v for k, v in json.loads(config.read_text()).items() if k != "timestep_spacing"}
    config.write_text(json.dumps(kept | {"_class_name": name} | SCHEDULERS[name]))
    rewrite(tmp_path / "a" / "model_index.json", scheduler=["diffusers", name])
    writing.save(folders.load(tmp_path / "a"), tmp_path / "b", torch.float32)
    assert not (tmp_path / "b" / "fromnoise.json").exists()  # the scheduler says it still
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    settings = {"guidance_scale": 5.0, "num_inference_steps": 8, "width": 32, "height": 32}
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "b")
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline("a neon cat", latents=latents, output_type="latent", **settings).images
    *_, last = load(tmp_path / "b").steps("a neon cat", latents=latents, cfg=5, steps=8)
    difference = (last.x - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert float(difference) < 5e-5  # the U-Net's fp32, over 8 steps


def test_another_schedule_is_written_into_the_folders_own_scheduler(tmp_path):
    writing.save(fakes.model(tmp_path / "w", "eps", vision=False), tmp_path / "a")
    config = {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}
    (tmp_path / "a" / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    rewrite(tmp_path / "a" / "model_index.json", scheduler=["diffusers", config["_class_name"]])
    model = folders.load(tmp_path / "a")
    model.prediction = "v"  # as a user says who knows better
    writing.save(model, tmp_path / "b")
    again = folders.load(tmp_path / "b")
    request = GenerationRequest.of(prompt="a cat").resolve(again)
    assert (again.prediction, request.sampler, request.spacing) == ("v", "euler", "karras")


@pytest.mark.parametrize(
    "schedule",
    [
        NoiseSchedule.scaled_linear(0.00085, 0.02),
        rescale_zero_terminal_snr(NoiseSchedule.scaled_linear()),
        make_linear(),
        make_cosine(),
        rescale_zero_terminal_snr(make_cosine()),
    ],
)
def test_a_schedule_that_has_a_name_is_written_by_it(schedule):
    config = writing.write_scheduler(schedule, "v", {})
    assert config["trained_betas"] is None
    assert torch.equal(reading.read_scheduler(Fields("x", config))[0].alpha_bar, schedule.alpha_bar)


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_names_of_older_files_are_understood(tmp_path):
    """Old VAE attention, stored position ids, and transformers 5's text tower without its
    prefix."""
    vae = {
        f"encoder.mid_block.attentions.0.{n}.weight": torch.ones(1)
        for n in ("query", "key", "value", "proj_attn")
    }
    assert {k.split("attentions.0.")[1] for k in old.rename_tensors("vae", vae)} == {
        "to_q.weight",
        "to_k.weight",
        "to_v.weight",
        "to_out.0.weight",
    }
    bare = {
        "encoder.layers.0.mlp.fc1.bias": torch.ones(1),
        "embeddings.position_ids": torch.arange(77),
    }
    assert list(old.rename_tensors("text_encoder", bare)) == [
        "text_model.encoder.layers.0.mlp.fc1.bias"
    ]
    full = {
        "text_model.final_layer_norm.bias": torch.ones(1),
        "text_model.embeddings.position_ids": torch.arange(77),
    }
    assert list(old.rename_tensors("text_encoder", full)) == ["text_model.final_layer_norm.bias"]


def test_missing_and_unexpected_keys_are_named(copied):
    path = copied / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["conv_out.wait"] = tensors.pop("conv_out.weight")
    save_file(tensors, path)
    with pytest.raises(BadCheckpoint, match=r"missing conv_out\.weight.*unexpected conv_out\.wait"):
        folders.load(copied)


def test_a_wrong_shape_is_named(copied):
    rewrite(copied / "unet" / "config.json", in_channels=5)
    with pytest.raises(
        BadCheckpoint, match=r"conv_in\.weight is \(16, 4, 3, 3\), not \(16, 5, 3, 3"
    ):
        folders.load(copied)


@pytest.mark.parametrize("key", ["class_embed_type", "something_new"])
def test_a_setting_that_the_network_lacks_is_refused(copied, key):
    rewrite(copied / "unet" / "config.json", **{key: "timestep"})
    with pytest.raises(BadCheckpoint, match=key):
        folders.load(copied)


def test_an_unknown_prediction_type_is_refused(copied):
    rewrite(copied / "scheduler" / "scheduler_config.json", prediction_type="score")
    with pytest.raises(BadCheckpoint, match="score"):
        folders.load(copied)


def test_a_pickle_is_read_where_there_is_nothing_else(copied):
    expected = folders.load(copied)
    for part in ("vae", "unet", "text_encoder"):
        [path] = (copied / part).glob("*.safetensors")
        name = path.name if part != "text_encoder" else "pytorch_model.safetensors"
        torch.save(load_file(path), path.with_name(name).with_suffix(".bin"))
        path.unlink()
    found = folders.load(copied)
    for name in ("vae", "unet", "text_encoder"):
        theirs = getattr(expected, name).state_dict()
        for key, tensor in getattr(found, name).state_dict().items():
            assert torch.equal(tensor, theirs[key])


def test_a_file_cut_short_is_explained(copied):
    path = copied / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadCheckpoint, match="cut short"):
        folders.load(copied)


def test_old_files_mean_the_highest_id_by_eos_2(copied):
    rewrite(copied / "text_encoder" / "config.json", eos_token_id=2)
    model = folders.load(copied)
    assert model.text_encoder.config.eos_id == model.tokenizer.eos_id


def test_what_a_pipeline_folder_cannot_hold_is_refused(tmp_path):
    ramp = NoiseSchedule(make_flow().alpha_bar ** 2, "flow")  # no shift makes it
    with pytest.raises(BadInput, match="FlowMatchEulerDiscreteScheduler"):
        writing.save(fakes.model(tmp_path / "w", "flow", ramp), tmp_path / "m")


def test_stable_diffusion_1_configurations_are_understood():
    """The config.json files of Stable Diffusion 1.5, by their values."""
    unet = {
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
        "block_out_channels": [320, 640, 1280, 1280],
    }
    assert (
        reading.read_unet(
            Fields("x", unet | {"act_fn": "silu", "norm_eps": 1e-05, "center_input_sample": False})
        ).heads
        == (8,) * 4
    )
    text = {
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "eos_token_id": 2,
    }
    text |= {"projection_dim": 768, "architectures": ["CLIPTextModel"]}
    assert reading.read_text(Fields("x", text)) == CLIPTextConfig()


def test_what_was_looked_for_is_said(tmp_path, monkeypatch):
    with pytest.raises(NotFound, match="nowhere does not exist"):
        hub.load_parts("nowhere")
    with pytest.raises(NotFound, match=r"model_index\.json"):
        hub.load_parts(tmp_path)
    monkeypatch.setattr(hub, "BUNDLED", tmp_path / "absent")
    with pytest.raises(NotFound, match="absent"):
        hub.load_parts()
