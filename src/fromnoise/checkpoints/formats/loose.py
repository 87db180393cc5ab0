"""A U-Net alone, with its VAE and text encoders in files of their own, as ComfyUI's folders hold
them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fromnoise.checkpoints.families import BASES, PENULTIMATE, Family
from fromnoise.checkpoints.formats.contents import Contents, Mapped, read_single
from fromnoise.checkpoints.formats.published import describe_folder
from fromnoise.checkpoints.keymap import Group, TextTower, rule_text
from fromnoise.checkpoints.measures import measure_text
from fromnoise.errors import BadCheckpoint, BadInput, escape
from fromnoise.models.config import VAEConfig

# the text encoders of a base
ENCODERS = {
    "sd1": ("text_encoder",),
    "sd2": ("text_encoder",),
    "refiner": ("text_encoder_2",),
    "xl": ("text_encoder", "text_encoder_2"),
}
REMEDY = "give it with --part: the VAE, and each text encoder"


def join_parts(contents: Contents, files: Sequence[Path]) -> Contents:
    """The contents of a file that lacks parts, with those of the other files. Raises NotFound, and
    BadCheckpoint or BadInput for a file that holds no part that is wanted, and for missing ones."""
    family, parts = contents.family, dict(contents.parts)
    unet = family.unet
    if unet is None or family.base not in BASES:
        reason = f"it is {family.name} ({family.reason})"
        raise BadCheckpoint(f"{contents.path} holds no known U-Net: {reason}", "give a U-Net")
    wanted = len(ENCODERS[family.base])
    if not family.original:
        parts["unet"] = strip_prefix(contents, family.unet_prefix, "unet")
    texts: list[Contents] = []
    for file in files:
        other = read_single(file)
        kind = other.family
        if kind.vae is not None and "vae" not in parts:
            family = replace(family, vae=fit_vae(kind.vae, family))
            parts["vae"] = other.parts.get("vae") or strip_prefix(other, kind.vae_prefix, "vae")
        elif kind.kind == "text encoder" and len(texts) + len(family.texts) < wanted:
            texts.append(other)
        else:
            name = f"{kind.name} ({kind.reason})"
            raise BadInput(f"{file} is no part that is wanted here: it is {name}", REMEDY)
    missing = ["a VAE"] * ("vae" not in parts)
    missing += ["a text encoder"] * (wanted - len(family.texts) - len(texts))
    if missing:
        fault = f"{contents.path} is a {family.name}; {' and '.join(missing)} is missing"
        raise BadCheckpoint(fault, REMEDY)
    # the pooled text of SDXL's second encoder is an input of the U-Net, beside the six sizes
    pooled = (unet.added_dim or 0) - 6 * (unet.time_id_dim or 0)
    texts.sort(key=lambda other: other.family.texts[0].config.projection_dim == pooled)
    names = ENCODERS[family.base][len(family.texts) :]
    towers = [fit_tower(other, part, family.base) for other, part in zip(texts, names, strict=True)]
    parts |= {t.part: take_tower(o, t) for o, t in zip(texts, towers, strict=True)}
    family = replace(family, kind="model", texts=(*family.texts, *towers), problems=())
    joined = replace(contents, family=family, parts=parts, derived=True)
    joined.texts = describe_folder(family)
    return joined


def fit_vae(vae: VAEConfig, family: Family) -> VAEConfig:
    """The autoencoder with the scale and the size of the U-Net's base."""
    assert family.unet is not None
    side = family.unet.sample_size * vae.factor
    return replace(vae, scaling_factor=BASES[family.base].scale, sample_size=side)


def fit_tower(other: Contents, part: str, base: str) -> TextTower:
    """The text encoder of a file as models of this base use it: which part it is, whether its
    projection is used, and how many of its layers."""
    second = part == "text_encoder_2"
    prefix = other.family.texts[0].prefix
    tower = measure_text(other.shapes, part, prefix, projects=second)
    layers = min(tower.config.layers, PENULTIMATE) if base == "sd2" else tower.config.layers
    activation = "gelu" if second or base == "sd2" else "quick_gelu"
    return tower._replace(config=replace(tower.config, layers=layers, activation=activation))


def take_tower(other: Contents, tower: TextTower) -> Mapped:
    """The tensors of a text encoder, under our keys."""
    assert isinstance(other.extras, Mapped)
    source = other.extras.source
    groups = {group.single: group for group in rule_text(tower) if group.single in source.stored}
    return Mapped(source, groups)


def strip_prefix(other: Contents, prefix: str, part: str) -> Mapped:
    """The tensors of a part in the layout of diffusers, whose keys are ours behind a prefix."""
    assert isinstance(other.extras, Mapped)
    source = other.extras.source
    keys = [key for key in source.stored if key.startswith(prefix)]
    if not keys:
        raise BadCheckpoint(f"{other.path}: no key begins with {escape(prefix, 80)}", REMEDY)
    return Mapped(source, {key: Group(key, part, (key.removeprefix(prefix),)) for key in keys})
