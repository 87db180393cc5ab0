"""Aligns the U-Net with what CLIP's image tower sees: a loss that only training knows."""

from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.errors import BadInput
from fromnoise.train.parts import ImageTower


class Aligner(nn.Module):
    """Reads what CLIP's image tower sees in the clean picture off the U-Net's middle (Yu 2025,
    "REPA", eq. 8; for U-Nets Tian 2025): the shape of a thing is a small part of the squared error,
    and much of what the tower sees. It trains beside the U-Net and is thrown away."""

    def __init__(self, channels: int, seen: int):
        super().__init__()
        self.read = nn.Sequential(nn.Conv2d(channels, 256, 1), nn.SiLU(), nn.Conv2d(256, seen, 1))

    def forward(self, middle: Tensor, seen: Tensor) -> Tensor:
        """1 − cosine between what is read off the middle (B, C, h, w) and what was seen (B, D, h,
        w), each channel of which is brought to mean 0 and variance 1 over the batch. Scalar."""
        goal = F.batch_norm(seen, None, None, training=True)
        return 1 - F.cosine_similarity(self.read(middle).float(), goal, dim=1).mean()


def read_states(vision: ImageTower, image: Tensor, side: int) -> Tensor:
    """The image tower's last states that lie on side × side places: (B, D, side, side). BadInput if
    none do."""
    fitting = [h for h in vision(image).hidden_states if h.shape[1] == 1 + side * side]
    if not fitting:
        raise BadInput(
            f"no states of CLIP's image tower lie on {side}×{side} places, where"
            " the U-Net's middle is",
            "set align = 0 under [unet], or choose levels that meet",
        )
    return fitting[-1][:, 1:].transpose(1, 2).unflatten(2, (side, side))
