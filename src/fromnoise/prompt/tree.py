"""The tree that a prompt is parsed to, and what is left of it at one step."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar


@dataclass(frozen=True, slots=True)
class Chunk:
    """Words that share one finite weight. The text is ready for the tokenizer, without escapes."""

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
    # `when` is written with a decimal point; its value cannot tell: 1 is one step, 1.0 is all
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
    """prompt-control's MASK(x1 x2, y1 y2, weight): the region of a part, in shares of width and
    height or in pixels."""

    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    weight: float = 1.0
    pixels: bool = False


@dataclass(frozen=True, slots=True)
class Mask:
    """prompt-control's IMASK(name, weight): the region of a part, by the name of a picture that the
    caller gives."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Network:
    """A1111's <kind:name:text:unet:…>: a network to patch in, with its weights on the text encoder
    and on the U-Net. `extra` holds the arguments that are neither. Kind "embedding" is a textual
    inversion, with the weight of its chunk."""

    kind: str
    name: str
    text: float = 1.0
    unet: float = 1.0
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One of the texts that A1111's AND or compel's .and and .blend join. The leaves of `nodes`
    carry their whole weight, that of emphasis around an edit too."""

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
    # True: the parts' embeddings are added by weight (compel's .blend). False: their predictions
    # are (A1111's AND), or their embeddings follow one another (compel's .and)
    blend: bool = False

    @property
    def networks(self) -> tuple[Network, ...]:
        """All networks that have to be loaded: the tags, then the embeddings among the words."""
        chunks = [node for part in self.parts for node in part.nodes if isinstance(node, Chunk)]
        return self.tags + tuple(
            Network("embedding", c.text, c.weight, c.weight) for c in chunks if c.embedding
        )

    def resolve(self, step: int, steps: int, first: int = 0) -> tuple[Resolved, ...]:
        """The parts at `step` ∈ [0, steps).

        first: the steps of an earlier pass that this one continues (A1111's "hires fix"); numbers
        of steps then count on from it, and fractions from 1.0. A1111 counts calls of the network,
        two a step of some solvers: give the call and the number of calls. Its sampler also looks up
        its schedule one call late: its call c, from 0, draws what this gives at max(c − 1, 0)."""

        def pick(nodes: Nodes) -> Iterator[Chunk | Break]:
            for node in nodes:
                if isinstance(node, Edit):
                    last = (node.when - (first > 0)) * steps if node.fraction else node.when - first
                    yield from pick(node.before if step + 1 <= int(last) else node.after)
                elif isinstance(node, Alternate):
                    yield from pick(node.options[step % len(node.options)])
                else:
                    yield node

        def list_chunks(nodes: Nodes) -> tuple[Chunk | Break, ...]:
            chunks = tuple(pick(nodes))
            # only A1111 has options to pick, so only there new neighbours meet
            return (merge_chunks(chunks, "") if self.dialect == "a1111" else chunks) or (Chunk(""),)

        return tuple(
            Resolved(list_chunks(part.nodes), part.weight, part.regions) for part in self.parts
        )


def list_leaves(nodes: Iterable[Node]) -> Iterator[Chunk]:
    """Every chunk that can be shown at any step."""
    for node in nodes:
        if isinstance(node, Chunk):
            yield node
        elif not isinstance(node, Break):
            options = node.options if isinstance(node, Alternate) else (node.before, node.after)
            for option in options:
                yield from list_leaves(option)


def merge_chunks(nodes: Iterable[N], glue: str) -> tuple[N | Chunk, ...]:
    """Joins neighbouring chunks of one weight, since A1111 and compel tokenize them as one; drops
    empty chunks."""
    merged: list[N | Chunk] = []
    for node in nodes:
        last = merged[-1] if merged else None
        if isinstance(node, Chunk) and isinstance(last, Chunk) and last.weight == node.weight:
            merged[-1] = Chunk(last.text + glue + node.text, node.weight)
        elif not isinstance(node, Chunk) or node.text:
            merged.append(node)
    return tuple(merged)
