"""Aligns the U-Net with the features of CLIP's image tower: a loss that exists in training only."""

from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.errors import BadInput
from fromnoise.train.parts import ImageTower


class Aligner(nn.Module):
    """Predicts the image tower's features of the clean picture from the U-Net's middle (Yu 2025,
    "REPA", eq. 8; for U-Nets Tian 2025).

    The shape of a thing is a small part of the squared error, but a large part of the features. The
    aligner trains beside the U-Net and is thrown away afterwards.
    """

    def __init__(self, channels: int, features: int):
        super().__init__()
        self.read = nn.Sequential(
            nn.Conv2d(channels, 256, 1), nn.SiLU(), nn.Conv2d(256, features, 1)
        )

    def forward(self, middle: Tensor, features: Tensor) -> Tensor:
        """1 − cosine between the prediction from the middle (B, C, h, w) and the features (B, D, h,
        w). Scalar. Each channel of the features has mean 0 and variance 1 over the batch."""
        goal = F.batch_norm(features, None, None, training=True)
        return 1 - F.cosine_similarity(self.read(middle).float(), goal, dim=1).mean()


def read_states(vision: ImageTower, image: Tensor, side: int) -> Tensor:
    """The image tower's last states that lie on side × side places: (B, D, side, side).

    Raises BadInput when no states do.
    """
    fitting = [h for h in vision(image).hidden_states if h.shape[1] == 1 + side * side]
    if not fitting:
        raise BadInput(
            f"no states of CLIP's image tower lie on {side}×{side} places, where"
            " the U-Net's middle is",
            "set align = 0 under [unet], or choose levels that meet",
        )
    return fitting[-1][:, 1:].transpose(1, 2).unflatten(2, (side, side))
