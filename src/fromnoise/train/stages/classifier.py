"""Trains the judge on endless fresh pictures of a source, degraded as if a network had drawn
them."""

import io
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fromnoise.data.loader import ignore_signals, to_tensor
from fromnoise.data.source import Source
from fromnoise.errors import BadInput
from fromnoise.evaluate.faithfulness import measure_judge
from fromnoise.evaluate.judge import Judge, JudgeConfig, compute_loss, encode_labels
from fromnoise.train import parts
from fromnoise.train.loop.fit import fit
from fromnoise.train.recipe import Recipe, Stage

TRAIN_SEEDS = 5_000_000_000  # no other part of the house draws pictures from this range
CHECK_SEEDS = 5_900_000_000  # fresh real pictures that a finished judge is measured on
# one picture in so many is of a held-out combination: a judge must be as good there as elsewhere
HELD_OUT = 8


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture as if a network had drawn it: a little soft, blocky, blotched or wrong in tone.

    uint8 (H, W, 3).
    """
    picture = Image.fromarray(image)
    if rng.random() < 0.35:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.1)))
    if rng.random() < 0.25:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(30, 90)))
        picture = Image.open(file)
    x = np.asarray(picture, dtype=np.float32)
    if rng.random() < 0.6:
        # pixels of a blotch: samplers leave fine ones, latents coarse ones
        cell = int(rng.choice([1, 2, 4]))
        small = rng.standard_normal(
            (-(-x.shape[0] // cell), -(-x.shape[1] // cell), 3), dtype=np.float32
        )
        noise = small.repeat(cell, 0).repeat(cell, 1)[: x.shape[0], : x.shape[1]]
        x = x + noise * rng.uniform(0, 9)
    if rng.random() < 0.3:
        x = (x - 128) * rng.uniform(0.92, 1.08) + 128 + rng.uniform(-6, 6)
    return x.round().clip(0, 255).astype(np.uint8)


class _DegradedPictures(Dataset):
    """Item k is the batch of step k: uint8 (B, H, W, 3) and labels (B, attributes)."""

    def __init__(self, source: Source, size: int, first: int, stride: int):
        self.source, self.size, self.first, self.stride = source, size, first, stride

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        seeds = range(self.first + step * self.stride, self.first + step * self.stride + self.size)
        samples = [self.source.sample(s, "train" if s % HELD_OUT else "held_out") for s in seeds]
        pictures = [
            degrade(x.image, np.random.default_rng(s))
            for x, s in zip(samples, seeds, strict=True)
            if x.image is not None
        ]
        return torch.from_numpy(np.stack(pictures)), encode_labels(self.source.schema, samples)


class JudgeTask:
    """The cross-entropy of every attribute that a scene has."""

    def __init__(self, stage: Stage, recipe: Recipe):
        self.stage, self.source = stage, recipe.open_source()
        network = dict(stage.get("network", {}))
        if not self.source.schema:
            raise BadInput(
                f"the source {recipe.source} has no attributes for a judge to read",
                "leave the stage [classifier] out of the recipe",
            )
        self.judge = Judge(
            parts.build_config(
                JudgeConfig, network, schema=self.source.schema, size=self.source.size
            )
        )
        # a finished judge, perhaps another model's: see assemble.unpack_model
        if (stage.folder / "model.safetensors").exists():
            self.judge.load_state_dict(Judge.load(stage.folder).state_dict())
        self.judge.fingerprint = self.source.fingerprint
        self.module: torch.nn.Module = self.judge
        self.extras = {}
        self.first = TRAIN_SEEDS + recipe.seed * 100_000_000

    def batches(
        self, step: int, size: int, rank: int, world: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        data = _DegradedPictures(self.source, size, self.first + rank * size, size * world)
        workers = self.stage.get("workers", 0)
        return iter(
            DataLoader(
                data,
                batch_size=None,
                sampler=count(step),
                num_workers=workers,  # type: ignore[arg-type]
                worker_init_fn=ignore_signals,
                prefetch_factor=4 if workers else None,
            )
        )

    def loss(
        self, batch: tuple[Tensor, Tensor], progress: float, noise: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        device = next(self.judge.parameters()).device
        images, labels = to_tensor(batch[0].numpy()).to(device), batch[1].to(device)
        logits = self.judge(images)
        name, first = next(iter(logits.items()))
        return compute_loss(logits, labels), {
            f"{name} right": (first.argmax(1) == labels[:, 0]).float().mean().item()
        }

    def preview(self, path: Path) -> None:
        pass  # a judge draws nothing; its curve says all

    def export(self, folder: Path) -> dict[str, Any]:
        tally = measure_judge(self.judge, self.source, self.stage.get("check", 2000), CHECK_SEEDS)
        accuracy = {name: round(score.accuracy, 4) for name, score in tally.scores().items()}
        self.judge.save(folder, accuracy=accuracy)
        return accuracy


def run(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    return fit(JudgeTask(stage, recipe), stage, recipe)
