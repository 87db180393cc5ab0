"""Muon: steepest descent under the spectral norm for weight matrices (Jordan et al. 2024), AdamW
for all else."""

from typing import Any

import torch
from torch import Tensor, nn

# Jordan's quintic: singular values above 1/500 of the largest come to 0.7…1.2
STEPS = ((3.4445, -4.7750, 2.0315),) * 5


def orthogonalize(gradient: Tensor) -> Tensor:
    """The nearest matrices (…, rows, columns) whose singular values are about 1: U Vᵀ of the SVD.

    By Newton–Schulz on the smaller Gram matrix alone, which for 3×3 convolutions (columns = 9 ×
    rows) is 2.5 times cheaper. In fp32, because many CPUs emulate bf16.
    """
    x = gradient.float()
    wide = x if x.shape[-2] <= x.shape[-1] else x.mT
    gram = wide @ wide.mT
    square = gram.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=1e-20)[..., None, None]
    gram /= square  # its eigenvalues then lie in [0, 1]
    product = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    for a, b, c in STEPS:
        factor = b * gram + c * (gram @ gram)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        # all are polynomials of one matrix, so they commute
        product, gram = factor @ product, factor @ gram @ factor
    out = product @ (wide / square.sqrt())
    return (out if wide is x else out.mT).to(gradient.dtype)


class Muon(torch.optim.AdamW):
    """AdamW, but groups with `muon = True` move by their orthogonalized Nesterov momentum.

    Such a step has an RMS of 0.2, as Adam's steps have, so that one learning rate serves both (Liu
    et al. 2025, eq. 4). Convolutions count as matrices (out, in × height × width).
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            if not group.get("muon"):
                continue
            beta = group["betas"][0]
            by_shape = {}  # matrices of one shape go together: a GPU waits for each call
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    # AdamW reads "step" of every state that it loads
                    state.update(step=torch.zeros(()), momentum=torch.zeros_like(p))
                state["momentum"].lerp_(p.grad, 1 - beta)
                move = p.grad.lerp(state["momentum"], beta).flatten(1)
                by_shape.setdefault(move.shape, []).append((p, move))
                p.grad = None  # AdamW below leaves it alone
            for (rows, columns), moves_of_shape in by_shape.items():
                moves = orthogonalize(torch.stack([move for _, move in moves_of_shape]))
                for (p, _), move in zip(moves_of_shape, moves, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(move.view_as(p), alpha=-group["lr"] * 0.2 * max(rows, columns) ** 0.5)
        super().step()


def group_parameters(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters in three groups: matrices at least 32 wide, embeddings and slim
    matrices, vectors (without weight decay)."""
    tables = {
        id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()
    }
    kinds: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for p in module.parameters():
        if p.requires_grad:
            slim = p.ndim > 1 and (id(p) in tables or min(len(p), p[0].numel()) < 32)
            kinds[2 if p.ndim < 2 else 1 if slim else 0].append(p)
    return [
        {"params": kinds[0], "weight_decay": weight_decay, "muon": True, "betas": (0.95, 0.99)},
        {"params": kinds[1], "weight_decay": weight_decay},
        {"params": kinds[2], "weight_decay": 0.0},
    ]
