"""What the networks promise beside parity: Stable Diffusion's keys, records that change nothing,
clear errors."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig as TheirTextConfig
from transformers import CLIPTextModel

from fromnoise.errors import BadInput, UnknownName
from fromnoise.models.clip import CLIPText
from fromnoise.models.clip_vision import CLIPVision, CLIPVisionConfig
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.config import CLIPTextConfig, UNetConfig, VAEConfig
from fromnoise.models.unet import UNet
from fromnoise.models.vae import VAE

UNET = UNetConfig(
    block_out_channels=(16, 32),
    layers_per_block=1,
    attention=(False, True),
    heads=(4, 4),
    context_dim=24,
    norm_groups=8,
)
VAE_ = VAEConfig(
    block_out_channels=(8, 16),
    layers_per_block=1,
    norm_groups=4,
    scaling_factor=0.5,
    shift_factor=0.1,
)
TEXT = CLIPTextConfig(50, 32, 2, 4, 64, 10, projection_dim=16, eos_id=49)
VISION = CLIPVisionConfig(16, 4, 32, 2, 4, 64, projection_dim=16)


def read_shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {k: v.shape for k, v in network.state_dict().items()}


def randomize_zeros(network: UNet) -> UNet:
    """A fresh U-Net gives 0: let its zeroed branches speak."""
    torch.manual_seed(0)
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return network


def test_stable_diffusion_1_5_has_the_same_keys_and_shapes():
    with torch.device("meta"):
        cross, plain = ("CrossAttnDownBlock2D",) * 3, ("CrossAttnUpBlock2D",) * 3
        unet = UNet2DConditionModel(
            sample_size=64,
            cross_attention_dim=768,
            attention_head_dim=8,
            down_block_types=(*cross, "DownBlock2D"),
            up_block_types=("UpBlock2D", *plain),
        )
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            sample_size=512,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        text = CLIPTextModel(
            TheirTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_attention_heads=12,
                num_hidden_layers=12,
            )
        )
        assert read_shapes(UNet(UNetConfig())) == read_shapes(unet)
        assert read_shapes(VAE(VAEConfig())) == read_shapes(vae)
        assert read_shapes(CLIPText(CLIPTextConfig())) == {
            f"text_model.{k}": v for k, v in read_shapes(text).items()
        }


@pytest.mark.parametrize("network", [UNet(UNET), VAE(VAE_), CLIPText(TEXT), CLIPVision(VISION)])
def test_built_on_meta_nothing_is_left_to_invent(network: nn.Module):
    with torch.device("meta"):
        empty = type(network)(network.config)  # pyright: ignore
    empty.load_state_dict(network.state_dict(), strict=True, assign=True)
    assert not any(t.is_meta for t in (*empty.parameters(), *empty.buffers()))
    assert not list(network.buffers())


def test_transformers_reads_our_text_encoder_and_keeps_its_keys(tmp_path: Path):
    ours = CLIPText(CLIPTextConfig(50, 32, 2, 4, 64, 10, eos_id=49))
    save_file(ours.state_dict(), tmp_path / "model.safetensors", {"format": "pt"})
    config = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config |= {
        "vocab_size": 50,
        "max_position_embeddings": 10,
        "eos_token_id": 49,
        "bos_token_id": 48,
    }
    config |= {"model_type": "clip_text_model", "architectures": ["CLIPTextModel"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    theirs, report = CLIPTextModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    ids = torch.tensor([[48, 5, 6, 49]])
    torch.testing.assert_close(theirs(ids).last_hidden_state, ours(ids).last_hidden)
    theirs.save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert {k.removeprefix("text_model.") for k in again} == {
        k.removeprefix("text_model.") for k in ours.state_dict()
    }


def test_record_and_projected_context_leave_the_bits_alone():
    network = randomize_zeros(UNet(UNET))
    x, t, conditioning = (
        torch.randn(2, 4, 8, 8),
        torch.tensor([1.0, 500.5]),
        Conditioning(torch.randn(2, 7, 24)),
    )
    with torch.no_grad():
        plain = network(x, t, conditioning)
        maps: dict[str, torch.Tensor] = {}
        seen = []
        assert plain.any()
        assert torch.equal(plain, network(x, t, conditioning, maps))
        assert torch.equal(plain, network(x, t, conditioning, lambda name, _: seen.append(name)))
        constants = network.constants(conditioning)
        assert torch.equal(plain, network(x, t, conditioning, constants=constants))
    assert list(maps) == seen
    assert set(seen) == set(constants.projected)
    assert len(seen) == 4  # one down, one in the middle, two up
    for name, map in maps.items():
        assert name.endswith("attn2")
        assert map.shape == (2, 4, 16, 7)
        torch.testing.assert_close(map.sum(-1), torch.ones(2, 4, 16))


def test_a_recorded_map_is_the_one_in_use():
    network, maps = randomize_zeros(UNet(UNET)), {}
    context = torch.randn(1, 7, 24)
    layer = network.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2")
    inputs, outputs = [], []
    layer.register_forward_pre_hook(lambda _, args: inputs.append(args))
    layer.register_forward_hook(lambda *args: outputs.append(args[-1]))
    network(torch.randn(1, 4, 8, 8), torch.tensor([9.0]), Conditioning(context), maps)
    mixed = maps["mid_block.attentions.0.transformer_blocks.0.attn2"] @ inputs[0][1][1]
    torch.testing.assert_close(layer.to_out(mixed.transpose(1, 2).flatten(2)), outputs[0])  # pyright: ignore


def test_fresh_unet_is_silent_and_every_parameter_learns():
    network = UNet(UNET)
    x, t, conditioning = (
        torch.randn(2, 4, 8, 8),
        torch.tensor(7),
        Conditioning(torch.randn(2, 7, 24)),
    )
    assert not network(x, t, conditioning).any()
    vae, image = VAE(VAE_), torch.randn(2, 3, 8, 8)
    reconstruction, posterior = vae(image, torch.randn(2, 4, 4, 4))
    text, vision = CLIPText(TEXT), CLIPVision(VISION)
    losses = [randomize_zeros(network)(x, t, conditioning), reconstruction, posterior.kl()]
    losses += [text(torch.tensor([[48, 3, 49]])).embeds, vision(torch.randn(1, 3, 16, 16)).embeds]
    sum(loss.square().sum() for loss in losses).backward()
    for net in (network, vae, text, vision):
        assert all(p.grad is not None for p in net.parameters())


def test_latents_are_scaled_and_the_inverse_undoes_it():
    vae, image = VAE(VAE_), torch.randn(1, 3, 8, 8)
    posterior, noise = vae.encode(image), torch.randn(1, 4, 4, 4)
    torch.testing.assert_close(vae.to_latents(image), (posterior.mean - 0.1) * 0.5)
    torch.testing.assert_close(vae.to_latents(image, noise), (posterior.sample(noise) - 0.1) * 0.5)
    torch.testing.assert_close(vae.to_image(vae.to_latents(image)), vae.decode(posterior.mean))
    assert VAEConfig().factor == 8


def test_pooled_text_is_at_the_first_end():
    out = CLIPText(TEXT)(torch.tensor([[48, 3, 49, 49, 49]]))
    assert torch.equal(out.pooled, out.last_hidden[:, 2])


def test_errors_say_the_remedy():
    with pytest.raises(BadInput, match="one entry a level"):
        UNetConfig(heads=(8, 8))
    with pytest.raises(BadInput, match="norm_groups"):
        UNetConfig(norm_groups=7)
    with pytest.raises(BadInput, match="choose heads"):
        UNetConfig(heads=(7, 8, 8, 8))
    with pytest.raises(BadInput, match="norm_groups"):
        VAEConfig(norm_groups=3)
    with pytest.raises(BadInput, match="choose heads"):
        CLIPTextConfig(heads=7)
    with pytest.raises(UnknownName, match="quick_gelu"):
        CLIPText(CLIPTextConfig(50, 32, 1, 4, 64, 10, "relu"))
    with pytest.raises(BadInput, match="multiples of 2"):
        VAE(VAE_).encode(torch.zeros(1, 3, 7, 8))
    with pytest.raises(BadInput, match="shorter text"):
        CLIPText(TEXT)(torch.zeros(1, 11, dtype=torch.int64))
    with pytest.raises(BadInput, match="scale it to 16"):
        CLIPVision(VISION)(torch.zeros(1, 3, 8, 8))
    with pytest.raises(BadInput, match="no input for `pooled`"):
        UNet(UNET)(
            torch.zeros(1, 4, 8, 8),
            torch.zeros(1),
            Conditioning(torch.zeros(1, 7, 24), torch.zeros(1, 5)),
        )
