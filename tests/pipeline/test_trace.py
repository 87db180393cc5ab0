"""Looking into a run: the same bits, and what is said of it is what the network said."""

import json
import sys

import fakes
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from fromnoise.api import Engine
from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.cli import main as command
from fromnoise.diffusion.parameterization import compute_coefficients
from fromnoise.errors import BadInput, UnknownName
from fromnoise.models import attention
from fromnoise.models.conditioning import Conditioning
from fromnoise.pipeline.generate import encode_texts, generate
from fromnoise.pipeline.inside import report as trace_report
from fromnoise.pipeline.inside.trace import END, START, Trace, Word, split_words
from fromnoise.pipeline.request import GenerationRequest


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(fakes.model(tmp_path_factory.mktemp("trace"), steps=3, cfg=3.0))


def traced(engine, prompt="a neon cat", **settings):
    request = GenerationRequest.of(prompt=prompt, **{"seed": 1} | settings).resolve(engine.model)
    trace = Trace(engine.model, request)
    pictures = generate(
        engine.model, engine.unet, request, watch=trace.watch, observer=trace.observe
    )
    return trace, pictures


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"count": 2, "sampler": "heun"},
        {"sampler": "dpmpp_2m_sde"},
        {"cfg": 1},
        {"sampler": "euler_cfg_pp"},
        {"sampler": "dpm_adaptive", "count": 2},
        {"cfg_sigma_max": 2.0},
        {"size": (48, 32)},
        {"prompt": "a (neon:1.4) cat AND a dog MASK(0 0.5)"},
        {"prompt": "[cat:dog:2] BREAK in space", "count": 2},
        {
            "prompt": '("a cat", "a dog in space").blend(1, 1)',
            "dialect": "compel",
            "negative_prompt": "cat " * 20,
        },
    ],
)
def test_looking_changes_no_byte(engine, settings):
    settings = dict(settings)
    if "size" in settings:
        settings["width"], settings["height"] = settings.pop("size")
    trace, seen = traced(engine, **settings)
    unseen = generate(engine.model, engine.unet, trace.request)
    assert [p.tobytes() for p in seen] == [p.tobytes() for p in unseen]
    assert all(calls for calls in trace.calls)


def test_python_gives_the_picture_and_the_trace(engine):
    told = []
    picture, trace = engine.trace("a cat", seed=1, watch=told.append)
    assert picture.tobytes() == engine.generate("a cat", seed=1).tobytes()
    assert [len(trace.calls[0]), len(trace.steps), len(told)] == [3, 3, 3]


def test_without_looking_no_map_is_made(engine, monkeypatch):
    def fail(*_):
        raise AssertionError("a map was made")

    monkeypatch.setattr(attention, "compute_attention_map", fail)
    request = GenerationRequest.of(prompt="a cat", seed=1).resolve(engine.model)
    generate(engine.model, engine.unet, request)
    with pytest.raises(AssertionError, match="a map was made"):
        traced(engine)


def test_what_is_said_is_what_the_network_says(engine):
    trace, _ = traced(engine, sampler="euler")
    model = engine.model
    words, nothing = (encode_texts(model, [text]).context for text in ("a neon cat", ""))
    for call, step in zip(trace.calls[0], trace.steps, strict=True):
        c_skip, c_out, c_in = compute_coefficients(model.prediction, call.sigma)
        t, record = model.schedule.sigma_to_t(call.sigma).float(), {}
        with torch.inference_mode():
            out = model.unet(c_in * call.x[None], t, Conditioning(words), record)[0]
            without = model.unet(c_in * call.x[None], t, Conditioning(nothing))[0]
        # the two prompts were one call of the network there, two here: sums in another order
        close = {"rtol": 1e-4, "atol": 1e-4}
        torch.testing.assert_close(call.cond, c_skip * call.x + c_out * out, **close)
        torch.testing.assert_close(call.uncond, c_skip * call.x + c_out * without, **close)
        torch.testing.assert_close(step.x0[0], call.uncond + 3 * (call.cond - call.uncond), **close)
        torch.testing.assert_close(call.cond + call.sigma * call.eps(), call.x, **close)
        torch.testing.assert_close(
            call.uncond + call.sigma * call.eps(uncond=True), call.x, **close
        )
        assert call.maps.keys() == record.keys()
        for layer, found in record.items():
            mean = found[0].mean(0).T  # (N, h'·w')
            torch.testing.assert_close(call.maps[layer].flatten(1), mean, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(
                call.maps[layer].sum(0), torch.ones(call.maps[layer].shape[1:])
            )


def test_every_place_of_the_context_belongs_to_one_word(engine):
    for prompt in ("a neon cat", "", "cat, " * 30, "a cat BREAK (in:1.2) space", "naïve 猫"):
        trace, _ = traced(engine, prompt)
        call = trace.calls[0][0]
        places = sorted(at for word in call.words for at in word.at)
        assert places == list(range(next(iter(call.maps.values())).shape[0]))
    assert [word.text for word in call.words] == [START, "naïve", "猫", END]
    words, length = split_words(engine.model.tokenizer, "a neon cat")
    assert words[1:-1] == (Word("a", (1,)), Word("neon", (2,)), Word("cat", (3,)))
    assert (words[0].at, words[-1].at[0], length) == ((0,), 4, 16)


def test_a_map_is_the_mean_of_layers_calls_and_the_sum_of_tokens(engine):
    trace, _ = traced(engine, "naïve cat", cfg=1)
    at = next(word.at for word in trace.calls[0][0].words if word.text == "naïve")
    assert len(at) > 1
    size = trace.calls[0][0].x.shape[-2:]
    large = [
        F.interpolate(layer[list(at)].sum(0)[None, None], size, mode="bilinear")[0, 0]
        for call in trace.calls[0]
        for layer in call.maps.values()
    ]
    torch.testing.assert_close(trace.map("naïve"), torch.stack(large).mean(0))
    one = next(iter(trace.calls[0][0].maps))
    assert not torch.equal(
        trace.map("naïve", steps=[0], layers=[one]), trace.map("naïve", steps=[1], layers=[one])
    )
    with pytest.raises(UnknownName, match="dog"):
        trace.map("dog")
    with pytest.raises(UnknownName, match="layer"):
        trace.map("cat", layers=["no"])
    with pytest.raises(BadInput, match="steps"):
        trace.map("cat", steps=[9])


def test_parts_and_times_of_a_prompt_are_told_apart(engine):
    trace, _ = traced(engine, "[cat:dog:2] AND a fish", sampler="euler")
    shown = [(c.step, c.part, [w.text for w in c.words[1:-1]]) for c in trace.calls[0]]
    assert shown == [
        (0, 0, ["cat"]),
        (0, 1, ["a", "fish"]),
        (1, 0, ["cat"]),
        (1, 1, ["a", "fish"]),
        (2, 0, ["dog"]),
        (2, 1, ["a", "fish"]),
    ]
    assert trace.words() == [START, "cat", END, "a", "fish", "dog"]
    two, _ = traced(engine, count=2, sampler="heun")
    assert [len(calls) for calls in two.calls] == [5, 5]  # two a step, but one for the step to 0
    assert [c.stage for c in two.calls[1]] == [0, 1, 0, 1, 0]
    assert not torch.equal(two.calls[0][0].x, two.calls[1][0].x)


def test_files_to_look_at(engine, tmp_path, monkeypatch):
    trace, pictures = traced(engine, "a neon cat / in space", count=2)
    places = trace_report.write_trace(trace, pictures, tmp_path / "t")
    assert [place.name for place in places] == ["1", "2"]
    names = {path.name for path in places[0].iterdir()}
    assert {
        "filmstrip.png",
        "words.png",
        "plots.png",
        "trace.json",
        "trace.safetensors",
        "word-03-cat.png",
    } <= names
    said = json.loads((places[1] / "trace.json").read_text())
    assert said["parameters"] == pictures[1].info["parameters"]
    tensors = load_file(places[1] / "trace.safetensors")
    for k, (row, call) in enumerate(zip(said["calls"], trace.calls[1], strict=True)):
        assert row["sigma"] == call.sigma
        assert torch.equal(tensors[f"call.{k}.x"], call.x)
        assert row["rms"]["eps"] == pytest.approx(
            float(tensors[f"call.{k}.eps"].square().mean().sqrt())
        )
    assert sum(said["attention_by_word"].values()) == pytest.approx(1, abs=1e-4)
    monkeypatch.setattr(trace_report, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="matplotlib"):
        trace_report.write_trace(trace, pictures, tmp_path / "u")


def test_command_line_draws_the_same_with_a_trace(engine, tmp_path, monkeypatch, capsys):
    diffusers_folder_save.save(engine.model, tmp_path / "m", torch.float32)

    def run(*args):
        command_line = [
            "fromnoise",
            "generate",
            "a cat",
            "--model",
            str(tmp_path / "m"),
            "--seed",
            "1",
            *args,
        ]
        monkeypatch.setattr(sys, "argv", command_line)
        with pytest.raises(SystemExit) as end:
            command.main()
        assert not end.value.code
        return capsys.readouterr()

    run("--out", str(tmp_path / "a.png"))
    said = run("--out", str(tmp_path / "b.png"), "--trace", str(tmp_path / "t"), "--json")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert json.loads(said.out)["trace"] == [str(tmp_path / "t")]
    assert (tmp_path / "t" / "filmstrip.png").is_file()
