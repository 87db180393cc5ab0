"""Changes that are products with the module's own weight W: OFT, BOFT and GLoRA.

- OFT: rows of W are turned by orthogonal matrices, block by block (Qiu et al. 2023, eq. 2). R is
  the Cayley transform of a skew matrix, which the file has whole (kohya-ss, LyCORIS) or as its
  upper triangle (PEFT, which turns columns).
- BOFT: several such turns, each of rows farther apart (Liu et al. 2023, eq. 4).
- GLoRA: ΔW = (W·A + B)·alpha / r, with A and B products of two (Chavan et al. 2023)."""

from collections.abc import Mapping
from math import isqrt, prod

import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
TERMS = 5  # of PEFT's sum in place of an inverse matrix, where no configuration says another number


def find_fault(shapes: Shapes) -> str:
    """What is wrong with these tensors, whatever the weight; "" for nothing."""
    if "oft_blocks" in shapes:
        blocks = shapes["oft_blocks"]
        square = len(blocks) in (3, 4) and blocks[-1] == blocks[-2] and min(blocks) > 0
        if not square or (len(blocks) == 4 and blocks[-1] % 2):
            return "the blocks are no square matrices"
        rows = blocks[-1] * blocks[-3]
        if len(blocks) == 4 and (rows // blocks[-1]) % (1 << max(blocks[0] - 1, 0)):
            return "there are more turns than the blocks have places for"
        return "" if prod(shapes.get("rescale", (rows,))) == rows else "rescale has other rows"
    if "oft_R" in shapes:
        turns = shapes["oft_R"]
        return "" if len(turns) == 2 and min(turns) > 0 and find_size(turns[1]) else "no triangle"
    if missing := [name for name in ("a1", "a2", "b1", "b2") if len(shapes.get(name, ())) < 2]:
        return f"{missing[0]} is not there as a matrix"
    down, up, _, mid = order_factors(shapes)
    first, second = (shapes[up[i]][0] == prod(shapes[down[i]][1:2]) for i in (0, 1))
    if "bm" in shapes:
        middle = shapes["bm"][:2]
        second = len(middle) == 2 and middle == (shapes[down[1]][1], shapes[up[1]][0])
    return "" if first and second and mid is not None else "the factors have different ranks"


def fits(shapes: Shapes, shape: tuple[int, ...]) -> bool:
    """Whether they go with a weight of that shape. They have no fault."""
    if len(shape) < 2:
        return False
    columns = prod(shape[1:])
    if "oft_blocks" in shapes:
        return shapes["oft_blocks"][-1] * shapes["oft_blocks"][-3] == shape[0]
    if "oft_R" in shapes:
        count, size = shapes["oft_R"][0], find_size(shapes["oft_R"][1])
        return size * count == columns or (count == 1 and columns % size == 0)
    down, up, _, _ = order_factors(shapes)
    left, right = shapes[down[0]], shapes[up[0]]
    if (left[0], *right[1:2]) != (shape[1],) * 2 or prod((*left[2:], *right[2:])) != 1:
        return False
    kernel = shapes["bm"][2:] if "bm" in shapes else shapes[up[1]][2:]
    ends = shapes[down[1]][0], shapes[up[1]][1]
    return ends == shape[:2] and prod(kernel) == prod(shape[2:])


def multiply(leaves: Mapping[str, Tensor], weight: Tensor, limit: float | None) -> Tensor:
    """ΔW in fp32, in the shape of `weight`, which is in fp32 too; of GLoRA without its scale.
    limit: of OFT's and BOFT's skew matrices, a share of the rows, as the file has it by "alpha"."""
    if "oft_blocks" in leaves:
        return turn_rows(weight, leaves["oft_blocks"], limit or 0.0, leaves.get("rescale"))
    if "oft_R" in leaves:
        return turn_columns(weight, leaves["oft_R"])
    down, up, _, _ = order_factors({name: tuple(leaf.shape) for name, leaf in leaves.items()})
    get = {name: leaf.float() for name, leaf in leaves.items()}
    a = get[down[0]].flatten(1) @ get[up[0]].flatten(1)
    if "bm" in get:
        low = get[down[1]].flatten(1), get["bm"], get[up[1]].flatten(1)
        b = torch.einsum("or,rs...,si->oi...", *low)
    else:
        b = get[down[1]].flatten(1) @ get[up[1]].flatten(1)
    return torch.einsum("oi...,ij->oj...", weight, a) + b.reshape(weight.shape)


def order_factors(shapes: Shapes) -> tuple[tuple[str, str], tuple[str, str], int, int | None]:
    """(the left factors of A and of B, the right ones, r, r again where they agree): the first
    files of this kind have them the other way round. Of two ways that agree, r is the lower."""
    agreeing = []
    for down, up in ((("a1", "b1"), ("a2", "b2")), (("a2", "b2"), ("a1", "b1"))):
        rank, b = shapes[up[0]][0], "bm" in shapes or shapes[down[1]][1] == shapes[up[1]][0]
        if shapes[down[0]][1] == rank and b:
            agreeing.append((down, up, rank, rank))
    ways = sorted(agreeing, key=lambda way: way[2])
    return ways[0] if ways else (("a1", "b1"), ("a2", "b2"), 0, None)


def find_size(count: int) -> int:
    """The side of a matrix whose upper triangle has so many numbers; 0 where there is none."""
    side = (1 + isqrt(1 + 8 * count)) // 2
    return side if side > 1 and side * (side - 1) // 2 == count else 0


def turn_rows(weight: Tensor, blocks: Tensor, limit: float, lengths: Tensor | None) -> Tensor:
    """(turned W)·lengths − W; a stage of a BOFT pairs rows that are twice as far apart as those of
    the one before."""
    blocks, rows = blocks.double(), len(weight)
    skew = blocks - blocks.transpose(-1, -2)
    if limit > 0 and (norm := float(skew.norm())) > limit * rows:
        skew *= limit * rows / (norm + 1e-8)
    one = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    turns = torch.linalg.solve(one - skew, one + skew, left=False).float()
    size = skew.shape[-1]
    whole = weight.reshape(rows, -1)
    if turns.ndim == 3:
        whole = (turns.transpose(1, 2) @ whole.view(-1, size, whole.shape[1])).flatten(0, 1)
    else:
        for stage, of in enumerate(turns):
            apart = (size // 2) << stage
            mixed = (
                whole.unflatten(0, (-1, 2, apart)).transpose(1, 2).reshape(-1, size, whole.shape[1])
            )
            mixed = (of @ mixed).flatten(0, 1).unflatten(0, (-1, apart, 2))
            whole = mixed.transpose(1, 2).flatten(0, 2)
    if lengths is not None:
        whole = whole * lengths.float().reshape(-1, 1)
    return whole.reshape(weight.shape) - weight


def turn_columns(weight: Tensor, triangles: Tensor) -> Tensor:
    """PEFT's: W·Rᵀ − W, with R = (I − Q)⁻¹(I + Q) as the first terms of its series."""
    size = find_size(triangles.shape[1])
    rows, columns = torch.triu_indices(size, size, 1)
    skew = torch.zeros(len(triangles), size, size, device=triangles.device)
    skew[:, rows, columns] = triangles.float()
    skew = skew - skew.transpose(1, 2)
    power, total = skew, 2 * skew
    for term in range(2, TERMS):
        power = power @ skew
        total = total + (power if term == TERMS - 1 else 2 * power)
    flat = weight.reshape(len(weight), -1, size)  # R − I is `total`
    return torch.einsum("ork,rck->orc", flat, total.expand(flat.shape[1], -1, -1)).reshape(
        weight.shape
    )
