"""Films: every frame could be drawn alone, key frames are the pictures of their prompts, and
between them is a way."""

import json

import fakes
import pytest
import torch
from PIL import Image

from fromnoise.api import Engine
from fromnoise.errors import BadInput, FromnoiseError
from fromnoise.pipeline.conditioning.interpolation import InterpolatedPrompt
from fromnoise.pipeline.generate import build_denoiser, run_sampler, start_sampler
from fromnoise.pipeline.provenance import infotext
from fromnoise.pipeline.provenance.read import read_settings
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.saving import save_picture
from fromnoise.pipeline.sequences import film
from fromnoise.pipeline.sequences.request import FilmRequest

LONG = "a neon cat, " * 6  # of several blocks


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(fakes.model(tmp_path_factory.mktemp("words"), steps=3, cfg=3.0))


def asked(engine, *prompts, **settings):
    return FilmRequest.of(prompts=prompts, **{"seed": 3, "frames": 5} | settings).resolve(
        engine.model
    )


def latents(engine, prompt, seeds=(3,), mix=None, **settings):
    """The end of a run of a prompt that may be between two."""
    request = GenerationRequest.of(seed=3, **settings).resolve(engine.model)
    sigmas, sampling = start_sampler(engine.model, request, list(seeds), mix=mix)
    answer, notes = build_denoiser(engine.model, engine.unet, request, [prompt], None)
    *_, last = run_sampler(engine.model, request, sigmas, sampling, answer, notes)
    return last.x


def test_where_frames_are(engine):
    straight = asked(engine, "a", "b", "c", frames=7)
    ways = [film.locate_frame(straight, i) for i in range(7)]
    assert [(w.start, round(w.share, 9)) for w in ways] == [
        (0, 0),
        (0, 0.333333333),
        (0, 0.666666667),
        (1, 0),
        (1, 0.333333333),
        (1, 0.666666667),
        (2, 0),
    ]
    loop = asked(engine, "a", "b", "c", frames=9, loop=True)
    assert [(w.start, w.end) for w in (film.locate_frame(loop, i) for i in (0, 3, 6, 8))] == [
        (0, 1),
        (1, 2),
        (2, 0),
        (2, 0),
    ]
    assert all(film.locate_frame(loop, i).share == 0 for i in (0, 3, 6))
    for easing, ease in film.EASINGS.items():
        assert (ease(0.0), ease(1.0)) == (0, 1)
        values = [ease(t / 20) for t in range(21)]
        assert values == sorted(values), easing
    assert film.EASINGS["smooth"](0.1) < 0.1 < film.EASINGS["out"](0.1)


@pytest.mark.parametrize(
    ("prompts", "settings"),
    [
        (("a cat", "a dog"), {"key_seeds": (3, 8)}),
        (("a (cat:1.3)", LONG, "a [cat:dog:0.5]"), {"sampler": "euler_a"}),
        (("a cat AND a dog :0.5", "a fish", "a"), {"loop": True, "blend": "slerp"}),
        (("a cat MASK(0 0.5) AND a dog MASK(0.5 1)", "a fish MASK(0 0.5)"), {"easing": "smooth"}),
        (("a",), {"key_seeds": "1,2", "sampler": "dpmpp_sde"}),
        (("a cat++", '("a", "b").blend(1, 2)'), {"dialect": "compel"}),
    ],
)
def test_frames_alone_and_key_frames(engine, tmp_path, prompts, settings):
    """In the exact plan to the bit: the film's, the frame's alone, a key frame's of its prompt
    alone, a replay's."""
    request = asked(engine, *prompts, **settings)
    whole = engine.film(prompts, **{"seed": 3, "frames": 5} | settings)
    assert len({picture.tobytes() for picture in whole}) == 5
    for i in (3, 0, 4):
        alone = film.draw_frame(engine.model, engine.unet, request, i)
        assert alone.tobytes() == whole[i].tobytes()
        assert alone.info == whole[i].info
    for i, picture in enumerate(whole):
        at = film.locate_frame(request, i)
        if at.share == 0:
            own = {k: v for k, v in settings.items() if k in ("sampler", "dialect")}
            key = engine.generate(
                request.prompts[at.start], seed=request.key_seeds[at.start], **own
            )
            assert picture.tobytes() == key.tobytes()
        save_picture(picture, tmp_path / "a.png")
        found = replay(tmp_path / "a.png", engine.model, engine.unet)
        assert (found.verdict, "Film" in found.unused) == ("identical", False)
        said = json.loads(read_settings(tmp_path / "a.png").fields["Film"])
        assert (said["frame"], said["frames"], said["prompts"]) == (i, 5, list(request.prompts))


@pytest.mark.parametrize("blend", ["linear", "slerp"])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("a cat", LONG),
        ("a cat AND a dog :0.5", "a fish"),
        ("a cat MASK(0 0.5) AND a dog MASK(0.5 1)", "a fish"),
    ],
)
def test_the_way_begins_and_ends_at_its_prompts(engine, a, b, blend):
    """Within 1e-3 of unit latents at 1e-6 from an end: the network is smooth, fp32 sums come in
    other orders."""
    for share, end in ((1e-6, a), (1 - 1e-6, b)):
        near = latents(engine, InterpolatedPrompt(a, b, share, blend))
        assert (near - latents(engine, end)).abs().max() < 1e-3
    middle = latents(engine, InterpolatedPrompt(a, b, 0.5, blend))
    assert min((middle - latents(engine, end)).abs().max() for end in (a, b)) > 1e-2


def test_a_linear_way_is_a_blend(engine):
    """compel's own .blend says the same of the encoder's states."""
    way = latents(engine, InterpolatedPrompt("a cat", "a dog", 0.25), dialect="compel")
    assert torch.allclose(
        way, latents(engine, '("a cat", "a dog").blend(0.75, 0.25)', dialect="compel"), atol=1e-5
    )
    assert (
        way - latents(engine, InterpolatedPrompt("a cat", "a dog", 0.5), dialect="compel")
    ).abs().max() > 1e-2
    assert (
        way - latents(engine, InterpolatedPrompt("a cat", "a dog", 0.25, "slerp"))
    ).abs().max() > 1e-4


@pytest.mark.parametrize("sampler", ["euler", "euler_a", "dpmpp_sde"])
def test_noise_goes_from_seed_to_seed_in_every_step(engine, sampler):
    """Also where the sampler draws more: else a film would jump at its key frames. Tolerance as
    above."""
    for share, seed in ((1e-7, 3), (1 - 1e-7, 8)):
        near = latents(
            engine,
            "a cat",
            (3, 8),
            lambda noise, s=share: film.MixedNoise(noise, s),
            sampler=sampler,
        )
        assert (near - latents(engine, "a cat", (seed,), sampler=sampler)).abs().max() < 1e-3
    both = start_sampler(
        engine.model,
        GenerationRequest.of(seed=3, sampler=sampler).resolve(engine.model),
        [3, 8],
        mix=lambda noise: film.MixedNoise(noise, 0.5),
    )
    assert next(both[1]).x.shape == (1, 4, 8, 8)
    deep = film.MixedNoise(type("Pair", (), {"initial": torch.randn(2, 4, 64, 64)})(), 0.5).initial
    assert abs(float(deep.std()) - 1) < 0.05  # 16,384 numbers scatter by 1 %


@pytest.mark.parametrize(
    ("prompts", "settings", "words"),
    [
        ((), {}, "needs a prompt"),
        (("a",), {}, "does not move"),
        (("a", "b"), {"key_seeds": (1, 2, 3)}, "pair up"),
        (("a", "b", "c"), {"frames": 2}, "do not fit"),
        (("a", "b"), {"count": 2}, "frames are its pictures"),
        (("a", "b"), {"key_seeds": "1,x"}, "key_seeds"),
        (("a", "\udc80"), {}, "prompts"),
        (("a", "b"), {"easing": "x"}, "easing"),
        (("a", "b"), {"variation_strength": 0.5}, "variation_strength"),
        (("a", "b"), {"width": 33}, "multiple"),
    ],
)
def test_what_makes_no_film(engine, prompts, settings, words):
    with pytest.raises(BadInput, match=words):
        engine.film(prompts, **settings)


@pytest.mark.parametrize("said", ["", "{}", "[1]", '{"frame": 9}', '{"frame": "x"}'])
def test_a_frame_that_does_not_say_which(engine, tmp_path, said):
    picture = film.draw_frame(engine.model, engine.unet, asked(engine, "a", "b"), 1)
    fields = infotext.parse(picture.info["parameters"]).fields
    whole = json.loads(fields["Film"])
    new = json.dumps(whole | json.loads(said)) if said.startswith('{"') else said
    text = picture.info["parameters"].replace(json.dumps(fields["Film"]), json.dumps(new))
    assert text != picture.info["parameters"]
    picture.info["parameters"] = text
    save_picture(picture, tmp_path / "a.png")
    with pytest.raises(FromnoiseError):
        replay(tmp_path / "a.png", engine.model, engine.unet)
    with Image.open(tmp_path / "a.png") as back:
        assert back.info["parameters"] == text
