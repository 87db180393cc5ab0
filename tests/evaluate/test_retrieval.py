"""Retrieval: top-1 of 256 both ways on a fixed set."""

import numpy as np
import pytest
import torch

from fromnoise.data.source import Sample
from fromnoise.errors import BadInput
from fromnoise.evaluate.retrieval import choose_candidates, evaluate


class Numbers:
    """Scene k is the number k, in its pixels and in its caption; every third caption leaves
    something unsaid."""

    size, fingerprint, schema = (
        8,
        "numbers",
        {"low": tuple(map(str, range(64))), "high": tuple(map(str, range(64)))},
    )

    def sample(self, seed, split="train", draw=True):
        k = seed % 1500
        has = {"low": str(k % 64), "high": str(k // 64)}
        stated = frozenset(has) if k % 3 else frozenset({"low"})
        image = np.full((8, 8, 3), 0, np.uint8)
        image[0, 0, :2] = k % 64, k // 64
        return Sample(image if draw else None, f"{k}", has, stated)


def places(ks: list[int]) -> torch.Tensor:
    """A direction of its own for every number."""
    angles = torch.tensor(ks, dtype=torch.float64) * 2 * torch.pi / 1500
    return torch.stack([angles.cos(), angles.sin()], 1)


def embed_images(images):
    return places([int(i[0, 0, 0]) + 64 * int(i[0, 0, 1]) for i in images])


def test_candidates_are_full_distinct_and_fixed():
    some = choose_candidates(Numbers(), 256)
    assert len({s.caption for s in some}) == 256
    assert all(s.stated == s.attributes.keys() and s.image is not None for s in some)
    assert [s.caption for s in some] == [s.caption for s in choose_candidates(Numbers(), 256)]
    with pytest.raises(BadInput, match="only 1000 full and distinct"):
        choose_candidates(Numbers(), 1001)


def test_a_clip_that_understands_is_right_both_ways():
    found = evaluate(
        embed_images, lambda texts: 3 * places([int(t) for t in texts]), Numbers(), sets=2
    )
    assert found.image_to_text.accuracy == found.text_to_image.accuracy == 1
    assert found.image_to_text.n == 512


def test_the_two_ways_differ():
    def odd_as_the_one_below(texts):
        return places([int(t) - int(t) % 2 * 0.9 for t in texts])

    found = evaluate(embed_images, odd_as_the_one_below, Numbers())
    assert (
        found.image_to_text.accuracy == 1
    )  # a caption 0.9 off is still the nearest to its own picture …
    assert (
        found.text_to_image.accuracy < 0.8
    )  # … but lies nearer to the picture below, where that is in the set
