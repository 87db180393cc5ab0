"""The scheduler of a flow model in a diffusers folder: how the model's noise levels are shifted."""

from typing import Any

import torch

from fromnoise.checkpoints.configs import Fields, Rule
from fromnoise.checkpoints.families import FLOW
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.schedules import make_flow
from fromnoise.errors import BadCheckpoint, BadInput, escape

TIMESTEPS = Rule("num_train_timesteps", int, 2, 10_000)
SHIFTS = ("shift", "flow_shift")  # of FLOW; of the other classes
REMEDY = (
    "choose a sampler yourself, such as --sampler euler --spacing simple: then only the noise "
    "levels of the file are used"
)


def is_flow(config: Fields, name: str | None) -> bool:
    """Whether the scheduler of that class is of a flow model."""
    return name == FLOW or config.values.get("prediction_type") == "flow_prediction"


def make_flow_schedule(config: Fields) -> NoiseSchedule:
    """A shift that depends on the picture's size is a choice of the run, not of the training: the
    schedule is then not shifted."""
    shifts = (config.get(Rule(key, float, 1e-3, 1e3)) for key in SHIFTS)
    shift = next((shift for shift in shifts if shift is not None), 1.0)
    if config.get(Rule("use_dynamic_shifting"), False):
        shift = 1.0
    return make_flow(config.get(TIMESTEPS, 1000), shift)


def read_flow(
    config: Fields, name: str | None, prediction: str | None
) -> tuple[NoiseSchedule, str, dict[str, Any]]:
    """What `diffusers_scheduler.read` gives."""
    if prediction not in (None, "flow"):
        raise BadCheckpoint(
            f"{config.file} is of a flow model, which cannot predict {prediction}",
            "leave --prediction out",
        )
    if prediction is None and name != FLOW and not config.get(Rule("use_flow_sigmas"), False):
        config.refuse("prediction_type", "another one where use_flow_sigmas is not set")
    own = [f"{config.file}: the steps of {escape(name)} are unknown here for flow models", REMEDY]
    defaults = {"scheduler": {"refused": own}, "spacing": "automatic"}
    return make_flow_schedule(config), "flow", defaults


def write_flow(schedule: NoiseSchedule) -> dict[str, Any]:
    """scheduler_config.json of a flow model. Raises BadInput for a schedule that no shift makes."""
    T = len(schedule)
    raw = float(schedule.sigmas[0]) * (T - 1)  # the first sigma is shift / (T − 1)
    shift = float(f"{raw:.10g}")
    if not torch.equal(make_flow(T, shift).alpha_bar, schedule.alpha_bar):
        raise BadInput(f"{FLOW} cannot hold this schedule", "make it by schedules.make_flow")
    return {
        "_class_name": FLOW,
        "_diffusers_version": "0.35.0",
        "num_train_timesteps": T,
        "shift": shift,
        "use_dynamic_shifting": False,
        "prediction_type": "flow_prediction",
    }
