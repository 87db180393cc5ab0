"""PRESETS: sampler, spacing, steps and guidance that belong together, for few steps and for models
made to need few."""

from typing import Any

from fromnoise.errors import UnknownName

PRESETS: dict[str, dict[str, Any]] = {
    # any model: of 8 steps the best that docs/samplers.md measures, and as much of the prompt as
    # after 500
    "fast": {"sampler": "dpmpp_2m", "spacing": "sgm_uniform", "steps": 8},
    # latent consistency models that take the scale as an input (Luo et al. 2023): 8 is what they
    # were trained around
    "lcm": {"sampler": "lcm", "spacing": "sgm_uniform", "steps": 4, "cfg": 8.0},
    # the LoRA (Luo et al. 2023b) leaves no such input; guidance above 2 burns its pictures
    "lcm_lora": {"sampler": "lcm", "spacing": "sgm_uniform", "steps": 4, "cfg": 1.5},
    # distilled by an adversary, without guidance (Sauer et al. 2023): one step does, four are
    # better
    "turbo": {"sampler": "euler_a", "spacing": "trailing", "steps": 4, "cfg": 1.0},
    # Lin et al. 2024; the weights are made for one count of steps, of which four is the usual
    "lightning": {"sampler": "euler", "spacing": "trailing", "steps": 4, "cfg": 1.0},
}


def find(name: str) -> dict[str, Any]:
    """The settings of a preset. Raises UnknownName."""
    key = name.strip().lower().replace("-", "_")
    if key not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[key]
