"""Plain words → the text encoder's states."""

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.conditioning import Conditioning
from fromnoise.pipeline.denoiser import check_finite


@torch.inference_mode()
def encode_texts(model: LatentDiffusion, texts: list[str]) -> tuple[Conditioning, list[str]]:
    """Texts → (Conditioning, context (B, N, dim) in fp32; of each the end that did not fit, or "").

    Each text is encoded alone: those beside it change no bit of its states. Raises NotFinite."""
    device = next(model.text_encoder.parameters()).device
    states: list[Tensor] = []
    dropped = []
    for text in texts:
        ids, rest = model.tokenizer.encode(text)
        encoded = model.text_encoder(torch.tensor([ids], device=device))
        states.append(encoded.last_hidden)  # (1, N, dim)
        dropped.append(rest)
    context = torch.cat(states)
    check_finite(context, "the text encoder", model.text_encoder)
    return Conditioning(context), dropped


def note_unknown_words(model: LatentDiffusion, texts: Iterable[str]) -> list[str]:
    """A note that names the words which no caption of the model's training had; none for a model
    whose fromnoise.json has no list of words."""
    known = set(model.defaults.get("words", ()))
    words = dict.fromkeys(split_words(" ".join(texts)))
    unknown = [repr(word) for word in words if word not in known]
    if not known or not unknown:
        return []
    more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
    return [f"no caption that this model learnt from has {', '.join(unknown[:8])}{more}"]


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, without numbers and punctuation."""
    return re.findall(r"[^\W\d_]+", text.lower())
