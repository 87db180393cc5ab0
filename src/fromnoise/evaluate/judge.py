"""The judge: a small residual classifier that reads a picture's attributes, one linear head for
each of the schema's.

It is of another make than anything it judges (batch norm, strided convolutions, no attention, no
latents), and it is trained on pictures of its own seed range."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.data.loader import to_tensor
from fromnoise.data.source import Sample
from fromnoise.errors import BadCheckpoint, NotFound
from fromnoise.models.resnet import append_coordinates, make_trunk, pool

ABSENT = -1  # label of an attribute that a scene lacks; cross_entropy ignores it


@dataclass(frozen=True)
class JudgeConfig:
    """What a judge reads and how wide it is."""

    schema: dict[str, tuple[str, ...]]  # attribute → its values, in the order of the logits
    size: int = 128  # pixels a side that it was trained on; other pictures are resized to it
    stem: int = 16  # channels at half the resolution
    widths: tuple[int, ...] = (
        32,
        64,
        128,
        192,
    )  # channels at 1/4, 1/8, 1/16, 1/32 of the resolution
    blocks: tuple[int, ...] = (1, 1, 1, 1)  # residual blocks a level


class Judge(nn.Module):
    """Images (B, 3, H, W) in [−1, 1] → logits of every attribute, {name: (B, values)}.

    Coordinates let the pooled features say where a thing is.
    """

    def __init__(self, config: JudgeConfig):
        super().__init__()
        self.config = config
        self.fingerprint = ""  # of the source whose pictures it was trained on
        self.body, before = make_trunk(config.stem, config.widths, config.blocks), config.widths[-1]
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * before, len(of)) for name, of in config.schema.items()}
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster on CPUs

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        pooled = pool(self.body(append_coordinates(images)))  # (B, 2C)
        return {name: head(pooled) for name, head in self.heads.items()}

    @torch.inference_mode()
    def read(self, images: np.ndarray, batch: int = 128) -> list[dict[str, str]]:
        """uint8 pictures (B, H, W, 3) → for each the likeliest value of every attribute (those it
        lacks included)."""
        self.eval()
        found: list[dict[str, str]] = []
        for some in np.array_split(images, range(batch, len(images), batch)):
            x = to_tensor(some).to(next(self.parameters()).device)
            if x.shape[2:] != (self.config.size, self.config.size):
                x = F.interpolate(
                    x, (self.config.size,) * 2, mode="bilinear", antialias=True, align_corners=False
                )
            best = {name: logits.argmax(1).tolist() for name, logits in self(x).items()}
            found += [
                {name: self.config.schema[name][best[name][i]] for name in best}
                for i in range(len(some))
            ]
        return found

    def save(self, folder: str | Path, **notes: object) -> None:
        """Writes config.json (`notes` and the fingerprint in it) and model.safetensors: matrices
        fp16, norms fp32."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "_class_name": "fromnoise.Judge",
            **asdict(self.config),
            "fingerprint": self.fingerprint,
            **notes,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n")
        tensors = {
            key: (t.half() if t.ndim > 1 else t).contiguous()
            for key, t in self.state_dict().items()
        }
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, folder: str | Path) -> "Judge":
        """The judge of a folder that `save` wrote, in fp32, ready to read. NotFound or
        BadCheckpoint otherwise."""
        folder = Path(folder)
        if not (folder / "model.safetensors").is_file() or not (folder / "config.json").is_file():
            remedy = "train one with `fromnoise train recipes/stickers.toml`, or name its folder with --judge"
            raise NotFound(
                f"no judge in {folder} (looked for config.json and model.safetensors)", remedy
            )
        raw = json.loads((folder / "config.json").read_text())
        try:
            schema = {name: tuple(values) for name, values in raw["schema"].items()}
            config = JudgeConfig(
                schema, raw["size"], raw["stem"], tuple(raw["widths"]), tuple(raw["blocks"])
            )
            judge = cls(config)
            judge.fingerprint = str(raw.get("fingerprint", ""))
            judge.load_state_dict(
                {
                    k: t.float() if t.is_floating_point() else t
                    for k, t in load_file(folder / "model.safetensors").items()
                }
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise BadCheckpoint(
                f"the judge in {folder} cannot be read: {error}", "train it again"
            ) from error
        return judge.eval()


def encode_labels(schema: Mapping[str, Sequence[str]], samples: Iterable[Sample]) -> Tensor:
    """Index of every attribute's value, ABSENT where a scene lacks the attribute: (B, attributes),
    int64."""
    index = {name: {value: i for i, value in enumerate(values)} for name, values in schema.items()}
    rows = [
        [index[a][s.attributes[a]] if a in s.attributes else ABSENT for a in schema]
        for s in samples
    ]
    return torch.tensor(rows, dtype=torch.int64)


def compute_loss(logits: Mapping[str, Tensor], wanted: Tensor) -> Tensor:
    """Cross-entropy, averaged over the scenes that have an attribute, summed over the attributes.
    Scalar."""
    total = wanted.new_zeros((), dtype=torch.float32)
    for column, of in enumerate(logits.values()):
        if (wanted[:, column] != ABSENT).any():
            total = total + F.cross_entropy(of, wanted[:, column], ignore_index=ABSENT)
    return total
