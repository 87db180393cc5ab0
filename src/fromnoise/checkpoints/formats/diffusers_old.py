"""What only some diffusers folders have: names of older files, sizes that are not square, schedules
written out. Imported where a folder has it."""

import warnings
from math import isqrt
from typing import TypeVar

import torch

from fromnoise.checkpoints.configs import Fields, Rule
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.schedules import make_cosine, make_linear, rescale_zero_terminal_snr

T = TypeVar("T")
ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def rename_tensors(part: str, tensors: dict[str, T]) -> dict[str, T]:
    """Tensors (or what is stored of them) under today's names.

    Older files call the VAE's attention otherwise, and store a table of positions 0, 1, 2 … that is
    no weight; transformers 5 leaves out the prefix of the text tower. Where the new name is taken,
    the old one stays, so that it is found to be one too many."""
    renamed: dict[str, T] = {}
    for key, value in tensors.items():
        new = key
        if part == "vae":
            for old, name in ATTENTION.items():
                new = new.replace(f"attentions.0.{old}.", f"attentions.0.{name}.")
        elif part == "text_encoder":
            if key.endswith("embeddings.position_ids"):
                continue
            if not key.startswith(("text_model.", "text_projection.")):
                new = f"text_model.{key}"
        renamed[key if new in tensors and new != key else new] = value
    return renamed


def average_side(config: Fields, rule: Rule) -> int:
    """sample_size = [height, width] → the side of the square of that area: the default picture is
    square. A size that is not square is a warning."""
    value = config.values["sample_size"]
    if len(value) != 2 or not all(map(rule.admits, value)):
        config.refuse("sample_size", f"{rule}, or two of them")
    height, width = value
    if height == width:
        return height
    side = max(isqrt(height * width) // 8 * 8, 1)
    warnings.warn(
        f"{config.file}: the model was trained at {width}x{height} (sample_size); its default "
        f"picture is a square of the same area, give --width and --height for another",
        stacklevel=2,
    )
    return side


def make_schedule(
    config: Fields, kind: str, first: float, last: float, steps: int
) -> NoiseSchedule:
    """The schedule of scheduler_config.json, of any kind. Raises BadInput for impossible betas."""
    if config.values.get("prediction_type") == "flow_prediction":
        from fromnoise.checkpoints.formats.flow_scheduler import make_flow_schedule

        return make_flow_schedule(config)
    if config.values.get("trained_betas") is not None:
        schedule = NoiseSchedule.from_betas(read_betas(config))
    elif kind == "scaled_linear":
        schedule = NoiseSchedule.scaled_linear(first, last, steps)
    else:
        linear = kind == "linear"
        schedule = make_linear(first, last, steps) if linear else make_cosine(steps)
    if config.values.get("rescale_betas_zero_snr"):
        schedule = rescale_zero_terminal_snr(schedule)
    return schedule


def read_betas(config: Fields) -> torch.Tensor:
    """trained_betas (T,) float64."""
    betas, rule = config.values["trained_betas"], Rule("", float, 0, 1)
    if not isinstance(betas, list) or not 2 <= len(betas) <= 10_000:
        config.refuse("trained_betas", "a list of 2 to 10,000 numbers")
    if not all(map(rule.admits, betas)):
        config.refuse("trained_betas", f"a list of numbers, each {rule}")
    return torch.tensor(betas, dtype=torch.float64)
