"""The judge: what it reads, how it is kept, and that its training makes one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fromnoise.data.source import Sample
from fromnoise.errors import BadCheckpoint, NotFound
from fromnoise.evaluate.faithfulness import measure_judge
from fromnoise.evaluate.judge import ABSENT, Judge, JudgeConfig, compute_loss, encode_labels
from fromnoise.train.recipe import Recipe, Stage
from fromnoise.train.stages import classifier

SMALL = {"stem": 8, "widths": (8, 16, 24), "blocks": (1, 1, 0)}


@pytest.fixture
def judge(source) -> Judge:
    torch.manual_seed(0)
    return Judge(JudgeConfig(source.schema, 32, **SMALL))


@pytest.fixture
def one_thread():
    """Small pictures: a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(source, n: int) -> np.ndarray:
    return np.stack([source.sample(i).image for i in range(n)])


def test_reads_every_attribute_of_every_picture_in_any_batch_and_size(judge, source):
    images = pictures(source, 7)
    found = judge.read(images, batch=3)
    assert len(found) == 7
    assert all(found[i][name] in values for i in range(7) for name, values in source.schema.items())
    assert found == judge.read(images, batch=7)
    assert len(judge.read(images.repeat(3, 1).repeat(3, 2))) == 7


def test_labels_and_loss_leave_out_what_a_scene_lacks(source):
    samples = [
        Sample(None, "", {"shape": "disc", "colour": "blue"}, frozenset()),
        Sample(None, "", {"shape": "square", "hat": "flat"}, frozenset()),
    ]
    wanted = encode_labels(source.schema, samples)
    assert wanted.tolist() == [[1, 2, ABSENT, ABSENT], [0, ABSENT, ABSENT, 1]]
    logits = {k: torch.randn(2, len(v), requires_grad=True) for k, v in source.schema.items()}
    value = compute_loss(logits, wanted)
    parts = [
        F.cross_entropy(logits["shape"], wanted[:, 0]),
        F.cross_entropy(logits["colour"][:1], wanted[:1, 1]),
        F.cross_entropy(logits["hat"][1:], wanted[1:, 3]),
    ]
    assert value.item() == pytest.approx(sum(parts).item(), abs=1e-6)  # fp32 sums in another order
    value.backward()
    assert logits["place"].grad is None
    assert logits["hat"].grad[0].abs().sum() == 0


def test_saves_small_and_loads_the_same_judge(judge, source, tmp_path):
    judge.train()(torch.randn(8, 3, 32, 32))  # running statistics that are not the initial ones
    judge.save(tmp_path, note="kept")
    again = Judge.load(tmp_path)
    assert again.config == judge.config
    assert json.loads((tmp_path / "config.json").read_text())["note"] == "kept"
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        for name, logits in judge.eval()(x).items():
            # fp16 keeps 11 bits of each weight: 5e-4 of relative error, some layers deep
            torch.testing.assert_close(again(x)[name], logits, atol=1e-2, rtol=1e-2)
    half = sum(t.numel() for t in judge.parameters()) * 2
    assert (tmp_path / "model.safetensors").stat().st_size < 1.3 * half + 20_000


def test_a_folder_without_or_with_another_judge_says_so(judge, tmp_path):
    with pytest.raises(NotFound, match="no judge in"):
        Judge.load(tmp_path)
    judge.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"stem": 4}))
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors") as caught:
        Judge.load(tmp_path)
    assert "body.0" in caught.value.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", None),
        ("schema", {}),
        ("schema", {"a": []}),
        ("schema", {"a": [1]}),
        ("schema", {"a.b": ["x"]}),
        ("schema", {"keys": ["x"]}),
        ("size", -1),
        ("size", "128"),
        ("stem", 10**9),
        ("stem", 1.5),
        ("widths", [8, -8]),
        ("widths", []),
        ("widths", None),
        ("blocks", [10**9, 1, 1]),
        ("blocks", [1]),
        ("fingerprint", 3),
    ],
)
def test_a_judge_of_impossible_settings_is_refused_by_field(judge, tmp_path, field, value):
    judge.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(BadCheckpoint) as caught:
        Judge.load(tmp_path)
    assert "config.json" in caught.value.message
    assert field in caught.value.message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x00" * 100, b"\xff\xfe"])
def test_a_damaged_judge_is_refused_by_file(judge, tmp_path, name, content):
    judge.save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadCheckpoint, match=name):
        Judge.load(tmp_path)


def test_the_bundled_size_is_small_enough_to_ship():
    schema = {"a": tuple(map(str, range(64))), "b": tuple(map(str, range(64)))}
    assert (
        0.5e6 < sum(p.numel() for p in Judge(JudgeConfig(schema)).parameters()) < 1.5e6
    )  # ≤ 3 MB in fp16


def test_wear_keeps_shape_and_most_of_the_picture(source):
    image = source.sample(3).image
    worn = [classifier.degrade(image, np.random.default_rng(i)) for i in range(40)]
    assert all(w.shape == image.shape and w.dtype == np.uint8 for w in worn)
    errors = [np.abs(w.astype(int) - image).mean() for w in worn]
    assert max(errors) < 30  # of 255: a light wear
    assert min(errors) == 0  # some pictures stay as they are
    assert np.array_equal(classifier.degrade(image, np.random.default_rng(7)), worn[7])


def test_training_makes_a_judge_and_goes_on_where_it_stopped(
    source, tmp_path: Path, monkeypatch, one_thread
):
    monkeypatch.setattr("fromnoise.data.sources.open_source", lambda name, **options: source)
    values = {
        "batch": 32,
        "lr": 5e-3,
        "pictures": 32 * 60,
        "warmup": 5,
        "ema": 0.9,
        "network": SMALL,
        "check": 300,
    }
    stage = Stage("classifier", tmp_path, values)
    recipe = Recipe("shapes", tmp_path, 0, "shapes", {}, {"classifier": stage})
    half = Stage("classifier", tmp_path, values | {"pictures": 32 * 10})
    classifier.run(half, recipe)
    done = classifier.run(stage, recipe)
    assert done["steps"] == 60
    # the pictures are trivial; chance is a half or a third, and three standard errors of 300
    # answers are 0.05
    assert min(done[name] for name in ("shape", "colour", "place")) > 0.9
    judge = Judge.load(tmp_path)
    scores = measure_judge(judge, source, 200, seed=123).scores()
    assert scores["shape"].n == 200
    assert scores["hat"].n < 60  # only the scenes that have one
    assert scores["colour"].accuracy > 0.9
