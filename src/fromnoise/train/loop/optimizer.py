"""The optimizer of a stage, and how its learning rate runs over the stage."""

from dataclasses import dataclass

import torch
from torch import nn

from fromnoise.errors import UnknownName
from fromnoise.train.loop import muon
from fromnoise.train.recipe import Stage

OPTIMIZERS = ("adamw", "muon")


def scale_rate(progress: float, step: int, warmup: int, decay: float) -> float:
    """The share of the peak learning rate at a step.

    Linear warm-up over `warmup` steps, then constant, then linear to zero over the last `decay` of
    the stage: the trapezoid of Hägele et al. 2024. A longer run can go on from any checkpoint that
    lies before the descent.
    """
    rise = min(1.0, (step + 1) / max(warmup, 1))
    return rise * min(1.0, (1 - progress) / decay if decay else 1.0)


@dataclass(frozen=True)
class LearningRate:
    """The learning rate of a stage: the peak `lr`, with warm-up and decay."""

    peak: float
    warmup: int = 100  # steps
    decay: float = 0.3  # share of the stage

    @classmethod
    def of(cls, stage: Stage) -> "LearningRate":
        return cls(float(stage["lr"]), stage.get("warmup", 100), stage.get("decay", 0.3))

    def at(self, progress: float, step: int) -> float:
        return self.peak * scale_rate(progress, step, self.warmup, self.decay)


def build_optimizer(module: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """The stage's `optimizer`, "adamw" or "muon", over all trained weights of `module`.

    Vectors (biases, norms) have no weight decay. Raises UnknownName.
    """
    name, decay = stage.get("optimizer", "adamw"), stage.get("weight_decay", 0.01)
    if name not in OPTIMIZERS:
        raise UnknownName("optimizer", name, OPTIMIZERS)
    lr, betas = float(stage["lr"]), tuple(stage.get("betas", (0.9, 0.99)))
    if name == "muon":
        return muon.Muon(muon.group_parameters(module, decay), lr=lr, betas=betas, fused=True)
    weights = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
