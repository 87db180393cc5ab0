"""A weaker model as a guide: its U-Net prepared, after a check that it fits the model."""

import hashlib

import torch

from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.runtime.prepare import Prepared, prepare


def prepare_guide(
    model: LatentDiffusion,
    guide: LatentDiffusion,
    device: str = "cpu",
    dtype: str = "fp32",
    batch: int = 1,
) -> Prepared:
    """`prepare` for the U-Net of an earlier or smaller model. Raises BadInput where its output
    differs in meaning from the model's: another prediction, schedule, latent space or text space.
    """
    a, b = model.unet.config, guide.unet.config
    differences = {
        "prediction": model.prediction != guide.prediction,
        "noise schedule": not torch.equal(model.schedule.alpha_bar, guide.schedule.alpha_bar),
        "latent channels": (a.in_channels, a.out_channels) != (b.in_channels, b.out_channels),
        "width of the text": a.context_dim != b.context_dim,
    }
    if wrong := [name for name, differs in differences.items() if differs]:
        raise BadInput(
            f"the guide has another {', another '.join(wrong)}",
            "give an earlier checkpoint of the model",
        )
    digest = guide.digest or hash_weights(guide.unet)  # before they are cast
    network = prepare(guide.unet, device, dtype, batch)
    network.digest = digest
    return network


def hash_weights(network: torch.nn.Module) -> str:
    """The start of the SHA-256 of a network's weights, for a model that comes from no file."""
    total = hashlib.sha256()
    for name, weight in network.state_dict().items():
        total.update(name.encode())
        total.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()[:10]
