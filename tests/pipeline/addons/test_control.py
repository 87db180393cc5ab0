"""ControlNets and T2I-Adapters in a run: diffusers' own pictures, and the exactness of the house
with each of them on."""

import logging

import control_nets as nets
import fakes
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from diffusers import T2IAdapter as TheirAdapter
from PIL import Image, ImageChops

from fromnoise.api import Engine, load
from fromnoise.checkpoints.formats import diffusers_folder_save as folders
from fromnoise.errors import BadInput, NotFound, UnknownName
from fromnoise.models.config import UNetConfig
from fromnoise.pipeline.addons import control as steering
from fromnoise.pipeline.request import GenerationRequest

LIKE = UNetConfig(4, 4, (16, 32), 1, (True, False), (2, 4), 16, (1,), 8, sample_size=8)


def noisy(seed: int = 0, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> Image.Image:
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, two ControlNets and an adapter for it, and pictures."""
    where = tmp_path_factory.mktemp("model")
    model = fakes.model(where / "w", "eps", vision=False, spacing="leading", sampler="ddim")
    folders.save(model, where / "m", torch.float32)
    for name, seed, more in (("one", 1, {}), ("two", 2, {}), ("pools", 3, {"global": True})):
        pools = {"global_pool_conditions": "global" in more}
        theirs = nets.make_their_controlnet(LIKE, seed, (4, 8, 8), **pools)
        theirs.save_pretrained(where / name)
    theirs = TheirAdapter(3, [16, 32], 1, 4, "full_adapter")
    nets.randomize(theirs, 4, 1.0)
    theirs.save_pretrained(where / "adapter")
    for seed in (0, 1):
        noisy(seed).save(where / f"{seed}.png")
    return where


@pytest.fixture(scope="module")
def engine(place):
    return load(place / "m")


def control(place, name="one", image=0, **more) -> dict:
    seen = {} if image is None else {"image": place / f"{image}.png"}
    return {"name": name, "file": place / name, **seen, **more}


def draw(engine, *controls, prompt="a neon cat", **settings):
    settings = {"cfg": 5, "steps": 6, "seed": 1} | settings
    return engine.generate(prompt, addons={"controls": controls}, **settings)


def last_latents(engine, *controls, **settings):
    steps = [*engine.steps("a neon cat", addons={"controls": controls}, **settings)]
    return steps[-1].x


def differ(a: Image.Image, b: Image.Image) -> bool:
    return ImageChops.difference(a, b).getbbox() is not None


CASES = {
    "one": ([{}], {}),
    "weight": ([{"weight": 0.6}], {"controlnet_conditioning_scale": 0.6}),
    "part": (
        [{"start": 0.2, "end": 0.7}],
        {"control_guidance_start": 0.2, "control_guidance_end": 0.7},
    ),
    "guess": (
        [{"mode": "guess", "weight": 0.8}],
        {"guess_mode": True, "controlnet_conditioning_scale": 0.8},
    ),
    "two": (
        [{"weight": 0.7}, {"name": "two", "image": 1, "weight": 1.2, "end": 0.5}],
        {"controlnet_conditioning_scale": [0.7, 1.2], "control_guidance_end": [1.0, 0.5]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_diffusers_draws_the_same(place, engine, case):
    """20 steps in fp32: rounding in another order of sums. Without the second network, or with the
    picture's values from −1 on, it is off by more than 0.01."""
    from diffusers import StableDiffusionControlNetPipeline

    logging.disable(logging.WARNING)
    ours, theirs = CASES[case]
    names = [one.get("name", "one") for one in ours]
    networks = [ControlNetModel.from_pretrained(place / name) for name in names]
    seen = [Image.open(place / f"{one.get('image', 0)}.png") for one in ours]
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        place / "m", controlnet=networks if len(ours) > 1 else networks[0]
    )
    pipeline.set_progress_bar_config(disable=True)
    settings = {"negative_prompt": "a dog", "cfg": 5, "steps": 20, "seed": 1}
    noise = []
    x = last_latents(engine, *(control(place, **{"name": "one"} | o) for o in ours), **settings)
    from fromnoise.pipeline.generate import prepare_noise

    request = GenerationRequest.of(prompt="", **settings).resolve(engine.model)
    noise = prepare_noise(engine.model, request, [1])[1].initial
    wanted = pipeline(
        "a neon cat",
        seen if len(ours) > 1 else seen[0],
        negative_prompt="a dog",
        guidance_scale=5,
        num_inference_steps=20,
        latents=noise.clone(),
        output_type="latent",
        height=32,
        width=32,
        **theirs,
    ).images
    plain = last_latents(engine, **settings)
    size = wanted.square().mean().sqrt()
    print(case, float((x - wanted).abs().max() / size))
    assert (plain - wanted).abs().max() / size > 0.01
    assert (x - wanted).abs().max() / size <= 1e-4


def test_diffusers_draws_the_same_with_an_adapter(place, engine):
    from diffusers import StableDiffusionAdapterPipeline

    logging.disable(logging.WARNING)
    pipeline = StableDiffusionAdapterPipeline.from_pretrained(
        place / "m", adapter=TheirAdapter.from_pretrained(place / "adapter")
    )
    pipeline.set_progress_bar_config(disable=True)
    settings = {"negative_prompt": "a dog", "cfg": 5, "steps": 20, "seed": 1}
    x = last_latents(engine, control(place, "adapter", weight=0.8), **settings)
    from fromnoise.pipeline.generate import prepare_noise

    request = GenerationRequest.of(prompt="", **settings).resolve(engine.model)
    wanted = pipeline(
        "a neon cat",
        Image.open(place / "0.png"),
        negative_prompt="a dog",
        guidance_scale=5,
        num_inference_steps=20,
        latents=prepare_noise(engine.model, request, [1])[1].initial.clone(),
        output_type="latent",
        height=32,
        width=32,
        adapter_conditioning_scale=0.8,
    ).images
    size = wanted.square().mean().sqrt()
    assert (last_latents(engine, **settings) - wanted).abs().max() / size > 0.01
    assert (x - wanted).abs().max() / size <= 1e-4


EACH = pytest.mark.parametrize(
    "more",
    [
        {"name": "adapter", "mode": "prompt"},
        {"mode": "control", "preprocess": "canny", "low": 50, "high": 90},
        {"mode": "guess", "start": 0.3, "end": 0.8},
    ],
    ids=str,
)


@EACH
def test_a_batch_is_its_pictures_alone(place, engine, more):
    one = control(place, **more)
    batch = draw(engine, one, count=3)
    singles = [draw(engine, one, seed=1 + i) for i in range(3)]
    assert [a.tobytes() for a in batch] == [b.tobytes() for b in singles]
    assert differ(batch[0], draw(engine))


def test_a_larger_batch_is_near(place, engine):
    other = Engine(engine.model, batch=2)
    one = control(place, mode="control")
    for a, b in zip(draw(engine, one, count=3), draw(other, one, count=3), strict=True):
        assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 2


def test_two_together_are_not_one(place, engine):
    a, b = control(place), control(place, "adapter", 1)
    both = draw(engine, a, b)
    assert differ(both, draw(engine, a))
    assert differ(both, draw(engine, b))
    assert not differ(both, draw(engine, a, b))


def test_a_run_without_controls_is_as_before(place, engine):
    before = draw(engine)
    draw(engine, control(place))
    assert not differ(before, draw(engine))
    assert not differ(before, engine.generate("a neon cat", cfg=5, steps=6, seed=1))
    assert not differ(before, draw(engine, control(place, weight=0)))
    assert not differ(before, draw(engine, control(place, start=0.5, end=0.5)))


@EACH
def test_a_trace_changes_nothing(place, engine, more):
    one = control(place, **more)
    settings = {"cfg": 5, "steps": 6, "seed": 1, "addons": {"controls": [one]}}
    picture, _ = engine.trace("a neon cat", **settings)
    assert not differ(picture, draw(engine, one))


@EACH
def test_seamless_pictures_shift_with_what_they_see(place, engine, more):
    """A seamless network commutes with shifts: so do its latents where noise and picture shift."""
    x = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(3))
    seen = noisy(0)
    shifted = ImageChops.offset(seen, 16, 0)
    found = []
    for picture, start in ((seen, x), (shifted, x.roll(4, -1))):
        one = control(place, image=None, **more) | {"picture": picture}
        if "preprocess" in more:
            return  # Canny's border repeats
        steps = engine.steps(
            "a neon cat",
            latents=start,
            tiling="both",
            cfg=5,
            steps=4,
            seed=1,
            addons={"controls": [one]},
        )
        found.append([*steps][-1].x)
    size = found[0].square().mean().sqrt()
    assert (found[0].roll(4, -1) - found[1]).abs().max() / size < 1e-4


@EACH
def test_an_edit_keeps_what_lies_outside_of_its_mask(place, engine, more):
    image, mask = noisy(5), Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 24, 24))
    settings = {"cfg": 5, "steps": 6, "seed": 1, "mask_blur": 0}
    drawn = engine.edit(
        image, "a neon cat", mask, addons={"controls": [control(place, **more)]}, **settings
    )
    outside = np.asarray(mask) == 0
    assert (np.asarray(drawn)[outside] == np.asarray(image)[outside]).all()
    assert differ(drawn, engine.edit(image, "a neon cat", mask, **settings))


def test_an_edits_control_sees_the_picture_and_the_hole(place, engine, monkeypatch):
    seen = []
    make = steering.make_picture
    monkeypatch.setattr(steering, "make_picture", lambda *a: seen.append(make(*a)) or seen[-1])
    image, mask = noisy(5), Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 24, 24))
    holed = control(place, image=None, preprocess="inpaint")
    engine.edit(image, "a neon cat", mask, steps=3, addons={"controls": [holed]})
    wanted = torch.from_numpy(np.asarray(image).transpose(2, 0, 1)[None].astype(np.float32)) / 255
    hole = torch.from_numpy(np.asarray(mask) > 0)
    assert (seen[0][:, :, hole] == -1).all()
    assert torch.equal(seen[0][:, :, ~hole], wanted[:, :, ~hole])
    # of a picture of its own a control sees the part that is drawn
    large, own = noisy(6, (64, 64)), noisy(7, (64, 64))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (40, 40, 50, 50))
    one = control(place, image=None) | {"picture": own}
    engine.edit(
        large, "a neon cat", mask, steps=3, only_masked=True, padding=0, addons={"controls": [one]}
    )
    assert seen[1].shape == (1, 3, 32, 32)
    cut = own.crop((40, 40, 50, 50)).resize((32, 32), Image.Resampling.LANCZOS)
    wanted = torch.from_numpy(np.asarray(cut).transpose(2, 0, 1)[None].astype(np.float32)) / 255
    assert torch.equal(seen[1], wanted)


def test_two_passes_see_the_picture_at_their_own_size(place, engine, monkeypatch):
    sizes = []
    make = steering.make_picture
    monkeypatch.setattr(steering, "make_picture", lambda *a: sizes.append(a[1]) or make(*a))
    settings = {"cfg": 5, "steps": 4, "seed": 1, "hires_scale": 2.0}
    one = control(place)
    drawn = engine.hires("a neon cat", addons={"controls": [one]}, **settings)
    assert drawn.size == (64, 64)
    assert {*sizes} == {(32, 32), (64, 64)}
    assert differ(drawn, engine.hires("a neon cat", **settings))
    again = engine.hires("a neon cat", addons={"controls": [one]}, **settings)
    assert not differ(drawn, again)


def test_films_and_parts_of_and_take_controls(place, engine):
    addons = {"controls": [control(place, mode="control")]}
    settings = {"frames": 3, "steps": 3, "addons": addons, "key_seeds": (1, 2)}
    frames = engine.film(["a neon cat", "a dog"], **settings)
    alone = engine.film(["a neon cat", "a dog"], **settings)
    assert [f.tobytes() for f in frames] == [f.tobytes() for f in alone]
    plain = engine.film(["a neon cat", "a dog"], **settings | {"addons": None})
    assert all(map(differ, frames, plain))
    both = draw(engine, control(place), prompt="a neon cat AND a dog :0.5")
    assert differ(both, draw(engine, prompt="a neon cat AND a dog :0.5"))


def test_the_modes_act_on_their_sides(place, engine):
    """With cfg 1 there is no negative side: control and prompt are then the same."""
    a, b = (draw(engine, control(place, mode=mode), cfg=1) for mode in ("control", "prompt"))
    assert not differ(a, b)
    a, b = (draw(engine, control(place, mode=mode)) for mode in ("control", "prompt"))
    assert differ(a, b)
    # a network that pools acts on the prompt's side alone, as in A1111
    assert differ(draw(engine, control(place, "pools")), draw(engine))


def test_a_controls_faults_are_told(place, engine, tmp_path):
    with pytest.raises(BadInput, match="needs a picture"):
        draw(engine, control(place, image=None))
    with pytest.raises(UnknownName, match="preprocessor 'cany'"):
        draw(engine, control(place, preprocess="cany"))
    with pytest.raises(BadInput, match="no number A"):
        draw(engine, control(place, low=3))
    with pytest.raises(BadInput, match="thresholds"):
        draw(engine, control(place, preprocess="canny", low=300))
    with pytest.raises(BadInput, match="guess mode"):
        draw(engine, control(place, "adapter", mode="guess"))
    with pytest.raises(NotFound):
        draw(engine, control(place) | {"file": tmp_path / "none"})
    with pytest.raises(BadInput, match=r"the picture for one: .*flat"):
        draw(
            engine,
            control(place, image=None, preprocess="depth")
            | {"picture": Image.new("L", (32, 32), 7)},
        )
    with pytest.raises(BadInput, match=r"controls\.0\.picture"):
        draw(engine, control(place, image=None) | {"picture": "/etc/passwd"})
    notes = [
        step.notes
        for step in engine.steps(
            "a", steps=2, addons={"controls": [control(place, weight=0, name="one")]}
        )
    ][-1]
    assert any("does nothing" in note for note in notes)


def test_a_network_of_another_model_is_refused(place, engine, tmp_path):
    _, theirs = nets.make_controlnets("sd1")
    theirs.save_pretrained(tmp_path / "sd1")
    with pytest.raises(BadInput, match="made for a model that differs in"):
        draw(engine, control(place) | {"file": tmp_path / "sd1"})


def test_controls_are_found_by_name(place, engine, tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file

    (tmp_path / "controlnet").mkdir()
    tensors = load_file(place / "one" / "diffusion_pytorch_model.safetensors")
    save_file(tensors, tmp_path / "controlnet" / "edges.safetensors")
    monkeypatch.setenv("FROMNOISE_MODELS", str(tmp_path))
    named = {"name": "edges", "image": place / "0.png"}
    assert not differ(draw(engine, named), draw(engine, control(place)))
    with pytest.raises(NotFound, match="edges"):
        draw(engine, named | {"name": "edgy"})
