"""TAESD against diffusers' AutoencoderTiny, with random weights."""

import pytest
import torch
from diffusers import AutoencoderTiny

from fromnoise.errors import BadInput
from fromnoise.models.tiny_vae import TinyVAE, TinyVAEConfig

TINY = {"encoder_widths": (8, 8, 8), "decoder_widths": (8, 8, 8)}
TINY |= {"encoder_blocks": (1, 2, 1), "decoder_blocks": (2, 1, 1)}


def make_pair(dtype: torch.dtype) -> tuple[TinyVAE, AutoencoderTiny]:
    """Ours and diffusers', of the same weights, which are large enough that all of them matter."""
    peer = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 2, 1),
        num_decoder_blocks=(2, 1, 1),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in peer.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
    ours = TinyVAE(TinyVAEConfig(**TINY))
    ours.load_state_dict(peer.state_dict(), strict=True)
    return ours.to(dtype).eval(), peer.to(dtype).eval()


# fp32: 20 convolutions of at most 72 products, whose sums have another order
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
@torch.inference_mode()
def test_both_halves_agree_with_diffusers(dtype: torch.dtype, bound: float):
    ours, peer = make_pair(dtype)
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 3, 16, 24, generator=generator, dtype=dtype) * 2 - 1
    latents = torch.randn(2, 4, 4, 6, generator=generator, dtype=dtype) * 3  # beyond the clamp
    for got, wanted in (
        (ours.to_latents(image), peer.encode(image).latents),
        (ours.to_image(latents), peer.decode(latents).sample),
    ):
        rms = wanted.square().mean().sqrt()
        assert rms > 1e-2  # else nothing is compared
        assert (got - wanted).abs().max() <= bound * rms


@torch.inference_mode()
def test_a_planted_fault_is_seen():
    ours, peer = make_pair(torch.float64)
    latents = torch.randn(1, 4, 4, 4, dtype=torch.float64) * 3
    wanted = peer.decode(latents).sample
    without_clamp = ours.decoder.layers(latents) * 2 - 1
    assert (without_clamp - wanted).abs().max() > 1e-2 * wanted.square().mean().sqrt()


def test_the_true_sizes_are_those_of_diffusers():
    with torch.device("meta"):
        ours, peer = TinyVAE(TinyVAEConfig()), AutoencoderTiny()
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (ours, peer)]
    assert shapes[0] == shapes[1]
    assert TinyVAEConfig().factor == 8


def test_what_cannot_be_encoded_is_refused():
    ours = TinyVAE(TinyVAEConfig(**TINY))
    with pytest.raises(BadInput, match="multiples of 4"):
        ours.to_latents(torch.zeros(1, 3, 10, 8))
    with pytest.raises(BadInput, match="no encoder"):
        TinyVAE(TinyVAEConfig(**TINY), encoder=False).to_latents(torch.zeros(1, 3, 8, 8))
    with pytest.raises(BadInput, match="differ in length"):
        TinyVAEConfig(encoder_widths=(8, 8))
