"""Plain words → the text encoder's states."""

import math

import torch
from torch import Tensor

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.unet import Conditioning


@torch.inference_mode()
def encode_texts(model: LatentDiffusion, texts: list[str]) -> tuple[Conditioning, list[str]]:
    """Texts → (their Conditioning, context (B, N, dim) in fp32; of each text the end that did not
    fit, or "").

    Each text is encoded alone: its states do not depend, in any bit, on the texts beside it.
    """
    device = next(model.text_encoder.parameters()).device
    states: list[Tensor] = []
    dropped = []
    for text in texts:
        ids, rest = model.tokenizer.encode(text)
        states.append(
            model.text_encoder(torch.tensor([ids], device=device)).last_hidden
        )  # (1, N, dim)
        dropped.append(rest)
    return Conditioning(repeat_to_equal_length(states)), dropped


def repeat_to_equal_length(states: list[Tensor]) -> Tensor:
    """States (1, N, dim) of unequal N, repeated to a common multiple: (B, N, dim). What is attended
    to stays as it is; zeros would be attended to as well."""
    whole = math.lcm(*(s.shape[1] for s in states))
    return torch.cat([s.repeat(1, whole // s.shape[1], 1) for s in states])
