"""One step of training: loss, gradient, a check that both are finite, and the optimizer's move."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from fromnoise.errors import FromnoiseError
from fromnoise.train.loop.precision import Fp32Attention
from fromnoise.train.loop.state import TrainingState
from fromnoise.train.loop.task import Task

MAX_SKIPPED = 100  # steps in a row: fp16 halves its scale at each, 2^100 is more than fp32 holds


class NotFinite(FromnoiseError):
    """The loss or its gradient is NaN or infinite. The weights were not moved."""


class Stepper:
    """Takes the steps of one task. Machines of a run share the mean of their gradients."""

    def __init__(self, task: Task, state: TrainingState, accelerator: Any, clip: float, cpu: bool):
        self.task, self.state, self.accelerator, self.clip = task, state, accelerator, clip
        self.attention = Fp32Attention if cpu else nullcontext
        self.weights = [p for p in task.module.parameters() if p.requires_grad]
        self.skipped = 0  # steps in a row that overflowed in fp16

    def take(
        self, batches: Iterator[Any], progress: float, lr: float, noise: torch.Generator, stop: bool
    ) -> tuple[dict[str, float], bool]:
        """One step. Returns (figures, whether any machine of the run wants to stop).

        Raises NotFinite, before the weights move, when the loss or the gradient is not finite.
        """
        optimizer, scaler = self.state.optimizer, self.state.scaler
        for group in optimizer.param_groups:
            group["lr"] = lr
        with self.accelerator.autocast(), self.attention():
            loss, figures = self.task.loss(next(batches), progress, noise)
        self.accelerator.backward(loss)
        value, stop = self.share(loss.detach(), stop)
        if scaler is not None:
            scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.weights, self.clip).item()
        finite = math.isfinite(value) and math.isfinite(norm)
        if not finite and (scaler is None or not self.skip(value)):
            raise NotFinite(f"the loss is {value} and its gradient's norm {norm}")
        if scaler is not None:
            if finite:
                scaler.step(optimizer)
                self.skipped = 0
            scaler.update()
        else:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if finite:
            self.state.ema.update(self.task.module)
        return {"loss": value, **figures}, stop

    def skip(self, loss: float) -> bool:
        """Whether an overflow is one of fp16 alone, which a smaller scale of the loss removes."""
        self.skipped += 1
        return math.isfinite(loss) and self.skipped <= MAX_SKIPPED

    def share(self, loss: Tensor, stop: bool) -> tuple[float, bool]:
        """Replaces the gradients by their mean over all machines, in one message.

        Returns (the loss, whether any machine wants to stop). NaN on one machine is NaN on all.
        """
        if self.accelerator.num_processes == 1:
            return loss.item(), stop
        gradients = [p.grad for p in self.weights if p.grad is not None]
        signals = torch.stack((loss.float(), loss.new_tensor(float(stop), dtype=torch.float32)))
        message = torch.cat([g.flatten() for g in gradients] + [signals.to(gradients[0].dtype)])
        mean = cast(Tensor, self.accelerator.reduce(message, "mean"))
        shares = mean.split([g.numel() for g in gradients] + [2])
        for gradient, share in zip(gradients, shares[:-1], strict=True):
            gradient.copy_(share.view_as(gradient))
        return shares[-1][0].item(), shares[-1][1].item() > 0
