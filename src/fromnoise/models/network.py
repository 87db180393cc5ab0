"""What runtime and pipeline ask of a network of diffusion, whatever its architecture.

The U-Net is one. A transformer (Stable Diffusion 3, FLUX) that has these can be prepared, bound
and asked in the same way; its conditioning fills other slots, and its schedule is a flow's."""

from typing import Any, Protocol

from torch import Tensor

from fromnoise.models.conditioning import Conditioning


class NetworkConfig(Protocol):
    """The sizes of a network that others have to fit."""

    @property
    def in_channels(self) -> int:
        """Of x and what is concatenated to it."""
        ...

    @property
    def out_channels(self) -> int:
        """Of the answer, and of x."""
        ...

    @property
    def sample_size(self) -> int:
        """The side of the latents that the network was trained at; any other works."""
        ...

    @property
    def multiple(self) -> int:
        """The sides of latents must be multiples of it: strides of a U-Net, patches else."""
        ...

    @property
    def guidance_dim(self) -> int | None:
        """Not None: the scale of guidance is an input, and the network guides itself."""
        ...

    @property
    def added_dim(self) -> int | None:
        """Not None: pooled text and sizes are an input."""
        ...


class Network(Protocol):
    """An nn.Module that answers what `prediction` says of a noisy x."""

    config: Any  # a NetworkConfig

    def constants(self, conditioning: Conditioning) -> Any:
        """What depends on the conditioning alone: computed once a run, given back at every call."""
        ...

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        conditioning: Conditioning,
        record: Any = None,
        constants: Any = None,
        residuals: Any = None,
    ) -> Tensor:
        """x (B, C, H, W), t () or (B,) as the schedule's kind tells it → (B, out_channels, H, W).
        record: takes the maps of cross-attention. residuals: what a second network adds."""
        ...
