"""A LoRA as its file has it, before any model is known."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

BASES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA as its file has it. `modules` has the tensors of each module by what they are there,
    `alphas` its alpha, `ranks` its rank where a configuration says it and no tensor has it, `pairs`
    (up, down) without a name in the order of the file, by part. `embeddings` are textual inversions
    that lie in the file too: name → tensor by its key. `unknown` are keys of no known layout."""

    path: Path
    metadata: dict[str, str]
    modules: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    alphas: dict[str, float] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    embeddings: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many modules it changes."""
        return len(self.modules) + sum(map(len, self.pairs.values()))

    @property
    def base(self) -> str:
        """The family that it was made for, by the width of the text that it reads, or ""."""
        for stem, leaves in self.modules.items():
            width = leaves["lora_down"].shape[1] if "lora_down" in leaves else 0
            if stem.replace(".", "_").endswith(("attn2_to_k", "attn2_to_v")) and width in BASES:
                return BASES[width]
        return ""
