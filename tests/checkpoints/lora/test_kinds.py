"""LoHa, LoKr, DoRA, (IA)³, convolutions with a kernel between, norms and biases: as LyCORIS and
PEFT compute them."""

import warnings

import fakes
import pytest
import torch
from loras import draw, save
from torch import nn

from fromnoise.checkpoints.formats.lora import load
from fromnoise.checkpoints.lora.names import list_networks
from fromnoise.checkpoints.lora.place import place
from fromnoise.errors import BadCheckpoint
from fromnoise.runtime.patches import Patch, patch_network

TOLERANCE = 2e-5  # of the weight's RMS: a few sums in fp32, in another order
LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
NORM = "down_blocks.0.resnets.0.norm1"


@pytest.fixture
def model(tmp_path):
    return fakes.model(tmp_path)


def merge(model, tmp_path, leaves, name, share=1.0):
    """The module with these tensors of a file."""
    stem = "lora_unet_" + name.replace(".", "_")
    path = save(tmp_path / "x.safetensors", {f"{stem}.{leaf}": t for leaf, t in leaves.items()})
    placement = place(load(path), model)
    assert placement.unplaced == []
    patches = [Patch(parameter, delta, share) for parameter, delta in placement.deltas["unet"]]
    return patch_network(model.unet, patches).get_submodule(name)


def compare(ours, theirs):
    error = (ours - theirs).pow(2).mean().sqrt()
    assert error <= TOLERANCE * theirs.pow(2).mean().sqrt()


def build(kind: str, module: nn.Module, **options):
    """A module of LyCORIS with random numbers in all that it trains."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lycoris import modules

        named = {"locon": "LoConModule", "loha": "LohaModule", "lokr": "LokrModule"}
        named |= {"ia3": "IA3Module", "norm": "NormModule", "full": "FullModule"}
        named |= {"glora": "GLoRAModule", "oft": "DiagOFTModule", "boft": "ButterflyOFTModule"}
        built = getattr(modules, named[kind])("x", module, 1.0, **options)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in built.named_parameters():
        noise = draw(tuple(parameter.shape), generator)
        if "dora_scale" in name or "rescale" in name:
            parameter.data = parameter.data * (1 + 0.3 * noise)
        else:
            parameter.data = 0.3 * noise
    return built


CASES = {
    "locon": ("locon", {"lora_dim": 4, "alpha": 2}),
    "locon-tucker": ("locon", {"lora_dim": 4, "alpha": 2, "use_tucker": True}),
    "loha": ("loha", {"lora_dim": 4, "alpha": 2}),
    "loha-tucker": ("loha", {"lora_dim": 4, "alpha": 2, "use_tucker": True}),
    "lokr": ("lokr", {"lora_dim": 2, "alpha": 1, "factor": 4}),
    "lokr-whole": ("lokr", {"lora_dim": 10_000, "alpha": 3, "factor": 4}),
    "lokr-tucker": ("lokr", {"lora_dim": 2, "alpha": 1, "factor": 2, "use_tucker": True}),
    "lokr-both": ("lokr", {"lora_dim": 1, "alpha": 2, "factor": 4, "decompose_both": True}),
    "dora-rows": ("locon", {"lora_dim": 4, "alpha": 2, "weight_decompose": True}),
    "dora-columns": (
        "locon",
        {"lora_dim": 4, "alpha": 2, "weight_decompose": True, "wd_on_out": False},
    ),
    "glora": ("glora", {"lora_dim": 4, "alpha": 2}),
    "oft": ("oft", {"lora_dim": 4}),
    "oft-limited": ("oft", {"lora_dim": 4, "constraint": 0.01, "rescaled": True}),
    "boft": ("boft", {"lora_dim": 4}),
    "boft-limited": ("boft", {"lora_dim": 4, "constraint": 0.01, "rescaled": True}),
    "loha-dora": ("loha", {"lora_dim": 4, "alpha": 2, "weight_decompose": True}),
    "lokr-dora": ("lokr", {"lora_dim": 2, "alpha": 1, "factor": 4, "weight_decompose": True}),
}


@pytest.mark.parametrize("name", [LINEAR, CONV])
@pytest.mark.parametrize("case", CASES)
def test_as_lycoris_computes_it(model, tmp_path, case, name):
    kind, options = CASES[case]
    theirs = build(kind, model.unet.get_submodule(name), **options)
    ours = merge(model, tmp_path, theirs.state_dict(), name)
    # get_merged_weight of LoHa and LoKr scales twice in LyCORIS 4.1; a training step does not
    if kind in ("locon", "glora", "oft", "boft"):
        merged = theirs.get_merged_weight(1.0)[0]
    else:
        merged = theirs.org_weight + theirs.get_weight(theirs.shape)
        merged = theirs.apply_weight_decompose(merged) if theirs.wd else merged
    compare(ours.weight, merged)
    assert not torch.equal(ours.weight, model.unet.get_submodule(name).weight)


@pytest.mark.parametrize("name", [LINEAR, CONV])
@pytest.mark.parametrize("on_input", [True, False])
def test_scaled_rows_and_columns(model, tmp_path, name, on_input):
    theirs = build("ia3", model.unet.get_submodule(name), train_on_input=on_input)
    ours = merge(model, tmp_path, theirs.state_dict(), name)
    compare(ours.weight, theirs.get_merged_weight(1.0)[0])


def test_norms_biases_and_whole_differences(model, tmp_path):
    generator, norm = torch.Generator().manual_seed(0), model.unet.get_submodule(NORM)
    leaves = {f"{x}_norm": draw(tuple(norm.weight.shape), generator) for x in "wb"}
    ours = merge(model, tmp_path, leaves, NORM, 0.5)
    compare(ours.weight, norm.weight + 0.5 * leaves["w_norm"])
    compare(ours.bias, norm.bias + 0.5 * leaves["b_norm"])
    conv = model.unet.get_submodule(CONV)
    leaves = {"diff": draw(tuple(conv.weight.shape), generator)}
    leaves["diff_b"] = draw(tuple(conv.bias.shape), generator)
    ours = merge(model, tmp_path, leaves, CONV)
    compare(ours.weight, conv.weight + leaves["diff"])
    compare(ours.bias, conv.bias + leaves["diff_b"])


def test_the_first_files_of_glora_have_other_sides(model, tmp_path):
    theirs = build("glora", model.unet.get_submodule(LINEAR), lora_dim=4, alpha=2).state_dict()
    swapped = {"a1.weight": "a2.weight", "a2.weight": "a1.weight"}
    swapped |= {"b1.weight": "b2.weight", "b2.weight": "b1.weight"}
    old = {swapped.get(leaf, leaf): tensor for leaf, tensor in theirs.items()}
    expected = merge(model, tmp_path, theirs, LINEAR).weight
    compare(merge(model, tmp_path, old, LINEAR).weight, expected)


@pytest.mark.parametrize("name", [LINEAR, CONV])
@pytest.mark.parametrize("kind", ["oft", "loha", "lokr"])
def test_peft_says_the_scale_in_its_configuration(model, tmp_path, name, kind):
    """A whole file as PEFT writes it, with a rank and an alpha of one module's own."""
    import peft

    last = name.rpartition(".")[2]
    options = {"target_modules": [last], "r": 3, "alpha": 5, "alpha_pattern": {last: 7}}
    if kind == "oft":
        config = peft.OFTConfig(target_modules=[last], oft_block_size=8 if name == LINEAR else 9)
    else:
        config = {"loha": peft.LoHaConfig, "lokr": peft.LoKrConfig}[kind](**options)
    part, module = nn.Module(), model.unet.get_submodule(name)
    above = part
    for word in name.split(".")[:-1]:
        above.add_module(word, nn.Module())
        above = above.get_submodule(word)
    copied = nn.Conv2d(module.in_channels, module.out_channels, 3) if name == CONV else None
    copied = copied or nn.Linear(module.in_features, module.out_features, bias=False)
    copied.load_state_dict(module.state_dict())
    above.add_module(last, copied)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(part, config)
    generator = torch.Generator().manual_seed(3)
    for key, parameter in wrapped.named_parameters():
        if "base_layer" not in key and parameter.requires_grad:
            parameter.data = 0.2 * draw(tuple(parameter.shape), generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped.save_pretrained(tmp_path)
    placement = place(load(tmp_path / "adapter_model.safetensors"), model)
    assert placement.unplaced == []
    [(parameter, delta)] = placement.deltas["unet"]
    assert parameter == f"{name}.weight"
    ours = patch_network(model.unet, [Patch(parameter, delta)]).get_submodule(name).weight
    compare(ours, wrapped.merge_and_unload().get_submodule(name).weight)
    assert not torch.allclose(ours, module.weight, atol=1e-3)


@pytest.mark.parametrize("name", [LINEAR, CONV])
@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr"])
def test_as_peft_computes_it(model, tmp_path, name, kind):
    import peft

    module = model.unet.get_submodule(name)
    copied = (
        nn.Linear(module.in_features, module.out_features, bias=False)
        if name == LINEAR
        else (nn.Conv2d(module.in_channels, module.out_channels, 3, padding=1))
    )
    copied.load_state_dict(module.state_dict())
    holder = nn.Sequential(copied)
    # PEFT scales a LoKr of whole matrices too; of rank 1 it has none here
    options = {"target_modules": ["0"], "r": 1 if kind == "lokr" else 4}
    if kind in ("lora", "dora"):
        config = peft.LoraConfig(**options, lora_alpha=2, use_dora=kind == "dora")
    else:
        config = {"loha": peft.LoHaConfig, "lokr": peft.LoKrConfig}[kind](**options, alpha=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(holder, config)
    generator = torch.Generator().manual_seed(3)
    for key, parameter in wrapped.named_parameters():
        if "base_layer" not in key and parameter.requires_grad:
            noise = draw(tuple(parameter.shape), generator)
            dora = "magnitude" in key
            parameter.data = parameter.data * (1 + 0.3 * noise) if dora else 0.3 * noise
    tensors = peft.get_peft_model_state_dict(wrapped)
    leaves = {key.removeprefix("base_model.model.0."): t for key, t in tensors.items()}
    leaves["alpha"] = torch.tensor(2.0)
    ours = merge(model, tmp_path, leaves, name)
    merged = wrapped.merge_and_unload()[0]
    compare(ours.weight, merged.weight)


def test_unmerging_is_dropping_the_copy(model, tmp_path):
    before = {name: t.clone() for name, t in model.unet.state_dict().items()}
    theirs = build("loha", model.unet.get_submodule(LINEAR), lora_dim=4, alpha=2)
    merge(model, tmp_path, theirs.state_dict(), LINEAR)
    after = model.unet.state_dict()
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert weight.numpy().tobytes() == after[name].numpy().tobytes()


def test_a_copy_shares_what_does_not_change(model, tmp_path):
    theirs = build("locon", model.unet.get_submodule(LINEAR), lora_dim=4, alpha=2)
    stem = "lora_unet_" + LINEAR.replace(".", "_")
    tensors = {f"{stem}.{leaf}": t for leaf, t in theirs.state_dict().items()}
    placement = place(load(save(tmp_path / "x.safetensors", tensors)), model)
    patches = [Patch(parameter, delta) for parameter, delta in placement.deltas["unet"]]
    other, network = patch_network(model.unet, patches), list_networks(model)["unet"]
    assert [name for name, _ in other.named_parameters()] == [
        name for name, _ in network.named_parameters()
    ]
    own = [n for n, p in other.named_parameters() if p is not network.get_parameter(n)]
    assert own == [f"{LINEAR}.weight"]


@pytest.mark.parametrize(
    "leaves",
    [
        {"lora_up.weight": (16, 4)},
        {"lora_down.weight": (4, 16)},
        {"lora_up.weight": (16, 4), "lora_down.weight": (3, 16)},
        {"hada_w1_a": (16, 4), "hada_w1_b": (4, 16)},
        {"lokr_w1": (4, 4)},
        {"lora_up.weight": (16,), "lora_down.weight": (4, 16)},
        {"on_input": (1,)},
        {"oft_blocks": (4, 4)},
        {"oft_blocks": (4, 3, 4)},
        {"oft_blocks": (9, 4, 4, 4)},
        {"oft_blocks": (4, 4, 4), "rescale": (3, 1)},
        {"oft_R.weight": (4, 5)},
        {"a1.weight": (16, 4), "a2.weight": (4, 16), "b1.weight": (16, 4)},
        {"a1.weight": (16, 4), "a2.weight": (3, 8), "b1.weight": (16, 4), "b2.weight": (4, 16)},
    ],
)
def test_tensors_that_do_not_go_together(model, tmp_path, leaves):
    with pytest.raises(BadCheckpoint, match="to_q"):
        merge(model, tmp_path, {leaf: torch.ones(shape) for leaf, shape in leaves.items()}, LINEAR)


def test_an_alpha_that_is_no_number(model, tmp_path):
    pair = {"lora_up.weight": torch.ones(16, 4), "lora_down.weight": torch.ones(4, 16)}
    for alpha in (torch.tensor(float("nan")), torch.ones(3)):
        with pytest.raises(BadCheckpoint, match="alpha"):
            merge(model, tmp_path, pair | {"alpha": alpha}, LINEAR)
