"""BlendRequest: how two pictures become one. The command line and the HTTP fields of blending
derive from it."""

from pydantic import Field

from fromnoise.pipeline.request import GenerationRequest


class BlendRequest(GenerationRequest):
    """A GenerationRequest that starts from two pictures. Without a prompt both are described, and
    both descriptions act."""

    weight: float = Field(
        0.5, ge=0, le=1, description="The way from the first picture to the second: 0 is the first."
    )
    strength: float = Field(
        0.8, gt=0, le=1, description="The share of the run that redraws the mixture of both."
    )
    clip_scale: float = Field(
        0.0, ge=0, le=100, description="The strength of CLIP's pull towards both pictures; 0: none."
    )
