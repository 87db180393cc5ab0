"""What the scheduler of a diffusers folder asks to be drawn with, for a model that says nothing
else."""

import warnings
from typing import Any

from fromnoise.errors import escape

# diffusers' class → (our sampler, the timestep_spacing of the class where its file has none)
CLASSES = {
    "DDIMScheduler": ("ddim", "leading"),
    "DDPMScheduler": ("ddpm", "leading"),
    "PNDMScheduler": ("plms", "leading"),
    "LCMScheduler": ("lcm", "leading"),
    "EulerDiscreteScheduler": ("euler", "linspace"),
    "EulerAncestralDiscreteScheduler": ("euler_a", "linspace"),
    "HeunDiscreteScheduler": ("heun", "linspace"),
    "LMSDiscreteScheduler": ("lms", "linspace"),
    "KDPM2DiscreteScheduler": ("dpm2", "linspace"),
    "KDPM2AncestralDiscreteScheduler": ("dpm2_a", "linspace"),
    "DPMSolverMultistepScheduler": ("dpmpp_2m", "linspace"),
    "DPMSolverSDEScheduler": ("dpmpp_sde", "linspace"),
    "DEISMultistepScheduler": ("deis", "linspace"),
    "UniPCMultistepScheduler": ("unipc", "linspace"),
    "SASolverScheduler": ("sa_solver", "linspace"),
}
SPACINGS = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
}


def read_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """scheduler_config.json, of checked types, → sampler and spacing, and for a latent consistency
    model its few steps and its guidance.

    A scheduler without a counterpart here is a warning; the model is then drawn with what we
    prefer."""
    name = config.get("_class_name")
    if name not in CLASSES:
        warnings.warn(
            f"the model's scheduler {escape(name)} is unknown here: drawing with DPM++ 2M instead; "
            "choose another with --sampler and --spacing",
            stacklevel=2,
        )
        return {}
    sampler, spacing = CLASSES[name]
    if name == "DPMSolverMultistepScheduler":
        third = config.get("solver_order") == 3
        if "sde" in (config.get("algorithm_type") or "dpmsolver++"):
            sampler = "dpmpp_3m_sde" if third else "dpmpp_2m_sde"
        else:
            sampler = "dpmpp_3m" if third else "dpmpp_2m"
    spacing = config.get("timestep_spacing") or spacing
    spacing = next((ours for key, ours in SPACINGS.items() if config.get(key)), spacing)
    if name == "LCMScheduler":
        # the class has a timestep_spacing, and starts at the last timestep whatever that says;
        # steps and guidance: Luo et al. 2023, Table 1
        return {"sampler": sampler, "spacing": "trailing", "steps": 4, "cfg": 8.0}
    return {"sampler": sampler, "spacing": spacing}
