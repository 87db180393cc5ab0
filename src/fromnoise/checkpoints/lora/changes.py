"""What the tensors of one module do to its weight: LoRA, LoHa, LoKr, DoRA and their kin.

W is the module's weight, ΔW what is added to it at full strength, and r the rank. Where alpha is
given, ΔW is scaled by alpha / r.

- LoRA: up·down (Hu et al. 2021); of a convolution up·mid·down, or with a small kernel in `down`.
- LoHa: (w1_a·w1_b) ⊙ (w2_a·w2_b) (Hyeon-Woo et al. 2021, "FedPara").
- LoKr: w1 ⊗ w2, each whole or a product (LyCORIS).
- DoRA: W + ΔW, with every row or column given a length of its own (Liu et al. 2024, eq. 5).
- (IA)³: W with every row or column scaled (Liu et al. 2022).
- a difference, as it is, of a weight or a bias.
- OFT, BOFT, GLoRA: see products.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from fromnoise.checkpoints.lora import products
from fromnoise.errors import BadCheckpoint

Leaves = Mapping[str, Tensor]
# the tensors of a module → what its change is called; one of a pair without the other is a fault
KINDS = dict.fromkeys(("lora_up", "lora_down", "embedding_up", "embedding_down"), "LoRA")
KINDS |= dict.fromkeys([f"hada_w{i}_{side}" for i in "12" for side in "ab"], "LoHa")
KINDS |= dict.fromkeys(("lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w2_a", "lokr_w2_b"), "LoKr")
KINDS |= {"oft_blocks": "OFT", "oft_R": "OFT"} | dict.fromkeys(("a1", "a2", "b1", "b2"), "GLoRA")
PRODUCTS = ("OFT", "GLoRA")  # with the weight itself
KINDS |= {"on_input": "(IA)³", "diff": "difference", "w_norm": "difference"}
WIDEST = 16_384  # sides and ranks where a kernel stands between: the product has many of them
BIASES = ("diff_b", "b_norm", "lora_up_bias")


class Misfit(Exception):
    """A change whose shape is not the parameter's."""


@dataclass(frozen=True, eq=False)
class Delta:
    """One module's ΔW, or its change of a bias, rows `rows` of it. `name` is what errors call it.

    Raises BadCheckpoint when it is built from tensors that do not fit each other."""

    name: str
    kind: str
    leaves: Leaves
    alpha: float | None = None
    rows: slice | None = None  # None: all
    bias: bool = False
    told_rank: int | None = None  # by a configuration, where no tensor has it

    def __post_init__(self) -> None:
        if not self.bias:
            self.shape  # noqa: B018  # raises

    @property
    def rank(self) -> int | None:
        """r, or None where there is none."""
        if self.kind == "GLoRA":
            return products.order_factors(self._shapes)[2]
        return find_rank(self.leaves) or self.told_rank

    @property
    def scale(self) -> float:
        """The factor of ΔW: alpha / r. A LoKr of two whole matrices has none."""
        return 1.0 if self.alpha is None or not self.rank else self.alpha / self.rank

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(leaf.shape) for name, leaf in self.leaves.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """ΔW's, by the shapes of its tensors alone: nothing is multiplied."""
        shapes = self._shapes

        def refuse(why: str) -> BadCheckpoint:
            listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            return BadCheckpoint(f"{self.name}: {why} ({listed})", "fetch the file again")

        def multiply(up: str, down: str, mid: str = "") -> tuple[int, ...]:
            """The shape of a product; with a kernel between, LoHa's and LoKr's `up` is (r, out)."""
            if up not in shapes or down not in shapes:
                raise refuse(f"{up} and {down} go together")
            u, d, m = shapes[up], shapes[down], shapes.get(mid)
            if len(u) < 2 or len(d) < 2:
                raise refuse("a factor is no matrix")
            if m is not None and max(*u[:2], *d[:2]) > WIDEST:
                raise refuse(f"the ranks or sides are beyond {WIDEST:,}")
            if m is None:
                if u[1] != d[0] or prod(u[2:]) != 1:
                    raise refuse("the factors have different ranks")
                return u[0], *d[1:]
            if mid != "lora_mid":
                u = u[1], u[0]
            if len(m) < 3 or (m[0], m[1]) != (u[1], d[0]) or prod(d[2:]) != 1:
                raise refuse("the factors have different ranks")
            return u[0], d[1], *m[2:]

        match self.kind:
            case "LoRA":
                if "embedding_up" in shapes:  # (dim, r) · (r, words), and the table is (words, dim)
                    return multiply("embedding_up", "embedding_down")[::-1]
                return multiply("lora_up", "lora_down", "lora_mid")
            case "LoHa":
                one = multiply("hada_w1_a", "hada_w1_b", "hada_t1")
                if one != multiply("hada_w2_a", "hada_w2_b", "hada_t2"):
                    raise refuse("its two products have different shapes")
                return one
            case "LoKr":
                one = shapes.get("lokr_w1") or multiply("lokr_w1_a", "lokr_w1_b")
                two = shapes.get("lokr_w2") or multiply("lokr_w2_a", "lokr_w2_b", "lokr_t2")
                if len(one) < 2 or len(two) < 2:
                    raise refuse("a factor is no matrix")
                one = (*one, *[1] * (len(two) - len(one)))
                two = (*two, *[1] * (len(one) - len(two)))
                return tuple(a * b for a, b in zip(one, two, strict=True))
            case "difference":
                return shapes.get("diff") or shapes["w_norm"]
            case "OFT" | "GLoRA":
                if fault := products.find_fault(shapes):
                    raise refuse(fault)
                return ()  # the weight's own
            case _:
                if "weight" not in shapes or prod(shapes["on_input"]) != 1:
                    raise refuse("weight goes together with on_input, one flag")
                return ()  # the weight's own

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises Misfit where the change is of another shape than the parameter's, as matrices: a
        1×1 convolution may be a matrix."""
        if self.bias:
            mine = tuple(self._find_bias().shape)
        elif self.kind in PRODUCTS:
            if (
                self.rows is not None
                or self._find_lengths()
                or not products.fits(self._shapes, shape)
            ):
                raise Misfit
            return
        elif self.kind == "(IA)³":
            axis = 1 if self._is_on_input else 0
            mine = (self.leaves["weight"].numel(),)
            shape = shape[axis : axis + 1]
        else:
            mine = self.shape
            if self.rows is not None:
                mine = (len(range(*self.rows.indices(mine[0]))), *mine[1:])
        for lengths in self._find_lengths():
            if lengths.numel() not in self.shape[:2]:
                raise Misfit
        if mine[:1] != shape[:1] or prod(mine) != prod(shape):
            raise Misfit

    def add_to(self, total: Tensor, weight: Tensor, share: float) -> None:
        """See runtime.patches.Change."""
        if self.bias:
            scale = self.scale if "lora_up_bias" in self.leaves else 1.0
            total.add_(self._find_bias().float().reshape(total.shape), alpha=share * scale)
        elif self.kind == "(IA)³":
            scales = self.leaves["weight"].float().flatten()
            along = (1, -1) if self._is_on_input else (-1, 1)
            scales = scales.reshape(*along, *[1] * (weight.ndim - 2))
            total.addcmul_(weight.float(), scales, value=share)
        elif lengths := self._find_lengths():
            whole = weight.to(torch.float32, copy=True)
            self._add_plain(whole, weight, 1.0)
            total.add_(self._set_lengths(whole, lengths[0]).sub_(weight), alpha=share)
        else:
            self._add_plain(total, weight, share)

    def _add_plain(self, total: Tensor, weight: Tensor, share: float) -> None:
        """Adds ΔW, with as few passes over it as can be."""
        leaves, factor = self.leaves, share * self.scale
        if "lora_up" in leaves and "lora_mid" not in leaves:
            up = leaves["lora_up"].float().flatten(1)
            up = up if self.rows is None else up[self.rows]
            down, flat = leaves["lora_down"].float(), total
            if not total.is_contiguous():  # channels last: so is the product, then
                down, flat = down.reshape(-1, *total.shape[1:]), total.permute(0, 2, 3, 1)
                down = down.permute(0, 2, 3, 1)
            flat.view(len(total), -1).addmm_(up, down.flatten(1), alpha=factor)
        elif self.kind in PRODUCTS:
            total.add_(products.multiply(leaves, weight.float(), self.alpha), alpha=factor)
        else:
            delta = self.multiply()
            delta = delta if self.rows is None else delta[self.rows]
            total.add_(delta.reshape(total.shape), alpha=factor)

    def multiply(self) -> Tensor:
        """ΔW in fp32, without its scale."""
        get = {name: leaf.float() for name, leaf in self.leaves.items()}
        match self.kind:
            case "LoRA" if "embedding_up" in get:
                return (get["embedding_up"] @ get["embedding_down"]).T
            case "LoRA" if "lora_mid" in get:
                up, down = get["lora_up"].flatten(1), get["lora_down"].flatten(1)
                return torch.einsum("or,rs...,si->oi...", up, get["lora_mid"], down)
            case "LoRA":
                whole = get["lora_up"].flatten(1) @ get["lora_down"].flatten(1)
                return whole.reshape(self.shape)
            case "LoHa":
                first, second = (_find_factor(get, f"hada_w{i}", f"hada_t{i}") for i in "12")
                return first * second
            case "LoKr":
                first, second = (_find_factor(get, f"lokr_w{i}", f"lokr_t{i}") for i in "12")
                first = first.reshape(*first.shape, *[1] * (second.ndim - first.ndim))
                return torch.kron(first, second.contiguous())
            case _:
                return get["diff"] if "diff" in get else get["w_norm"]

    @property
    def _is_on_input(self) -> bool:
        return bool(self.leaves["on_input"].flatten()[0])

    def _find_bias(self) -> Tensor:
        return next(self.leaves[name] for name in BIASES if name in self.leaves)

    def _find_lengths(self) -> list[Tensor]:
        """DoRA's lengths, if there are some."""
        if self.bias:
            return []
        return [self.leaves[name] for name in ("dora_scale", "magnitude") if name in self.leaves]

    def _set_lengths(self, whole: Tensor, lengths: Tensor) -> Tensor:
        """W + ΔW with these lengths: of rows where there is one a row, or they are PEFT's, else of
        columns, which LyCORIS began with. A column of a convolution is one input channel."""
        rows = self.shape[0]
        of_rows = "magnitude" in self.leaves or lengths.shape[:1].numel() == lengths.numel() == rows
        lengths, axis = lengths.float().flatten(), 0 if of_rows else 1
        flat = whole.transpose(0, axis).flatten(1)
        tiny = torch.finfo(whole.dtype).eps
        lengths = lengths[self.rows] if of_rows and self.rows else lengths
        factor = lengths / (flat.norm(dim=1) + tiny)
        return whole * factor.reshape(*[1] * axis, -1, *[1] * (whole.ndim - 1 - axis))


def find_rank(leaves: Leaves) -> int | None:
    """r as the tensors have it, if they do."""
    for name in ("lora_down", "embedding_down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if name in leaves:
            return leaves[name].shape[0] if leaves[name].ndim else None
    return None


def _find_factor(get: Mapping[str, Tensor], name: str, kernel: str) -> Tensor:
    """A factor of ΔW: whole, a product of two, or of two with a kernel between them."""
    if name in get:
        return get[name]
    a, b = get[f"{name}_a"], get[f"{name}_b"]
    if kernel in get:
        return torch.einsum("ij...,ip,jr->pr...", get[kernel], a, b)
    return (a @ b.flatten(1)).reshape(len(a), *b.shape[1:])
