"""Faithfulness: who is counted, what is right, how sure that is."""

from collections import Counter

import fakes
import numpy as np
import pytest

from fromnoise.api import Engine
from fromnoise.evaluate import faithfulness
from fromnoise.evaluate.faithfulness import (
    HELD_OUT_SEEDS,
    SEEDS,
    Ratio,
    Scene,
    Score,
    Tally,
    choose_scenes,
    evaluate,
)


def painter(source, split="train", wrong=lambda seed, image: image):
    """A model that draws the source's own picture of a seed, spoilt by `wrong`."""
    return lambda prompts, seeds: np.stack(
        [wrong(s, source.sample(s, split).image.copy()) for s in seeds]
    )


def test_a_perfect_model_is_perfect_and_pairs_caption_with_seed(source, oracle):
    calls = []

    def draw(prompts, seeds):
        calls.append(len(prompts))
        assert prompts == [source.sample(s).caption for s in seeds]
        return painter(source)(prompts, seeds)

    found = evaluate(draw, source, oracle, n=50, batch=16)
    assert calls == [16, 16, 16, 2]
    assert all(s.accuracy == 1 for s in found.drawn.scores().values())
    assert found.drawn.n["shape"] == 50
    assert 10 < found.drawn.n["place"] < 40  # only captions that state it
    assert found.drawn.whole == [50, 50]
    assert len(found.shown) == 24
    assert found.ratio("shape").value == 1


def test_one_spoilt_attribute_is_found_and_its_confusion_named(source, oracle):
    def always_red(seed, image):
        image[0, 1] = 1
        return image

    found = evaluate(
        painter(source, wrong=always_red), source, oracle, n=400, reconstruct=lambda x: x
    )
    stated = [source.sample(SEEDS + i, draw=False).attributes["colour"] for i in range(400)]
    assert found.drawn.scores()["colour"].right == stated.count("red")
    assert found.drawn.scores()["shape"].accuracy == 1
    assert (
        found.real.scores()["colour"].accuracy
        == found.reconstructed.scores()["colour"].accuracy
        == 1
    )
    assert {(a, b) for a, b, _ in found.drawn.confusions("colour")} == {
        ("green", "red"),
        ("blue", "red"),
    }
    assert list(found.drawn.by_value("colour"))[-1] == "red"
    assert found.drawn.balanced("colour") == pytest.approx(
        1 / 3
    )  # one value of three is right, always
    assert found.drawn.whole[0] == stated.count("red")
    assert 0 < found.ratio("colour").value < 0.6


def test_held_out_captions_come_from_their_own_split_and_seeds(source, oracle):
    found = evaluate(painter(source, "held_out"), source, oracle, n=20, split="held_out")
    assert all(s.accuracy == 1 for s in found.drawn.scores().values())
    assert {scene.sample.attributes["shape"] for scene, *_ in found.shown} == {"disc"}
    assert min(scene.seed for scene, *_ in found.shown) >= HELD_OUT_SEEDS


def test_rare_attributes_are_sought_without_bending_the_others(source):
    todo = list(choose_scenes(source, 100, minimum=60))
    counted = Counter(name for scene in todo for name in scene.counted)
    assert counted["hat"] == 60
    assert counted["place"] >= 60
    assert counted["shape"] == 100  # the later scenes, which all have hats, do not count for it
    assert all(set(scene.counted) <= scene.sample.stated for scene in todo)
    assert len({scene.seed for scene in todo}) == len(todo)


def test_an_attribute_that_is_never_stated_does_not_search_forever(source):
    class Wider:
        schema, sample = source.schema | {"never": ("a", "b")}, source.sample

    todo = list(choose_scenes(Wider(), 10, minimum=5))
    assert not any("never" in scene.counted for scene in todo)


def test_paired_runs_have_the_same_captions(source):
    def captions(seed):
        return [s.sample.caption for s in choose_scenes(source, 30, seed=seed)]

    assert captions(5) == captions(5) != captions(6)


def test_scores_and_ratios():
    score = Score(90, 100)
    assert score.accuracy == 0.9
    assert score.error == pytest.approx(
        (0.9 * 0.1 / 100) ** 0.5, rel=0.15
    )  # the plain formula, a little widened
    assert 0 < Score(100, 100).error < 0.03
    ratio = Ratio.of(score, Score(97, 100))
    assert ratio.value == pytest.approx(0.9 / 0.97)
    assert ratio.error > score.error
    assert np.isnan(Ratio.of(Score(0, 0), score).value)


def test_extra_scenes_do_not_enter_the_whole_score(source):
    tally, sample = Tally(), source.sample(1, draw=False)
    tally.add(Scene(1, sample, tuple(sample.stated)), sample.attributes)
    tally.add(Scene(1, sample, ("shape",)), sample.attributes)
    assert tally.whole == [1, 1]
    assert tally.n["shape"] == 2


def test_the_batch_plan_draws_what_the_engine_draws(tmp_path):
    engine = Engine(fakes.model(tmp_path, sampler="euler_a", steps=4, cfg=3.0, spacing="karras"))
    draw = faithfulness.build_drawer(engine)
    prompts, seeds = ["neon cat", "space", "cat"], [3, 2**33, 5]
    together = draw(prompts, seeds)
    assert together.shape == (3, 32, 32, 3)
    for prompt, seed, image in zip(prompts, seeds, together, strict=True):
        alone = np.asarray(engine.generate(prompt, seed=seed))
        # other sums inside the batch's matrix products: a pixel may round to its neighbour
        assert np.abs(alone.astype(int) - image).max() <= 1
