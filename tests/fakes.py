"""A tiny random model, whole and saved as a folder: what the tests of pipeline and CLI draw
with."""

import json
from functools import cache
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel

from fromnoise.checkpoints.configs import read_tokenizer
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.latent_diffusion import LatentDiffusion, TextEncoder
from fromnoise.models.clip import CLIPText
from fromnoise.models.clip_vision import CLIPVision, CLIPVisionConfig
from fromnoise.models.config import CLIPTextConfig, UNetConfig, VAEConfig
from fromnoise.models.unet import UNet
from fromnoise.models.vae import VAE
from fromnoise.prompt.tokenizer import BOS, EOS, Tokenizer

MERGES = ["c a", "ca t</w>", "n e", "ne o", "neo n</w>", "s p", "sp a", "spa c", "spac e</w>"]


@cache
def vocabulary() -> tuple[str, str]:
    """vocab.json and merges.txt: every byte, every byte that ends a word, a few merges, the two
    special tokens."""
    letters = sorted(ByteLevel.alphabet())
    words = [
        *letters,
        *(s + "</w>" for s in letters),
        *(m.replace(" ", "") for m in MERGES),
        BOS,
        EOS,
    ]
    vocab = json.dumps({word: i for i, word in enumerate(words)}, ensure_ascii=False)
    return vocab, "#version: 0.2\n" + "\n".join(MERGES) + "\n"


def tokenizer(folder: Path, max_length: int = 16, pad: str | None = None) -> Tokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = vocabulary()
    (folder / "vocab.json").write_text(vocab, encoding="utf-8")
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    return read_tokenizer(folder, max_length, pad or EOS)


def randomize(module: torch.nn.Module, seed: int) -> None:
    """Random numbers in every parameter, norms and biases too, at the size that keeps activations
    near 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.ndim > 1:
            p.data = noise * p[0].numel() ** -0.5
        else:
            p.data = ("norm" in name and name.endswith("weight")) + 0.1 * noise


def model(
    folder: Path,
    prediction: str = "v",
    schedule: NoiseSchedule | None = None,
    vision: bool = True,
    guidance_dim: int | None = None,
    in_channels: int = 4,
    **defaults,
):
    """A latent diffusion model of some 100,000 random parameters: pictures of 32×32 from latents of
    8×8×4."""
    words = tokenizer(folder / "words")
    text = CLIPTextConfig(
        words.vocab_size, 16, 2, 2, 32, words.max_length, "quick_gelu", None, words.eos_id
    )
    parts = LatentDiffusion(
        UNet(
            UNetConfig(
                in_channels,
                4,
                (16, 32),
                1,
                (True, False),
                (2, 4),
                16,
                (1,),
                8,
                sample_size=8,
                guidance_dim=guidance_dim,
            )
        ),
        VAE(VAEConfig(3, 3, 4, (8, 8, 16), 1, 4, scaling_factor=0.8, sample_size=32)),
        (TextEncoder(CLIPText(text), words),),
        schedule or NoiseSchedule.scaled_linear(),
        prediction,
        CLIPVision(CLIPVisionConfig(32, 8, 16, 2, 2, 32, projection_dim=12)) if vision else None,
        torch.randn(12, 16, generator=torch.Generator().manual_seed(9)) if vision else None,
        torch.tensor(2.5) if vision else None,
        concat={4: "", 5: "depth", 8: "instruct", 9: "inpainting"}[in_channels],
        defaults=defaults,
    )
    for seed, network in enumerate((parts.unet, parts.vae, parts.text_encoder, parts.vision)):
        if network is not None:
            randomize(network.eval(), seed)
    return parts
