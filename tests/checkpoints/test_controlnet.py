"""ControlNets and T2I-Adapters on disk: every layout gives the same network, and what is none of
them is refused by its name, before anything is allocated."""

import json
import re
import time
import tracemalloc

import control_nets as nets
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from safetensors.torch import load_file, save_file

from fromnoise.checkpoints.formats import controlnet, t2i_adapter
from fromnoise.checkpoints.keymap import KeyMap, rule_unet
from fromnoise.errors import BadCheckpoint, BadInput, NotFound
from fromnoise.models.config import UNetConfig
from fromnoise.models.controlnet import ControlNet
from fromnoise.models.t2i_adapter import T2IAdapter
from fromnoise.runtime.control import check_made_for

NAMES = ["sd1", "sd2", "xl", "xl small"]


def to_original(name: str, tensors: dict, prefix: str = "control_model.") -> dict:
    ours, _ = nets.make_controlnets(name)
    rules = [
        *rule_unet(ours.config, prefix),
        *controlnet.rule_ends(ours.settings, prefix),
    ]
    return KeyMap(rules).to_single({"unet": tensors})


def assert_same(network: torch.nn.Module, wanted: dict) -> None:
    found = network.state_dict()
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(found[key], value.float()), key


@pytest.mark.parametrize("name", NAMES)
def test_every_layout_gives_the_same_network(name, tmp_path):
    ours, theirs = nets.make_controlnets(name)
    wanted = theirs.state_dict()
    theirs.save_pretrained(tmp_path / "folder")
    single = to_original(name, wanted)
    # diffusers' own reading of the original layout
    back = convert_controlnet_checkpoint(dict(single), dict(theirs.config))
    # which leaves out what SDXL is told beside the text
    assert back.keys() == {key for key in wanted if not key.startswith("add_embedding.")}
    assert all(torch.equal(value, wanted[key]) for key, value in back.items())
    save_file({k: v.contiguous() for k, v in single.items()}, tmp_path / "original.safetensors")
    torch.save(single, tmp_path / "original.pth")
    save_file(wanted, tmp_path / "plain.safetensors")
    bare = {k.removeprefix("control_model."): v.contiguous() for k, v in single.items()}
    save_file(bare, tmp_path / "bare.safetensors")
    half = {k: v.half() for k, v in wanted.items()}
    save_file(half, tmp_path / "half.safetensors")
    # a whole model of Stable Diffusion lies beside the ControlNet in the first files
    whole = {k: v.contiguous() for k, v in single.items()}
    whole["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(16, 4, 3, 3)
    save_file(whole, tmp_path / "whole.safetensors")
    like = nets.UNETS[name]
    files = ("folder", "original.safetensors", "original.pth", "plain.safetensors")
    for file in (*files, "bare.safetensors", "whole.safetensors"):
        found = controlnet.load(tmp_path / file, like)
        assert isinstance(found.network, ControlNet)
        # without attention nothing tells the width of the text
        assert name == "xl small" or found.network.settings == ours.settings, file
        assert_same(found.network, wanted)
        assert len(found.digest) == 10
        assert found.name == file.split(".")[0]
    found = controlnet.load(tmp_path / "half.safetensors", like)
    assert_same(found.network, half)
    check_made_for(found, like, 8)


def test_the_true_sizes_are_measured(tmp_path):
    """The configuration of published ControlNets, from their shapes alone."""
    four, three = (320, 640, 1280, 1280), (320, 640, 1280)
    levels = (True, True, True, False)
    published = {
        "sd1": UNetConfig(),
        "sd2": UNetConfig(
            block_out_channels=four,
            attention=levels,
            heads=(5, 10, 20, 20),
            context_dim=1024,
            linear_projection=True,
        ),
        "xl": UNetConfig(
            block_out_channels=three,
            attention=(False, True, True),
            heads=(5, 10, 20),
            context_dim=2048,
            transformer_depth=(1, 2, 10),
            linear_projection=True,
            time_id_dim=256,
            added_dim=2816,
        ),
    }
    for name, config in published.items():
        with torch.device("meta"):
            network = ControlNet(controlnet.ControlNetConfig(config))
        tensors = {k: v.to("meta") for k, v in network.state_dict().items()}
        rules = [*rule_unet(config, ""), *controlnet.rule_ends(network.settings, "")]
        single = KeyMap(rules).to_single({"unet": tensors})

        class Source:
            path = tmp_path / name
            stored = single

        opened = controlnet.open_controlnet(Source, UNetConfig(block_out_channels=(32,) * 4))
        unet = opened.config.unet
        assert unet.heads == config.heads, name
        assert unet.transformer_depth == config.transformer_depth, name
        assert opened.config.hint_widths == (16, 32, 96, 256)
        assert opened.names.keys() == tensors.keys()


def test_a_folder_says_more_than_shapes(tmp_path):
    more = {"controlnet_conditioning_channel_order": "bgr", "global_pool_conditions": True}
    _, theirs = nets.make_controlnets("sd1", **more)
    theirs.save_pretrained(tmp_path)
    found = controlnet.load(tmp_path, UNetConfig()).network
    assert isinstance(found, ControlNet)
    assert found.settings.blue_first
    assert found.settings.pooled


def to_authors(name: str, tensors: dict) -> dict:
    """The keys of TencentARC's own files."""
    single = {}
    for key, value in tensors.items():
        rest = key.removeprefix("adapter.")
        if match := re.fullmatch(r"body\.(\d)\.resnets\.(\d)\.(.*)", rest):
            place, inner, end = int(match[1]), int(match[2]), match[3]
            count = nets.ADAPTERS[name].layers_per_block
            rest = f"body.{place * count + inner}.{end}"
            if name == "light":
                rest = f"body.{place}.body.{inner}.{end}"
        elif (match := re.fullmatch(r"body\.(\d)\.in_conv\.(.*)", rest)) and name != "light":
            count = nets.ADAPTERS[name].layers_per_block
            rest = f"body.{int(match[1]) * count}.in_conv.{match[2]}"
        single[rest] = value.contiguous()
    return single


@pytest.mark.parametrize("name", nets.ADAPTERS)
def test_every_layout_gives_the_same_adapter(name, tmp_path):
    ours, theirs = nets.make_adapters(name)
    wanted = theirs.state_dict()
    theirs.save_pretrained(tmp_path / "folder")
    save_file(wanted, tmp_path / "plain.safetensors")
    authors = to_authors(name, wanted)
    assert authors.keys() != wanted.keys()
    save_file(authors, tmp_path / "authors.safetensors")
    torch.save(authors, tmp_path / "authors.pth")
    for file in ("folder", "plain.safetensors", "authors.safetensors", "authors.pth"):
        found = controlnet.load(tmp_path / file, UNetConfig()).network
        assert isinstance(found, T2IAdapter)
        assert found.config == ours.config
        assert_same(found, wanted)


OTHERS = {
    "LLLite": {"lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.down.0.weight": (4,)},
    "Control-LoRA": {"lora_controlnet": (0,), "input_blocks.0.0.weight": (16, 4, 3, 3)},
    "difference": {"difference": (1,), "control_model.input_blocks.0.0.weight": (16, 4, 3, 3)},
    "Union": {"task_embedding": (8, 16), "conv_in.weight": (16, 4, 3, 3)},
    "styles": {"style_embedding": (1, 8, 16), "ln_post.weight": (16,)},
    "another architecture": {"controlnet_blocks.0.weight": (16, 16)},
    "is no ControlNet": {"lora_unet_mid.lora_down.weight": (4, 16)},
}


@pytest.mark.parametrize("word", OTHERS)
def test_what_is_another_network_is_refused_by_its_name(word, tmp_path):
    path = tmp_path / "one.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in OTHERS[word].items()}, path)
    with pytest.raises(BadCheckpoint, match=word):
        controlnet.load(path, UNetConfig())


def change(tensors: dict, key: str, shape: tuple[int, ...] | None) -> dict:
    kept = {k: v for k, v in tensors.items() if k != key}
    return kept if shape is None else kept | {key: torch.zeros(shape)}


FAULTS = {
    "a missing tensor": ("controlnet_mid_block.bias", None, "controlnet_mid_block"),
    "a tensor too many": ("up_blocks.0.resnets.0.conv1.weight", (1, 1, 1, 1), "up_blocks"),
    "a picture without width": ("controlnet_cond_embedding.conv_in.weight", None, "conv_in"),
    "another shape": ("controlnet_down_blocks.0.weight", (8, 8, 1, 1), "controlnet_down_blocks"),
    "a flat convolution": ("conv_in.weight", (16, 4), "conv_in"),
    "no channels": ("conv_in.weight", (16, 0, 3, 3), "conv_in"),
    "a wide picture": ("controlnet_cond_embedding.conv_in.weight", (4, 300, 3, 3), "picture"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_names_the_tensor(fault, tmp_path):
    key, shape, word = FAULTS[fault]
    _, theirs = nets.make_controlnets("sd1")
    path = tmp_path / "bad.safetensors"
    save_file(change(theirs.state_dict(), key, shape), path)
    with pytest.raises(BadCheckpoint, match=word):
        controlnet.load(path, nets.UNETS["sd1"])


CONFIGS = {
    "_class_name": "FluxControlNetModel",
    "conditioning_channels": 10**9,
    "conditioning_embedding_out_channels": [16] * 9,
    "controlnet_conditioning_channel_order": "gbr",
    "global_pool_conditions": "yes",
    "down_block_types": ["Attn"],
    "block_out_channels": [10**9] * 4,
    "class_embed_type": "timestep",
}


@pytest.mark.parametrize("key", CONFIGS)
def test_a_bad_configuration_names_its_field(key, tmp_path):
    _, theirs = nets.make_controlnets("sd1")
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {key: CONFIGS[key]}))
    with pytest.raises(BadCheckpoint, match=key):
        controlnet.load(tmp_path, UNetConfig())


def test_hostile_files_cost_little(tmp_path):
    """1 s and 200 MiB are the bars; falls at several times the time alone."""
    deep = {f"input_blocks.{i}.0.in_layers.2.weight": (8, 8, 3, 3) for i in range(1, 70)}
    files = {
        "deep": deep | {"input_blocks.0.0.weight": (8, 4, 3, 3)},
        "many": {f"control_model.{i}": (1,) for i in range(9_900)},
        "wide": {"adapter.body.0.resnets.0.block1.weight": (1, 1, 1, 1)},
        "long names": {f"input_blocks.{'9' * 4000}.{i}": (1,) for i in range(50)},
    }
    for name, shapes in files.items():
        path = tmp_path / f"{name}.safetensors"
        save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    for name in files:
        tracemalloc.start()
        begin = time.perf_counter()
        with pytest.raises(BadCheckpoint):
            controlnet.load(tmp_path / f"{name}.safetensors", UNetConfig())
        took, (_, peak) = time.perf_counter() - begin, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"{name}: {took:.2f} s, {peak / 2**20:.0f} MiB")
        assert took < 5
        assert peak < 200 << 20


def test_no_file_and_no_adapter(tmp_path):
    with pytest.raises(NotFound, match="no ControlNet"):
        controlnet.load(tmp_path / "none", UNetConfig())
    shapes = {"adapter.conv_in.weight": (8, 7, 3, 3)}
    with pytest.raises(BadCheckpoint, match="7 channels"):
        t2i_adapter.measure_adapter(shapes)


def test_a_network_for_another_model_is_refused(tmp_path):
    _, theirs = nets.make_controlnets("sd1")
    theirs.save_pretrained(tmp_path / "c")
    control = controlnet.load(tmp_path / "c", UNetConfig())
    inner = controlnet.load(tmp_path / "c/diffusion_pytorch_model.safetensors", UNetConfig())
    assert control.name == inner.name == "c"
    with pytest.raises(BadInput, match="widths of blocks"):
        check_made_for(control, nets.UNETS["xl"], 8)
    with pytest.raises(BadInput, match="size of latents"):
        check_made_for(control, nets.UNETS["sd1"], 4)
    _, theirs = nets.make_adapters("xl")
    theirs.save_pretrained(tmp_path / "a")
    adapter = controlnet.load(tmp_path / "a", UNetConfig())
    check_made_for(adapter, nets.UNETS["xl"], 8)
    with pytest.raises(BadInput, match="attention"):
        check_made_for(adapter, nets.UNETS["sd1"], 8)


def test_reading_leaves_the_file_as_it_is(tmp_path):
    _, theirs = nets.make_controlnets("sd1")
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    before = file.read_bytes()
    found = controlnet.load(tmp_path, UNetConfig())
    found.network.requires_grad_(False)
    for p in found.network.parameters():
        p.zero_()
    assert file.read_bytes() == before
    assert load_file(file).keys() == theirs.state_dict().keys()
