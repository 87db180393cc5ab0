"""UpscaleRequest: how a finished picture becomes larger. The HTTP fields derive from it."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fromnoise.pipeline.plain_request import PlainRequest

SIDE = 8192  # pixels, the longest side of a finished picture, as everywhere


class UpscaleRequest(PlainRequest):
    """A picture at `scale` times its size, or at a width and a height; with one side, the other one
    is in proportion."""

    upscaler: str = Field(
        "lanczos",
        min_length=1,
        max_length=255,
        description="nearest, bilinear, bicubic, lanczos, or the name of a network.",
    )
    scale: float | None = Field(
        None, gt=0, le=64, description="How many times larger; 2 if no side is given."
    )
    width: int | None = Field(
        None, ge=1, le=SIDE, description="Width of the larger picture, in pixels."
    )
    height: int | None = Field(
        None, ge=1, le=SIDE, description="Height of the larger picture, in pixels."
    )
    resize: Literal["stretch", "crop"] = Field(
        "stretch", description="How a picture gets another shape: stretched, or cut off."
    )

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.scale is not None and (self.width or self.height):
            raise ValueError("a scale and a side are given: leave one of them out")
        return self

    def find_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The finished (width, height) of a picture of that size; it may have 0 pixels."""
        wide, high = size
        if self.width or self.height:
            return (
                self.width or round((self.height or 0) * wide / high),
                self.height or round((self.width or 0) * high / wide),
            )
        scale = 2.0 if self.scale is None else self.scale
        return int(wide * scale), int(high * scale)
