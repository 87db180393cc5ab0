"""Every layout of LoRA files gives the weights that its numbers say, and diffusers computes."""

import json
import logging
import warnings
from pathlib import Path

import peers
import pytest
import torch
from loras import (
    KOHYA,
    draw,
    list_modules,
    make_pairs,
    multiply,
    name_original,
    save,
    write_kohya,
    write_peft,
)

from fromnoise.checkpoints.formats.lora import load
from fromnoise.checkpoints.hub import load_parts
from fromnoise.checkpoints.lora.names import list_networks
from fromnoise.checkpoints.lora.place import place
from fromnoise.runtime.patches import Patch, patch_network

logging.disable(logging.WARNING)
# one product and one sum in fp32 beside the same in float64: some 1e-7 of the weights' RMS
TOLERANCE = 2e-5
ATTENTION = (".to_q", ".to_k", ".to_v", ".to_out.0")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("lora")
    return {kind: peers.make_folder(kind, root / kind, torch.float32) for kind in ("sd1", "xl")}


@pytest.fixture(params=["sd1", "xl"])
def kind(request) -> str:
    return request.param


@pytest.fixture
def model(folders, kind):
    return load_parts(folders[kind])


def merge(model, path: Path, share: float = 1.0):
    """(the weights with the file, by part; its placement)."""
    placement = place(load(path), model)
    networks = list_networks(model)
    return {
        part: patch_network(
            networks[part], [Patch(name, delta, share) for name, delta in deltas]
        ).state_dict()
        for part, deltas in placement.deltas.items()
        if part in networks
    }, placement


def check(model, path: Path, pairs, share: float = 1.0) -> None:
    """Every pair is placed, and changes its module by up·down·alpha/rank, and nothing else."""
    merged, placement = merge(model, path, share)
    assert placement.unplaced == []
    assert sum(placement.counts.values()) == len(pairs)
    for part, network in list_networks(model).items():
        for name, weight in network.state_dict().items():
            expected = weight.double()
            pair = pairs.get((part, name.removesuffix(".weight")))
            if pair and name.endswith(".weight"):
                expected = expected + share * multiply(*pair).reshape(weight.shape)
                assert merged[part][name].dtype == weight.dtype
                error = (merged[part][name].double() - expected).pow(2).mean().sqrt()
                assert error <= TOLERANCE * expected.pow(2).mean().sqrt(), (part, name)
            else:
                assert torch.equal(merged[part][name], weight), (part, name)


def spell_kohya(part: str, name: str) -> str:
    return KOHYA[part] + name.replace(".", "_")


def test_kohya(model, tmp_path):
    pairs = make_pairs(model, list_modules(model))
    check(model, save(tmp_path / "x.safetensors", write_kohya(pairs, spell_kohya)), pairs)
    check(model, tmp_path / "x.safetensors", pairs, 0.5)


def test_kohya_with_the_names_of_single_files(model, tmp_path):
    pairs, names = make_pairs(model, list_modules(model)), name_original(model)

    def spell(part: str, name: str) -> str:
        return KOHYA[part] + names[part, name].replace(".", "_")

    assert any("input_blocks" in spell(*of) for of in pairs)
    check(model, save(tmp_path / "x.safetensors", write_kohya(pairs, spell)), pairs)


@pytest.mark.parametrize("start", ["diffusion_model.", "model.diffusion_model.", "lycoris_", ""])
def test_comfyui_and_bare_names(model, tmp_path, start):
    modules = [of for of in list_modules(model) if of[0] == "unet"]
    pairs, names = make_pairs(model, modules), name_original(model)

    def spell(part: str, name: str) -> str:
        own = name if start in ("lycoris_", "") else names[part, name]
        return start + (own.replace(".", "_") if start == "lycoris_" else own)

    check(model, save(tmp_path / "x.safetensors", write_kohya(pairs, spell)), pairs)


@pytest.mark.parametrize(
    ("down", "up"),
    [
        (".lora_A.weight", ".lora_B.weight"),
        (".lora_A.default.weight", ".lora_B.default.weight"),
        (".lora.down.weight", ".lora.up.weight"),
        (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
        ("_lora.down.weight", "_lora.up.weight"),
        (".lora_down.weight", ".lora_up.weight"),
        (".lora_A", ".lora_B"),
    ],
)
def test_peft_and_diffusers(model, tmp_path, down, up):
    pairs = make_pairs(model, list_modules(model))
    check(model, save(tmp_path / "x.safetensors", write_peft(pairs, down, up)), pairs)


def test_peft_keeps_alpha_in_the_header_or_beside(model, tmp_path):
    pairs = make_pairs(model, [of for of in list_modules(model) if of[0] == "unet"])
    second = [name for _, name in pairs][1]
    pairs = {of: (up, down, 6.0) for of, (up, down, _) in pairs.items()}
    pairs["unet", second] = (*pairs["unet", second][:2], 12.0)
    pattern = {second: 12.0}
    plain = {of: (up, down, 3.0) for of, (up, down, _) in pairs.items()}
    tensors = write_peft(plain, ".lora_A.weight", ".lora_B.weight")
    facts = {"unet.r": 3, "unet.lora_alpha": 6, "unet.alpha_pattern": pattern}
    metadata = {"lora_adapter_metadata": json.dumps(facts)}
    check(model, save(tmp_path / "x.safetensors", tensors, metadata), pairs)
    facts = {"r": 3, "lora_alpha": 6, "alpha_pattern": pattern}
    (tmp_path / "adapter_config.json").write_text(json.dumps(facts))
    tensors = {k.replace("unet.", "base_model.model.", 1): v for k, v in tensors.items()}
    check(model, save(tmp_path / "adapter_model.safetensors", tensors), pairs)


def test_old_attention_processors(model, tmp_path):
    modules = [of for of in list_modules(model) if of[0] == "unet" and of[1].endswith(ATTENTION)]
    pairs = make_pairs(model, modules)
    for start in ("", "unet."):
        tensors = {}
        for (_, name), (up, down, alpha) in pairs.items():
            layer, _, last = name.removesuffix(".0").rpartition(".")
            stem = f"{start}{layer}.processor.{last}_lora"
            tensors |= {f"{stem}.up.weight": up * alpha / 3, f"{stem}.down.weight": down}
        check(model, save(tmp_path / "x.safetensors", tensors), pairs)


ORDER_UNET = [  # down, up, then the middle, as PyTorch lists diffusers' modules
    "down_blocks",
    "up_blocks",
    "mid_block",
]


def list_order_of_2022(model) -> dict[str, list[str]]:
    """The modules in the order of diffusers 0.11 and transformers."""
    names = [name for part, name in list_modules(model, False) if part == "unet"]
    blocks = []
    for block in ORDER_UNET:
        stems = dict.fromkeys(
            name.split(".attn1")[0] for name in names if name.startswith(block) and ".attn1" in name
        )
        for stem in stems:
            for inner in ("attn1", "ff.net.0", "attn2"):
                ends = ("proj",) if inner == "ff.net.0" else ("to_q", "to_k", "to_v", "to_out.0")
                blocks += [f"{stem}.{inner}.{end}" for end in ends]
    texts = [
        f"text_model.encoder.layers.{i}.self_attn.{each}_proj"
        for i in range(2)
        for each in ("k", "v", "q", "out")
    ]
    return {"unet": blocks, "text_encoder": texts}


def test_the_numbered_pairs_of_2022(model, tmp_path):
    order = list_order_of_2022(model)
    modules = [(part, name) for part, names in order.items() for name in names]
    # their ΔW is up·down, whatever the rank
    pairs = {of: (*pair[:2], 3.0) for of, pair in make_pairs(model, modules).items()}
    tensors, metadata = {}, {"unet": '["CrossAttention", "Attention", "GEGLU"]'}
    for part, names in order.items():
        for i, name in enumerate(names):
            tensors[f"{part}:{i}:up"], tensors[f"{part}:{i}:down"], _ = pairs[part, name]
    vector = torch.ones(16)
    path = save(
        tmp_path / "x.safetensors", tensors | {"<s1>": vector}, metadata | {"<s1>": "<embed>"}
    )
    check(model, path, pairs)
    assert torch.equal(load(path).embeddings["<s1>"]["emb_params"], vector)
    for part, end in (("unet", ".pt"), ("text_encoder", ".text_encoder.pt")):
        listed = [t for name in order[part] for t in pairs[part, name][:2]]
        torch.save(listed, tmp_path / f"y{end}")
    torch.save({"<s1>": vector}, tmp_path / "y.ti.pt")
    check(model, tmp_path / "y.pt", pairs)
    assert torch.equal(load(tmp_path / "y.pt").embeddings["<s1>"]["emb_params"], vector)


def test_fused_query_key_and_value(model, tmp_path):
    """A pair for several layers is cut: OpenCLIP's in_proj, diffusers' to_qkv and to_kv."""
    tensors, pairs = {}, {}
    generator = torch.Generator().manual_seed(1)
    for part, network in list_networks(model).items():
        for name, module in network.named_modules():
            if name.endswith("self_attn") and part == "text_encoder":
                layer = name.split(".")[3]
                ends = [f"{each}_proj" for each in "qkv"]
                stem = f"lora_te_transformer_resblocks_{layer}_attn_in_proj"
            elif name.endswith("attn1"):
                ends, stem = ["to_q", "to_k", "to_v"], f"unet.{name}.to_qkv"
            elif name.endswith("attn2"):
                ends, stem = ["to_k", "to_v"], f"unet.{name}.to_kv"
            else:
                continue
            out, wide = module.get_submodule(ends[0 if len(ends) == 3 else 1]).weight.shape
            up, down = draw((out * len(ends), 2), generator), draw((2, wide), generator)
            tensors |= {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down}
            for end, piece in zip(ends, up.chunk(len(ends)), strict=True):
                pairs[part, f"{name}.{end}"] = (piece, down, 2.0)
    check(model, save(tmp_path / "x.safetensors", tensors), pairs)


def test_a_planted_fault_is_seen(model, tmp_path):
    """The wrong scale, a swapped query and key, another order: each is far beyond the tolerance."""
    pairs = make_pairs(model, list_modules(model))
    path = save(tmp_path / "x.safetensors", write_kohya(pairs, spell_kohya))
    wrong = {of: (up, down, alpha * 1.001) for of, (up, down, alpha) in pairs.items()}
    with pytest.raises(AssertionError):
        check(model, path, wrong)
    q, k = (("unet", f"mid_block.attentions.0.transformer_blocks.0.attn1.to_{x}") for x in "qk")
    with pytest.raises(AssertionError):
        check(model, path, pairs | {q: pairs[k], k: pairs[q]})


LAYOUTS = {
    "kohya": lambda model, pairs: write_kohya(
        pairs,
        lambda part, name: (
            (
                "lora_te1_"
                if part == "text_encoder" and len(model.text_encoders) > 1
                else KOHYA[part]
            )
            + name.replace(".", "_")
        ),
    ),
    "peft": lambda _, pairs: write_peft(pairs, ".lora_A.weight", ".lora_B.weight"),
    "diffusers": lambda _, pairs: {
        key if key.startswith("unet") else key.replace(".lora.", ".lora_linear_layer."): tensor
        for key, tensor in write_peft(pairs, ".lora.down.weight", ".lora.up.weight").items()
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_as_diffusers_computes_it(folders, model, kind, tmp_path, layout):
    """The U-Net's answer and the text's states with the file, beside diffusers' own with it."""
    import diffusers

    modules = [
        (part, name)
        for part, name in list_modules(model, convolutions=layout == "kohya")
        if ".attentions." in name or "self_attn" in name or "mlp" in name
    ]
    # one alpha for all: diffusers 0.42 mixes up those of modules beside each other
    pairs = {of: (up, down, 2.0) for of, (up, down, _) in make_pairs(model, modules).items()}
    path = save(tmp_path / "x.safetensors", LAYOUTS[layout](model, pairs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = diffusers.DiffusionPipeline.from_pretrained(folders[kind])
        pipeline.load_lora_weights(path)
        pipeline.fuse_lora()
    merged, placement = merge(model, path)
    assert placement.unplaced == []
    theirs = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    if kind == "xl":
        theirs["text_encoder_2"] = pipeline.text_encoder_2
    for part, network in theirs.items():
        found = 0
        for name, weight in network.state_dict().items():
            if "lora_" in name:
                continue
            name = name.replace(".base_layer", "")
            name = name if part == "unet" or name in merged[part] else f"text_model.{name}"
            if name not in merged[part]:
                continue
            found += 1
            error = (merged[part][name] - weight).pow(2).mean().sqrt()
            assert error <= TOLERANCE * weight.pow(2).mean().sqrt(), (part, name)
        assert found == len(merged[part])
