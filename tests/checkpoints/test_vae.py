"""Autoencoders of their own, written by diffusers from random weights, in every layout."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file

from fromnoise.checkpoints.formats import vae as reading
from fromnoise.checkpoints.keymap import KeyMap, rule_vae
from fromnoise.errors import BadCheckpoint
from fromnoise.models.config import VAEConfig

LIKE = VAEConfig(block_out_channels=(8, 16), norm_groups=4, scaling_factor=0.5, shift_factor=0.25)
CONFIG = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "scaling_factor": 0.3,
}
OURS = VAEConfig(block_out_channels=(8, 16), norm_groups=4, layers_per_block=1)
# a decoder in fp32 of about 20 layers: sums of another order
BOUND = 5e-5


def randomise(network: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            scale = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.3
            offset = 1.0 if weight.ndim == 1 else 0.0
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale + offset)


@pytest.fixture(scope="module")
def peer() -> AutoencoderKL:
    network = AutoencoderKL(**CONFIG)
    randomise(network)
    return network.eval()


@pytest.fixture(scope="module")
def tiny() -> AutoencoderTiny:
    network = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 2),
        num_decoder_blocks=(3, 1),
    )
    randomise(network)
    return network.eval()


@torch.inference_mode()
def compare(path: Path, peer: AutoencoderKL, scale: float, shift: float = 0.0) -> None:
    """The file's autoencoder draws and sees as diffusers' does."""
    ours, digest = reading.load(path, LIKE)
    assert len(digest) == 10
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 4, 4, 6, generator=generator)
    image = torch.rand(1, 3, 8, 12, generator=generator) * 2 - 1
    pairs = [
        (ours.to_image(latents), peer.decode(latents / scale + shift).sample),
        (ours.to_latents(image), (peer.encode(image).latent_dist.mean - shift) * scale),
    ]
    for got, wanted in pairs:
        assert (got - wanted).abs().max() <= BOUND * wanted.square().mean().sqrt()


def test_a_folder_of_diffusers_says_its_scale(peer: AutoencoderKL, tmp_path: Path):
    peer.register_to_config(scaling_factor=0.3)
    peer.save_pretrained(tmp_path / "vae")
    compare(tmp_path / "vae", peer, 0.3)
    (tmp_path / "model_index.json").write_text("{}")
    compare(tmp_path, peer, 0.3)


def test_a_file_of_diffusers_has_the_models_scale(peer: AutoencoderKL, tmp_path: Path):
    path = tmp_path / "vae.safetensors"
    save_file(peer.state_dict(), path)
    compare(path, peer, 0.5, 0.25)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for key, value in peer.state_dict().items():
        for new, name in old.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{name}.")
        tensors[key] = value
    save_file(tensors, path)
    compare(path, peer, 0.5, 0.25)


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_the_original_layout_is_read(peer: AutoencoderKL, tmp_path: Path, prefix: str):
    parts = {"vae": dict(peer.state_dict())}
    single = KeyMap(rule_vae(OURS, prefix)).to_single(parts)
    # the test's own file is right: diffusers turns it back
    checked = {f"first_stage_model.{key.removeprefix(prefix)}": v for key, v in single.items()}
    back = convert_ldm_vae_checkpoint(checked, dict(peer.config))
    assert all(torch.equal(back[key], value) for key, value in parts["vae"].items())
    path = tmp_path / "vae.safetensors"
    save_file(single, path)
    compare(path, peer, 0.5, 0.25)
    torch.save({"state_dict": single, "loss": {"step": 3}}, tmp_path / "vae.pt")
    compare(tmp_path / "vae.pt", peer, 0.5, 0.25)


@torch.inference_mode()
def test_taesd_is_read_in_the_layouts_of_its_author_comfyui_and_diffusers(
    tiny: AutoencoderTiny, tmp_path: Path
):
    def split(half: str, prefix: str) -> dict[str, torch.Tensor]:
        shift = half == "decoder"
        own = {k.split(".", 2)[2]: v for k, v in tiny.state_dict().items() if k.startswith(half)}
        return {
            f"{prefix}{int(key.split('.', 1)[0]) + shift}.{key.split('.', 1)[1]}": value
            for key, value in own.items()
        }

    tiny.save_pretrained(tmp_path / "folder")
    halves = split("decoder", "taesd_decoder.") | split("encoder", "taesd_encoder.")
    files = {
        "both.safetensors": dict(tiny.state_dict()),
        "decoder.safetensors": split("decoder", ""),
        "comfy.safetensors": halves,
    }
    for name, tensors in files.items():
        save_file(tensors, tmp_path / name)
    torch.save(split("decoder", ""), tmp_path / "taesd_decoder.pth")
    latents = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(1)) * 2
    image = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(2)) * 2 - 1
    wanted, encoded = tiny.decode(latents).sample, tiny.encode(image).latents
    for name in (*files, "taesd_decoder.pth", "folder"):
        ours, _ = reading.load(tmp_path / name, LIKE)
        assert (ours.to_image(latents) - wanted).abs().max() <= BOUND * wanted.std(), name
        if "decoder" not in name:
            difference = (ours.to_latents(image) - encoded).abs().max()
            assert difference <= BOUND * encoded.std(), name
    save_file(split("encoder", ""), tmp_path / "encoder.safetensors")
    with pytest.raises(BadCheckpoint, match="an encoder alone"):
        reading.load(tmp_path / "encoder.safetensors", LIKE)


def test_without_the_encoder_less_is_kept(peer: AutoencoderKL, tmp_path: Path):
    path = tmp_path / "vae.safetensors"
    save_file(peer.state_dict(), path)
    ours, _ = reading.load(path, LIKE, encoder=False)
    assert ours.encoder is None
    half = {key: value for key, value in load_file(path).items() if key.startswith(("dec", "post"))}
    save_file(half, path)
    assert reading.load(path, LIKE)[0].encoder is None


def test_what_is_no_vae_is_refused_by_its_name(tmp_path: Path):
    path = tmp_path / "style.safetensors"
    save_file({"lora_unet_mid_block.lora_down.weight": torch.zeros(4, 8)}, path)
    with pytest.raises(BadCheckpoint, match=r"(?i)no VAE: it is .*lora"):
        reading.load(path, LIKE)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/config.json").write_text(json.dumps({"_class_name": "AutoencoderDC"}))
    with pytest.raises(BadCheckpoint, match="_class_name"):
        reading.load(tmp_path / "folder", LIKE)
