"""BlendRequest: how two pictures become one. The command line and the HTTP fields of blending
derive from it."""

from pydantic import Field

from fromnoise.pipeline.request import GenerationRequest


class BlendRequest(GenerationRequest):
    """A GenerationRequest that starts from two pictures. Without a prompt they are described, and
    both pull."""

    weight: float = Field(
        0.5, ge=0, le=1, description="How far from the first picture towards the second."
    )
    strength: float = Field(
        0.8, gt=0, le=1, description="How much of the run redraws the two, laid over one another."
    )
    clip_scale: float = Field(
        0.0, ge=0, le=100, description="How strongly CLIP pulls towards what it sees in both."
    )
