"""The autoencoder's attention with one head, which not every autoencoder has."""

from torch import Tensor, nn
from torch.nn import functional as F


class PixelAttention(nn.Module):
    """The autoencoder's attention of every pixel to every pixel by one head, (B, C, H, W) → (B, C,
    H, W)."""

    def __init__(self, dim: int, groups: int):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, dim, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x).permute(0, 2, 3, 1).flatten(1, 2).unsqueeze(1)  # (B, 1, HW, C)
        h = self.to_out(F.scaled_dot_product_attention(self.to_q(h), self.to_k(h), self.to_v(h)))
        return x + h.squeeze(1).transpose(1, 2).unflatten(2, x.shape[-2:])
