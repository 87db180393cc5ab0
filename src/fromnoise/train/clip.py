"""Trains CLIP from captioned pictures: symmetric contrastive loss, learned temperature (Radford 2021, §2.3)."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.data.loader import Batch, batches
from fromnoise.train import parts
from fromnoise.train.loop import fit
from fromnoise.train.recipe import Recipe, Stage

HELD_BACK = 4_000_000_000  # first seed of the pictures that only measure
MAX_SCALE = math.log(100)  # Radford 2021 clips the temperature so that logits are never scaled by more than 100


def normalize(embeds: Tensor) -> Tensor:
    return F.normalize(embeds.float(), dim=-1)


class Pair(nn.Module):
    """Both towers and the temperature."""

    def __init__(self, text: nn.Module, vision: nn.Module):
        super().__init__()
        self.text, self.vision = text, vision
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))


class ClipTask:
    """InfoNCE over a batch; in a run of several processes each contrasts within its own batch."""

    def __init__(self, stage: Stage, recipe: Recipe, module: Pair | None = None):
        self.stage, self.source, self.words = stage, recipe.open_source(), parts.tokenizer(recipe)
        self.pair = module or Pair(*parts.build_clip(recipe, self.words))
        self.module: nn.Module = self.pair

    def batches(self, step: int, size: int, rank: int, world: int) -> Iterator[Batch]:
        first, workers = int(self.stage.get("first", 0)), self.stage.get("workers", 0)
        return batches(self.source, size, step, first, workers=workers, rank=rank, world=world)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        device = self.pair.logit_scale.device
        ids = torch.tensor([self.words.encode(c)[0] for c in batch.captions], device=device)
        longest = int((ids == self.words.eos_id).int().argmax(1).max()) + 1
        ids = ids[:, :longest]  # the tower is causal: padding after the end changes nothing and costs a third
        return normalize(self.pair.text(ids).embeds), normalize(self.pair.vision(batch.images.to(device)).embeds)

    def loss(self, batch: Batch, progress: float, noise: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        text, image = self.embed(batch)
        logits = self.pair.logit_scale.clamp(max=MAX_SCALE).exp() * image @ text.T  # (B, B)
        right = torch.arange(len(logits), device=logits.device)
        loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
        return loss, {"top1": (logits.argmax(1) == right).float().mean().item()}

    def preview(self, path: Path) -> None:
        pass  # CLIP draws nothing; its curve says all

    def export(self, folder: Path) -> dict[str, Any]:
        parts.write(self.module, folder / "clip.safetensors")
        text, image = self.embed(next(batches(self.source, 256, first=HELD_BACK)))
        top1 = ((image @ text.T).argmax(1) == torch.arange(256, device=text.device)).float().mean().item()
        return {"top1_of_256": top1}


def run(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    return fit(ClipTask(stage, recipe), stage, recipe)


def run_image_tower(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    """Goes on with the image tower and both projections, the text tower locked (the mirror of Zhai 2022, "LiT"): the
    U-Net already learns from the text tower, which must not move any more."""
    text, vision, _, scale = parts.clip(recipe, image_tower=False)
    module = Pair(text, vision).requires_grad_(True)
    module.logit_scale.data.copy_(scale)
    text.text_model.requires_grad_(False)
    return fit(ClipTask(stage, recipe, module), stage, recipe)
