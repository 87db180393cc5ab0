"""Trains CLIP from captioned pictures: symmetric contrastive loss, learned temperature (Radford
2021, §2.3), and a loss by which each embedding names the caption's words (Huang 2024,
"Classification Done Right").

The contrast alone learns only what separates the pictures of a batch. Background, colour and style
were enough for 72 % of 256 captions, while objects and positions stayed at chance in both towers. A
U-Net cannot draw what the text tower does not say. The loss of the words leaves nothing out.

Later the captions of a batch are so different that they teach nothing more (99 of 100 are right),
while captions that differ in one word are still mixed up. Therefore each picture's own caption has
`hard` others beside it that differ from it in one attribute (Yuksekgonul 2023, "When and why
vision-language models behave like bags-of-words")."""

import math
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.data.loader import Batch, load_batches
from fromnoise.data.source import Sample, Source
from fromnoise.evaluate.probe import probe_attributes
from fromnoise.models.clip import CLIPText
from fromnoise.prompt.tokenizer import Tokenizer
from fromnoise.train import parts
from fromnoise.train.loop.fit import fit
from fromnoise.train.recipe import Recipe, Stage

HELD_BACK = 4_000_000_000  # first seed of the pictures that only measure
MEASURED = 4096
# Radford 2021 clips the temperature so that logits are never scaled by more than 100
MAX_SCALE = math.log(100)


def normalize(embeds: Tensor) -> Tensor:
    return F.normalize(embeds.float(), dim=-1)


def weigh_tokens(source: Source, words: Tokenizer, captions: int = 4096) -> Tensor:
    """How much each token counts in the loss of the words, (V,): its inverse document frequency.

    Begin and end are in every caption and count nothing.
    """
    counts = torch.zeros(words.vocab_size)
    for i in range(captions):
        counts[list(set(words.encode(source.sample(HELD_BACK + i, draw=False).caption)[0]))] += 1
    return torch.log((captions + 1) / (counts + 1))


def write_hard_captions(
    source: Source, sample: Sample, many: int, chance: random.Random
) -> list[str]:
    """The plainest caption of a sample, and up to `many` others that are wrong in one attribute.

    An attribute of many values is wrong more often than one of few. The list is empty where the
    source has no such caption.
    """
    attributes, schema = sample.attributes, source.schema
    if (own := source.write_caption(attributes)) is None:
        return []
    names = [name for name in schema if name in attributes]
    chosen = chance.choices(names, [len(schema[name]) ** 0.5 for name in names], k=many)
    others = (
        source.write_caption({**attributes, name: chance.choice(schema[name])}) for name in chosen
    )
    return list(dict.fromkeys([own, *filter(None, others)]))


class Pair(nn.Module):
    """Both towers, the temperature, and one reader of words for the embeddings of both."""

    def __init__(self, text: CLIPText, vision: parts.ImageTower):
        super().__init__()
        self.text, self.vision = text, vision
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.words = nn.Linear(vision.config.projection_dim, text.config.vocab_size)


class ClipTask:
    """The sum of three losses.

    InfoNCE over a batch; in a run of several processes each contrasts its own batch alone. `words`
    × the cross-entropy between the caption's tokens and those that a shared linear layer reads in
    the embeddings. The cross-entropy of the picture's own caption among `hard` others that differ
    in one attribute.
    """

    def __init__(self, stage: Stage, recipe: Recipe, module: Pair | None = None):
        self.stage, self.source, self.words = (
            stage,
            recipe.open_source(),
            parts.load_tokenizer(recipe),
        )
        self.pair = module or Pair(*parts.build_clip(recipe, self.words))
        self.module: nn.Module = self.pair
        self.extras = {}
        self.rarity = weigh_tokens(self.source, self.words)

    def batches(self, step: int, size: int, rank: int, world: int) -> Iterator[Batch]:
        first, workers = int(self.stage.get("first", 0)), self.stage.get("workers", 0)
        return load_batches(self.source, size, step, first, workers=workers, rank=rank, world=world)

    def ids(self, captions: list[str]) -> Tensor:
        """Token ids (B, N), cut after the end of the longest caption.

        The tower is causal: padding would change nothing and cost time.
        """
        ids = torch.tensor(
            [self.words.encode(c)[0] for c in captions], device=self.pair.logit_scale.device
        )
        return ids[:, : int((ids == self.words.eos_id).int().argmax(1).max()) + 1]

    def words_loss(self, embeds: Tensor, ids: Tensor) -> Tensor:
        """Cross-entropy between the caption's distinct tokens, weighted by rarity, and the words
        that the linear layer reads in embeds (B, D)."""
        goal = torch.zeros(len(ids), len(self.rarity), device=ids.device).scatter_(1, ids, 1.0)
        goal *= self.rarity.to(ids.device)
        return F.cross_entropy(
            self.pair.words(embeds).float(), goal / goal.sum(1, keepdim=True).clamp(min=1e-6)
        )

    def loss(
        self, batch: Batch, progress: float, noise: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        ids = self.ids(batch.captions)
        text, image = (
            self.pair.text(ids).embeds,
            self.pair.vision(batch.images.to(ids.device)).embeds,
        )
        logits = (
            self.pair.logit_scale.clamp(max=MAX_SCALE).exp() * normalize(image) @ normalize(text).T
        )  # (B, B)
        right = torch.arange(len(logits), device=logits.device)
        contrast = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
        text_words, image_words = self.words_loss(text, ids), self.words_loss(image, ids)
        figures = {
            "top1": (logits.argmax(1) == right).float().mean(),
            "contrast": contrast,
            "text words": text_words,
            "image words": image_words,
        }
        loss = contrast + self.stage.get("words", 1.0) * (text_words + image_words) / 2
        if hard := int(self.stage.get("hard", 0)):
            hard_loss, figures["hard top1"] = self.hard_loss(batch, image, hard, noise)
            loss = loss + hard_loss
        return loss, {k: float(v.detach()) for k, v in figures.items()}

    def hard_loss(
        self, batch: Batch, image: Tensor, hard: int, noise: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(cross-entropy of each picture's own caption among those that differ from it in one
        attribute, the share of pictures whose own caption has the highest score)."""
        chance = random.Random(int(torch.randint(2**62, (), generator=noise)))
        sets = [write_hard_captions(self.source, sample, hard, chance) for sample in batch.samples]
        rows = torch.tensor([i for i, texts in enumerate(sets) for _ in texts], device=image.device)
        places = torch.tensor([k for texts in sets for k in range(len(texts))], device=image.device)
        if not len(rows):
            return image.sum() * 0, torch.tensor(0.0)
        text = self.pair.text(self.ids([text for texts in sets for text in texts])).embeds
        cosines = (normalize(image)[rows] * normalize(text)).sum(1)
        logits = torch.full((len(sets), hard + 1), -torch.inf, device=image.device)
        logits = logits.index_put(
            (rows, places), self.pair.logit_scale.clamp(max=MAX_SCALE).exp() * cosines
        )
        # (pictures that have such captions, 1 + hard), the own caption first
        logits = logits[[bool(texts) for texts in sets]]
        right = torch.zeros(len(logits), dtype=torch.long, device=image.device)
        return F.cross_entropy(logits, right), (logits.argmax(1) == 0).float().mean()

    def preview(self, path: Path) -> None:
        pass  # CLIP draws nothing; its curve says all

    def export(self, folder: Path) -> dict[str, Any]:
        parts.save_weights(self.module, folder / "clip.safetensors")
        device, stream = (
            self.pair.logit_scale.device,
            load_batches(self.source, 256, first=HELD_BACK),
        )
        right, text, image, samples = [], [], [], []
        for batch in islice(stream, -(-int(self.stage.get("check", MEASURED)) // 256)):
            captions = self.pair.text(self.ids(batch.captions))
            pictures = self.pair.vision(batch.images.to(device))
            best = (normalize(pictures.embeds) @ normalize(captions.embeds).T).argmax(1)
            right.append((best == torch.arange(256, device=device)).float().mean().item())
            text.append(captions.pooled)
            image.append(pictures.pooled)
            samples += batch.samples
        return {
            "top1_of_256": sum(right) / len(right),
            "text_tells": probe_attributes(torch.cat(text), samples, self.source.schema),
            "image_tells": probe_attributes(torch.cat(image), samples, self.source.schema),
        }


def run(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    return fit(ClipTask(stage, recipe), stage, recipe)


def run_image_tower(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    """Trains the image tower and both projections further, with the text tower locked (the mirror
    of Zhai 2022, "LiT"): the U-Net already learns from the text tower, so that must not change."""
    text, vision, _, scale = parts.load_clip(recipe, image_tower=False)
    module = Pair(text, vision).requires_grad_(True)
    module.logit_scale.data.copy_(scale)
    weights = parts.load_weights(parts.require_stage(recipe, "clip").folder / "clip.safetensors")
    if "words.weight" in weights:  # a model folder keeps none
        module.words.load_state_dict({k: weights[f"words.{k}"] for k in ("weight", "bias")})
    text.text_model.requires_grad_(False)
    return fit(ClipTask(stage, recipe, module), stage, recipe)
