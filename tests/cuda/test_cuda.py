"""The bundled model on a CUDA device: the numbers, the pictures and the training that the CPU's
tests prove there.

python3 -m pytest tests/cuda, under two minutes on one GPU. Where there is none, all of it is
skipped."""

import json
import math
import sys
import traceback
from functools import partial
from itertools import islice
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from fromnoise import load
from fromnoise.api import Engine
from fromnoise.checkpoints.hub import BUNDLED, load_parts
from fromnoise.cli import main as command
from fromnoise.data.latents import LatentCache
from fromnoise.data.sources import open_source
from fromnoise.diffusion import philox
from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.errors import NotFound
from fromnoise.evaluate.judge import Judge
from fromnoise.models.rrdb import Compact
from fromnoise.pipeline.enlarging.hires import hires
from fromnoise.pipeline.enlarging.request import HiresRequest
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.saving import save_picture
from fromnoise.runtime.upscaler import Upscaler
from fromnoise.train.recipe import Recipe, read_recipe
from fromnoise.train.run import run_stage

DEVICE = "cuda"
PROMPT = "a red rocket in the desert"
RECIPE = Path(__file__).parents[2] / "recipes" / "stickers.toml"
STAGES = ("tokenizer", "clip", "image_tower", "vae", "decoder", "unet", "classifier", "assemble")
pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no CUDA device"
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load(device=DEVICE)


@pytest.fixture(scope="module")
def on_cpu() -> Engine:
    return load()


@pytest.fixture(scope="module")
def font() -> None:
    try:
        open_source("stickers").sample(0)
    except NotFound as error:
        pytest.skip(str(error))


def every(found) -> list[Image.Image]:
    return found if isinstance(found, list) else [found]


def one(found) -> Image.Image:
    return every(found)[0]


def apart(a, b) -> np.ndarray:
    """|difference| of pictures, or lists of them, in levels of 255."""
    a, b = (np.stack([np.asarray(p, np.int16) for p in every(x)]) for x in (a, b))
    return np.abs(a - b)


def drawn(picture: Image.Image) -> bool:
    """Neither flat nor noise: neighbours are alike, the whole is not."""
    pixels = np.asarray(picture, np.float64)
    return bool(pixels.std() > 10 and np.abs(np.diff(pixels, axis=1)).mean() < pixels.std())


def cli(monkeypatch, capsys, *args) -> str:
    """What the command line prints, run in this process."""
    monkeypatch.setattr(sys, "argv", ["fromnoise", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        command.main()
    out, said = capsys.readouterr()
    assert not end.value.code, out + said
    return out


# ----------------------------------------------------------------------
# numbers


@pytest.mark.parametrize("shape", [(4, 64, 64), (16, 16, 16), (1, 4, 128, 96)])
@pytest.mark.parametrize("seed", [0, 1, 2**40 + 7])
def test_philox_gives_the_numbers_of_this_gpu(seed, shape):
    """A GPU's fast sine and float32 phase are off by about 1e-6 of a radius up to 6.7: 1e-5. Where
    u lies within some 2⁻²⁴ of 1, its rounding moves the radius √(−2 ln u) by up to √2⁻²³ = 3.5e-4:
    few numbers, small ones themselves. Numbers of another counter or key differ by 1."""
    torch.manual_seed(seed)
    for call in range(3):
        off = (torch.randn(shape, device=DEVICE).cpu() - philox.randn(seed, call, shape)).abs()
        assert off.max() < 5e-4, call
        assert (off < 1e-5).float().mean() > 0.999, call


def test_noise_of_nv_is_what_torch_draws_on_this_gpu(engine):
    """The first noise and those in the steps; the picture from the GPU's own numbers is that of
    rng="nv": noise that differs by 1e-6 moves a picture by less than a rounding to 8 bits, so by
    one level in a few places."""
    shape = (16, 16, 16)
    noise = Noise([7], shape, rng="nv")
    torch.manual_seed(7)
    first, second = (torch.randn(shape, device=DEVICE).cpu() for _ in range(2))
    assert (noise.initial[0] - first).abs().max() < 5e-4
    assert (noise(1.0, 0.5)[0] - second).abs().max() < 5e-4
    settings = {"steps": 8, "sampler": "euler", "seed": 7}
    off = apart(
        engine.generate(PROMPT, latents=first, **settings),
        engine.generate(PROMPT, rng="nv", **settings),
    )
    assert (off > 2).mean() < 1e-3


def test_fp32_is_fp32(engine):
    """TF32 keeps 10 bits, so that a sum of 288 unit products is off by about √288 · 2⁻¹¹ · 0.4 =
    3e-3; fp32's order of sums by 1e-5 or so (Winograd's included)."""
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(s, generator=generator) for s in ((2, 32, 16, 16), (32, 32, 3, 3)))
    exact = torch.conv2d(x.double(), w.double())
    assert (
        torch.conv2d(x.to(engine.unet.device), w.to(engine.unet.device)).cpu() - exact
    ).abs().max() < 5e-4


# ----------------------------------------------------------------------
# pictures


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_batch_is_its_single_pictures_bit_for_bit(engine, sampler):
    settings = {"steps": 8, "sampler": sampler}
    *_, batch = engine.steps(PROMPT, seed=5, count=3, **settings)
    assert torch.isfinite(batch.x).all()
    for i in range(3):
        *_, alone = engine.steps(PROMPT, seed=5 + i, **settings)
        assert torch.equal(batch.x[i : i + 1], alone.x), i


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_picture_is_the_cpus(engine, on_cpu, sampler):
    """Sums come in another order, about 1e-6 of a call's answer; a run multiplies that up to a
    level or two at edges (runtime.prepare). Who chooses steps by an error's size may choose others,
    and draws nearly the same by another way. Another noise, or TF32, would change most pixels or
    one in ten."""
    settings = {"seed": 5, "steps": 8, "sampler": sampler}
    off = apart(engine.generate(PROMPT, **settings), on_cpu.generate(PROMPT, **settings))
    print(sampler, "at most", off.max(), "levels, above 2:", (off > 2).mean())
    assert (off > 2).mean() < (0.05 if SAMPLERS[sampler].evaluations is None else 0.005), off.max()


@pytest.mark.parametrize(("dtype", "levels"), [("fp16", 0.2), ("bf16", 2)])
def test_half_precision_draws_nearly_the_same(engine, dtype, levels):
    """The mean of four pictures: on a CPU 0.025 levels in fp16 (11 bits) and 0.30 in bf16 (8 bits),
    and seven times as much is allowed; pictures of unlike seeds are some 60 apart."""
    half = every(load(device=DEVICE, dtype=dtype).generate(PROMPT, seed=5, count=4))
    off = apart(half, engine.generate(PROMPT, seed=5, count=4)).mean()
    print(dtype, "mean", off)
    assert all(map(drawn, half))
    assert 0 < off < levels


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_pictures_at_once(engine, dtype):
    """fp32: what runtime.prepare says, but for a few pixels: more pictures may be computed by
    another algorithm."""
    settings = {"seed": 5, "count": 8, "sampler": "dpmpp_2m"}
    fast = load(device=DEVICE, dtype=dtype, batch=8).generate(PROMPT, **settings)
    off = apart(fast, engine.generate(PROMPT, **settings))
    print(dtype, "at most", off.max(), "mean", off.mean())
    assert (off > 2).mean() < 1e-3 if dtype == "fp32" else off.mean() < 2


@pytest.mark.parametrize(
    ("prompt", "settings"),
    [
        ("a red cat MASK(0 0.5) AND a blue dog MASK(0.5 1)", {}),
        (
            "a (red:1.3) cat [in space:in the desert:0.5]",
            {"negative_prompt": "a (dog:0.7)", "clip_skip": 2},
        ),
        ("a (red:1.3) cat in space", {"dialect": "comfy"}),
        ('("a red cat", "a blue dog").blend(0.6, 0.4)', {"dialect": "compel"}),
        ("a red cat in (space)0.5", {"dialect": "compel", "negative_prompt": "blurry--"}),
        (PROMPT, {"tiling": "both"}),
        (PROMPT, {"width": 192, "height": 96}),
        (PROMPT, {"cfg_rescale": 0.7, "apg": True}),
        (PROMPT, {"variation_seed": 9, "variation_strength": 0.3}),
        (PROMPT, {"preset": "fast"}),
    ],
)
def test_prompts_and_settings(engine, on_cpu, prompt, settings):
    asked = {"seed": 3, "steps": 6, "count": 2, **settings}
    off = apart(engine.generate(prompt, **asked), on_cpu.generate(prompt, **asked))
    assert (off > 2).mean() < 0.005, off.max()


def test_a_guide():
    guided = load(device=DEVICE, guide=BUNDLED)  # by itself: no guidance at all
    off = apart(
        guided.generate(PROMPT, seed=3, steps=4), guided.generate(PROMPT, seed=3, steps=4, cfg=1)
    )
    assert (off > 2).mean() < 0.005


@pytest.mark.parametrize("kind", [{"in_channels": 9}, {"guidance_dim": 8}, {"prediction": "eps"}])
def test_other_models(tmp_path, kind):
    """For inpainting, distilled, and of another prediction: a tiny random model draws what it draws
    on the CPU."""
    alone, there = (
        Engine(fakes.model(tmp_path / str(i), **kind), device)
        for i, device in enumerate(("cpu", DEVICE))
    )
    asked = {"seed": 3, "steps": 3, "cfg": 2, "sampler": "euler"}
    assert (
        apart(alone.generate("a cat", **asked), there.generate("a cat", **asked)) > 2
    ).mean() < 0.005
    picture, mask = Image.new("RGB", (32, 32), "red"), Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 20, 20))
    assert one(there.edit(picture, "a cat", mask, **asked)).getpixel((0, 0)) == (255, 0, 0)


def test_a_trace_changes_no_bit(engine):
    picture, trace = engine.trace("a neon cat in space", seed=1, steps=4)
    assert not apart(picture, engine.generate("a neon cat in space", seed=1, steps=4)).any()
    assert trace.map("cat").shape == (16, 16)
    assert trace.map("cat").device.type == "cpu"


# ------------------------------------------------------------------------------ what starts from a
# picture


def test_replays_are_identical(engine, tmp_path):
    for name, settings in (
        ("plain", {}),
        ("sde", {"sampler": "dpmpp_2m_sde"}),
        ("nv", {"rng": "nv", "tiling": "x"}),
    ):
        picture = one(engine.generate(PROMPT, seed=4, steps=6, **settings))
        path = save_picture(picture, tmp_path / f"{name}.png")
        found = replay(path, engine.model, engine.unet)
        assert found.verdict == "identical", (name, found.difference, found.reasons)
        assert not found.reasons


def test_an_edit_leaves_the_bytes_outside_its_mask(engine, tmp_path):
    before = one(engine.generate(PROMPT, seed=4, steps=6))
    mask = Image.new("L", before.size)
    ImageDraw.Draw(mask).ellipse((40, 40, 90, 90), 255)
    after = one(engine.edit(before, "a blue cat", mask, seed=1, steps=6))
    off = apart(before, after)[0]
    outside = np.asarray(mask) == 0
    assert not off[outside].any()
    assert off[~outside].mean() > 5
    source, painted = (
        save_picture(p, tmp_path / f"{n}.png") for n, p in (("a", before), ("m", mask))
    )
    found = replay(
        save_picture(after, tmp_path / "b.png"), engine.model, engine.unet, source, painted
    )
    assert found.verdict == "identical", found.reasons
    assert (
        one(engine.edit(before, PROMPT, extend_left=32, seed=1, steps=4)).width == before.width + 32
    )


def test_two_passes(engine, on_cpu):
    asked = {"seed": 3, "steps": 6, "hires_scale": 1.5, "hires_steps": 4}
    large = one(engine.hires(PROMPT, **asked))
    assert large.size == (192, 192)
    assert (apart(large, on_cpu.hires(PROMPT, **asked)) > 2).mean() < 0.005
    assert drawn(one(engine.hires(PROMPT, hires_upscaler="latent", **asked)))
    torch.manual_seed(0)
    network = Upscaler(Compact(8, 1, 2), "x.safetensors")
    for _ in range(2):  # moved within the first run; the second finds it there
        request = HiresRequest.of(prompt=PROMPT, hires_upscaler="x.safetensors", **asked)
        assert hires(engine.model, engine.unet, request, network)[0].size == (192, 192)


def test_an_upscaling_network():
    torch.manual_seed(0)
    network, image = Compact(8, 1, 2), torch.rand(3, 40, 56)
    alone = Upscaler(network, "x")(image)
    there = Upscaler(network.to(DEVICE), "x")(image, tile=16, overlap=8)
    assert there.device.type == "cpu"
    assert (there - alone).abs().max() < 1e-4  # fp32 sums in another order


def test_what_clip_sees(engine, on_cpu):
    picture = one(on_cpu.generate(PROMPT, seed=4))
    mine, theirs = (e.describe(picture, "stickers", 3) for e in (engine, on_cpu))
    assert mine[0].caption == theirs[0].caption
    assert mine[0].cosine == pytest.approx(theirs[0].cosine, abs=1e-4)
    assert engine.similarity(picture, PROMPT) == pytest.approx(
        on_cpu.similarity(picture, PROMPT), abs=1e-4
    )


def test_a_blend(engine):
    a, b = (one(engine.generate(text, seed=4, steps=8)) for text in (PROMPT, "a blue cat in space"))
    assert drawn(one(engine.blend(a, b, seed=1, steps=6)))
    pulled, again = (
        one(engine.blend(a, b, PROMPT, clip_scale=5, seed=1, steps=6)) for _ in range(2)
    )
    assert not apart(pulled, again).any()
    assert apart(pulled, one(engine.blend(a, b, PROMPT, seed=1, steps=6))).any()


def test_a_film(engine):
    frames = engine.film(["a red cat", "a blue dog"], frames=3, seed=1, steps=4)
    assert len(frames) == 3
    assert all(map(drawn, frames))


# ------------------------------------------------------------------------------------------ the
# command line


def test_commands(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    run = partial(cli, monkeypatch, capsys)
    common = ("--device", DEVICE, "--seed", "1", "--steps", "4")
    told = json.loads(
        run(
            "generate", PROMPT, *common, "--count", "2", "--batch", "2", "--dtype", "bf16", "--json"
        )
    )
    assert told["plan"] == f"batch2-{DEVICE}-bf16"
    run("generate", PROMPT, *common, "--out", "a.png")
    assert run("replay", "a.png").strip() == "identical"
    run("edit", "a.png", "a blue cat", *common, "--out", "b.png")
    assert run("replay", "b.png", "--image", "a.png").strip() == "identical"
    run("blend", "a.png", "b.png", "--prompt", "a cat", *common, "--out", "c.png")
    run("hires", PROMPT, *common, "--out", "d.png")
    run("grid", PROMPT, "--x", "cfg=1,4", *common, "--out", "e.png")
    run("film", "a cat", "a dog", "--frames", "2", *common, "--out", "frames")
    assert all((tmp_path / f"{name}.png").is_file() for name in "abcde")


def test_the_evaluation(monkeypatch, capsys, tmp_path, font):
    from fromnoise.evaluate import reconstruction, retrieval

    monkeypatch.setattr(retrieval, "SET", 16)
    monkeypatch.setattr(reconstruction, "evaluate", partial(reconstruction.evaluate, n=8))
    args = ("--n", 8, "--batch", 8, "--device", DEVICE, "--out", tmp_path, "--json")
    told = cli(monkeypatch, capsys, "evaluate", *args)
    assert "report" in json.loads(told)


# ----------------------------------------------------------------------
# training


@pytest.fixture(scope="module")
def trained(tmp_path_factory, font) -> tuple[Recipe, dict[str, str]]:
    """The bundled model's own networks and settings, two batches a stage: (recipe, what went wrong
    by stage)."""
    from fromnoise.data.loader import load_batches
    from fromnoise.train.stages import clip, vae

    recipe = read_recipe(RECIPE, "minutes", tmp_path_factory.mktemp("runs"))
    for stage in recipe.stages.values():
        stage.values.update(log_every=2)
        if "pictures" in stage.values:
            stage.values.update(pictures=2 * stage["batch"])
    recipe.stage("tokenizer").values.update(captions=1000)
    recipe.stage("unet").values.update(cached=64)
    recipe.stage("classifier").values.update(check=32)
    wrong: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "MEASURED", 256)
        patch.setattr(vae, "batches", lambda *args, **more: islice(load_batches(*args, **more), 4))
        for name in recipe.stages:
            try:
                run_stage(recipe, name)
            except Exception:  # whatever it is, the other stages are looked at too
                wrong[name] = traceback.format_exc()
    return recipe, wrong


def test_rows_held_on_the_gpu_are_those_of_the_disk(tmp_path, font):
    source = open_source("stickers", size=32)
    cache = LatentCache(tmp_path, "a", {"small": (3, 4, 4), "masks": (1, 2, 2)}, 2, 100)
    cache.fill(
        source,
        lambda b: (b.images[:, :, ::8, ::8], b.masks[:, :, ::16, ::16]),
        lambda c: [len(c), 7],
    )
    streams = (cache.batches(30, 0, 0, device=device) for device in ("cpu", DEVICE))
    for mine, there in islice(zip(*streams, strict=True), 5):  # over the end of the first epoch
        assert [a.device.type for a in there] == [DEVICE] * 3
        assert all(torch.equal(a, b.cpu()) for a, b in zip(mine, there, strict=True))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_trains(trained, name):
    recipe, wrong = trained
    assert name not in wrong, wrong[name]
    log = recipe.stage(name).folder / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    assert len(rows) == (name not in ("tokenizer", "assemble"))
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_stages_of_two_precisions_in_one_process(tmp_path, font):
    """As `fromnoise train` runs them: bf16 after fp32."""
    for precision in ("no", "bf16"):
        recipe = read_recipe(RECIPE, "minutes", tmp_path / precision)
        recipe.stage("classifier").values.update(pictures=4, batch=4, check=4, precision=precision)
        run_stage(recipe, "classifier")


def test_a_stage_goes_on(trained):
    """From the state on disk, which lies on the CPU: weights, average and moments follow to the
    device."""
    recipe, wrong = trained
    assert "decoder" not in wrong, wrong["decoder"]
    stage = recipe.stage("decoder")  # its optimizer is Muon
    stage.values.update(pictures=3 * stage["batch"], first=0)
    with pytest.MonkeyPatch.context() as patch:
        from fromnoise.data.loader import load_batches
        from fromnoise.train.stages import vae

        patch.setattr(vae, "batches", lambda *args, **more: islice(load_batches(*args, **more), 4))
        assert run_stage(recipe, "decoder")["steps"] == 3


def test_what_was_trained_loads_and_draws(trained):
    recipe, _ = trained
    folder = recipe.runs / "model"
    made, apart = (
        load_parts(folder),
        load_file(recipe.stage("image_tower").folder / "clip.safetensors"),
    )
    for name, weights in made.vision.state_dict().items():
        assert torch.equal(weights, apart[f"vision.{name}"].half().float()), name
    assert Judge.load(folder / "judge").config.schema == recipe.open_source().schema
    assert one(load(folder, DEVICE).generate(PROMPT, seed=1, steps=2)).size == (128, 128)
