"""HiresRequest: what to draw in two passes, small and then large. Command line and HTTP fields
derive from it."""

from typing import TYPE_CHECKING, Self

from pydantic import Field

from fromnoise.pipeline.request import GenerationRequest

if TYPE_CHECKING:
    from fromnoise.latent_diffusion import LatentDiffusion

FALLBACK = {
    "hires_upscaler": "latent",
    "hires_strength": 0.7,
}  # A1111's, for a model that prefers none
SIDE = 8192  # pixels of the finished picture, as of any other


class HiresRequest(GenerationRequest):
    """A GenerationRequest whose pictures are enlarged and drawn over. Upscaler and strength are as
    the model prefers if they are None; what else the second pass leaves open (None, 0, "") is as in
    the first."""

    hires_scale: float = Field(
        2.0, ge=1, le=8, description="How many times larger, if no hires side is given."
    )
    hires_width: int | None = Field(
        None, ge=8, le=SIDE, description="Final width; without a height in proportion."
    )
    hires_height: int | None = Field(
        None, ge=8, le=SIDE, description="Final height; both: what is too much is cut."
    )
    hires_upscaler: str | None = Field(
        None,
        max_length=4096,
        description="What enlarges: latent, latent (bicubic), lanczos, a .safetensors file.",
    )
    hires_steps: int = Field(
        0, ge=0, le=1000, description="Steps of the second pass; 0: as many as in the first."
    )
    hires_strength: float | None = Field(
        None, ge=0.01, le=1, description="How much it redraws; 1: all of it."
    )
    hires_sampler: str | None = Field(None, description="Its sampler, if another.")
    hires_spacing: str | None = Field(
        None, description="Its spacing of the noise levels, if another."
    )
    hires_cfg: float | None = Field(
        None, ge=0, le=100, description="Its guidance scale, if another."
    )
    hires_prompt: str = Field("", max_length=20_000, description="What it draws, if another.")
    hires_negative_prompt: str = Field(
        "", max_length=20_000, description="What it stays away from, if another."
    )

    def resolve(self, model: "LatentDiffusion") -> Self:
        """As GenerationRequest's."""
        prefers = FALLBACK | model.defaults
        chosen = {
            k: getattr(self, k) if getattr(self, k) is not None else prefers[k] for k in FALLBACK
        }
        return super().resolve(model).model_copy(update=chosen)
