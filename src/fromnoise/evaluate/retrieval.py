"""CLIP's retrieval: which of 256 captions belongs to a picture, and which of 256 pictures to a
caption."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fromnoise.data.source import Sample, Source
from fromnoise.errors import BadInput
from fromnoise.evaluate.faithfulness import Score

SEEDS = 8_000_000_000  # captions and pictures that no training sees
SET = 256


@dataclass(frozen=True)
class Retrieval:
    """Top-1 over every set of 256: of captions for a picture, of pictures for a caption."""

    image_to_text: Score
    text_to_image: Score


def choose_candidates(source: Source, n: int, seed: int = SEEDS) -> list[Sample]:
    """`n` drawn scenes whose captions state every attribute; no two have the same attributes or the
    same caption.

    Raises BadInput when the source has fewer in 100·n seeds.
    """
    samples: dict[frozenset[tuple[str, str]], Sample] = {}
    captions: set[str] = set()
    for s in range(seed, seed + 100 * n):
        sample = source.sample(s, draw=False)
        scene = frozenset(sample.attributes.items())
        if (
            sample.stated >= sample.attributes.keys()
            and scene not in samples
            and sample.caption not in captions
        ):
            captions.add(sample.caption)
            samples[scene] = source.sample(s)
            if len(samples) == n:
                return list(samples.values())
    raise BadInput(
        f"only {len(samples)} full and distinct captions, {n} needed", "ask for fewer sets"
    )


@torch.inference_mode()
def evaluate(
    embed_images: Callable[[np.ndarray], Tensor],
    embed_texts: Callable[[Sequence[str]], Tensor],
    source: Source,
    sets: int = 1,
    seed: int = SEEDS,
) -> Retrieval:
    """Top-1 of 256 by cosine, over `sets` fixed disjoint sets.

    Args:
        embed_images: uint8 (B, H, W, 3) → (B, D).
        embed_texts: captions → (B, D).
    """
    samples = choose_candidates(source, SET * sets, seed)
    right = torch.zeros(2, dtype=torch.int64)
    for k in range(sets):
        some = samples[k * SET : (k + 1) * SET]
        images = F.normalize(
            embed_images(np.stack([s.image for s in some if s.image is not None])), dim=1
        )
        texts = F.normalize(embed_texts([s.caption for s in some]), dim=1)
        likeness = images @ texts.T  # (256 pictures, 256 captions)
        own = torch.arange(SET, device=likeness.device)
        right += torch.stack([(likeness.argmax(d) == own).sum() for d in (1, 0)]).cpu()
    n = SET * sets
    return Retrieval(Score(int(right[0]), n), Score(int(right[1]), n))
