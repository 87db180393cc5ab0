"""IP-Adapters and image towers of random numbers, in the layouts of published files."""

from pathlib import Path

import fakes
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from fromnoise.models.image_prompt import KINDS, ImagePromptConfig

SIDE, DIM, EMBED = 32, 24, 12  # of the tower: pixels, width, width of its embeddings


def make_tower(folder: Path) -> CLIPVisionModelWithProjection:
    """The tower in `folder`/image_encoder, as transformers writes it."""
    config = CLIPVisionConfig(
        hidden_size=DIM,
        intermediate_size=40,
        projection_dim=EMBED,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=8,
        hidden_act="gelu",
    )
    tower = CLIPVisionModelWithProjection(config).eval()
    fakes.randomize(tower, 7)
    tower.save_pretrained(folder / "image_encoder")
    return tower


def make_adapter(path: Path, pipeline, kind: str, seed: int = 0) -> dict[str, dict]:
    """An adapter for a pipeline of diffusers, as its authors write it: {"image_proj": …,
    "ip_adapter": …}, saved at `path`."""
    unet = pipeline.unet
    context = unet.config.cross_attention_dim
    config = ImagePromptConfig(
        kind,
        EMBED if kind == "plain" else DIM,
        context,
        tokens=4 if kind == "plain" else 5,
        width=20,
        heads=1,  # of 64 channels
        depth=4,  # diffusers reads no other number
        mlp_dim=80,
    )
    projection: nn.Module = KINDS[kind](config)
    fakes.randomize(projection, seed)
    generator = torch.Generator().manual_seed(seed + 100)
    layers = {}
    for i, (name, processor) in enumerate(unet.attn_processors.items()):
        if not name.endswith("attn2.processor"):
            continue
        attention = unet.get_submodule(name.removesuffix(".processor"))
        for end in ("k", "v"):
            shape = getattr(attention, f"to_{end}").weight.shape
            noise = torch.randn(shape, generator=generator) * context**-0.5
            layers[f"{i}.to_{end}_ip.weight"] = noise
        del processor
    state = {"image_proj": dict(projection.state_dict()), "ip_adapter": layers}
    if path.suffix == ".safetensors":
        flat = {f"{part}.{k}": v.contiguous() for part, of in state.items() for k, v in of.items()}
        save_file(flat, path)
    else:
        torch.save(state, path)
    return state


def make_picture(path: Path, size: tuple[int, int] = (50, 40), seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path
