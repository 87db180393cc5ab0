"""Small random LoRA in every layout, and the weights that they must give."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fromnoise.checkpoints.keymap import TextTower, rule_text, rule_unet
from fromnoise.checkpoints.lora.names import list_networks
from fromnoise.latent_diffusion import LatentDiffusion

Pairs = dict[tuple[str, str], tuple[Tensor, Tensor, float]]  # (part, module) → up, down, alpha
KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}


def draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def list_modules(model: LatentDiffusion, convolutions: bool = True) -> list[tuple[str, str]]:
    """(part, module) of all linear layers, and convolutions, of a model."""
    kinds = (nn.Linear, nn.Conv2d) if convolutions else (nn.Linear,)
    return [
        (part, name)
        for part, network in list_networks(model).items()
        for name, module in network.named_modules()
        if isinstance(module, kinds) and name != "text_projection"
    ]


def make_pairs(
    model: LatentDiffusion, modules: list[tuple[str, str]], rank: int = 3, seed: int = 0
) -> Pairs:
    """Random factors for these modules, of a size that changes what the networks answer."""
    generator, networks = torch.Generator().manual_seed(seed), list_networks(model)
    pairs: Pairs = {}
    for place, (part, name) in enumerate(modules):
        out, *rest = networks[part].get_submodule(name).weight.shape
        spread = 0.5 * torch.tensor(rest).prod().item() ** -0.5
        up = spread * draw((out, rank, *[1] * (len(rest) - 1)), generator)
        pairs[part, name] = (up, draw((rank, *rest), generator), float(1 + place % 4))
    return pairs


def multiply(up: Tensor, down: Tensor, alpha: float) -> Tensor:
    """ΔW = up·down·alpha/rank in float64."""
    whole = up.double().flatten(1) @ down.double().flatten(1)
    return (whole * alpha / len(down)).reshape(len(up), *down.shape[1:])


def name_original(model: LatentDiffusion) -> dict[tuple[str, str], str]:
    """(part, module) → its name in a single file."""
    found = {}
    for part, network in list_networks(model).items():
        if part == "unet":
            groups = rule_unet(network.config, "")
        else:
            groups = rule_text(TextTower(part, "", network.config, False))
        for group in groups:
            if group.how == "same":
                module = group.keys[0].removesuffix(".weight").removesuffix(".bias")
                found[part, module] = group.single.removesuffix(".weight").removesuffix(".bias")
    return found


def write_kohya(pairs: Pairs, rename: Callable[[str, str], str]) -> dict[str, Tensor]:
    tensors = {}
    for (part, name), (up, down, alpha) in pairs.items():
        stem = rename(part, name)
        tensors |= {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down}
        tensors[f"{stem}.alpha"] = torch.tensor(alpha)
    return tensors


def write_peft(pairs: Pairs, down_end: str, up_end: str) -> dict[str, Tensor]:
    """alpha goes into the factors: these layouts have none."""
    tensors = {}
    for (part, name), (up, down, alpha) in pairs.items():
        stem = f"{part}.{name}"
        tensors |= {stem + up_end: up * (alpha / len(down)), stem + down_end: down}
    return tensors


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path
