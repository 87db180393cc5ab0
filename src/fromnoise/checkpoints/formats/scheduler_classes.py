"""The classes of schedulers that diffusers folders name: which fields each reads, with what default
values, and what a field may hold."""

import math
from typing import Any

from fromnoise.checkpoints.configs import Rule

SHARED: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
}
STABLE = {"beta_start": 0.00085, "beta_end": 0.012}
LEADING = {"timestep_spacing": "leading", "steps_offset": 0}
LINSPACE = {"timestep_spacing": "linspace", "steps_offset": 0}
SNR = {"rescale_betas_zero_snr": False}
THRESHOLD = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
CLIP = {"clip_sample": True, "clip_sample_range": 1.0}
RAMPS = {  # the other ways to space the levels → our spacing; the first that is set counts
    "use_karras_sigmas": "karras",
    "use_lu_lambdas": "exponential",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
}
# diffusers keeps sigma_min and sigma_max from another class's file, and its ramps read them
RAMP = {key: False for key in RAMPS if key != "use_lu_lambdas"}
RAMP |= {"sigma_min": None, "sigma_max": None}
FLOW = {
    "use_flow_sigmas": False,
    "flow_shift": 1.0,
    "use_dynamic_shifting": False,
    "time_shift_type": "exponential",
}
CONSISTENCY = (
    SHARED
    | STABLE
    | LEADING
    | SNR
    | THRESHOLD
    | CLIP
    | {
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": True,
        "original_inference_steps": 50,
        "timestep_scaling": 10.0,
    }
)
SOLVER = SHARED | THRESHOLD | RAMP | FLOW | {"solver_order": 2}
DPM = SOLVER | {
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    "final_sigmas_type": "zero",
    "lambda_min_clipped": -math.inf,
    "variance_type": None,
}
DDIM = SHARED | LEADING | SNR | THRESHOLD | CLIP | {"set_alpha_to_one": True}
DDPM = SHARED | LEADING | SNR | THRESHOLD | CLIP | {"variance_type": "fixed_small"}
# class → its fields and what they are where its file has none; it reads no others
CLASSES: dict[str, dict[str, Any]] = {
    "DDIMScheduler": DDIM,
    "DDIMParallelScheduler": DDIM,
    "DDPMScheduler": DDPM,
    "DDPMParallelScheduler": DDPM,
    "PNDMScheduler": SHARED | LEADING | {"skip_prk_steps": False, "set_alpha_to_one": False},
    "LCMScheduler": CONSISTENCY,
    "TCDScheduler": CONSISTENCY,
    "EulerDiscreteScheduler": SHARED
    | LINSPACE
    | SNR
    | RAMP
    | {
        "interpolation_type": "linear",
        "timestep_type": "discrete",
        "final_sigmas_type": "zero",
    },
    "EulerAncestralDiscreteScheduler": SHARED | LINSPACE | SNR,
    "HeunDiscreteScheduler": SHARED | STABLE | LINSPACE | RAMP | CLIP | {"clip_sample": False},
    "LMSDiscreteScheduler": SHARED | LINSPACE | RAMP,
    "KDPM2DiscreteScheduler": SHARED | STABLE | LINSPACE | RAMP,
    "KDPM2AncestralDiscreteScheduler": SHARED | STABLE | LINSPACE | RAMP,
    "DPMSolverSDEScheduler": SHARED | STABLE | LINSPACE | RAMP | {"noise_sampler_seed": None},
    "DPMSolverMultistepScheduler": DPM
    | LINSPACE
    | SNR
    | {
        "lower_order_final": True,
        "euler_at_final": False,
        "use_lu_lambdas": False,
    },
    "DPMSolverSinglestepScheduler": DPM | {"lower_order_final": False},
    "DEISMultistepScheduler": SOLVER
    | LINSPACE
    | {
        "algorithm_type": "deis",
        "solver_type": "logrho",
        "lower_order_final": True,
    },
    "UniPCMultistepScheduler": SOLVER
    | LINSPACE
    | SNR
    | {
        "predict_x0": True,
        "solver_type": "bh2",
        "lower_order_final": True,
        "disable_corrector": [],
        "solver_p": None,
        "final_sigmas_type": "zero",
        "shift_terminal": None,
    },
    "SASolverScheduler": (
        SHARED
        | THRESHOLD
        | RAMP
        | LINSPACE
        | {
            "use_flow_sigmas": False,
            "flow_shift": 1.0,
            "predictor_order": 2,
            "corrector_order": 2,
            "tau_func": None,
            "algorithm_type": "data_prediction",
            "lower_order_final": True,
            "lambda_min_clipped": -math.inf,
            "variance_type": None,
        }
    ),
}
FLAGS = (
    "clip_sample",
    "euler_at_final",
    "lower_order_final",
    "predict_x0",
    "rescale_betas_zero_snr",
    "set_alpha_to_one",
    "skip_prk_steps",
    "thresholding",
    "use_dynamic_shifting",
    "use_flow_sigmas",
    *RAMPS,
)
WORDS = {
    "algorithm_type": (
        "dpmsolver",
        "dpmsolver++",
        "sde-dpmsolver",
        "sde-dpmsolver++",
        "deis",
        "data_prediction",
        "noise_prediction",
    ),
    "solver_type": ("midpoint", "heun", "logrho", "bh1", "bh2"),
    "final_sigmas_type": ("zero", "sigma_min"),
    "timestep_spacing": ("leading", "linspace", "trailing"),
    "interpolation_type": ("linear", "log_linear"),
    "timestep_type": ("discrete", "continuous"),
    "variance_type": (
        "fixed_small",
        "fixed_small_log",
        "fixed_large",
        "fixed_large_log",
        "learned",
        "learned_range",
    ),
}
RULES = {
    **{name: Rule(name) for name in FLAGS},
    **{name: Rule(name, str, choices=words) for name, words in WORDS.items()},
    "steps_offset": Rule("steps_offset", int, 0, 1000),
    "solver_order": Rule("solver_order", int, 1, 3),
    "predictor_order": Rule("predictor_order", int, 1, 4),
    "corrector_order": Rule("corrector_order", int, 1, 4),
    "original_inference_steps": Rule("original_inference_steps", int, 1, 10_000),
    "timestep_scaling": Rule("timestep_scaling", float, 0, 1e6),
    "sigma_min": Rule("sigma_min", float, 1e-6, 1e6),
    "sigma_max": Rule("sigma_max", float, 1e-6, 1e6),
    "lambda_min_clipped": Rule("lambda_min_clipped", float, -math.inf, 1e6),
}
# pipelines that change what the file says, as it was wrong in the first folders
MENDED = {
    "StableDiffusionPipeline": {"steps_offset": 1, "clip_sample": False},
    "StableDiffusionImg2ImgPipeline": {"steps_offset": 1, "clip_sample": False},
    "StableDiffusionInpaintPipeline": {"steps_offset": 1, "skip_prk_steps": True},
}
