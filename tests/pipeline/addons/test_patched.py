"""Networks with LoRA on them are made once for all that draws with them, and do not pile up."""

import gc
import os
import weakref

import fakes
import pytest
import torch
from loras import list_modules, make_pairs, save, write_kohya
from torch import nn

from fromnoise.api import Engine
from fromnoise.pipeline.addons import patched
from fromnoise.pipeline.batching.batcher import Batcher
from fromnoise.runtime.patches import Memory, Patch, patch_network

KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
TAGGED = "a neon cat <lora:l0:0.7>"


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A model, and ten LoRA in the models' folder."""
    engine = Engine(fakes.model(tmp_path, steps=2, cfg=3.0, sampler="euler"))
    (tmp_path / "lora").mkdir()
    monkeypatch.setenv("FROMNOISE_MODELS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    modules = list_modules(engine.model)[::9]
    for i in range(10):
        tensors = write_kohya(
            make_pairs(engine.model, modules, seed=i),
            lambda part, name: KOHYA[part] + name.replace(".", "_"),
        )
        save(tmp_path / "lora" / f"l{i}.safetensors", tensors)
    return engine


@pytest.fixture
def made(monkeypatch):
    """A weak reference to every network that a LoRA is put on, in their order."""
    networks: list[weakref.ref] = []

    def count(*given):
        networks.append(weakref.ref(network := patch_network(*given)))
        return network

    monkeypatch.setattr(patched, "patch_network", count)
    return networks


def test_films_passes_and_runs_share_one_network(engine, made):
    plain = engine.generate("a neon cat", seed=3)
    assert made == []
    engine.generate(TAGGED, seed=3, count=3)
    assert len(made) == 2  # the U-Net and the text encoder
    engine.hires(TAGGED, seed=3, hires_scale=2)
    for seed in (1, 2):
        engine.generate(f"a red dog {TAGGED}", seed=seed)
    with Batcher(2) as batcher:

        def job(run):
            shared = Engine.__new__(Engine)
            vars(shared).update(vars(engine) | {"unet": run.share(engine.unet)})
            return shared.generate(TAGGED, seed=3)

        runs = [batcher.submit(job) for _ in range(2)]
        first, second = (run.result(60) for run in runs)
        assert first.tobytes() == second.tobytes() != plain.tobytes()
        assert batcher.served > batcher.calls  # some calls were answered together
    assert len(made) == 2
    engine.generate("a neon cat <lora:l0:0.6>", seed=3)
    assert len(made) == 4
    engine.generate(TAGGED, seed=3)
    assert len(made) == 4
    assert engine.generate("a neon cat", seed=3).tobytes() == plain.tobytes()


def test_another_file_and_another_weight_of_the_model_are_seen(engine, made, tmp_path):
    before = engine.generate(TAGGED, seed=3).tobytes()
    file = tmp_path / "lora" / "l0.safetensors"
    os.replace(tmp_path / "lora" / "l1.safetensors", file)
    other = engine.generate(TAGGED, seed=3).tobytes()
    assert len(made) == 4
    assert other != before
    with torch.no_grad():
        engine.model.unet.conv_in.weight.mul_(1.5)
    assert engine.generate(TAGGED, seed=3).tobytes() != other
    assert len(made) == 6


@pytest.mark.parametrize("switches", [10, 50])
def test_memory_is_flat_over_switches(engine, made, monkeypatch, switches):
    from fromnoise.pipeline.addon_fields.lora import Lora
    from fromnoise.pipeline.addons.lora import put_on
    from fromnoise.pipeline.request import GenerationRequest

    request = GenerationRequest.of(prompt="a")
    monkeypatch.setattr(patched, "BUDGET", 0)
    places = set()
    for i in range(switches):
        put_on(engine.model, engine.unet, request, [Lora(name=f"l{i % 10}")])
        assert sum(one() is not None for one in made) == 2  # the last ones
        memory = patched.ALL[engine.model.unet].memory
        assert len(memory.blocks) == 2
        places |= {block.ctypes.data for block, _ in memory.blocks}
    assert len(made) == 2 * switches
    assert len(places) == 2  # the same memory all the time
    [network] = [one for one in (made[-2](), made[-1]()) if hasattr(one, "conv_in")]
    monkeypatch.setattr(patched, "BUDGET", 1 << 30)
    for i in range(5):
        put_on(engine.model, engine.unet, request, [Lora(name=f"l{i}", weight=0.5)])
    assert len(patched.ALL[engine.model.unet].kept) == 6
    assert network is not None
    unet, engine.model, engine.unet = weakref.ref(engine.model.unet), None, None
    del network, memory
    gc.collect()
    assert unet() is None  # what is kept goes with the model
    assert all(one() is None for one in made)


def test_memory_in_use_is_not_given_again():
    memory = Memory()
    first = memory.take(1000)[:8].fill_(7)
    second = memory.take(1000)
    second.fill_(1)
    assert first.tolist() == [7] * 8
    place = second.data_ptr()
    del second
    assert memory.take(900).data_ptr() == place
    assert len(memory.blocks) == 2
    third = memory.take(5000)
    memory.trim()
    assert [len(block) for block, _ in memory.blocks] == [1000, 5000]
    assert third.shape == (5000,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [True, False])
def test_order_in_memory_and_types_stay(dtype, shared):
    """Channels last, with a change that is a product and one that is a sum."""

    class Sum:
        def add_to(self, total, weight, share):
            assert (total.dtype, weight.dtype) == (torch.float32, dtype)
            assert total.stride() == weight.stride()
            total.add_(torch.arange(weight.numel()).view(weight.shape), alpha=share)

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Linear(5, 2)), nn.Conv2d(2, 2, 1))
    network = network.to(dtype, memory_format=torch.channels_last)
    before = {name: p.clone() for name, p in network.named_parameters()}
    names = ("0.weight", "1.0.weight")
    other = patch_network(
        network, [Patch(name, Sum(), 0.5) for name in names], Memory() if shared else None
    )
    for name, old in network.named_parameters():
        assert torch.equal(old, before[name])
        new = other.get_parameter(name)
        assert (new.dtype, new.stride()) == (old.dtype, old.stride())
        assert new.data_ptr() % 16 == 0
        if name in names:
            expected = old.float() + 0.5 * torch.arange(old.numel()).view(old.shape)
            assert torch.equal(new, expected.to(dtype))
        else:
            assert new is old
    assert other[2] is network[2]
    assert other[1] is not network[1]
