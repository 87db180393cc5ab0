"""What CLIP sees: the search among a source's captions, probabilities, cosines, and what cannot be
seen."""

import fakes
import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise import load
from fromnoise.api import Engine
from fromnoise.data.source import Sample
from fromnoise.data.sources import open_source
from fromnoise.errors import BadInput
from fromnoise.pipeline.seeing.clip import ClipEmbedder

COLOURS, SHAPES = ("red", "green", "blue", "pink"), ("disc", "ring", "star", "cube", "cone")


class Shapes:
    """Two shapes, of which the first has a colour, or one without; samples never show what the
    search shall find."""

    size, fingerprint = 32, "shapes"
    schema = {"colour": COLOURS, "first": SHAPES, "second": SHAPES}  # noqa: RUF012

    def sample(self, seed, split="train", draw=True):
        return Sample(None, "", {"colour": "red", "first": "disc", "second": "ring"}, frozenset())

    def list_names(self, attribute):
        return {value: (value,) for value in self.schema[attribute]}

    def write_caption(self, attributes):
        a = dict(attributes)
        return (
            None if a["first"] == a["second"] else f"{a['colour']} {a['first']} and {a['second']}"
        )


class Sees:
    """A CLIP in whose space a caption is where its words are, weighted by their place."""

    def __init__(self, wanted):
        self.wanted = wanted

    def towers(self):
        words = {word: torch.eye(16)[i] for i, word in enumerate((*COLOURS, *SHAPES))}

        def embed_texts(texts):
            split = [text.replace(" and", "").split() for text in texts]
            return torch.stack(
                [torch.stack([words[w] / (k + 1) for k, w in enumerate(s)]).sum(0) for s in split]
            )

        return lambda images: embed_texts([self.wanted]).repeat(len(images), 1), embed_texts


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fakes.model(tmp_path_factory.mktemp("words"), steps=2)


def noisy(seed=0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 32, 3), np.uint8))


@pytest.mark.parametrize(
    "wanted", ["pink cone and star", "red ring and disc", "blue cube and ring"]
)
def test_the_search_finds_what_no_sample_shows(model, monkeypatch, wanted):
    monkeypatch.setattr(
        "fromnoise.pipeline.seeing.clip.build_embedders", lambda model: Sees(wanted).towers()
    )
    best, second, *_ = ClipEmbedder(model).describe(noisy(), Shapes(), 3)
    assert best.caption == wanted
    assert best.cosine == pytest.approx(1)
    assert list(best.attributes.values()) == wanted.replace(" and", "").split()
    assert second.cosine < best.cosine


def test_two_attributes_exchange_their_values(model, monkeypatch):
    """With two shapes there is no way from one order to the other by changing one of them: they
    must differ."""

    class Two(Shapes):
        schema = {"colour": COLOURS, "first": SHAPES[:2], "second": SHAPES[:2]}  # noqa: RUF012

    monkeypatch.setattr(
        "fromnoise.pipeline.seeing.clip.build_embedders",
        lambda model: Sees("pink ring and disc").towers(),
    )
    assert ClipEmbedder(model).describe(noisy(), Two(), 1)[0].caption == "pink ring and disc"


def test_phrases_have_clips_own_probabilities(model):
    see, phrases = ClipEmbedder(model), ["a cat", "neon space", "space"]
    found = see.describe(noisy(), phrases)
    assert sum(row.probability for row in found) == pytest.approx(1)
    assert found[0].cosine >= found[1].cosine >= found[2].cosine
    ratio = np.exp(
        np.exp(2.5) * (found[0].cosine - found[1].cosine)
    )  # of exp(logit_scale · cosine)
    assert found[0].probability / found[1].probability == pytest.approx(ratio, rel=1e-4)
    assert len(see.describe(noisy(), phrases, top=1)) == 1


def test_a_source_without_a_schema_gives_its_samples_captions(model):
    class Folder(Shapes):
        schema = {}  # noqa: RUF012

        def sample(self, seed, split="train", draw=True):
            return Sample(None, ["a cat", "space"][seed % 2], {}, frozenset())

    assert {row.caption for row in ClipEmbedder(model).describe(noisy(), Folder())} == {
        "a cat",
        "space",
    }


def test_texts_alone_or_among_longer_ones_are_alike(model):
    see, texts = ClipEmbedder(model), ["a cat", "neon", "a neon cat in", "s p a c e"]
    together = see.texts(texts)
    for text, one in zip(texts, together, strict=True):
        # fp32 over 2 layers, sums in another order where the length differs
        torch.testing.assert_close(ClipEmbedder(model).texts([text])[0], one, rtol=0, atol=2e-6)
    ids = torch.tensor([model.tokenizer.encode(text)[0] for text in texts])
    whole = torch.nn.functional.normalize(
        model.text_encoder(ids).pooled @ model.text_projection.T, dim=1
    )
    torch.testing.assert_close(together, whole, rtol=0, atol=2e-6)


def test_similarity_of_pictures_and_words(model, tmp_path):
    engine, path = Engine(model), tmp_path / "a.png"
    noisy().save(path)
    assert engine.similarity(path, noisy()) == pytest.approx(1, abs=1e-6)
    assert engine.similarity("a cat", "a cat") == pytest.approx(1, abs=1e-6)
    assert engine.similarity(path, "a cat") == pytest.approx(
        engine.similarity("a cat", noisy()), abs=1e-6
    )
    assert engine.similarity(noisy(), noisy(1)) < 0.9999
    assert engine.seeing.cosines([path, "a cat"], ["space", "a cat", path]).shape == (2, 3)


def test_what_cannot_be_seen_is_said(model, tmp_path):
    for lacking in ("vision", "text_projection"):
        blind = fakes.model(tmp_path, steps=2)
        setattr(blind, lacking, None)
        with pytest.raises(BadInput, match=r"image tower|clip_head"):
            ClipEmbedder(blind)
    engine = Engine(model)
    for phrases, said in (
        ([], "no phrases"),
        ([" "], "no words"),
        (["cat " * 99], "CLIP reads 14 tokens"),
        (["a \ud800"], "not Unicode"),
    ):
        with pytest.raises(BadInput, match=said):
            engine.describe(noisy(), phrases)


def test_the_bundled_clip_tells_backgrounds_and_styles():
    """A fresh picture of each of a few scenes: CLIP is sure of these two attributes (0.99 and 0.8
    of 150)."""
    source, see = open_source("stickers"), ClipEmbedder(load().model)
    samples = [source.sample(7_090_000_500 + i) for i in range(4)]
    told = [
        see.describe(Image.fromarray(np.asarray(s.image)), source, 1)[0].attributes for s in samples
    ]
    assert (
        sum(
            t["background"] == s.attributes["background"]
            for t, s in zip(told, samples, strict=True)
        )
        == 4
    )
    assert sum(t["style"] == s.attributes["style"] for t, s in zip(told, samples, strict=True)) >= 2
