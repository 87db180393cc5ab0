"""The judge: a small residual classifier that reads a picture's attributes, one linear head for
each of the schema's.

It differs from everything that it judges: it has batch norm and strided convolutions, and no
attention and no latents. It is trained on pictures of its own range of seeds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.checkpoints.configs import Fields, Rule, read_json
from fromnoise.checkpoints.tensors import TensorFile, Unfilled, check_fit, fill
from fromnoise.checkpoints.training_state import write_tensors
from fromnoise.data.loader import to_tensor
from fromnoise.data.source import Sample
from fromnoise.errors import NotFound
from fromnoise.files import write_file
from fromnoise.models.resnet import append_coordinates, make_trunk, pool

ABSENT = -1  # label of an attribute that a scene lacks; cross_entropy ignores it
REMEDY = "choose another folder, or make room there"


@dataclass(frozen=True)
class JudgeConfig:
    """What a judge reads and how wide it is."""

    schema: dict[str, tuple[str, ...]]  # attribute → its values, in the order of the logits
    size: int = 128  # pixels of a side in its training; other pictures are resized to it
    stem: int = 16  # channels at half the resolution
    widths: tuple[int, ...] = (32, 64, 128, 192)  # channels at 1/4, 1/8, 1/16, 1/32 of the sides
    blocks: tuple[int, ...] = (1, 1, 1, 1)  # residual blocks a level


class Judge(nn.Module):
    """Images (B, 3, H, W) in [−1, 1] → logits of every attribute, {name: (B, values)}.

    Coordinates as extra channels let the pooled features say where a thing is.
    """

    def __init__(self, config: JudgeConfig):
        super().__init__()
        self.config = config
        self.fingerprint = ""  # of the source whose pictures it was trained on
        self.body, before = make_trunk(config.stem, config.widths, config.blocks), config.widths[-1]
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * before, len(of)) for name, of in config.schema.items()}
        )
        # a fifth faster on CPUs
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        pooled = pool(self.body(append_coordinates(images)))  # (B, 2C)
        return {name: head(pooled) for name, head in self.heads.items()}

    @torch.inference_mode()
    def read(self, images: np.ndarray, batch: int = 128) -> list[dict[str, str]]:
        """The most probable value of every attribute in each of the uint8 pictures (B, H, W, 3).

        It gives a value also for an attribute that a scene lacks.
        """
        self.eval()
        rows: list[dict[str, str]] = []
        for some in np.array_split(images, range(batch, len(images), batch)):
            x = to_tensor(some).to(next(self.parameters()).device)
            if x.shape[2:] != (self.config.size, self.config.size):
                x = F.interpolate(
                    x, (self.config.size,) * 2, mode="bilinear", antialias=True, align_corners=False
                )
            best = {name: logits.argmax(1).tolist() for name, logits in self(x).items()}
            rows += [
                {name: self.config.schema[name][best[name][i]] for name in best}
                for i in range(len(some))
            ]
        return rows

    def save(self, folder: str | Path, **notes: object) -> None:
        """Writes config.json, with `notes` and the fingerprint, and model.safetensors: matrices in
        fp16, norms in fp32."""
        config = {
            "_class_name": "fromnoise.Judge",
            **asdict(self.config),
            "fingerprint": self.fingerprint,
            **notes,
        }
        text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
        tensors = {
            key: (t.half() if t.ndim > 1 else t).cpu().contiguous()
            for key, t in self.state_dict().items()
        }
        write_tensors(Path(folder) / "model.safetensors", tensors, {"format": "pt"}, REMEDY)
        write_file(
            Path(folder) / "config.json", lambda part: part.write_text(text, "utf-8"), remedy=REMEDY
        )

    @classmethod
    def load(cls, folder: str | Path) -> "Judge":
        """The judge of a folder that `save` wrote, in fp32, ready to read pictures.

        Raises NotFound without one, BadCheckpoint when its files are damaged or do not fit each
        other.
        """
        folder = Path(folder)
        paths = folder / "config.json", folder / "model.safetensors"
        if not all(path.is_file() for path in paths):
            raise NotFound(
                f"no judge in {folder} (looked for config.json and model.safetensors)",
                "train one with `fromnoise train recipes/stickers.toml`, or name its folder with"
                " --judge",
            )
        fields, tensors = read_json(paths[0]), TensorFile(paths[1])
        with Unfilled():
            judge = cls(read_config(fields))
        judge.fingerprint = fields.get(Rule("fingerprint", str), "")
        check_fit(judge, tensors.stored, paths[1])
        fill(judge, tensors.stream())
        return judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def read_config(fields: Fields) -> JudgeConfig:
    """The configuration in a judge's config.json. Raises BadCheckpoint that names the field."""
    schema = fields.values.get("schema")
    if not isinstance(schema, dict) or not 0 < len(schema) <= 256:
        fields.refuse("schema", "a table of 1 to 256 attributes")
    for name, values in schema.items():
        names = Fields(fields.file, {f"schema.{name}": values, "schema": schema})
        texts = isinstance(values, list) and all(isinstance(value, str) for value in values)
        if not texts or not 0 < len(values) <= 4096:
            names.refuse(f"schema.{name}", "a list of 1 to 4096 texts")
        if not name or "." in name or hasattr(nn.ModuleDict, name):
            names.refuse("schema", f"attributes that a network can be named by, not {name[:40]!r}")
    config = JudgeConfig(
        {name: tuple(values) for name, values in schema.items()},
        _require(fields, Rule("size", int, 8, 4096)),
        _require(fields, Rule("stem", int, 1, 4096)),
        _require(fields, Rule("widths", int, 1, 4096, per_level=True)),
        _require(fields, Rule("blocks", int, 0, 64, per_level=True)),
    )
    if len(config.widths) != len(config.blocks):
        fields.refuse("blocks", f"{len(config.widths)} numbers, one for each of `widths`")
    return config


def _require(fields: Fields, rule: Rule):
    if (value := fields.get(rule)) is None:
        fields.refuse(rule.key, rule)
    return value


def encode_labels(schema: Mapping[str, Sequence[str]], samples: Iterable[Sample]) -> Tensor:
    """The index of every attribute's value, ABSENT where a scene lacks the attribute.

    int64 (B, attributes).
    """
    index = {name: {value: i for i, value in enumerate(values)} for name, values in schema.items()}
    rows = [
        [index[a][s.attributes[a]] if a in s.attributes else ABSENT for a in schema]
        for s in samples
    ]
    return torch.tensor(rows, dtype=torch.int64)


def compute_loss(logits: Mapping[str, Tensor], wanted: Tensor) -> Tensor:
    """Cross-entropy: the mean over the scenes that have an attribute, summed over the attributes.

    Scalar.
    """
    total = wanted.new_zeros((), dtype=torch.float32)
    for column, of in enumerate(logits.values()):
        if (wanted[:, column] != ABSENT).any():
            total = total + F.cross_entropy(of, wanted[:, column], ignore_index=ABSENT)
    return total
