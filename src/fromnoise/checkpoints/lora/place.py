"""A LoRA and a model → the parameters that change, each with its change."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from fromnoise.checkpoints.lora.changes import BIASES, KINDS, Delta, Misfit
from fromnoise.checkpoints.lora.contents import Lora
from fromnoise.checkpoints.lora.keys import UNREAD
from fromnoise.checkpoints.lora.names import ModuleNames, list_networks
from fromnoise.checkpoints.lora.numbered import find_order, order_text, order_unet
from fromnoise.latent_diffusion import LatentDiffusion

Shapes = Mapping[str, tuple[int, ...]]
Named = tuple[str, tuple[str, tuple[str, ...]] | None, Mapping[str, Tensor]]


class Placement(NamedTuple):
    """What a LoRA changes in one model: the parameters of each part, each with its change; and the
    modules of the file that have no place in it, or not with all of their tensors."""

    deltas: dict[str, list[tuple[str, Delta]]]
    unplaced: list[str]
    names: ModuleNames

    @property
    def counts(self) -> dict[str, int]:
        """Changed parameters, by part."""
        return {part: len(deltas) for part, deltas in self.deltas.items() if deltas}


def place(lora: Lora, model: LatentDiffusion) -> Placement:
    """What the LoRA changes in this model. Raises BadCheckpoint for tensors that do not fit each
    other."""
    names, networks = ModuleNames(model), list_networks(model)
    shapes: dict[str, Shapes] = {
        part: {name: tuple(p.shape) for name, p in network.named_parameters()}
        for part, network in networks.items()
    }
    deltas: dict[str, list[tuple[str, Delta]]] = {part: [] for part in networks}
    unplaced: list[str] = []
    named: list[Named] = [(stem, names.find(stem), of) for stem, of in lora.modules.items()]
    for part, pairs in lora.pairs.items():
        named += name_pairs(model, part, pairs, shapes.get(part, {}))
    for stem, found, leaves in named:
        part, modules = found or ("", ())
        made = make_deltas(
            f"{lora.path}: {stem[:200]}",
            leaves,
            lora.alphas.get(stem),
            modules,
            lora.ranks.get(stem),
        )
        fitting = [one for one in made if fits(one[1], shapes.get(part, {}).get(one[0]))]
        unread = [leaf for leaf in leaves if leaf.startswith(UNREAD)]
        if not made or len(fitting) < len(made) or unread:
            unplaced.append(stem + "".join(f" ({leaf})" for leaf in unread[:3]))
        deltas.setdefault(part, []).extend(fitting)
    return Placement(deltas, unplaced, names)


def fits(delta: Delta, shape: tuple[int, ...] | None) -> bool:
    """Whether there is such a parameter, and the change has its shape."""
    try:
        if shape is not None:
            delta.check(shape)
        return shape is not None
    except Misfit:
        return False


def make_deltas(
    name: str,
    leaves: Mapping[str, Tensor],
    alpha: float | None,
    modules: Sequence[str],
    rank: int | None = None,
) -> list[tuple[str, Delta]]:
    """(parameter, change) of one module of a file, or of several here, where the file fuses them.
    None where nothing in it is known. rank: see Delta.told_rank. Raises BadCheckpoint."""
    made: list[tuple[str, Delta]] = []
    kind = next((KINDS[leaf] for leaf in KINDS if leaf in leaves), None)
    if kind is not None:
        count = (Delta(name, kind, leaves, alpha).shape or (0,))[0] // max(len(modules), 1)
        for i, module in enumerate(modules):
            rows = slice(i * count, i * count + count) if len(modules) > 1 else None
            made.append(
                (f"{module}.weight", Delta(name, kind, leaves, alpha, rows, told_rank=rank))
            )
    if leaves.keys() & {*BIASES} and len(modules) == 1:
        bias = Delta(name, "difference", leaves, alpha, bias=True)
        made.append((f"{modules[0]}.bias", bias))
    return made


def name_pairs(
    model: LatentDiffusion, part: str, pairs: Sequence[tuple[Tensor, Tensor]], shapes: Shapes
) -> Iterator[Named]:
    """The pairs of 2022, each with the module that its place among the others tells."""
    known = {name.removesuffix(".weight"): shape for name, shape in shapes.items()}
    if part == "unet":
        orders = order_unet(model.unet.config)
    else:
        orders = order_text(model.text_encoder.config)
    sizes = [(tuple(up.shape), tuple(down.shape)) for up, down in pairs]
    names = find_order(orders, known, sizes)
    for i, (up, down) in enumerate(pairs):
        found = None if names is None else (part, (names[i],))
        yield f"{part}:{i}", found, {"lora_up": up, "lora_down": down}
