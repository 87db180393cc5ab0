"""Models that help another one to draw: its guide and its refiner."""

from fromnoise.checkpoints.hub import load_parts
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.runtime.guide import prepare_guide
from fromnoise.runtime.prepare import Prepared
from fromnoise.runtime.refiner import prepare_refiner


def prepare_helpers(
    model: LatentDiffusion,
    guide: str | None,
    refiner: str | None,
    switch: float,
    device: str,
    dtype: str,
    batch: int = 1,
) -> Prepared | None:
    """Loads what is named: the guide is returned, the refiner becomes the model's own. Raises
    BadInput where they do not fit the model."""
    plan = device, dtype, batch
    if refiner is not None:
        second = load_parts(refiner, image_tower=False)
        model.refiner = prepare_refiner(model, second, switch, *plan)
    if guide is None:
        return None
    return prepare_guide(model, load_parts(guide, image_tower=False), *plan)
