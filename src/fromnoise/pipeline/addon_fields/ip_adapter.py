"""An IP-Adapter, as a request asks for it."""

from pathlib import Path

from pydantic import Field

from fromnoise.pipeline.addon_fields.base import AddOn


class IPAdapter(AddOn):
    """An IP-Adapter and the pictures that it shows."""

    pictures: tuple[Path, ...] = Field(min_length=1, max_length=16)
    weight: float = Field(1.0, ge=-10, le=10, description="How strongly it acts; 0: not at all.")
    blocks: dict[str, float] = Field(
        {},
        description="How a layer's name begins → its own factor on the weight; others then have 0.",
        max_length=99,
    )
    encoder: Path | str | None = Field(
        None, description="CLIP's image tower: a folder, a file or a name; None: the one beside it."
    )
