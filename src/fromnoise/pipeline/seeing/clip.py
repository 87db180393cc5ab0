"""CLIP's view of pictures: descriptions in the words of a source, and the similarity of pictures
and words."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fromnoise.data.loader import to_tensor
from fromnoise.data.source import Source
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.pictures import read_rgb

if TYPE_CHECKING:
    from fromnoise.models.clip_vision import CLIPVision
    from fromnoise.models.resnet import CLIPResNet

STARTS = 256  # scenes of a source that the search starts from; more gave no better results
KINDS = 4  # scenes with the same attributes are a kind; the search goes on in the best KINDS
CAPTIONS = 2048  # that are compared, of a source without a schema
REMEMBERED = 50_000  # texts, whose embeddings are kept
LARGE = 4_194_304  # pixels; a larger picture is reduced first
Seen = Image.Image | Path | str  # a picture, a picture's file, words


@dataclass(frozen=True)
class Description:
    """A caption and how well it fits a picture. `probability` is its part of
    softmax(exp(logit_scale) · cosine) over all captions that were compared, as in CLIP itself
    (Radford 2021, fig. 3). `attributes` are empty for a phrase that belongs to no scene."""

    caption: str
    probability: float
    cosine: float
    attributes: dict[str, str]


def embed(vision: "CLIPVision | CLIPResNet", images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [−1, 1] → embeddings (B, D), not normalized. The images are stretched
    to the size of the tower's training."""
    side = vision.config.image_size
    images = images.to(next(vision.parameters()))
    if images.shape[-2:] != (side, side):
        images = F.interpolate(
            images, (side, side), mode="bilinear", antialias=True, align_corners=False
        )
    return vision(images).embeds.float()


def build_embedders(
    model: LatentDiffusion,
) -> tuple[Callable[[np.ndarray], Tensor], Callable[[Sequence[str]], Tensor]]:
    """The model's CLIP as two functions: uint8 pictures (B, H, W, 3) → embeddings (B, D), and
    captions → embeddings (B, D). Of a caption that is too long only the beginning counts, as in
    training. Raises BadInput if the model has no image tower, or no head."""
    vision, head, text, words = (
        model.vision,
        model.text_projection,
        model.text_encoder,
        model.tokenizer,
    )
    if vision is None or head is None:
        lacks = (
            "no image tower"
            if vision is None
            else "none that shares a space with its words (no clip_head)"
        )
        raise BadInput(
            f"what CLIP sees cannot be told: this model has {lacks}",
            "use one that fromnoise trained",
        )

    def embed_images(images: np.ndarray) -> Tensor:
        return torch.cat([embed(vision, some) for some in to_tensor(images).split(64)])

    def embed_texts(texts: Sequence[str]) -> Tensor:
        ids = torch.tensor(
            [words.encode(text)[0] for text in texts], device=next(text.parameters()).device
        )
        ends = (ids == words.eos_id).int().argmax(1)
        order, found = ends.argsort(), []
        # captions of similar length together: no state depends on the padding behind it
        for some in order.split(256):
            pooled = text(ids[some, : int(ends[some].max()) + 1]).pooled
            found.append((pooled @ head.to(pooled).T).float())
        return torch.cat(found)[order.argsort()]

    return embed_images, embed_texts


def _shrink(picture: Image.Image) -> Image.Image:
    """Reduces a picture of more than LARGE pixels: its long sides become 1,024 to 2,047 pixels. It
    averages in 8 bits, because floats would take 12 bytes a pixel."""
    if picture.width * picture.height <= LARGE:
        return picture
    return picture.reduce((max(1, picture.width // 1024), max(1, picture.height // 1024)))


class ClipEmbedder:
    """A model's CLIP, with a memory of texts. Embeddings have length 1, so that products are
    cosines. Raises BadInput for a model without an image tower."""

    def __init__(self, model: LatentDiffusion):
        self.model = model
        self._images, self._texts = build_embedders(model)
        self._read: dict[str, Tensor] = {}
        self.scale = 1 / 0.07 if model.logit_scale is None else float(model.logit_scale.exp())

    @torch.inference_mode()
    def pictures(self, images: Iterable[Image.Image]) -> Tensor:
        """Embeddings (B, D). Each picture is embedded alone, so that it depends on no other."""
        small = (_shrink(image.convert("RGB")) for image in images)
        return F.normalize(torch.cat([self._images(np.array(i)[None]) for i in small]), dim=1)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (B, D)."""
        if len(self._read) > REMEMBERED:
            self._read.clear()
        if new := [text for text in dict.fromkeys(texts) if text not in self._read]:
            self._read |= zip(new, F.normalize(self._texts(new), dim=1), strict=True)
        return torch.stack([self._read[text] for text in texts])

    def check(self, texts: Iterable[str]) -> None:
        """Raises BadInput for a text that is empty, is not Unicode or has more tokens than CLIP
        reads."""
        for text in texts:
            if not text.strip():
                raise BadInput("there are no words to compare", "give some")
            if any("\ud800" <= letter <= "\udfff" for letter in text):  # lone surrogates
                raise BadInput(f"{text[:60]!a} is not Unicode", "type the words again, in UTF-8")
            if rest := self.model.tokenizer.encode(text)[1]:
                room = self.model.tokenizer.max_length - 2
                raise BadInput(
                    f"CLIP reads {room} tokens, and leaves out {rest[:60]!r}", "shorten the text"
                )

    def cosines(self, some: Sequence[Seen], others: Sequence[Seen]) -> Tensor:
        """The cosine of every one of `some` with every one of `others`, (some, others). Raises
        BadInput and NotFound."""

        def embed_all(items: Sequence[Seen]) -> Tensor:
            self.check(item for item in items if isinstance(item, str))
            return torch.cat(
                [
                    self.texts([i]) if isinstance(i, str) else self.pictures([read_rgb(i)])
                    for i in items
                ]
            )

        return embed_all(some) @ embed_all(others).T

    def describe(
        self, image: Image.Image, phrases: Source | Sequence[str], top: int = 5
    ) -> list[Description]:
        """The captions that fit a picture best, the best first.

        phrases: a list to choose from, or a source, whose scenes are searched. The search compares
        the scenes of some samples with the picture. It then changes the best scene of each kind:
        one attribute after the other, or two that exchange their values. It goes on for as long as
        the caption comes nearer to the picture. A source without a schema gives its samples'
        captions. Raises BadInput."""
        picture = self.pictures([image])[0]
        if isinstance(phrases, Sequence):
            self.check(phrases)
            found = {text: {} for text in phrases}
        elif not phrases.schema:
            found = {phrases.sample(seed, draw=False).caption: {} for seed in range(CAPTIONS)}
        else:
            found = self._search(picture, phrases)
        if not found:
            raise BadInput("there are no phrases to choose from", "give at least one")
        cosines = self.texts(list(found)) @ picture
        chances = (self.scale * cosines).softmax(0).tolist()
        rows = [
            Description(text, chance, cosine, attributes)
            for (text, attributes), chance, cosine in zip(
                found.items(), chances, cosines.tolist(), strict=True
            )
        ]
        return sorted(rows, key=lambda row: -row.cosine)[:top]

    def _search(self, picture: Tensor, source: Source) -> dict[str, dict[str, str]]:
        """Every caption that was compared → its attributes."""
        found: dict[str, dict[str, str]] = {}
        near: dict[str, float] = {}

        def compare(scenes: Iterable[Mapping[str, str]]) -> list[str]:
            """Compares scenes with the picture. Returns the captions of those that the source
            has."""
            captions = {
                text: dict(scene) for scene in scenes if (text := source.write_caption(scene))
            }
            if new := [text for text in captions if text not in near]:
                near.update(zip(new, (self.texts(new) @ picture).tolist(), strict=True))
            found.update(captions)
            return list(captions)

        compare(source.sample(seed, draw=False).attributes for seed in range(STARTS))
        kinds: dict[frozenset[str], str] = {}
        for text in sorted(near, key=lambda text: -near[text]):
            kinds.setdefault(frozenset(found[text]), text)
        for text in list(kinds.values())[:KINDS]:
            before = ""
            while text != before:
                before = text
                for name in (name for name in source.schema if name in found[text]):
                    changed = compare(found[text] | {name: value} for value in source.schema[name])
                    text = max([text, *changed], key=near.__getitem__)
                pairs = [
                    (a, b)
                    for a, b in combinations(found[text], 2)
                    if source.schema[a] == source.schema[b]
                ]
                exchanged = compare(
                    found[text] | {a: found[text][b], b: found[text][a]} for a, b in pairs
                )
                text = max([text, *exchanged], key=near.__getitem__)
        return found
