"""What to say of a run that computed NaN or infinite numbers."""

from typing import NoReturn

import torch
from torch import nn

from fromnoise.errors import NotFinite


def refuse(part: str, network: nn.Module) -> NoReturn:
    """Raises NotFinite for the part, with the remedy that the network's weights suggest."""
    parameters = list(network.parameters())
    if not all(p.isfinite().all() for p in parameters):
        remedy = "its weights hold such numbers too: fetch or train the model again"
    elif any(p.dtype == torch.float16 for p in parameters):
        remedy = "half precision ends at 65,504: use --dtype bf16 or fp32"
    else:
        remedy = (
            "its weights are sound: bring the guidance scale, the prompt's weights and the "
            "sampler's options nearer to usual values"
        )
    raise NotFinite(f"{part} computed NaN or infinite numbers", remedy)
