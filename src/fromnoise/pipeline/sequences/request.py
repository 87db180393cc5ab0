"""FilmRequest: what a film shows, from prompt to prompt and from seed to seed. Options and keywords
derive from it."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator

from fromnoise.errors import BadInput
from fromnoise.pipeline.request import GenerationRequest

if TYPE_CHECKING:  # so that the command line can show its help without torch
    from fromnoise.latent_diffusion import LatentDiffusion

Text = Annotated[str, Field(max_length=20_000, pattern="")]  # as GenerationRequest.prompt
Seed = Annotated[int, Field(ge=0, lt=2**64)]


class FilmRequest(GenerationRequest):
    """A GenerationRequest for many pictures on a way from key frame to key frame. There are as many
    key frames as prompts or key_seeds. A single prompt, or a single seed, holds for all key frames.
    `prompt` is not used."""

    prompts: tuple[Text, ...] = Field(
        (), max_length=1000, description="The prompts of the key frames: one each, or one for all."
    )
    key_seeds: tuple[Seed, ...] = Field(
        (),
        max_length=1000,
        description="The seeds of the key frames: 1,7,3; without them, seed holds for all.",
    )
    frames: int = Field(24, ge=1, le=100_000, description="How many pictures, key frames included.")
    loop: bool = Field(False, description="Return to the first key frame after the last frame.")
    easing: Literal["linear", "smooth", "in", "out"] = Field(
        "linear",
        description="Motion between key frames: even, slow at both ends, at the start, at the end.",
    )
    blend: Literal["linear", "slerp"] = Field(
        "linear",
        description="The way of the text's states between key frames: straight, or in an arc.",
    )

    @field_validator("key_seeds", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @property
    def keys(self) -> int:
        """The number of key frames."""
        return max(len(self.prompts), len(self.key_seeds))

    def resolve(self, model: "LatentDiffusion") -> Self:
        """As GenerationRequest.resolve, with a prompt and a seed for every key frame. Raises
        BadInput for settings that make no film."""
        if not self.prompts:
            raise BadInput(
                "a film needs a prompt", 'give one for each key frame: "a red cat" "a blue fish"'
            )
        if {len(self.prompts), len(self.key_seeds)} - {0, 1, self.keys}:
            raise BadInput(
                f"{len(self.prompts)} prompts and {len(self.key_seeds)} seeds do not pair up",
                "give as many of one as of the other, or one for all",
            )
        if self.keys < 2:
            raise BadInput(
                "one prompt with one seed does not move", "give more prompts, or more --seeds"
            )
        if self.frames < self.keys:
            raise BadInput(
                f"{self.keys} key frames do not fit {self.frames} frames",
                f"give {self.keys} or more",
            )
        if self.count != 1 or self.variation_strength:
            raise BadInput(
                "a film's frames are its pictures, and its seeds move them",
                "leave out count and variation_strength",
            )
        resolved = super().resolve(model)
        seeds = resolved.key_seeds or (resolved.seed or 0,)
        of_all = {
            "prompts": resolved.prompts * (1 if len(resolved.prompts) > 1 else self.keys),
            "key_seeds": seeds * (1 if len(seeds) > 1 else self.keys),
        }
        if any("<" in text for text in of_all["prompts"]):
            from fromnoise.pipeline.addons.tags import check_same

            check_same(of_all["prompts"], self.dialect)
        return resolved.model_copy(
            update=of_all | {"seed": of_all["key_seeds"][0], "prompt": of_all["prompts"][0]}
        )
