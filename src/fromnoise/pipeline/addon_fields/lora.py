"""A LoRA that a request asks for."""

from pydantic import Field

from fromnoise.pipeline.addon_fields.base import AddOn


class Lora(AddOn):
    """A low-rank change of the model's weights, of any kind that formats/lora.py reads."""

    weight: float = Field(default=1.0, ge=-100, le=100, description="How much of it.")
    text_weight: float | None = Field(
        default=None,
        ge=-100,
        le=100,
        description="How much in the text encoders; None: as `weight`.",
    )
    # a factor on `weight` for all that lies in no block, then for each block of the U-Net, or each
    # that has a transformer: 17 or 26 numbers for Stable Diffusion 1, 12 or 20 for XL
    blocks: tuple[float, ...] = Field(default=(), max_length=99)
