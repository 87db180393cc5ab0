"""An autoencoder of its own, in place of a model's: a KL autoencoder or a tiny one (TAESD), in a
file or a folder of diffusers, or the one inside of a whole model's file."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from fromnoise.checkpoints.configs import Fields, Rule, read_json
from fromnoise.checkpoints.download import choose_weights
from fromnoise.checkpoints.families import tell_family
from fromnoise.checkpoints.formats.diffusers_configs import WEIGHTS, read_vae
from fromnoise.checkpoints.formats.diffusers_old import rename_tensors
from fromnoise.checkpoints.keymap import KeyMap, rule_vae
from fromnoise.checkpoints.sources import TensorSource, open_tensors
from fromnoise.checkpoints.tensors import Stored, Unfilled, check_fit
from fromnoise.errors import BadCheckpoint, BadInput, NotFound
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.config import VAEConfig
from fromnoise.models.tiny_vae import TinyVAE, TinyVAEConfig
from fromnoise.models.vae import VAE

CLASSES = ("AutoencoderKL", "AutoencoderTiny")
# of a tiny autoencoder's config.json: our field → its key and what that may hold
TINY = {
    "latent_channels": Rule("latent_channels", int, 1, 128),
    "encoder_widths": Rule("encoder_block_out_channels", int, 1, 1024, per_level=True),
    "decoder_widths": Rule("decoder_block_out_channels", int, 1, 1024, per_level=True),
    "encoder_blocks": Rule("num_encoder_blocks", int, 0, 16, per_level=True),
    "decoder_blocks": Rule("num_decoder_blocks", int, 0, 16, per_level=True),
    "scaling_factor": Rule("scaling_factor", float, 1e-6, 1e6),
    "shift_factor": Rule("shift_factor", float, -1e6, 1e6),
}
# what TAESD's networks have: other values are another network
FIXED = (
    Rule("act_fn", str, choices=["relu"]),
    Rule("upsample_fn", str, choices=["nearest"]),
    Rule("upsampling_scaling_factor", int, 2, 2),
    Rule("in_channels", int, 3, 3),
    Rule("out_channels", int, 3, 3),
)
REMEDY = "give a VAE that was made for this kind of model"
UNUSED = ("encoder.", "quant_conv.")  # keys of what leads from pictures to latents
# TAESD's own files hold one half each, without a prefix or with ComfyUI's
HALVES = {"taesd_encoder.": "encoder.", "taesd_decoder.": "decoder."}
LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(weight|conv\.0\.weight)")


class Opened(NamedTuple):
    """An autoencoder still in its file. `names`: our key of each tensor → its key in the file."""

    config: VAEConfig | TinyVAEConfig
    source: TensorSource
    names: dict[str, str]
    stored: dict[str, Stored]  # by our keys, of the shapes that they have in our network


def replace_vae(model: LatentDiffusion, path: Path, encoder: bool = True) -> None:
    """Gives a model the autoencoder of a file or a folder in place of its own. Raises as
    `load_fitting`. encoder: False leaves the encoder unread, where drawing needs none."""
    vae, digest = load_fitting(model, path, encoder or bool(model.concat))
    model.vae = vae  # type: ignore[assignment]  # a tiny one has what drawing and editing use
    model.vae_digest, model.vae_source = digest, path.name


def load_fitting(
    model: LatentDiffusion, path: Path, encoder: bool = True
) -> tuple[VAE | TinyVAE, str]:
    """`load` for an autoencoder of the model's latents. Raises NotFound, BadCheckpoint, and
    BadInput where the latents are of another kind."""
    ours = model.vae.config
    vae, digest = load(path, ours, encoder)
    for name in ("latent_channels", "factor"):
        if (theirs := getattr(vae.config, name)) != getattr(ours, name):
            fault = f"{path} has the {name} {theirs}, and the model {getattr(ours, name)}"
            raise BadInput(fault, REMEDY)
    return vae.to(next(model.vae.parameters()).device), digest


def load(
    path: Path, like: VAEConfig | TinyVAEConfig, encoder: bool = True
) -> tuple[VAE | TinyVAE, str]:
    """(the autoencoder in fp32, the start of its file's SHA-256). like: the configuration whose
    scale, shift and norm groups hold where a file says none, since weights do not tell them.
    encoder: False leaves the encoder unread. Raises NotFound, BadCheckpoint."""
    found = open_folder(path) if path.is_dir() else open_vae(path, like)
    has_encoder = any(key.startswith("encoder.") for key in found.names)
    encoder = encoder and has_encoder
    names, stored = found.names, found.stored
    if not encoder:
        names = {ours: key for ours, key in names.items() if not ours.startswith(UNUSED)}
        stored = {ours: stored[ours] for ours in names}
    with Unfilled():
        if isinstance(found.config, TinyVAEConfig):
            network: VAE | TinyVAE = TinyVAE(found.config, encoder)
        else:
            network = VAE(found.config, encoder)
    check_fit(network, stored, found.source.path)
    ours, digest = {key: name for name, key in names.items()}, hashlib.sha256()
    tensors = {
        ours[key]: value.float().reshape(stored[ours[key]].shape)
        for key, value in found.source.stream(digest.update)
        if key in ours
    }
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval(), digest.hexdigest()[:10]


def open_folder(path: Path) -> Opened:
    """A folder with a config.json, or that of a whole pipeline with a `vae` in it."""
    folder = path / "vae" if os.path.lexists(path / "model_index.json") else path
    config = read_json(folder / "config.json")
    kind = config.get(Rule("_class_name", str, choices=CLASSES), CLASSES[0])
    source = open_weights(folder)
    if kind == "AutoencoderKL":
        stored = rename_tensors("vae", dict(source.stored))
        renamed = rename_tensors("vae", {key: key for key in source.stored})
        return Opened(read_vae(config), source, renamed, stored)
    return Opened(
        read_tiny(config), source, {key: key for key in source.stored}, dict(source.stored)
    )


def open_vae(path: Path, like: VAEConfig | TinyVAEConfig) -> Opened:
    """A file with an autoencoder in it, in any layout."""
    source = open_tensors(path)
    shapes = {key: entry.shape for key, entry in source.stored.items()}
    family = tell_family(shapes, source.metadata)
    if family.kind == "tiny vae":
        return open_tiny(source)
    if family.vae is None:
        raise BadCheckpoint(f"{path} holds no VAE: it is {family.name} ({family.reason})", REMEDY)
    config = replace(family.vae, scaling_factor=like.scaling_factor, shift_factor=like.shift_factor)
    groups = like.norm_groups if isinstance(like, VAEConfig) else 0
    if groups and not any(width % groups for width in config.block_out_channels):
        config = replace(config, norm_groups=groups)
    prefix = family.vae_prefix
    if not family.original:
        own = {key: entry for key, entry in source.stored.items() if key.startswith(prefix)}
        names = {key.removeprefix(prefix): key for key in own}
        stored = {key.removeprefix(prefix): entry for key, entry in own.items()}
        return Opened(config, source, rename_tensors("vae", names), rename_tensors("vae", stored))
    keymap = KeyMap(rule_vae(family.vae, prefix))
    stored = keymap.to_parts(source.stored, path)[0]["vae"]
    names = {key: keymap.homes["vae", key].single for key in stored}
    return Opened(config, source, names, stored)


def open_tiny(source: TensorSource) -> Opened:
    """TAESD, as its author, ComfyUI or diffusers write it: one half, or both."""
    names: dict[str, str] = {}
    for key in source.stored:
        prefix = next((p for p in HALVES if key.startswith(p)), "")
        half = HALVES.get(prefix, "")
        if not half and not key.startswith((*HALVES.values(),)):
            # the author's decoder begins with a layer that has no weights
            half = "encoder." if "0.weight" in source.stored else "decoder."
        place, dot, rest = key.removeprefix(prefix).partition(".")
        if half and place.isdigit():
            key_of_ours = f"{half}layers.{int(place) - (half == 'decoder.')}{dot}{rest}"
            names[key_of_ours] = key
        elif key not in ("vae_scale", "vae_shift"):
            names[key] = key
    stored = {ours: source.stored[key] for ours, key in names.items()}
    return Opened(measure_tiny(stored, source.path), source, names, stored)


def measure_tiny(stored: Mapping[str, Stored], file: Path) -> TinyVAEConfig:
    """The configuration of a tiny autoencoder with tensors of these shapes; a missing encoder has
    the decoder's sizes. Raises BadCheckpoint."""
    halves: dict[str, dict[str, tuple[int, ...]]] = {}
    for half in ("encoder", "decoder"):
        found = [
            (int(m[2]), m[3], key) for key in stored if (m := LAYER.fullmatch(key)) and m[1] == half
        ]
        convolutions = sorted((place, key) for place, end, key in found if end == "weight")
        places = [place for place, _ in convolutions]
        blocks = tuple(
            sum(end != "weight" and start < place < stop for place, end, _ in found)
            for start, stop in pairwise(places)
        )
        widths = tuple(stored[key].shape[0] for _, key in convolutions[:-1])
        halves[half] = {"widths": widths, "blocks": blocks}
    first = stored.get("decoder.layers.0.weight")
    decoder = halves["decoder"]
    if first is None or len(first.shape) != 4 or not decoder["blocks"]:
        fault = "it holds an encoder alone" if halves["encoder"]["blocks"] else "no decoder"
        raise BadCheckpoint(f"{file}: {fault}", "give the file of the decoder, or of both halves")
    encoder = halves["encoder"] if halves["encoder"]["blocks"] else decoder
    try:
        return TinyVAEConfig(
            first.shape[1],
            encoder["widths"],
            decoder["widths"],
            encoder["blocks"],
            decoder["blocks"],
        )
    except BadInput as error:
        raise BadCheckpoint(f"{file}: {error.message}", error.remedy) from None


def read_tiny(config: Fields) -> TinyVAEConfig:
    """config.json of an AutoencoderTiny. Raises BadCheckpoint."""
    for rule in FIXED:
        config.get(rule)
    values = {f.name: config.get(TINY[f.name], f.default) for f in fields(TinyVAEConfig)}
    try:
        return TinyVAEConfig(**values)
    except BadInput as error:
        raise BadCheckpoint(f"{config.file}: {error.message}", error.remedy) from None


def open_weights(folder: Path) -> TensorSource:
    """The weights of a part's folder."""
    names = choose_weights([path.name for path in folder.iterdir()])
    if len(names) != 1:
        raise NotFound(f"no weights in {folder}", f"it holds a {WEIGHTS['vae']}")
    return open_tensors(folder / names[0])
