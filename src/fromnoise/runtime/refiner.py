"""A second model that draws the end of each run: Stable Diffusion XL's refiner, or any other of the
same latent space (Podell et al. 2023 "SDXL" §2.5)."""

from dataclasses import dataclass

from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.runtime.guide import hash_weights
from fromnoise.runtime.prepare import Prepared, prepare_model

SWITCH = 0.8  # A1111's default


@dataclass(frozen=True, eq=False)
class Refiner:
    """`model`, as it runs. It answers once the share `switch` of the training's timesteps is done:
    so count A1111's "Switch at", and denoising_end and denoising_start of diffusers."""

    model: LatentDiffusion
    unet: Prepared
    switch: float = SWITCH

    def describe(self) -> dict[str, str | None]:
        """What a picture says of it, in A1111's words."""
        name = f"{self.model.source or 'model'} [{self.model.digest}]"
        return {"Refiner": name, "Refiner switch at": repr(self.switch).removesuffix(".0")}


def prepare_refiner(
    model: LatentDiffusion,
    refiner: LatentDiffusion,
    switch: float = SWITCH,
    device: str = "cpu",
    dtype: str = "fp32",
    batch: int = 1,
) -> Refiner:
    """The second model, ready to run beside the first. Raises BadInput where its latents differ in
    meaning from the first one's, and for a switch outside of (0, 1]."""
    if not 0 < switch <= 1:
        raise BadInput(
            f"the refiner cannot take over at {switch}",
            "give the share of the run before it: above 0, 0.8 is usual, 1 leaves it out",
        )
    a, b = model.vae.config, refiner.vae.config
    differences = {
        "number of latent channels": a.latent_channels != b.latent_channels,
        "size of latents": a.factor != b.factor,
        "scale of latents": (a.scaling_factor, a.shift_factor)
        != (b.scaling_factor, b.shift_factor),
    }
    if wrong := [name for name, differs in differences.items() if differs]:
        raise BadInput(
            f"the refiner has another {', another '.join(wrong)}",
            "give one that was made for the model's latents",
        )
    refiner.digest = refiner.digest or hash_weights(refiner.unet)  # before they are cast
    return Refiner(refiner, prepare_model(refiner, device, dtype, batch), switch)
