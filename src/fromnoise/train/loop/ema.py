"""Exponential moving average of weights, with the warm-up that makes short runs usable."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """Averaged weights w̄ ← d·w̄ + (1−d)·w with d = min(decay, (1+k)/(10+k)) at update k.

    The average forgets early weights quickly (the schedule of the code of Salimans et al. 2016, and
    of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.shadow = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        live = module.state_dict()
        floats = [k for k, v in self.shadow.items() if v.is_floating_point()]
        # all in one kernel
        get_ema_multi_avg_fn(d)([self.shadow[k] for k in floats], [live[k] for k in floats], 0)
        for k in self.shadow.keys() - set(floats):
            self.shadow[k].copy_(live[k])

    def load(self, shadow: dict[str, Tensor], updates: int) -> None:
        self.shadow = {k: v.to(self.shadow[k], copy=True) for k, v in shadow.items()}
        self.updates = updates
