"""The recipe from end to end, resume to the bit, and the pieces of the loop."""

import json
import math
import os
import random
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from fromnoise.checkpoints import training_state
from fromnoise.checkpoints.hub import load_parts
from fromnoise.data.latents import LatentCache
from fromnoise.data.sources import open_source
from fromnoise.errors import BadCheckpoint, BadInput, NotFound, UnknownName
from fromnoise.evaluate.judge import Judge, JudgeConfig
from fromnoise.train.loop.ema import Ema
from fromnoise.train.loop.optimizer import scale_rate
from fromnoise.train.recipe import Stage, read_recipe
from fromnoise.train.run import run_stage
from fromnoise.train.stages.assemble import unpack_model
from fromnoise.train.stages.card import format_measurements
from fromnoise.train.stages.clip import ClipTask, write_hard_captions
from fromnoise.train.stages.unet import UNetTask, build_schedule, place_timesteps, weigh_error
from fromnoise.train.stages.vae import crop_pictures


def run(recipe, *names: str):
    return [run_stage(recipe, name) for name in names]


def test_every_stage_in_order_gives_a_model_that_draws(begun, recipe_file, tmp_path):
    recipe = begun
    run(recipe, *(name for name in recipe.stages if not recipe.stage(name).done))
    model = load_parts(recipe.runs / "model")
    assert model.prediction == "v"
    assert model.defaults["sampler"] == "euler"
    assert model.vision is not None
    assert model.text_projection is not None
    assert np.array(model.defaults["latent_rgb"]).shape == (model.vae.config.latent_channels + 1, 3)
    card = (recipe.runs / "model" / "README.md").read_text()
    assert "32 × 32 pixels" in card
    assert f"| vae |  | {16} | {8} |" in card
    from fromnoise.api import load

    picture = load(recipe.runs / "model").generate("a neon cat in space", seed=1)
    assert picture.size == (32, 32)
    # and training can go on from it
    onward = read_recipe(recipe_file, "half", tmp_path / "onward")
    judge = Judge(JudgeConfig(recipe.open_source().schema, 32, 8, (8,), (0,)))
    judge.save(recipe.runs / "model" / "judge")
    values = {
        "batch": 2,
        "lr": 0.0,
        "pictures": 2,
        "check": 2,
        "network": {"stem": 8, "widths": [8], "blocks": [0]},
    }
    onward.stages["classifier"] = Stage("classifier", onward.runs / "classifier", values)
    seen = json.loads((recipe.runs / "unet" / "done.json").read_text())
    unpack_model(recipe.runs / "model", onward)
    start = load_file(onward.runs / "unet" / "start.safetensors")
    onward.stage("unet").values.update(lr=0)
    run(onward, "unet")
    after = load_file(onward.runs / "unet" / "unet.safetensors")
    assert all(torch.equal(v, after[k]) for k, v in start.items())
    assert (
        json.loads((onward.runs / "unet" / "done.json").read_text())["pictures_before"]
        == seen["pictures"]
    )
    assert onward.stage("classifier").done
    run(
        onward, "classifier"
    )  # goes on from the model's judge, here at no rate; its norms have seen two pictures more
    after = Judge.load(onward.runs / "classifier").state_dict()
    same = Judge.load(recipe.runs / "model" / "judge").state_dict()
    assert all(
        torch.equal(v, same[k])
        for k, v in after.items()
        if "running" not in k and "batches" not in k
    )
    run(onward, "assemble")  # whose card remembers how the parts that it took over were made
    old, new = (
        json.loads((r.runs / "model" / "training.json").read_text()) for r in (recipe, onward)
    )
    assert new["decoder"] == old["decoder"]
    assert new["vae"].items() >= old["vae"].items()
    assert new["unet"]["pictures_before"] == seen["pictures"]
    # the later decoder is the one that is shipped, on the encoder of the first
    first, later = (load_file(recipe.runs / s / "vae.safetensors") for s in ("vae", "decoder"))
    assert all(torch.equal(first[k], later[k]) for k in first if k.startswith("encoder."))
    assert not torch.equal(first["decoder.conv_out.weight"], later["decoder.conv_out.weight"])
    one, two = (load_file(recipe.runs / s / "clip.safetensors") for s in ("clip", "image_tower"))
    assert all(torch.equal(one[k], two[k]) for k in one if k.startswith("text.text_model."))
    assert not torch.equal(
        one["vision.visual_projection.weight"], two["vision.visual_projection.weight"]
    )


def test_two_processes_share_one_training(recipe_file, finished_runs, tmp_path):
    """On a machine without a GPU too: else each trains all by itself and they overwrite each
    other's files."""
    script = tmp_path / "work.py"
    script.write_text(
        "import sys\nfrom fromnoise.train.recipe import read_recipe\n"
        "from fromnoise.train.run import run_stage\n"
        "for stage in sys.argv[3:]: run_stage(read_recipe(sys.argv[1], runs=sys.argv[2]), stage)\n"
    )
    runs = str(tmp_path / "runs")
    read_by = read_recipe(recipe_file, runs=runs)
    shutil.copytree(finished_runs / "tokenizer", read_by.runs / "tokenizer")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(
        [*command, str(recipe_file), runs, "clip"], check=True, env=environment, timeout=300
    )
    done = json.loads((read_by.stage("clip").folder / "done.json").read_text())
    assert done["pictures"] == 32
    assert done["steps"] == 2  # of eight pictures in each of the two


def test_the_words_loss_names_every_word_but_begin_and_end(begun):
    """Its least value is the entropy of the caption's words, weighted by rarity: reached by a
    reader that names them all, and by no reader that leaves one out, says one more, or spends
    anything on begin and end."""
    task = ClipTask(begun.stage("clip"), begun)
    ids = task.ids(["a red cat on the left", "a neon dog in space"])
    told = torch.zeros(2, len(task.rarity)).scatter_(1, ids, 1.0) * task.rarity
    goal = told / told.sum(1, keepdim=True)
    task.pair.words = nn.Identity()  # an "embedding" is the reading itself
    least = torch.special.entr(goal).sum(1).mean().item()
    assert task.words_loss(goal.clamp(min=1e-12).log(), ids).item() == pytest.approx(
        least, abs=1e-4
    )
    assert goal[0, task.words.eos_id] == 0
    word = int(ids[0, 2])
    for change in (-2.0, 2.0):
        off = goal.clamp(min=1e-12).log()
        off[0, word] += change
        assert task.words_loss(off, ids).item() > least + 0.01
    other = goal.clamp(min=1e-12).log()
    other[0, task.words.eos_id] = 0.0
    assert task.words_loss(other, ids).item() > least + 0.1


def test_hard_captions_are_wrong_in_one_attribute(recipe):
    source, chance = recipe.open_source(), random.Random(0)
    kinds = set()
    for seed in range(200):
        told = source.sample(seed, draw=False)
        own, *others = write_hard_captions(source, told, 6, chance)
        assert own == source.write_caption(told.attributes)
        assert len({own, *others}) == 1 + len(others)
        wrong = {
            source.write_caption({**told.attributes, name: value}): name
            for name in told.attributes
            for value in source.schema[name]
        }
        kinds |= {wrong[text] for text in others}
    assert kinds >= {"object", "style", "colour", "background", "position", "count"}


def test_picking_is_sure_of_the_right_caption_and_of_the_wrong_one(begun):
    """With a text tower whose embedding is the caption's own axis, and pictures that lie on one:
    the loss is about 0 where that is their caption's, and the temperature's whole height where it
    is another one's of the set."""
    task = ClipTask(begun.stage("clip"), begun)
    batch, axes = next(task.batches(0, 4, 0, 1)), {}

    def embeds(ids):
        for row in ids.tolist():
            axes.setdefault(tuple(i for i in row if i != task.words.eos_id), len(axes))
        places = torch.tensor(
            [axes[tuple(i for i in row if i != task.words.eos_id)] for row in ids.tolist()]
        )
        return SimpleNamespace(embeds=F.one_hot(places, 64).float())

    task.pair = SimpleNamespace(text=embeds, logit_scale=task.pair.logit_scale)  # pyright: ignore
    own = [task.source.write_caption(sample.attributes) or "" for sample in batch.samples]
    image = embeds(task.ids(own)).embeds
    loss, picked = task.hard_loss(batch, image, 5, torch.Generator().manual_seed(0))
    assert picked == 1
    assert loss < 1e-4  # ln(1 + 5·e^−14.3), the temperature being 1/0.07
    loss, picked = task.hard_loss(batch, -image, 5, torch.Generator().manual_seed(0))
    assert picked == 0
    assert loss.item() == pytest.approx(
        math.log(5) + 1 / 0.07, abs=0.5
    )  # sets have five others, or one less


@pytest.mark.parametrize(
    "tower", [{"kind": "resnet", "stem": 4, "widths": [4, 8], "blocks": [1, 1]}, {"kind": "cnn"}]
)
def test_the_recipe_names_the_image_tower(recipe, tower):
    recipe.stage("clip").values["vision"] = tower
    run(recipe, "tokenizer")
    if tower["kind"] == "cnn":
        with pytest.raises(UnknownName, match="vit"):
            run(recipe, "clip")
        return
    run(recipe, "clip", "vae")  # whose perceptual loss reads the tower's states
    assert set(
        json.loads((recipe.stage("clip").folder / "done.json").read_text())["image_tells"]
    ) >= {"style", "count"}


def test_timesteps_lie_where_the_recipe_says_and_none_is_left_out():
    made = build_schedule({"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.02})
    even = (torch.arange(4000) + 0.5) / 4000
    assert torch.equal(place_timesteps(made, even, 0.0, 0.0, 1.0), (even * 1000).long())
    t = place_timesteps(made, even, 0.75, 0.5, 1.0)
    assert torch.equal(t[3000:], torch.arange(1000))  # a quarter is even: 1000 of 4000
    log = made.sigmas[t[:3000]].log()
    # 3000 quantiles of N(0.5, 1) in place of draws; a timestep is about 0.01 wide in ln sigma, and
    # what lies outside the table (beyond 3.7 standard deviations) is moved to its end
    assert log.mean().item() == pytest.approx(0.5, abs=0.01)
    assert log.std().item() == pytest.approx(1.0, abs=0.01)


def test_aligned_with_what_the_image_tower_sees_the_middle_learns_and_the_network_keeps_its_keys(
    begun,
):
    recipe, stage = begun, begun.stage("unet")
    stage.values.update(align=1.0, focus=[0.7, 0.5, 1.0])
    with pytest.raises(
        BadInput, match="align = 0"
    ):  # a patch of 16 pixels at 32: 2 × 2 places, the middle has 8 × 8
        run(recipe, "unet")
    recipe.stage("clip").values["vision"]["patch_size"] = 4
    for name in ("clip", "vae"):
        shutil.rmtree(recipe.stage(name).folder)
    run(recipe, "clip", "vae")
    stage.values.update(pictures=400, lr=1e-2, log_every=1)
    run(recipe, "unet")
    rows = [
        json.loads(line)["align"] for line in (stage.folder / "log.jsonl").read_text().splitlines()
    ]
    assert np.mean(rows[-10:]) < np.mean(rows[:10]) - 0.05
    assert not any("aligner" in key for key in load_file(stage.folder / "unet.safetensors"))


def test_errors_on_objects_weigh_more_until_the_rate_falls(begun):
    recipe, stage = begun, begun.stage("unet")
    stage.values.update(object_weight=4.0, decay=0.5, prediction="x0", weighting="uniform")
    task = UNetTask(stage, recipe)
    latents, ids, seen, masks = next(task.batches(0, 4, 0, 1))
    assert seen is None
    # the mask of the picture that the latent is of, averaged over the latent's places of 2 × 2
    # pixels
    first = recipe.open_source().sample(
        int(np.random.default_rng([recipe.seed, 0]).permutation(20)[0])
    )
    assert torch.equal(
        masks[0, 0], torch.from_numpy(first.mask).float().view(16, 2, 16, 2).mean((1, 3))
    )
    task.unet.forward = lambda x, t, context: torch.zeros_like(
        x
    )  # what is wrong is then the latents themselves

    def loss(progress, masks):
        return task.loss((latents, ids, seen, masks), progress, torch.Generator())[0].item()

    plain = latents.square().mean().item()
    for progress, extra in ((0.0, 4.0), (0.5, 4.0), (0.75, 2.0), (1.0, 0.0)):
        weights = 1 + extra * masks
        # fp32 sums of 4096 values
        assert loss(progress, masks) == pytest.approx(
            (weights * latents.square() / weights.mean()).mean().item(), 1e-5
        )
        assert loss(progress, torch.ones_like(masks)) == pytest.approx(
            plain, 1e-5
        )  # weights are relative
    assert loss(0.0, masks) != pytest.approx(plain, 1e-2)


def test_a_flow_network_is_told_how_far_its_pictures_are_noise(begun):
    recipe, stage = begun, begun.stage("unet")
    stage.values.update(prediction="flow", weighting="uniform", focus=(0.0, 0.0, 1.0))
    stage.values["schedule"] = {"kind": "flow", "shift": 3.0}
    task, told = UNetTask(stage, recipe), []

    def network(x, t, context):
        told.extend((x, t))
        return x

    task.unet.forward = network
    latents, ids, *_ = next(task.batches(0, 4, 0, 1))
    task.loss((torch.zeros_like(latents), ids, None, None), 0.0, torch.Generator())
    # x = s·noise where the latents are 0, and its RMS is s: within 4 standard errors of 1,024
    # values, 4 / √2048 = 9 %
    assert torch.allclose(told[0].square().mean((1, 2, 3)).sqrt(), told[1] / 1000, rtol=0.09)


STATES = ("clip", "image_tower", "vae", "decoder", "unet")


@pytest.mark.parametrize("stage", STATES)
def test_resume_is_exact(finished_runs, recipe_file, tmp_path, stage):
    """A run stopped half-way and taken up by a new process ends at the same bits. The rate's
    schedule depends on the stage's length, so it is made constant for the comparison."""
    halves = read_recipe(recipe_file, "half", tmp_path / "halves")
    wholes = read_recipe(recipe_file, "whole", tmp_path / "halves")
    straight = read_recipe(recipe_file, "whole", tmp_path / "straight")
    for plan in (halves, wholes, straight):
        values = {"decay": 0, "check": 16}
        if stage == "vae":  # with the critic, whose network and optimizer are resumed, too
            values |= {"crop_share": 0, "critic_from": 0}
        plan.stage(stage).values.update(values)
    for other in ("tokenizer", "clip", "vae"):
        for plan in (halves, straight):
            if other != stage:
                shutil.copytree(finished_runs / other, plan.runs / other)
    run(halves, stage)
    run(wholes, stage)
    run(straight, stage)
    a, b = (training_state.load(p.stage(stage).folder) for p in (wholes, straight))
    assert a
    assert b
    assert a[1]["step"] == b[1]["step"] >= 2
    trees = {"weights", "ema", "optimizer", "random", *(["extra critic"] * (stage == "vae"))}
    assert set(a[0]) == set(b[0]) == trees
    for tree in trees:
        assert_equal(a[0][tree], b[0][tree])


def assert_equal(a, b):
    """Nested dicts of tensors and numbers, equal to the bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    else:
        assert torch.equal(a, b) if torch.is_tensor(a) else a == b


def test_the_card_tells_what_was_measured():
    row = {
        "drawn": {"accuracy": 0.5, "error": 0.02},
        "real": {"accuracy": 1.0},
        "of_ceiling": {"ratio": 0.5, "error": 0.02},
    }
    report = {
        "facts": {"seed": "0"},
        "faithfulness": {"held_out": {"attributes": {"object": row | {"n": 600}}}},
        "reconstruction": {"n": 5, "whole": {"psnr": 28.5}},
        "retrieval": {"t": {"top1": 0.9, "error": 0.01, "n": 256}},
    }
    text = "\n".join(format_measurements(report))
    for said in (
        "| held-out | object | 0.500 ± 0.020 | 600 | 1.000 | 0.500 ± 0.020 |",
        "28.50 dB",
        "0.900 ± 0.010",
    ):
        assert said in text


def test_learning_rate_rises_stays_and_falls():
    rates = [scale_rate(s / 100, s, 10, 0.3) for s in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:70] == [1.0] * 61
    assert rates[85] == pytest.approx(0.5)
    assert rates[100] == 0


def test_ema_follows_and_warms_up():
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    ema = Ema(module, 0.9)
    module.weight.data.fill_(1.0)
    ema.update(module)
    assert ema.shadow["weight"].item() == pytest.approx(0.9)  # first update: d = 1/10
    for _ in range(300):
        ema.update(module)
    assert ema.shadow["weight"].item() == pytest.approx(1.0)
    module.weight.data.fill_(2.0)
    ema.update(module)
    assert ema.shadow["weight"].item() == pytest.approx(1.1)  # warm: d = 0.9


def test_crops_lie_on_the_grid_and_hold_the_object():
    images, masks = torch.zeros(200, 3, 64, 64), torch.zeros(200, 1, 64, 64)
    masks[:, :, 40:44, 50:54] = 1
    images[:, 0, 40:44, 50:54] = 1
    image = torch.arange(64.0)[None, :, None].expand(3, 64, 64)
    images[:, 1:] = image[1:]
    found = crop_pictures(images, masks, 16, 8, torch.Generator().manual_seed(0))
    assert found.shape == (200, 3, 16, 16)
    assert {int(y) % 8 for y in found[:, 1, 0, 0]} == {0}
    # 3 in 4 are centred on the object, and a few of the others meet it too: 0.75 + 0.25·(2·2/49 …)
    # ± 3 standard errors
    assert 0.66 < (found[:, 0].amax((1, 2)) == 1).float().mean() < 0.88


def test_latent_cache_resumes_and_shuffles(tmp_path):
    source = open_source("stickers", size=32)
    calls = []

    def encode(batch):
        calls.append(len(batch.images))
        return [batch.images[:, :, ::16, ::16], batch.masks[:, :, ::32, ::32]]

    def make(key="a"):
        return LatentCache(tmp_path, key, {"small": (3, 2, 2), "masks": (1, 1, 1)}, 4, 100)

    cache = make()
    with pytest.raises(ZeroDivisionError):  # a crash in the middle
        cache.fill(source, encode, lambda c: [len(c)] * 4, progress=lambda n: 1 // (n - 64))
    make().fill(source, encode, lambda c: [len(c)] * 4)
    full = make()
    assert full.filled == 100
    assert make("b").filled == 0  # another autoencoder: made anew
    make().fill(source, encode, lambda c: [len(c)] * 4)
    stream = make().batches(10, 0, 0)
    epoch = torch.cat([next(stream)[0] for _ in range(10)])
    assert len({tuple(x.flatten().tolist()) for x in epoch}) == 100  # every one once
    skipped = make().batches(10, 3, 0)
    assert torch.equal(next(skipped)[0], epoch[30:40])
    shares = [next(make().batches(5, 3, 0, rank, 2))[0] for rank in (0, 1)]
    assert torch.equal(torch.cat(shares), epoch[30:40])


def test_training_state_round_trip_and_damage(tmp_path):
    trees = {
        "weights": {"a.b": torch.randn(3)},
        "optimizer": {"0": {"step": torch.tensor(4.0), "n": 7}},
    }
    training_state.save(tmp_path, trees, {"step": 4})
    back, counters = training_state.load(tmp_path)
    assert torch.equal(back["weights"]["a.b"], trees["weights"]["a.b"])
    assert back["optimizer"]["0"]["n"] == 7
    assert counters == {"step": 4}
    path = tmp_path / training_state.FILE
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BadCheckpoint, match="--fresh"):
        training_state.load(tmp_path)


def test_weights_of_the_loss():
    snr = torch.tensor([0.0, 0.01, 1.0, 100.0])
    assert weigh_error("truncated", snr, "v", 5.0).tolist() == pytest.approx([1, 1, 1, 5 / 101])
    assert weigh_error("uniform", snr, "v", 5.0).tolist() == [1] * 4
    assert weigh_error("min_snr", snr, "v", 5.0)[1].item() == pytest.approx(0.01 / 1.01)
    with pytest.raises(UnknownName, match="truncated"):
        weigh_error("nope", snr, "v", 5.0)


def test_bad_recipes_say_the_remedy(recipe, recipe_file, tmp_path):
    with pytest.raises(NotFound, match="train it first"):
        run(recipe, "unet")
    with pytest.raises(UnknownName, match="whole"):
        read_recipe(recipe_file, "huge")
    with pytest.raises(NotFound, match=r"recipes/stickers\.toml"):
        read_recipe(tmp_path / "none.toml")
    for text, match in (("a = [", "TOML"), ("[vae]\nlr = 1", "data source")):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(BadInput, match=match):
            read_recipe(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_text('[source]\nname = "stickers"\n[vea]\nlr = 1')
    with pytest.raises(BadInput, match="did you mean 'vae'"):
        read_recipe(tmp_path / "bad.toml")
    with pytest.raises(UnknownName, match="scaled_linear"):
        build_schedule({"kind": "bent"})
    recipe.stage("tokenizer").values.pop("captions")
    with pytest.raises(BadInput, match="captions"):
        run(recipe, "tokenizer")


def test_finished_stages_are_skipped(recipe, recipe_file):
    from typer.testing import CliRunner

    from fromnoise.cli.main import app

    args = ["train", str(recipe_file), "--runs", str(recipe.runs), "--stage", "tokenizer"]
    assert "vocab_size" in CliRunner().invoke(app, args).output
    assert "finished, skipped" in CliRunner().invoke(app, args).output
    assert json.loads((recipe.runs / "tokenizer" / "done.json").read_text())["vocab_size"] <= 700
    assert np.isfinite(recipe.seed)
