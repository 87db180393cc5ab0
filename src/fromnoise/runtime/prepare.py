"""A network → a fast way to run it on this device, by a named plan."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.unet import UNet

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# (x (B, C, H, W), t, record=None, residuals=None) → (B, C, H, W) in fp32, see UNet.forward
Step = Callable[..., Tensor]


class Prepared:
    """A network on its device. `plan` names the way it computes: a picture's bits depend on it."""

    def __init__(self, network: UNet, device: torch.device, dtype: str, batch: int = 1):
        self.device, self.dtype, self.batch = device, DTYPES[dtype], batch
        self.network = network.to(device, self.dtype).eval()
        self.call: Callable[..., Tensor] = UNet.__call__  # of the network, see batching.batcher
        # Channels last: convolutions need no reordering, and attention reads the picture as a view
        for p in network.parameters():
            if p.ndim == 4:
                p.data = p.data.contiguous(memory_format=torch.channels_last)
        self.digest = ""  # of a guide: the start of its weights' SHA-256
        # the network shown no picture and the scale of that, see conditioning.concat
        self.without_picture: tuple[Prepared, float] | None = None
        self.plan = f"{'exact' if batch == 1 else f'batch{batch}'}-{device.type}-{dtype}"

    @torch.inference_mode()
    def bind(self, conditioning: Conditioning) -> Step:
        """One step of the network, with a run's constants (projected text keys and values)."""

        def move(name: str, value: Tensor) -> Tensor:
            # what becomes sinusoids stays fp32, because some of them have high frequencies
            exact = name in ("time_ids", "guidance")
            return value.to(self.device, None if exact else self.dtype)

        moved = conditioning.map(move)
        constants = self.network.constants(moved)

        @torch.inference_mode()
        def step(x: Tensor, t: Tensor, record: Any = None, residuals: Any = None) -> Tensor:
            x = x.to(self.device, self.dtype, memory_format=torch.channels_last)
            shown = t.to(self.device), moved, record, constants, residuals
            return self.call(self.network, x, *shown).float()

        return step


def prepare_model(
    model: LatentDiffusion, device: str = "cpu", dtype: str = "fp32", batch: int = 1
) -> Prepared:
    """`prepare` for a model's U-Net. Its other parts stay fp32, since they run once a picture."""
    unet = prepare(model.unet, device, dtype, batch)
    encoders = (encoder.network for encoder in model.text_encoders)
    for part in (model.vae, *encoders, *([model.vision] if model.vision else [])):
        part.to(unet.device)
    return unet


def prepare(network: UNet, device: str = "cpu", dtype: str = "fp32", batch: int = 1) -> Prepared:
    """The network itself, moved and cast to `dtype` ("fp32", "bf16" or "fp16").

    batch 1 is the exact plan: a call computes one picture, and its bits depend on its own seed
    alone. Larger batches are faster, but their sums have another order, which depends on the batch.
    In fp32 a finished picture of 20 steps then differs by at most 2 of 255 levels in a pixel
    (measured on the bundled model; samplers that stop by a tolerance, and half precision, have no
    such bound). Raises BadInput for a device or a batch, UnknownName for a dtype."""
    place = torch.device("cpu")
    if device != "cpu" or dtype not in DTYPES or batch < 1:
        from fromnoise.runtime.devices import check_plan

        place = check_plan(device, dtype, batch, DTYPES)
    return Prepared(network, place, dtype, batch)
