"""The optional adversary of the autoencoder: a patch critic with the hinge loss (Isola 2017; Esser
2021, §3.1)."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.checkpoints import training_state


class Critic(nn.Sequential):
    """Image (B, 3, H, W) → one judgement a patch (B, 1, H/8, W/8); more is more real."""

    def __init__(self, width: int = 32):
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for inp, out in ((width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(inp, out, 4, 2, 1), nn.GroupNorm(8, out), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(4 * width, 1, 3, 1, 1))


class CriticTrainer:
    """Trains its critic a step a call and returns what the autoencoder should add to its loss. Its
    state is kept in `folder`/critic every 500 calls, so that a resumed run does not meet a newborn
    critic."""

    def __init__(self, folder: Path, weight: float, lr: float = 4e-4):
        self.folder, self.weight, self.critic, self.calls = folder / "critic", weight, Critic(), 0
        self.optimizer = torch.optim.AdamW(self.critic.parameters(), lr=lr, betas=(0.5, 0.9))
        if found := training_state.load(self.folder):
            trees, counters = found
            self.critic.load_state_dict(trees["weights"])
            training_state.load_optimizer(self.optimizer, trees.get("optimizer", {}))
            self.calls = counters["calls"]

    def __call__(self, real: Tensor, fake: Tensor) -> tuple[Tensor, float]:
        self.critic.to(real.device)
        hinge = F.relu(1 - self.critic(real)).mean() + F.relu(1 + self.critic(fake.detach())).mean()
        self.optimizer.zero_grad(set_to_none=True)
        hinge.backward()
        self.optimizer.step()
        self.calls += 1
        if self.calls % 500 == 0:
            trees = {
                "weights": self.critic.state_dict(),
                "optimizer": training_state.optimizer_tree(self.optimizer),
            }
            training_state.save(self.folder, trees, {"calls": self.calls})
        self.critic.requires_grad_(False)
        adversarial = -self.weight * self.critic(fake).mean()
        self.critic.requires_grad_(True)
        return adversarial, hinge.item()
