"""LoRA in a run: by field and by tag, alone and together, in a part of the run, recorded and drawn
again."""

import json

import fakes
import pytest
import torch
from loras import list_modules, make_pairs, save, write_kohya
from PIL import ImageChops

from fromnoise.api import Engine
from fromnoise.checkpoints.lora.digest import read_digest
from fromnoise.errors import BadCheckpoint, BadInput, NotFound
from fromnoise.pipeline.addons import record
from fromnoise.pipeline.addons.tags import read_tags
from fromnoise.pipeline.provenance.infotext import parse
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.saving import save_picture

KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_"}


def spell(part, name):
    return KOHYA[part] + name.replace(".", "_")


@pytest.fixture
def engine(tmp_path):
    return Engine(fakes.model(tmp_path, steps=4, cfg=3.0, sampler="euler"))


@pytest.fixture(autouse=True)
def folder(engine, tmp_path, monkeypatch):
    """The models' folder, with two LoRA."""
    models = tmp_path / "models"
    (models / "lora").mkdir(parents=True)
    monkeypatch.setenv("FROMNOISE_MODELS", str(models))
    monkeypatch.setenv("HOME", str(tmp_path))
    for seed, name in enumerate(("paper", "ink")):
        pairs = make_pairs(engine.model, list_modules(engine.model), seed=seed)
        save(models / "lora" / f"{name}.safetensors", write_kohya(pairs, spell))
    return models / "lora"


def differ(a, b):
    return ImageChops.difference(a, b).getbbox() is not None


def draw(engine, prompt="a neon cat", *loras, **more):
    more = {"addons": {"loras": loras}} | more if loras else more
    return engine.generate(prompt, seed=3, **more)


def test_a_tag_and_a_field_draw_the_same(engine):
    plain = draw(engine)
    field = draw(engine, "a neon cat", {"name": "paper", "weight": 0.8})
    assert differ(field, plain)
    assert not differ(draw(engine, "a neon cat <lora:paper:0.8>"), field)
    assert not differ(draw(engine, "a <lyco:paper:0.8>neon cat"), field)
    assert not differ(draw(engine, "a neon cat <lora:PAPER:0.8>"), field)
    two = draw(engine, "a neon cat", {"name": "paper", "weight": 0.8, "text_weight": 0.2})
    assert differ(two, field)
    assert not differ(draw(engine, "a neon cat <lora:paper:0.2:0.8>"), two)
    assert not differ(draw(engine, "a neon cat <lora:paper:0>"), plain)
    assert not differ(draw(engine), plain)  # the model is as it was


def test_several_add_up_in_any_order(engine):
    first, second = {"name": "paper", "weight": 0.5}, {"name": "ink", "weight": -0.5}
    both = draw(engine, "a neon cat", first, second)
    assert differ(both, draw(engine, "a neon cat", first))
    assert not differ(both, draw(engine, "a neon cat <lora:paper:0.5> <lora:ink:-0.5>"))
    twice = draw(engine, "a neon cat", first, first)
    assert not differ(twice, draw(engine, "a neon cat", {"name": "paper", "weight": 1.0}))


def test_parts_of_the_run_and_of_the_network(engine):
    whole, plain = draw(engine, "a neon cat <lora:paper:1>"), draw(engine)
    early = draw(engine, "a neon cat", {"name": "paper", "end": 0.5})
    assert differ(early, whole)
    assert differ(early, plain)
    for tag in ("to=0.5", "stop=2", "step=0-2", "from=0:to=0.5"):
        assert not differ(draw(engine, f"a neon cat <lora:paper:1:1:{tag}>"), early)
    # BASE, 2 + 1 blocks down, the middle, 4 up; or BASE, 1, the middle, 2: those with a transformer
    ones = ",".join("1" * 5)
    some = draw(engine, f"a neon cat <lora:paper:1:1:lbw={ones}>")
    assert differ(some, plain)
    none = draw(engine, "a neon cat <lora:paper:1:1:lbw=0,0,0,0,0>")
    assert not differ(none, plain)
    with pytest.raises(BadInput, match="7 blocks"):
        draw(engine, "a neon cat <lora:paper:1:1:lbw=1,1,1,1,1,1,1>")
    with pytest.raises(BadInput, match="lbw=x"):
        draw(engine, "a neon cat <lora:paper:1:1:lbw=x>")


def test_a_picture_says_what_it_needs_and_is_drawn_again(engine, folder, tmp_path):
    digest = read_digest(folder / "paper.safetensors")
    lora = {"name": "paper", "weight": 0.8, "text_weight": 0.5, "start": 0.25, "blocks": (1,) * 5}
    path = tmp_path / "x.png"
    save_picture(draw(engine, "a neon cat", lora), path)
    info = parse(draw(engine, "a neon cat", lora).info["parameters"])
    tag = "<lora:paper:0.5:0.8:lbw=1,1,1,1,1:from=0.25>"
    assert (info.prompt, info.fields["Lora hashes"]) == (f"a neon cat {tag}", f"paper: {digest}")
    [again] = read_tags(GenerationRequest.of(prompt=info.prompt, steps=4), [info.prompt]).loras
    assert record.write_tag(again) == tag
    result = replay(path, engine.model, engine.unet)
    assert result.verdict == "identical"
    assert "Lora hashes" not in result.unused
    moved = tmp_path / "elsewhere" / "paper.safetensors"
    moved.parent.mkdir()
    (folder / "paper.safetensors").rename(moved)
    with pytest.raises(NotFound, match=f"paper .hash {digest}"):
        replay(path, engine.model, engine.unet)
    assert replay(path, engine.model, engine.unet, loras={"paper": moved}).verdict == "identical"
    (folder / "ink.safetensors").rename(folder / "paper.safetensors")
    with pytest.raises(BadInput, match="not the LoRA paper"):
        replay(path, engine.model, engine.unet)
    with pytest.raises(BadInput, match="without the LoRA ink"):
        replay(path, engine.model, engine.unet, loras={"paper": moved, "ink": moved})


def test_singles_and_a_batch_are_the_same(engine):
    pictures = engine.generate("a neon cat <lora:paper:0.7>", seed=3, count=3)
    for i, picture in enumerate(pictures):
        assert not differ(picture, engine.generate("a neon cat <lora:paper:0.7>", seed=3 + i))


def test_edits_hires_traces_and_tiling_work_with_it(engine, tmp_path):
    from PIL import Image

    tagged, seed = "a neon cat <lora:paper:0.7>", 3
    picture = draw(engine)
    mask = Image.new("L", picture.size)
    mask.paste(255, (8, 8, 24, 24))
    options = {"seed": seed, "mask_blur": 0}
    edited = engine.edit(picture, tagged, mask, **options)
    assert differ(edited, engine.edit(picture, "a neon cat", mask, **options))
    outside = Image.composite(Image.new("RGB", picture.size), picture, mask)
    assert not differ(Image.composite(Image.new("RGB", picture.size), edited, mask), outside)
    traced, _ = engine.trace(tagged, seed=seed)
    assert not differ(traced, engine.generate(tagged, seed=seed))
    assert differ(engine.generate(tagged, seed=seed, tiling="both"), traced)
    large = engine.hires(tagged, seed=seed, hires_scale=2)
    assert differ(large, engine.hires("a neon cat", seed=seed, hires_scale=2))
    path = tmp_path / "large.png"
    save_picture(large, path)
    assert replay(path, engine.model, engine.unet).verdict == "identical"


def test_what_has_no_place_is_told(engine, folder):
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    pair = {f"{stem}.lora_up.weight": torch.ones(16, 2)}
    pair[f"{stem}.lora_down.weight"] = torch.ones(2, 16)
    strange = {k.replace("down_blocks_0", "down_blocks_9"): v for k, v in pair.items()}
    save(folder / "none.safetensors", strange)
    with pytest.raises(BadInput, match="changes nothing"):
        draw(engine, "a cat <lora:none>")
    save(folder / "wide.safetensors", {k: v.repeat(2, 2) for k, v in pair.items()})
    with pytest.raises(BadInput, match="changes nothing"):
        draw(engine, "a cat <lora:wide>")
    save(folder / "partly.safetensors", pair | strange | {"more": torch.ones(1)})
    with pytest.warns(UserWarning, match=r"2 modules or tensors.*down_blocks_9.*more"):
        draw(engine, "a cat <lora:partly>")
    save(folder / "other.safetensors", {"conv.weight": torch.ones(1)})
    with pytest.raises(BadCheckpoint, match="no LoRA"):
        draw(engine, "a cat <lora:other>")
    with pytest.raises(NotFound, match="no lora 'absent'"):
        draw(engine, "a cat <lora:absent>")
    with pytest.raises(BadInput, match="negative prompt asks for lora"):
        draw(engine, "a cat", negative_prompt="<lora:paper:1>")
    with pytest.raises(BadInput, match="hypernet"):
        draw(engine, "a cat <hypernet:x:1>")


def test_the_command_line_names_names_and_files(folder, tmp_path):
    from fromnoise.cli.values import parse_lora

    assert parse_lora("paper") == {"name": "paper"}
    assert parse_lora("paper:0.8") == {"name": "paper", "weight": 0.8}
    assert parse_lora("paper:0.8:-.5@0.2-0.9") == {
        "name": "paper",
        "weight": 0.8,
        "text_weight": -0.5,
        "start": 0.2,
        "end": 0.9,
    }
    assert parse_lora("paper@-0.5") == {"name": "paper", "end": 0.5}
    file = folder / "paper.safetensors"
    assert parse_lora(f"{file}:1") == {"name": "paper", "file": file, "weight": 1.0}
    request = GenerationRequest.of(prompt="a", addons={"loras": [parse_lora("paper:0.8")]})
    assert json.loads(request.model_dump_json())["addons"]["loras"][0]["name"] == "paper"
