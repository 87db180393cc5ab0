"""EditRequest: what to draw over a picture, and how. The command line and the HTTP fields of
editing derive from it."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from fromnoise.pipeline.request import GenerationRequest


class EditRequest(GenerationRequest):
    """A GenerationRequest that starts from a picture.

    Without width and height the picture keeps its size, unless it is far larger than the model's
    own: see `working_size.choose_working_size`.
    """

    strength: float = Field(
        0.75, gt=0, le=1, description="How much of the run redraws the picture; 1: all of it."
    )
    resize: Literal["stretch", "crop", "fill"] = Field(
        "crop",
        description="How a picture gets another shape: stretched, cut off, or its edges repeated.",
    )
    mask_blur: float = Field(
        4.0, ge=0, le=256, description="Softness of the mask's edge in pixels, inwards."
    )
    content: Literal["original", "fill", "noise"] = Field(
        "original",
        description="What the mask's inside starts from: the picture, colours around it, or noise.",
    )
    extend_left: int = Field(
        0, ge=0, le=4096, description="Pixels to draw beyond the picture's left edge."
    )
    extend_right: int = Field(0, ge=0, le=4096, description="Beyond its right edge.")
    extend_top: int = Field(0, ge=0, le=4096, description="Above it.")
    extend_bottom: int = Field(0, ge=0, le=4096, description="Below it.")
    only_masked: bool = Field(
        False, description="Draw the mask's surroundings alone, at the model's own size."
    )
    padding: int = Field(
        32, ge=0, le=4096, description="Pixels around the mask that only_masked draws along."
    )

    depth_map: Path | None = Field(
        None, description="For a model that sees depths: a grey picture of them, near is bright."
    )
    image_cfg: float = Field(
        1.5,
        ge=0,
        le=100,
        description="How strongly a model that changes pictures keeps to the picture.",
    )

    @property
    def extends(self) -> tuple[int, int, int, int]:
        """Left, right, top, bottom."""
        return self.extend_left, self.extend_right, self.extend_top, self.extend_bottom
