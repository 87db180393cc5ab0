"""A built network → the way to run it on this device, by a named plan."""

from collections.abc import Callable

import torch
from torch import Tensor

from fromnoise.errors import BadInput, UnknownName
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.attention import Record
from fromnoise.models.unet import Conditioning, Residuals, UNet

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Step = Callable[
    ..., Tensor
]  # (x (B, C, H, W), t, record: Record | None = None) → (B, C, H, W) in fp32


class Prepared:
    """A network on its device. `plan` names how it computes: part of what a picture's bits depend
    on."""

    def __init__(self, network: UNet, device: torch.device, dtype: str, batch: int = 1):
        self.device, self.dtype, self.batch = device, DTYPES[dtype], batch
        self.network = network.to(device, self.dtype).eval()
        # channels last: convolutions need no reordering of the picture, and attention reads it as a
        # view
        for p in network.parameters():  # reordered where it runs, once it is cast
            if p.ndim == 4:
                p.data = p.data.contiguous(memory_format=torch.channels_last)
        self.plan = f"{'exact' if batch == 1 else f'batch{batch}'}-{device.type}-{dtype}"

    @torch.inference_mode()
    def bind(self, conditioning: Conditioning) -> Step:
        """Fixes what is constant over a run, the projected text keys and values; gives one step of
        the network."""

        def move(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(self.device, self.dtype)

        c, residuals = conditioning, conditioning.residuals
        if residuals is not None:
            to = {"device": self.device, "dtype": self.dtype}
            residuals = Residuals(
                tuple(s.to(**to) for s in residuals.skips), residuals.middle.to(**to)
            )
        context = c.context.to(self.device, self.dtype)
        guidance = (
            None if c.guidance is None else c.guidance.to(self.device)
        )  # in fp32: its sinusoids are fast
        moved = Conditioning(
            context,
            move(c.pooled),
            move(c.time_ids),
            move(c.concat),
            residuals,
            move(c.image_tokens),
            guidance,
        )
        projected = self.network.project(context)

        @torch.inference_mode()
        def step(x: Tensor, t: Tensor, record: Record | None = None) -> Tensor:
            x = x.to(self.device, self.dtype, memory_format=torch.channels_last)
            return self.network(x, t.to(self.device), moved, record, projected).float()

        return step


def prepare_model(
    model: LatentDiffusion, device: str = "cpu", dtype: str = "fp32", batch: int = 1
) -> Prepared:
    """`prepare` of a model's U-Net; moves its other parts along, in fp32, since they run once a
    picture."""
    unet = prepare(model.unet, device, dtype, batch)
    for part in (model.vae, model.text_encoder, *([model.vision] if model.vision else [])):
        part.to(unet.device)
    return unet


def prepare(network: UNet, device: str = "cpu", dtype: str = "fp32", batch: int = 1) -> Prepared:
    """The network ready to run in `dtype` ("fp32", "bf16" or "fp16"); moves and casts the network
    itself.

    batch 1 is the exact plan: a call computes one picture, whose bits depend on its own seed alone.
    More pictures a call are faster, and sums come in another order, which depends on how many there
    are: in fp32 one call differs by about 1e-6 of its size, a finished picture of 20 steps by at
    most 2 of 255 levels in a pixel (measured on the bundled model; samplers that halt by a
    tolerance, or noise in half precision, have no such bound). Raises BadInput for a device that is
    not there or a batch below 1, UnknownName for a dtype."""
    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, DTYPES)
    if batch < 1:
        raise BadInput(
            f"batch {batch} cannot be used", "give the number of pictures a call, 1 or more"
        )
    if device != "cpu":
        from fromnoise.runtime.devices import find_device

        return Prepared(network, find_device(device), dtype, batch)
    return Prepared(network, torch.device("cpu"), dtype, batch)
