"""HiresRequest: what to draw in two passes, small and then large. Command line and HTTP fields
derive from it."""

from typing import TYPE_CHECKING, Self

from pydantic import Field

from fromnoise.pipeline.request import GenerationRequest

if TYPE_CHECKING:
    from fromnoise.latent_diffusion import LatentDiffusion

# A1111's values, for a model without its own
FALLBACK = {"hires_upscaler": "latent", "hires_strength": 0.7}
SIDE = 8192  # pixels, the longest side of a finished picture, as everywhere


class HiresRequest(GenerationRequest):
    """A GenerationRequest whose pictures are enlarged and drawn over. Where upscaler or strength is
    None, the model's own value holds. Every other open setting of the second pass (None, 0, "") is
    that of the first pass."""

    hires_scale: float = Field(
        2.0, ge=1, le=8, description="How many times larger, where no hires side is given."
    )
    hires_width: int | None = Field(
        None, ge=8, le=SIDE, description="Final width; without a height, in proportion."
    )
    hires_height: int | None = Field(
        None, ge=8, le=SIDE, description="Final height; with both sides, the excess is cut off."
    )
    hires_upscaler: str | None = Field(
        None,
        max_length=4096,
        description="The upscaler: latent, latent (bicubic), lanczos, a .safetensors or .pth file.",
    )
    hires_steps: int = Field(
        0, ge=0, le=1000, description="Steps of the second pass; 0: as many as in the first."
    )
    hires_strength: float | None = Field(
        None, ge=0.01, le=1, description="The share of the run that redraws; 1: all of it."
    )
    hires_sampler: str | None = Field(None, description="The second pass's own sampler.")
    hires_spacing: str | None = Field(
        None, description="The second pass's own spacing of the noise levels."
    )
    hires_cfg: float | None = Field(
        None, ge=0, le=100, description="The second pass's own guidance scale."
    )
    hires_prompt: str = Field("", max_length=20_000, description="The second pass's own prompt.")
    hires_negative_prompt: str = Field(
        "", max_length=20_000, description="The second pass's own negative prompt."
    )

    def resolve(self, model: "LatentDiffusion") -> Self:
        """As GenerationRequest.resolve."""
        preferred = FALLBACK | model.defaults
        chosen = {
            k: getattr(self, k) if getattr(self, k) is not None else preferred[k] for k in FALLBACK
        }
        return super().resolve(model).model_copy(update=chosen)
