"""The tree that a prompt is parsed to, and what is left of it at one step."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar


@dataclass(frozen=True, slots=True)
class Chunk:
    """Words that share one weight, a finite one. They are as they are to be tokenized, with no
    escapes left."""

    text: str
    weight: float = 1.0
    embedding: bool = False  # the text names a textual inversion, whose vectors stand here


@dataclass(frozen=True, slots=True)
class Break:
    """A1111's BREAK: the words after it begin a new block of the text encoder's length."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A1111's `[before:after:when]`: before through step `when`, counted from 1, then after."""

    before: "Nodes"
    after: "Nodes"
    when: float  # a number of steps, or with `fraction` a share of all of them
    # it has a decimal point; not to be read off `when`, since 1 is one step and 1.0 is all
    fraction: bool


@dataclass(frozen=True, slots=True)
class Alternate:
    """A1111's `[a|b|…]`: one option a step, in turn."""

    options: tuple["Nodes", ...]


Node: TypeAlias = Chunk | Break | Edit | Alternate
Nodes: TypeAlias = tuple[Node, ...]
N = TypeVar("N", bound=Node)


@dataclass(frozen=True, slots=True)
class Box:
    """prompt-control's MASK(x1 x2, y1 y2, weight): where a part holds, in shares of width and
    height or in pixels."""

    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    weight: float = 1.0
    pixels: bool = False


@dataclass(frozen=True, slots=True)
class Mask:
    """prompt-control's IMASK(name, weight): where a part holds, by the name of a picture that the
    caller knows."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Network:
    """A1111's <kind:name:text:unet:…>: a network to patch in, its weights on the text encoder and
    on the U-Net. `extra` has the arguments that are neither. Kind "embedding" is a textual
    inversion, with the weight of its chunk."""

    kind: str
    name: str
    text: float = 1.0
    unet: float = 1.0
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What A1111's AND or compel's .and and .blend join. Its leaves carry their whole weight, that
    of emphasis around an edit too."""

    nodes: Nodes
    weight: float = 1.0
    regions: tuple[Box | Mask, ...] = ()


@dataclass(frozen=True, slots=True)
class Resolved:
    """A part at one step: nothing in it changes any more. It has at least one chunk."""

    chunks: tuple[Chunk | Break, ...]
    weight: float = 1.0
    regions: tuple[Box | Mask, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed prompt."""

    parts: tuple[Part, ...]
    tags: tuple[Network, ...] = ()
    dialect: str = "a1111"
    # what is added by weight: the parts' embeddings (compel's .blend), or their predictions; of
    blend: bool = False
    # compel's .and neither, whose embeddings follow one another

    @property
    def networks(self) -> tuple[Network, ...]:
        """All that has to be loaded: the tags, then the embeddings among the words."""
        chunks = [node for part in self.parts for node in part.nodes if isinstance(node, Chunk)]
        return self.tags + tuple(
            Network("embedding", c.text, c.weight, c.weight) for c in chunks if c.embedding
        )

    def resolve(self, step: int, steps: int, first: int = 0) -> tuple[Resolved, ...]:
        """The parts at `step` ∈ [0, steps). `first`: the steps of an earlier pass that this one
        goes on from (A1111's "hires fix"); numbers of steps then count on from it, and fractions
        from 1.0. A1111 counts calls of the network, two a step of some solvers: give the call and
        the number of calls. Its sampler also looks its schedule up late by one: its call c, from 0,
        draws what is here at max(c − 1, 0)."""

        def picked(nodes: Nodes) -> Iterator[Chunk | Break]:
            for node in nodes:
                if isinstance(node, Edit):
                    last = (node.when - (first > 0)) * steps if node.fraction else node.when - first
                    yield from picked(node.before if step + 1 <= int(last) else node.after)
                elif isinstance(node, Alternate):
                    yield from picked(node.options[step % len(node.options)])
                else:
                    yield node

        def said(nodes: Nodes) -> tuple[Chunk | Break, ...]:
            chunks = tuple(picked(nodes))  # only A1111 has what to pick, and so what meets only now
            return (merge_chunks(chunks, "") if self.dialect == "a1111" else chunks) or (Chunk(""),)

        return tuple(Resolved(said(part.nodes), part.weight, part.regions) for part in self.parts)


def merge_chunks(nodes: Iterable[N], glue: str) -> tuple[N | Chunk, ...]:
    """Neighbouring chunks of one weight as one, since A1111 and compel tokenize them as one; no
    empty ones."""
    found: list[N | Chunk] = []
    for node in nodes:
        last = found[-1] if found else None
        if isinstance(node, Chunk) and isinstance(last, Chunk) and last.weight == node.weight:
            found[-1] = Chunk(last.text + glue + node.text, node.weight)
        elif not isinstance(node, Chunk) or node.text:
            found.append(node)
    return tuple(found)
