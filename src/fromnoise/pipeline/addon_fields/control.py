"""A ControlNet or a T2I-Adapter, as a request asks for it."""

from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import Field, field_validator

from fromnoise.pipeline.addon_fields.base import AddOn

# the kinds of pictures of a ControlNet Union, in the order of its numbers
Kind = Literal[
    "openpose", "depth", "softedge", "canny", "normal", "segmentation", "tile", "inpaint"
]


class Control(AddOn):
    """A network that sees a picture and steers the run by it."""

    image: Path | None = Field(
        None, description="The picture that it sees; None: the one that is edited."
    )
    # the same as a Pillow picture, for Python
    picture: Any = Field(None, exclude=True, repr=False)
    weight: float = Field(1.0, ge=-10, le=10, description="How strongly it acts; 0: not at all.")
    mode: Literal["balanced", "prompt", "control", "guess"] = Field(
        "balanced", description="What is more important, as in A1111; or diffusers' guess mode."
    )
    resize: Literal["stretch", "crop", "fill"] = Field(
        "crop", description="How its picture comes to the size of the run."
    )
    preprocess: str = Field(
        "none", max_length=40, description="What is made of the picture first: canny, depth, ..."
    )
    low: float | None = Field(None, ge=0, le=1e6, description="Of the preprocessor: A1111's A.")
    high: float | None = Field(None, ge=0, le=1e6, description="Of the preprocessor: A1111's B.")

    kind: Kind | None = Field(
        None, description="What a ControlNet Union is shown; None: what the preprocessor makes."
    )

    @field_validator("picture")
    @classmethod
    def _check_picture(cls, value: Any) -> Image.Image | None:
        """A name of a file is none: what comes from elsewhere must not open files of this machine
        here."""
        if value is not None and not isinstance(value, Image.Image):
            raise ValueError("it should be a Pillow picture")
        return value
