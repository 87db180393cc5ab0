"""Exponential moving average of weights, with the warm-up that makes short runs usable."""

import torch
from torch import Tensor, nn


class Ema:
    """Shadow weights w̄ ← d·w̄ + (1−d)·w with d = min(decay, (1+k)/(10+k)) at update k, so that early weights are
    forgotten quickly (the schedule of Adam-style averages in Salimans et al. 2016 code and TensorFlow's
    ExponentialMovingAverage)."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.shadow = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        live = module.state_dict()
        for k, v in self.shadow.items():
            v.lerp_(live[k].detach(), 1 - d) if v.is_floating_point() else v.copy_(live[k])

    def load(self, shadow: dict[str, Tensor], updates: int) -> None:
        self.shadow, self.updates = {k: v.clone() for k, v in shadow.items()}, updates
