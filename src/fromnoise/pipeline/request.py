"""GenerationRequest: the one schema of what to draw. Command line, Python keywords and HTTP fields derive from it."""

import secrets
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fromnoise.diffusion import samplers
from fromnoise.errors import BadInput, UnknownName

if TYPE_CHECKING:  # so that the command line can show its help without torch
    from fromnoise.latent_diffusion import LatentDiffusion

FALLBACK = {"sampler": "dpmpp_2m", "spacing": "karras", "steps": 20, "cfg": 7.0}  # for a model that names none


class GenerationRequest(BaseModel):
    """What to draw and how. None means: as the model prefers, or at random for the seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field("", description="What to draw.")
    negative_prompt: str = Field("", description="What to stay away from.")
    steps: int | None = Field(None, ge=1, le=1000, description="Number of denoising steps.")
    cfg: float | None = Field(None, ge=0, le=100, description="Guidance scale: how strongly the prompt pulls; 1: none.")
    cfg_rescale: float = Field(0.0, ge=0, le=1, description="How far to undo the contrast that guidance adds.")
    sampler: str | None = Field(None, description="The sampler, as `fromnoise samplers` lists them.")
    spacing: str | None = Field(None, description="Spacing of the noise levels: karras, trailing, ...")
    eta: float | None = Field(None, ge=0, le=10, description="Fresh noise in each step, for samplers that take it.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="Start of the randomness; picture i has seed + i.")
    count: int = Field(1, ge=1, le=1000, description="How many pictures.")
    width: int | None = Field(None, ge=8, le=8192, description="Width in pixels.")
    height: int | None = Field(None, ge=8, le=8192, description="Height in pixels.")

    @classmethod
    def of(cls, **values) -> "GenerationRequest":
        """The request with these fields. Raises BadInput naming each bad one, UnknownName for a field or a sampler."""
        for name in values:
            if name not in cls.model_fields:
                raise UnknownName("setting", name, cls.model_fields)
        if isinstance(values.get("sampler"), str):
            samplers.find(values["sampler"])
        try:
            return cls(**values)
        except ValidationError as error:
            faults = [f"{e['loc'][0]} = {e['input']!r}" for e in error.errors()]
            rules = [f"{e['loc'][0]}: {e['msg'][0].lower()}{e['msg'][1:]}" for e in error.errors()]
            raise BadInput(f"cannot use {', '.join(faults)}", "; ".join(rules)) from None

    def resolved(self, model: "LatentDiffusion") -> "GenerationRequest":
        """The request with every None decided, checked against the model.

        Raises UnknownName for a sampler or spacing, BadInput for a size that the model cannot draw or an eta that the
        sampler does not take.
        """
        from fromnoise.diffusion.spacing import SPACINGS

        chosen = {k: getattr(self, k) if getattr(self, k) is not None else model.defaults.get(k, v)
                  for k, v in FALLBACK.items()}  # fmt: skip
        entry = samplers.find(chosen["sampler"])
        if chosen["spacing"].lower() not in SPACINGS:
            raise UnknownName("spacing", chosen["spacing"], SPACINGS)
        if self.eta is not None and "eta" not in entry.options:
            takers = ", ".join(name for name, e in samplers.SAMPLERS.items() if "eta" in e.options)
            raise BadInput(f"the sampler {entry.name} takes no eta", f"leave eta out, or use one of: {takers}")
        size = {"width": self.width or model.size, "height": self.height or model.size}
        for side, pixels in size.items():
            if pixels % model.multiple:
                near = max(round(pixels / model.multiple), 1) * model.multiple
                raise BadInput(
                    f"{side} {pixels} does not fit this model", f"use a multiple of {model.multiple}, such as {near}"
                )
        seed = secrets.randbelow(2**32) if self.seed is None else self.seed
        chosen |= {"sampler": entry.name, "spacing": chosen["spacing"].lower(), "seed": seed}
        return self.model_copy(update=chosen | size)
