"""What is asked of CLIP: BlendRequest, how two pictures become one, from which the command line
derives too; DescribeRequest and SimilarityRequest. The HTTP fields derive from all of them."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from fromnoise.pipeline.plain_request import PlainRequest
from fromnoise.pipeline.request import GenerationRequest

Words = Annotated[str, Field(min_length=1, max_length=2_000, pattern="")]


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


class DescribeRequest(PlainRequest):
    """A picture in words: the captions that fit it best."""

    top: int = Field(5, ge=1, le=100, description="How many captions.")
    source: str = Field(
        "stickers", max_length=100, description="The data source in whose words it is described."
    )
    phrases: tuple[Words, ...] = Field(
        (), max_length=1_000, description="Captions to choose from, in place of the source's."
    )

    @field_validator("source")
    @classmethod
    def _check_source(cls, value: str) -> str:
        from fromnoise.data.sources import SOURCES  # which loads NumPy

        if value not in SOURCES:
            raise ValueError(f"there is no such source: take one of {', '.join(SOURCES)}")
        return value


class SimilarityRequest(PlainRequest):
    """How similar CLIP finds pictures and words: each is compared with each."""

    pictures: tuple[Path, ...] = Field((), max_length=16, description="Pictures.")
    texts: tuple[Words, ...] = Field((), max_length=64, description="Words, each of them alone.")

    @model_validator(mode="after")
    def _check_number(self) -> Self:
        if len(self.pictures) + len(self.texts) < 2:
            raise ValueError("there is only one thing to compare: give two or more")
        return self
