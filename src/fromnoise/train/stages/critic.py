"""The optional adversary of the autoencoder: a patch critic with the hinge loss (Isola 2017; Esser
2021, §3.1)."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.checkpoints import training_state
from fromnoise.train.loop.step import NotFinite


class Critic(nn.Sequential):
    """Image (B, 3, H, W) → one judgement for each patch (B, 1, H/8, W/8); more is more real."""

    def __init__(self, width: int = 32):
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for inp, out in ((width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(inp, out, 4, 2, 1), nn.GroupNorm(8, out), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(4 * width, 1, 3, 1, 1))


class CriticTrainer:
    """Trains its critic one step for each call, and returns what the autoencoder adds to its loss.

    Its state is saved and resumed with the stage's own state.
    """

    def __init__(self, weight: float, lr: float = 4e-4):
        self.weight, self.critic = weight, Critic()
        self.optimizer = torch.optim.AdamW(self.critic.parameters(), lr=lr, betas=(0.5, 0.9))

    def __call__(self, real: Tensor, fake: Tensor) -> tuple[Tensor, float]:
        """(adversarial loss, hinge loss of the critic) of pictures (B, 3, H, W).

        Raises NotFinite, before the critic moves, when its loss is NaN or infinite.
        """
        self.critic.to(real.device)
        hinge = F.relu(1 - self.critic(real)).mean() + F.relu(1 + self.critic(fake.detach())).mean()
        if not math.isfinite(value := hinge.item()):
            raise NotFinite(f"the critic's loss is {value}")
        self.optimizer.zero_grad(set_to_none=True)
        hinge.backward()
        self.optimizer.step()
        self.critic.requires_grad_(False)
        adversarial = -self.weight * self.critic(fake).mean()
        self.critic.requires_grad_(True)
        return adversarial, value

    def state_dict(self) -> dict[str, Any]:
        return {
            "weights": self.critic.state_dict(),
            "optimizer": training_state.collect_optimizer_state(self.optimizer),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.critic.to(next(iter(state["weights"].values())).device)
        self.critic.load_state_dict(state["weights"])
        training_state.restore_optimizer(self.optimizer, state.get("optimizer", {}))
