"""PRESETS: sampler, spacing, steps and guidance that belong together, for few steps and for models
that were made for few steps."""

from typing import Any

from fromnoise.errors import UnknownName

PRESETS: dict[str, dict[str, Any]] = {
    # for any model: the best choice for 8 steps in docs/samplers.md; it follows the prompt as well
    # as 500 steps
    "fast": {"sampler": "dpmpp_2m", "spacing": "sgm_uniform", "steps": 8},
    # for latent consistency models that take the scale as an input (Luo et al. 2023); they were
    # trained with scales around 8
    "lcm": {"sampler": "lcm", "spacing": "sgm_uniform", "steps": 4, "cfg": 8.0},
    # for the LoRA (Luo et al. 2023b), which has no such input; guidance above 2 burns its pictures
    "lcm_lora": {"sampler": "lcm", "spacing": "sgm_uniform", "steps": 4, "cfg": 1.5},
    # for models that a critic distilled, without guidance (Sauer et al. 2023); one step is enough,
    # four are better
    "turbo": {"sampler": "euler_a", "spacing": "trailing", "steps": 4, "cfg": 1.0},
    # Lin et al. 2024: weights are made for one number of steps, usually for four
    "lightning": {"sampler": "euler", "spacing": "trailing", "steps": 4, "cfg": 1.0},
}


def find(name: str) -> dict[str, Any]:
    """The settings of a preset. Raises UnknownName."""
    key = name.strip().lower().replace("-", "_")
    if key not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[key]
