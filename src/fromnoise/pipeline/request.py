"""GenerationRequest: the one schema of what to draw. Command line, Python keywords and HTTP fields
derive from it."""

import math
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fromnoise.diffusion import samplers, spacing
from fromnoise.errors import BadInput, UnknownName

if TYPE_CHECKING:  # so that the command line can show its help without torch
    from fromnoise.diffusion.guidance import Guidance
    from fromnoise.latent_diffusion import LatentDiffusion

FALLBACK = {
    "sampler": "dpmpp_2m",
    "spacing": "karras",
    "steps": 20,
    "cfg": 7.0,  # for a model that names none
    "cfg_sigma_min": 0.0,
    "cfg_sigma_max": math.inf,
}
OPTIONS = (
    "eta",
    "s_churn",
    "s_tmin",
    "s_tmax",
    "s_noise",
)  # of samplers, that have fields of their own
Value = bool | int | float | str


class GenerationRequest(BaseModel):
    """What to draw and how. None means: as the model prefers, or at random for the seed."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    prompt: str = Field(
        "", max_length=20_000, pattern="", description="What to draw."
    )  # "": no lone surrogates
    negative_prompt: str = Field(
        "", max_length=20_000, pattern="", description="What to stay away from."
    )
    dialect: Literal["a1111", "comfy", "compel"] = Field(
        "a1111", description="Whose syntax the prompts are in."
    )
    prompt_steps: Literal["step", "call"] = Field(
        "step",
        description="Prompts change by step, or by call of the network and one late, as A1111 does it.",
    )
    masks: dict[str, Path] = Field(
        {}, max_length=99, description="Name → picture, white where the IMASK(name) holds."
    )
    clip_skip: int = Field(
        1, ge=1, le=64, description="Layer of the text encoder from its end; 2: the last but one."
    )
    steps: int | None = Field(None, ge=1, le=1000, description="Number of denoising steps.")
    cfg: float | None = Field(
        None, ge=0, le=100, description="Guidance scale: how strongly the prompt pulls; 1: none."
    )
    cfg_rescale: float = Field(
        0.0, ge=0, le=1, description="How far to undo the contrast that guidance adds."
    )
    cfg_sigma_min: float | None = Field(
        None, ge=0, description="Noise level down to which guidance acts."
    )
    cfg_sigma_max: float | None = Field(
        None, gt=0, description="Noise level up to which guidance acts; inf: all."
    )
    skip_uncond_below: float = Field(
        0.0,
        ge=0,
        description="Noise level below which every second step goes without guidance (A1111's NGMS).",
    )
    apg: bool = Field(
        False, description="Adaptive projected guidance: high scales without glaring colours."
    )
    apg_parallel: float = Field(
        0.0, ge=0, le=1, description="Share that apg keeps of what points along the picture."
    )
    apg_norm: float | None = Field(
        None, gt=0, description="The most that apg's guidance may measure."
    )
    apg_momentum: float = Field(
        0.0, gt=-1, lt=1, description="Share that apg keeps of its last guidance; -0.5: usual."
    )
    preset: str | None = Field(
        None, description="Settings for few steps: fast; of models made for them lcm, turbo, …"
    )
    sampler: str | None = Field(
        None, description="The sampler, as `fromnoise samplers` lists them."
    )
    spacing: str | None = Field(
        None, description="Spacing of the noise levels: karras, automatic, trailing, ..."
    )
    eta: float | None = Field(
        None, ge=0, le=10, description="Fresh noise in each step, for samplers that take it."
    )
    s_churn: float | None = Field(
        None, ge=0, le=1000, description="Noise added before each step, over the run."
    )
    s_tmin: float | None = Field(
        None, ge=0, description="Noise level below which s_churn adds none."
    )
    s_tmax: float | None = Field(
        None, ge=0, description="Noise level above which s_churn adds none."
    )
    s_noise: float | None = Field(
        None, ge=0, le=10, description="Factor on all noise that a sampler adds; 1: exact."
    )
    sampler_options: dict[str, Value] = Field(
        {}, description="More options of the sampler: order, solver, rtol, ..."
    )
    spacing_options: dict[str, Value] = Field(
        {}, description="Options of the spacing: rho, sigma_min, alpha, ..."
    )
    discard_penultimate: bool | None = Field(
        None,
        description="Leave out the last positive noise level; None: as A1111 does for the sampler.",
    )
    noise_scaling: Literal["unit", "sigma_max"] = Field(
        "unit",
        description="The run starts at noise times √(1 + σ²), unit variance for the network, or times σ_max.",
    )
    seed: int | None = Field(
        None, ge=0, lt=2**64, description="Start of the randomness; picture i has seed + i."
    )
    rng: Literal["cpu", "nv"] = Field(
        "cpu", description="Whose numbers: this program's, or an NVIDIA GPU's."
    )
    eta_noise_seed_delta: int = Field(
        0,
        ge=-(2**62),
        le=2**62,
        description="Added to the seed for the noise in the steps (A1111's ENSD).",
    )
    variation_seed: int | None = Field(
        None,
        ge=0,
        lt=2**64,
        description="Noise to go towards; picture i has variation_seed + i, all have the seed.",
    )
    variation_strength: float = Field(
        0.0, ge=0, le=1, description="How far towards the variation seed's noise."
    )
    variation_blend: Literal["slerp", "columns"] = Field(
        "slerp",
        description="Along the sphere through both noises, or column by column as A1111 does.",
    )
    tiling: Literal["none", "both", "x", "y"] = Field(
        "none", description="Seamless: along both axes, x, y."
    )
    count: int = Field(1, ge=1, le=1000, description="How many pictures.")
    width: int | None = Field(None, ge=8, le=8192, description="Width in pixels.")
    height: int | None = Field(None, ge=8, le=8192, description="Height in pixels.")
    max_cost: float | None = Field(
        None,
        gt=0,
        description="Refuse what costs more than so many default pictures; 1000 if left out.",
    )

    @classmethod
    def of(cls, **values) -> Self:
        """The request with these fields. Raises BadInput naming each bad one, UnknownName for a
        field or a sampler."""
        for name in values:
            if name not in cls.model_fields:
                raise UnknownName("setting", name, cls.model_fields)
        if isinstance(values.get("sampler"), str):
            samplers.find(values["sampler"])
        if (
            isinstance(values.get("spacing"), str)
            and values["spacing"].strip().lower() != "automatic"
        ):
            spacing.find(values["spacing"])
        if isinstance(values.get("preset"), str):
            _preset(values["preset"])
        try:
            return cls(**values)
        except ValidationError as error:
            faults = [f"{e['loc'][0]} = {repr(e['input'])[:99]}" for e in error.errors()]
            rules = [f"{e['loc'][0]}: {e['msg'][0].lower()}{e['msg'][1:]}" for e in error.errors()]
            raise BadInput(f"cannot use {', '.join(faults)}", "; ".join(rules)) from None

    def resolve(self, model: "LatentDiffusion") -> Self:
        """The request with every None decided, checked against the model.

        Raises UnknownName for a sampler or spacing, BadInput for a size that the model cannot draw
        or an option that the sampler does not take."""
        prefers = (
            FALLBACK | model.defaults | (_preset(self.preset) if self.preset is not None else {})
        )
        chosen = {
            k: getattr(self, k) if getattr(self, k) is not None else prefers[k] for k in FALLBACK
        }
        entry, fused = samplers.parse(chosen["sampler"])
        if fused and self.spacing is None:  # "DPM++ 2M Karras"
            chosen["spacing"] = fused
        if chosen["spacing"].strip().lower() == "automatic":
            chosen["spacing"] = entry.spacing
        chosen["spacing"] = spacing.find(chosen["spacing"]).name
        given = {name: getattr(self, name) for name in OPTIONS if getattr(self, name) is not None}
        if both := given.keys() & self.sampler_options.keys():
            raise BadInput(
                f"{', '.join(sorted(both))} is given twice", "leave it out of sampler_options"
            )
        if options := given | self.sampler_options:
            from fromnoise.diffusion.options import check_sampler

            check_sampler(entry, options)
        if self.discard_penultimate is None:
            chosen["discard_penultimate"] = entry.discard_penultimate
        if self.variation_strength and self.variation_seed is None:
            chosen["variation_seed"] = secrets.randbelow(2**32)
        size = {"width": self.width or model.size, "height": self.height or model.size}
        for side, pixels in size.items():
            if pixels % model.multiple:
                near = max(round(pixels / model.multiple), 1) * model.multiple
                raise BadInput(
                    f"{side} {pixels} does not fit this model",
                    f"use a multiple of {model.multiple}, such as {near}",
                )
        seed = secrets.randbelow(2**32) if self.seed is None else self.seed
        return self.model_copy(update=chosen | size | {"sampler": entry.name, "seed": seed})

    @property
    def guidance(self) -> "Guidance":
        """Of a resolved request. Raises BadInput."""
        from fromnoise.diffusion.guidance import Guidance

        norm = math.inf if self.apg_norm is None else self.apg_norm
        low, high = self.cfg_sigma_min or 0.0, self.cfg_sigma_max or math.inf
        return Guidance(
            1.0 if self.cfg is None else self.cfg,
            self.cfg_rescale,
            low,
            high,
            self.skip_uncond_below,
            self.apg,
            self.apg_parallel,
            norm,
            self.apg_momentum,
        )

    @property
    def options(self) -> dict[str, Value]:
        """Everything that the sampler is told."""
        return {k: v for k in OPTIONS if (v := getattr(self, k)) is not None} | self.sampler_options

    def seeds(self) -> list[int]:
        """Of the pictures of a resolved request: seed + i, but one for all where they are
        variations of it."""
        return [(self.seed or 0) + (0 if self.variation_strength else i) for i in range(self.count)]

    def variation_seeds(self) -> list[int] | None:
        """Of the pictures of a resolved request, or None where nothing varies."""
        return (
            [(self.variation_seed or 0) + i for i in range(self.count)]
            if self.variation_strength
            else None
        )


def _preset(name: str) -> dict[str, Any]:
    from fromnoise.pipeline.presets import find  # only where one is asked for

    return find(name)
