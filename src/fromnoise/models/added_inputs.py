"""What only some U-Nets are told beside x, t and the text: sizes and pooled text (Stable Diffusion
XL), the guidance scale (latent consistency models)."""

import torch
from torch import Tensor

from fromnoise.errors import BadInput
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.config import UNetConfig
from fromnoise.models.layers import TimeEmbedding, embed_timesteps


def embed_added(
    config: UNetConfig, embedding: TimeEmbedding | None, conditioning: Conditioning
) -> tuple[Tensor | None, Tensor | None]:
    """(what `time_embedding` is given beside the sinusoids of time, (B, guidance_dim); what is
    added to its result, (B, 4·width)); None for what the network does not have.

    Podell et al. 2023 "SDXL" §2.2: the sinusoids of each time id and the pooled text, one behind
    the other, through two linear layers, `embedding`. Raises BadInput for a slot of the
    conditioning without an input in this network, and for an input without its slot."""
    text, ids, scale = conditioning.pooled, conditioning.time_ids, conditioning.guidance
    takes = {"guidance": config.guidance_dim, "image_tokens": None}
    takes |= dict.fromkeys(("pooled", "time_ids"), config.added_dim)
    for slot, dim in takes.items():
        if not dim and getattr(conditioning, slot) is not None:
            remedy = "leave that slot of the Conditioning None"
            raise BadInput(f"this U-Net has no input for `{slot}`", remedy)
    dtype, guidance, added = conditioning.context.dtype, None, None
    if config.guidance_dim and scale is not None:
        scaled = 1000 * (scale - 1)  # Luo et al. 2023 §4.2
        guidance = embed_timesteps(scaled, config.guidance_dim, False, 1).to(dtype)
    if embedding is not None:
        if text is None or ids is None:
            raise BadInput("this U-Net needs `pooled` and `time_ids`", "fill these slots")
        assert config.time_id_dim
        flat = ids.flatten(), config.time_id_dim, config.flip_sin_to_cos, config.freq_shift
        sinusoids = embed_timesteps(*flat).unflatten(0, ids.shape).flatten(1)  # (B, n·dim)
        width = text.shape[1] + sinusoids.shape[1]
        if width != config.added_dim:
            raise BadInput(
                f"pooled text of {text.shape[1]} and {ids.shape[1]} time ids are {width} numbers, "
                f"and this U-Net takes {config.added_dim}",
                "give pooled text of the encoder that it was trained with, and 6 ids (5 for the "
                "refiner)",
            )
        added = embedding(torch.cat((text, sinusoids.to(dtype)), 1))
    return guidance, added
