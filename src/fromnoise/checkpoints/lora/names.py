"""The names of a model's modules, in every layout that a LoRA may speak of them."""

import re
from collections.abc import Iterator, Mapping

from torch import nn

from fromnoise.checkpoints.keymap import Group, TextTower, rule_text, rule_unet
from fromnoise.latent_diffusion import LatentDiffusion

Names = dict[str, tuple[str, ...]]  # a name with "_" for "." → our module, or those it is cut into
OWN = "(?:lora_|lycoris_)?"  # what kohya-ss and LyCORIS put before a name
# how a module's name begins → the parts that it may be of. The first that fits counts.
PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (rf"{OWN}(?:unet|(?:model_)?diffusion_model)_+", ("unet",)),
    (rf"{OWN}(?:te2|text_encoder_2|(?:text_encoders_)?clip_g)_", ("text_encoder_2",)),
    (r"conditioner_embedders_1_", ("text_encoder_2",)),
    (rf"{OWN}(?:te1?|text_encoder(?:_1)?|(?:text_encoders_)?clip_[lh])_", ("text_encoder",)),
    (r"(?:cond_stage_model|conditioner_embedders_0)_", ("text_encoder",)),
    (OWN, ("unet", "text_encoder", "text_encoder_2")),
)
WRAPPERS = re.compile(r"(?:base_model_model_)+")  # of PEFT
INNER = re.compile(r"(?:(?:transformer|model)_(?!resblocks))+")
OLD_ATTENTION = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def list_networks(model: LatentDiffusion) -> Mapping[str, nn.Module]:
    """The networks that a LoRA may change, by the names of their folders."""
    names = ("text_encoder", "text_encoder_2")
    texts = zip(names, model.text_encoders, strict=False)
    return {"unet": model.unet, **{name: encoder.network for name, encoder in texts}}


class ModuleNames:
    """Finds the modules of a model by the names that LoRA files have for them."""

    def __init__(self, model: LatentDiffusion):
        self.tables: dict[str, Names] = {}
        self.blocks: dict[str, str] = {}  # a module of the U-Net → its block: input_blocks.1
        for part, network in list_networks(model).items():
            modules = {key.rpartition(".")[0] for key, _ in network.named_parameters()}
            table: Names = {name.replace(".", "_"): (name,) for name in modules}
            groups = rule_unet(model.unet.config, "") if part == "unet" else _rule_text(network)
            for single, keys in _list_modules(groups):
                if all(key in modules for key in keys):
                    table.setdefault(single.replace(".", "_"), keys)
                    block = re.match(r"(?:input|output)_blocks\.\d+|middle_block", single)
                    if part == "unet" and block:
                        self.blocks[keys[0]] = block[0]
            for name in modules:
                for alias, of in _list_aliases(name):
                    table.setdefault(alias.replace(".", "_"), of)
            self.tables[part] = table

    def find(self, stem: str) -> tuple[str, tuple[str, ...]] | None:
        """(part, modules) of a name in a file; more than one where the file fuses them."""
        name = WRAPPERS.sub("", stem.replace(".", "_").lstrip("_"), count=1)
        for pattern, parts in PARTS:
            if not (match := re.match(pattern, name)):
                continue
            rest = name[match.end() :]
            inner = INNER.sub("", rest, count=1) if INNER.match(rest) else rest
            for part in parts:
                table = self.tables.get(part, {})
                for form in (rest, inner, f"text_model_{inner}"):
                    if form in table:
                        return part, table[form]
            return None
        return None

    def weigh_block(self, module: str, weights: tuple[float, ...]) -> float:
        """The weight of a module's block. weights: as A1111's extension for block weights lists
        them: one for all that is in no block, then one for each block in the order of the network,
        or for each that has a transformer. Raises ValueError, which says how many there may be."""
        ordered = sorted(set(self.blocks.values()), key=_order_block)
        attending = {block for name, block in self.blocks.items() if ".attentions." in name}
        for blocks in (ordered, [block for block in ordered if block in attending]):
            if len(weights) == 1 + len(blocks):
                block = self.blocks.get(module, "")
                # a block without a weight of its own is not touched
                return (
                    weights[1 + blocks.index(block)]
                    if block in blocks
                    else (0.0 if block else weights[0])
                )
        raise ValueError(f"{1 + len(attending)} or {1 + len(ordered)}")


def _order_block(block: str) -> tuple[int, int]:
    kind, _, number = block.partition(".")
    return ("input_blocks", "middle_block", "output_blocks").index(kind), int(number or 0)


def _rule_text(network: nn.Module) -> Iterator[Group]:
    """The names of a text encoder: CLIP's without its prefix, and OpenCLIP's."""
    for open_clip, flat in ((False, True), (True, False)):
        yield from rule_text(TextTower("", "", network.config, open_clip, flat))  # type: ignore


def _list_modules(groups: Iterator[Group]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(the module of a single file, ours) of every rule that keeps the weight as it is, or cuts
    it."""
    for group in groups:
        if group.how in ("same", "split"):
            single = re.sub(r"[._](?:weight|bias)$", "", group.single)
            yield single, tuple(key.rpartition(".")[0] for key in group.keys)


def _list_aliases(name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names of a module of ours that no rule of a whole model has."""
    stem, _, last = name.rpartition(".")
    if name.endswith(".to_out.0"):
        yield stem, (name,)  # of diffusers' old attention processors
    if last == "to_q":
        fused = tuple(f"{stem}.to_{each}" for each in "qkv")
        yield f"{stem}.to_qkv", fused
        yield f"{stem}.to_kv", fused[1:]
    if last in OLD_ATTENTION and stem.endswith("self_attn"):
        yield f"{stem}.{OLD_ATTENTION[last]}", (name,)
        if last == "q_proj":
            yield f"{stem}.qkv_proj", tuple(f"{stem}.{each}_proj" for each in "qkv")
