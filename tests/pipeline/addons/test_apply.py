"""What a request puts on a model: a copy for each part of the run, and nothing given changes."""

import sys
from copy import copy
from dataclasses import replace
from types import ModuleType

import fakes
import pytest
import torch
from PIL import ImageChops

from fromnoise.api import Engine
from fromnoise.errors import BadInput
from fromnoise.pipeline import addons
from fromnoise.pipeline.addon_fields.addons import Addons, find_files
from fromnoise.pipeline.addon_fields.base import AddOn
from fromnoise.pipeline.conditioning.cost import estimate_cost
from fromnoise.pipeline.request import GenerationRequest


class Both(Addons):
    """Add-ons with a kind that the tests have alone."""

    tests: tuple[AddOn, ...] = ()


@pytest.fixture
def engine(tmp_path):
    return Engine(fakes.model(tmp_path, steps=4, cfg=3.0, sampler="euler"))


@pytest.fixture
def halving(monkeypatch):
    """A kind whose every item halves the network's answer. Gives the names in their order."""
    names = []

    def put_on(model, unet, request, items):
        names.extend(item.name for item in items)
        other = copy(unet)

        def bind(conditioning):
            step = unet.bind(conditioning)
            return lambda *given, **named: 0.5 * step(*given, **named)

        other.bind = bind
        return model, other, [f"{len(items)} put on"]

    module = ModuleType("fromnoise.pipeline.addons.halving")
    module.put_on = put_on
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(addons.KINDS, "tests", "halving")
    return names


def differ(a, b):
    return ImageChops.difference(a, b).getbbox() is not None


def draw(engine, *items, **more):
    request = GenerationRequest.of(prompt="a neon cat", seed=3, **more)
    request = request.model_copy(update={"addons": Both(tests=items)})
    from fromnoise.pipeline.generate import generate

    return generate(engine.model, engine.unet, request)[0]


def test_an_addon_acts_and_leaves_the_model_as_it_was(engine, halving):
    before = {k: v.clone() for k, v in engine.model.unet.state_dict().items()}
    plain = engine.generate("a neon cat", seed=3)
    assert differ(draw(engine, AddOn(name="x")), plain)
    assert halving == ["x"]
    assert engine.model.addons is None
    assert not differ(engine.generate("a neon cat", seed=3), plain)
    after = engine.model.unet.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


@pytest.mark.parametrize(
    ("start", "end", "active"),
    [(0, 1, 4), (0, 0.5, 2), (0.5, 1, 2), (0.3, 0.8, 1), (0.6, 0.7, 0), (0.25, 0.75, 2)],
)
def test_steps_are_counted_as_in_diffusers(start, end, active):
    item = AddOn(name="x", start=start, end=end)
    kept = [not (i / 4 < start or (i + 1) / 4 > end) for i in range(4)]
    assert [item.acts(i, 4) for i in range(4)] == kept
    assert sum(kept) == active


def test_a_part_of_the_run_has_its_own_model(engine, halving):
    whole, plain = draw(engine, AddOn(name="x")), engine.generate("a neon cat", seed=3)
    late = draw(engine, AddOn(name="x", start=0.5))
    early = draw(engine, AddOn(name="x", end=0.5))
    both = draw(engine, AddOn(name="x", end=0.5), AddOn(name="y", start=0.5))
    assert differ(late, whole)
    assert differ(late, plain)
    assert differ(late, early)
    assert not differ(both, whole)
    assert not differ(draw(engine, AddOn(name="x", start=0.6, end=0.7)), plain)


def test_prompts_by_call_and_parts_of_a_run_do_not_go_together(engine, halving):
    with pytest.raises(BadInput, match="by call"):
        draw(engine, AddOn(name="x", end=0.5), prompt_steps="call")


def test_addons_are_checked_and_told_by_their_fields():
    with pytest.raises(BadInput, match=r"addons\.nonsense"):
        GenerationRequest.of(prompt="a", addons={"nonsense": 1})
    for name in ("", "a:b", "a<b", "a\nb", "x" * 300):
        with pytest.raises(ValueError, match="name"):
            AddOn(name=name)
    assert GenerationRequest.of(addons={}).addons == Addons()
    assert list(find_files(Both(tests=(AddOn(name="x", file="/etc/passwd"),)))) != []
    assert list(find_files(Both(tests=(AddOn(name="x"),)))) == []


def test_the_prompts_of_a_film_ask_for_the_same_lora(engine):
    for prompts in (["a <lora:x:1>", "a cat"], ["a <lora:x:1>", "a <lora:x:0.5>"]):
        with pytest.raises(BadInput, match=r"different LoRA: x:1, and (none|x:0\.5)"):
            engine.film(prompts, frames=3, steps=2)


def test_what_runs_beside_the_network_counts_in_its_cost(engine):
    """The limit of a request knows of ControlNets, and of the tokens of IP-Adapters."""
    request = GenerationRequest.of(prompt="a", seed=1).resolve(engine.model)
    control = {"name": "x", "image": "x.png"}
    steered = GenerationRequest.of(prompt="a", seed=1, addons={"controls": [control] * 2})
    plain = estimate_cost(engine.model, request).pictures
    assert plain * 1.5 < estimate_cost(engine.model, steered.resolve(engine.model)).pictures
    seen = replace(engine.model, image_tokens=(torch.zeros(1, 4000, 16),) * 2)
    cost = estimate_cost(seen, request)
    assert cost.pictures > 1.5 * plain
    assert cost.tokens == 4016
    assert cost.memory > estimate_cost(engine.model, request).memory
