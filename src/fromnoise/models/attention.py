"""Attention: the plain layer and the U-Net's transformer."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.models.layers import zero_parameters

# keys and values, each (B, heads, N, dim/heads), and functions of the queries to add the results of
KeyValue = tuple[Any, ...]
Record = dict[str, Any] | Callable[[str, Tensor], Any]  # to fill, or to call with (name, map)


class Attended(NamedTuple):
    """What the blocks of one call read beside x and the time."""

    projected: dict[str, KeyValue]  # of the cross-attentions, by the layer's name
    record: Record | None = None  # where their maps go
    features: Mapping[int, Tensor] = {}  # of a T2I-Adapter, by the skip that they are added to


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, dim) → (B, heads, N, dim/heads), a view."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, heads, N, dim/heads) → (B, N, dim)."""
    return x.transpose(1, 2).flatten(2)


def compute_attention_map(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q kᵀ/√d), no gradient: q (B, heads, M, d), k (B, heads, N, d) → (B, heads, M, N)."""
    with torch.no_grad():
        return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)


class Attention(nn.Module):
    """softmax(q kᵀ/√d) v (Vaswani 2017, eq. 1): x (B, M, dim) attends to itself or others."""

    def __init__(self, dim: int, heads: int, context_dim: int | None = None):
        super().__init__()
        self.heads = heads
        self.name = ""  # the U-Net sets it; it is the key of this layer's map in a record
        self.upcast = False  # the U-Net sets it: half precision is too narrow for q kᵀ
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim))

    def project(self, context: Tensor) -> KeyValue:
        """Keys and values of a context (B, N, context_dim)."""
        k, v = self.to_k(context), self.to_v(context)
        return split_heads(k, self.heads), split_heads(v, self.heads)

    def forward(self, x: Tensor, read: KeyValue = (), record: Record | None = None) -> Tensor:
        q = split_heads(self.to_q(x), self.heads)
        k, v, *more = read or self.project(x)
        if record is not None:
            keep = record if callable(record) else record.__setitem__
            keep(self.name, compute_attention_map(q, k))
        if self.upcast and x.dtype.itemsize == 2:
            q, k, v = q.float(), k.float(), v.float()
        z = sum((look(q) for look in more), F.scaled_dot_product_attention(q, k, v))
        return self.to_out(merge_heads(z).to(x.dtype))


class GEGLU(nn.Module):
    """a·gelu(b), by erf, with [a, b] = W x (Shazeer 2020): (B, N, dim) → (B, N, out)."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.proj = nn.Linear(dim, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        a, gate = self.proj(x).chunk(2, -1)
        return a * F.gelu(gate)


class FeedForward(nn.Module):
    """(B, N, dim) → (B, N, dim) through a layer four times as wide."""

    def __init__(self, dim: int):
        super().__init__()
        # diffusers has a dropout at place 1
        self.net = nn.Sequential(GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Pixels attend to pixels, then to words, then comes the MLP: (B, N, dim) → (B, N, dim)."""

    def __init__(self, dim: int, heads: int, context_dim: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = Attention(dim, heads, context_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor, attended: Attended) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), attended.projected[self.attn2.name], attended.record)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    """Transformer blocks over a picture as a sequence of pixels: (B, C, H, W) → (B, C, H, W)."""

    def __init__(
        self, dim: int, heads: int, context_dim: int, depth: int, groups: int, linear: bool
    ):
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, dim, eps=1e-6)  # the U-Net's resnets have 1e-5
        self.proj_in = nn.Linear(dim, dim) if linear else nn.Conv2d(dim, dim, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(dim, heads, context_dim) for _ in range(depth)
        )
        self.proj_out = zero_parameters(nn.Linear(dim, dim) if linear else nn.Conv2d(dim, dim, 1))

    def forward(self, x: Tensor, attended: Attended) -> Tensor:
        h = self.norm(x)
        if not self.linear:
            h = self.proj_in(h)
        # (B, HW, C), a copy on CUDA, where the norm returns NCHW
        h = h.permute(0, 2, 3, 1).flatten(1, 2).contiguous()
        if self.linear:
            h = self.proj_in(h)
        for block in self.transformer_blocks:
            h = block(h, attended)
        if self.linear:
            h = self.proj_out(h)
        h = h.transpose(1, 2).unflatten(2, x.shape[-2:])  # (B, C, H, W), a view
        return x + (h if self.linear else self.proj_out(h))
