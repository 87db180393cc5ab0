"""GenerationRequest: the one schema of what to draw, for command line, Python and HTTP."""

import math
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fromnoise.diffusion import samplers, spacing
from fromnoise.errors import BadInput, UnknownName

if TYPE_CHECKING:  # so that the command line can show its help without torch
    from fromnoise.diffusion.guidance import Guidance
    from fromnoise.latent_diffusion import LatentDiffusion
    from fromnoise.pipeline.addon_fields.addons import Addons

# for a model that names none
FALLBACK: dict[str, Any] = {"sampler": "dpmpp_2m", "spacing": "karras", "steps": 20, "cfg": 7.0}
FALLBACK |= {"cfg_sigma_min": 0.0, "cfg_sigma_max": math.inf}
OPTIONS = ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise")  # of samplers, with fields here
Value = bool | int | float | str


def _field(default: Any, description: str, **rules: Any) -> Any:
    return Field(default, description=description, **rules)


class GenerationRequest(BaseModel):
    """What to draw and how. None means: as the model prefers, or at random for the seed."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    # an empty pattern refuses lone surrogates
    prompt: str = _field("", "What to draw.", max_length=20_000, pattern="")
    negative_prompt: str = _field("", "What to stay away from.", max_length=20_000, pattern="")
    dialect: Literal["a1111", "comfy", "compel"] = _field("a1111", "Whose syntax prompts are in.")
    prompt_steps: Literal["step", "call"] = _field(
        "step", "Prompts change by step, or by call and one call late, as in A1111."
    )
    masks: dict[str, Path] = _field({}, "IMASK name → picture, white where it acts.", max_length=99)
    clip_skip: int = _field(1, "Layer of the text encoder, counted from its end.", ge=1, le=64)
    steps: int | None = _field(None, "Number of denoising steps.", ge=1, le=1000)
    cfg: float | None = _field(None, "Guidance scale: the prompt's pull; 1: none.", ge=0, le=100)
    cfg_rescale: float = _field(0.0, "How far to undo the contrast that guidance adds.", ge=0, le=1)
    cfg_sigma_min: float | None = _field(None, "Noise level down to which guidance acts.", ge=0)
    cfg_sigma_max: float | None = _field(None, "Highest noise level with guidance; inf: all.", gt=0)
    skip_uncond_below: float = _field(
        0.0, "Noise level below which every second step is unguided (A1111's NGMS).", ge=0
    )
    apg: bool = _field(False, "Adaptive projected guidance: high scales without glaring colours.")
    apg_parallel: float = _field(0.0, "apg's share of what points along the picture.", ge=0, le=1)
    apg_norm: float | None = _field(None, "The most that apg's guidance may measure.", gt=0)
    apg_momentum: float = _field(0.0, "apg's share of its last guidance; usual: -0.5.", gt=-1, lt=1)
    preset: str | None = _field(None, "Settings for few steps: fast, or of a model: lcm, turbo, …")
    sampler: str | None = _field(None, "The sampler, as `fromnoise samplers` lists them.")
    spacing: str | None = _field(None, "Spacing of noise levels: karras, automatic, trailing, ...")
    eta: float | None = _field(None, "Fresh noise a step, for samplers that take it.", ge=0, le=10)
    s_churn: float | None = _field(None, "Noise added before each step, over a run.", ge=0, le=1000)
    s_tmin: float | None = _field(None, "Noise level below which s_churn adds none.", ge=0)
    s_tmax: float | None = _field(None, "Noise level above which s_churn adds none.", ge=0)
    s_noise: float | None = _field(None, "Factor on the noise of a sampler; 1: exact.", ge=0, le=10)
    sampler_options: dict[str, Value] = _field({}, "More of the sampler: order, solver, rtol, ...")
    spacing_options: dict[str, Value] = _field({}, "Of the spacing: rho, sigma_min, alpha, ...")
    discard_penultimate: bool | None = _field(
        None, "Leave out the last positive noise level; None: as A1111 does."
    )
    noise_scaling: Literal["unit", "sigma_max"] = _field(
        "unit",
        "Scale of the first noise: √(1 + σ²), so that the network sees unit noise, or σ_max.",
    )
    final_sigma: Literal["zero", "first", "last"] = _field("zero", "The level of the run's end.")
    timesteps: Literal["exact", "rounded", "cut"] = _field("exact", "How the network is told t.")
    seed: int | None = _field(None, "Start of randomness; picture i has seed + i.", ge=0, lt=2**64)
    rng: Literal["cpu", "nv"] = _field("cpu", "Whose numbers: this program's, or an NVIDIA GPU's.")
    eta_noise_seed_delta: int = _field(
        0, "Added to the seed for the noise in the steps (A1111's ENSD).", ge=-(2**62), le=2**62
    )
    variation_seed: int | None = _field(
        None,
        "Noise to go towards; picture i has variation_seed + i, all have the seed.",
        ge=0,
        lt=2**64,
    )
    variation_strength: float = _field(0.0, "How far to the variation seed's noise.", ge=0, le=1)
    variation_blend: Literal["slerp", "columns"] = _field(
        "slerp", "Along the sphere through both noises, or column by column as in A1111."
    )
    tiling: Literal["none", "both", "x", "y"] = _field("none", "Seamless: along both axes, x, y.")
    count: int = _field(1, "How many pictures.", ge=1, le=1000)
    width: int | None = _field(None, "Width in pixels.", ge=8, le=8192)
    height: int | None = _field(None, "Height in pixels.", ge=8, le=8192)
    size_conditions: dict[str, float] = _field({}, "SDXL's original_width, …", max_length=14)
    max_cost: float | None = _field(
        None, "Refuse what costs more default pictures than this; 1000 if left out.", gt=0
    )
    addons: Any = _field(None, "LoRA and whatever else is put on the model for this request.")

    @field_validator("addons")
    def _check_addons(cls, value: Any) -> "Addons | None":
        from fromnoise.pipeline.addon_fields.addons import read_addons  # only where there are some

        return read_addons(value)

    @classmethod
    def of(cls, **values) -> Self:
        """The request with these fields. Raises BadInput naming each bad one, and UnknownName."""
        for name in values:
            if name not in cls.model_fields:
                raise UnknownName("setting", name, cls.model_fields)
        if isinstance(name := values.get("sampler"), str):
            samplers.find(name)
        if isinstance(name := values.get("spacing"), str) and not is_automatic(name):
            spacing.find(name)
        if isinstance(name := values.get("preset"), str):
            _find_preset(name)
        try:
            return cls(**values)
        except ValidationError as error:
            from fromnoise.pipeline.request_faults import describe_faults

            raise BadInput(*describe_faults(error)) from None

    def resolve(self, model: "LatentDiffusion") -> Self:
        """The request with every None decided, checked against the model.

        Raises UnknownName for a sampler or spacing, BadInput for a size that the model cannot draw
        or an option that the sampler does not take."""
        if self.sampler is None and self.preset is None and "scheduler" in model.defaults:
            from fromnoise.pipeline.scheduler import choose_settings  # only for others' models

            return choose_settings(self, model.schedule, FALLBACK | model.defaults).resolve(model)
        preset = {} if self.preset is None else _find_preset(self.preset)
        defaults = FALLBACK | model.defaults | preset
        own = {name: getattr(self, name) for name in FALLBACK}
        update = {name: defaults[name] if own[name] is None else own[name] for name in FALLBACK}
        entry, fused = samplers.parse(update["sampler"])
        if fused and self.spacing is None:  # "DPM++ 2M Karras"
            update["spacing"] = fused
        if is_automatic(update["spacing"]):
            update["spacing"] = entry.spacing
        update["spacing"] = spacing.find(update["spacing"]).name
        if self.options:
            from fromnoise.diffusion.options import check_sampler
            from fromnoise.pipeline.request_faults import check_twice

            check_twice({name: getattr(self, name) for name in OPTIONS}, self.sampler_options)
            check_sampler(entry, self.options)
        if self.discard_penultimate is None:
            update["discard_penultimate"] = entry.discard_penultimate
        if self.variation_strength and self.variation_seed is None:
            update["variation_seed"] = secrets.randbelow(2**32)
        for side in ("width", "height"):
            update[side] = pixels = getattr(self, side) or model.size
            if pixels % model.multiple:
                from fromnoise.pipeline.request_faults import refuse_side

                refuse_side(side, pixels, model.multiple)
        update["seed"] = secrets.randbelow(2**32) if self.seed is None else self.seed
        return self.model_copy(update=update | {"sampler": entry.name})

    @property
    def guidance(self) -> "Guidance":
        """The guidance of a resolved request. Raises BadInput."""
        from fromnoise.diffusion.guidance import Guidance

        values = {"scale": self.cfg, "rescale": self.cfg_rescale, "apg_norm": self.apg_norm}
        values |= {"low": self.cfg_sigma_min, "high": self.cfg_sigma_max, "apg": self.apg}
        values |= {"apg_parallel": self.apg_parallel, "apg_momentum": self.apg_momentum}
        values |= {"skip_below": self.skip_uncond_below}
        return Guidance(**{name: value for name, value in values.items() if value is not None})

    @property
    def options(self) -> dict[str, Value]:
        """All options that the sampler is given."""
        fields = {name: getattr(self, name) for name in OPTIONS}
        return {k: v for k, v in fields.items() if v is not None} | self.sampler_options

    def seeds(self) -> list[int]:
        """The seeds of a resolved request's pictures: seed + i, or one for all variations."""
        return [(self.seed or 0) + i * (not self.variation_strength) for i in range(self.count)]

    def variation_seeds(self) -> list[int] | None:
        """The variation seeds of the pictures of a resolved request; None where nothing varies."""
        first = self.variation_seed or 0
        return [first + i for i in range(self.count)] if self.variation_strength else None


def is_automatic(name: str) -> bool:
    """Whether a spacing is left to the sampler, as in A1111."""
    return name.strip().lower() == "automatic"


def _find_preset(name: str) -> dict[str, Any]:
    from fromnoise.pipeline.presets import find  # only where one is asked for

    return find(name)
