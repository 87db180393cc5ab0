"""What a source of captioned pictures is: `Sample` and the `Source` protocol."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SPLITS = ("train", "held_out")


@dataclass(frozen=True)
class Sample:
    """One captioned picture with its exact labels.

    image: uint8 (H, W, 3); None when it was not drawn.
    attributes: only those that the scene has.
    stated: the attributes that the caption states.
    mask: bool (H, W), True on the objects; None when the source does not know it.
    """

    image: np.ndarray | None
    caption: str
    attributes: dict[str, str]
    stated: frozenset[str]
    mask: np.ndarray | None = None


class Source(Protocol):
    """Captioned pictures by seed: the same seed and split give the same sample, in any process."""

    @property
    def size(self) -> int:
        """Pixels a side; pictures are square."""
        ...

    @property
    def schema(self) -> dict[str, tuple[str, ...]]:
        """Attribute → its values, in order."""
        ...

    @property
    def details(self) -> tuple[str, ...]:
        """The attributes that may be added to a caption whose subject is to stay the same: how and
        where it is. The first ones matter most."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever a sample may change; a key for caches."""
        ...

    def sample(self, seed: int, split: str = "train", draw: bool = True) -> Sample:
        """Sample of a seed ≥ 0. "train" never yields a held-out combination, "held_out" only
        those."""
        ...

    def list_names(self, attribute: str) -> dict[str, tuple[str, ...]]:
        """Value of an attribute → its names in captions, as captions write them; empty for a value
        without words."""
        ...

    def write_caption(self, attributes: Mapping[str, str]) -> str | None:
        """The plainest caption that states all of these attributes and nothing else.

        None when the source has no scene with just these; a source without a schema has none.
        """
        ...
