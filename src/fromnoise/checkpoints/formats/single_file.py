"""A whole model in one file, in the original layout of Stable Diffusion 1, 2, XL and its refiner:
safetensors, a pickle of torch, or GGUF.

Such a file holds no configuration: families.py tells it from names and shapes, and published.py has
the texts of its folder. A file of ours brings its own."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from fromnoise.checkpoints.assemble import assemble
from fromnoise.checkpoints.configs import Fields, Rule, parse_json, read_tokenizer
from fromnoise.checkpoints.families import MODEL
from fromnoise.checkpoints.file_hashes import hash_file
from fromnoise.checkpoints.formats.contents import Contents, find_missing, read_single
from fromnoise.checkpoints.formats.diffusers_configs import read_scheduler
from fromnoise.checkpoints.formats.diffusers_folder import make_part
from fromnoise.checkpoints.formats.diffusers_folder import read_defaults as read_own
from fromnoise.checkpoints.formats.published import make_tokenizers
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.errors import BadCheckpoint, BadInput, NotFound, escape
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.prompt.tokenizer import Tokenizer

WHOLE = "give the folder of a whole pipeline, or a single file"
TOWERS = ("image_encoder", "image_tower")


def load(
    path: Path,
    image_tower: bool = True,
    encoder: bool = True,
    prediction: str | None = None,
    variant: str | None = None,
    others: Sequence[str] | None = None,
) -> LatentDiffusion:
    """The file → its parts, in fp32 on the CPU. Raises NotFound, and BadCheckpoint for a file that
    holds no whole model; the message says what it is. No tensor is read before all of them fit.

    image_tower, encoder, prediction, others: see hub.load_parts. variant: none; a file has one.
    """
    if path.is_dir():
        raise NotFound(f"no model in {path}: it has no model_index.json", WHOLE)
    if variant:
        raise BadInput(f"{path} is a single file, without variants", "leave --variant out")
    contents = read_single(path, prediction)
    if others:
        from fromnoise.checkpoints.formats.loose import join_parts

        contents = join_parts(contents, [Path(file).expanduser() for file in others])
    check_whole(contents)
    texts = {
        name: Fields(f"{path}, {name}", parse_json(text, f"{path}, {name}"))
        for name, text in contents.texts.items()
        if name.endswith(("config.json", "model_index.json", "fromnoise.json"))
    }
    configs = [f"{name}/config.json" for name in contents.parts if name != "clip_head"]
    for name in ("model_index.json", "scheduler/scheduler_config.json", *configs):
        if name not in texts:
            raise BadCheckpoint(f"{path}: its metadata lack {name}", "fetch the file again")
    encoder = encoder or bool(contents.family.concat)  # of a U-Net that sees pictures
    parts = {
        name: make_part(name, contents.parts[name], texts[f"{name}/config.json"], encoder)
        for name in contents.parts
        if name != "clip_head" and (image_tower or name not in TOWERS)
    }
    schedule, told, defaults = read_schedule(texts, parts["vae"].config.latent_channels)
    pool = ThreadPoolExecutor(1)  # hashing leaves Python free
    try:
        digest = pool.submit(hash_file, path)
        model = assemble(
            parts,
            read_tokenizers(contents),
            digests={"unet": "", "vae": ""},
            schedule=schedule,
            prediction=told,
            prediction_told=prediction is not None,
            **(read_head(contents, parts["unet"].config.context_dim) if image_tower else {}),
            zero_empty_negative=texts["model_index.json"].get(
                Rule("force_zeros_for_empty_prompt"), parts["unet"].config.added_dim is not None
            ),
            configs={
                name.split("/")[0].removesuffix(".json"): f.values for name, f in texts.items()
            },
            defaults=defaults,
            source=path.stem,
        )
        model.digest = digest.result()[:10]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return model


def check_whole(contents: Contents) -> None:
    """Raises BadCheckpoint for a file that is no whole model, and warns of what is not sure."""
    family, path = contents.family, contents.path
    if "model_index.json" not in contents.texts or find_missing(family):
        what = f"is {family.name}" if family.kind != "model" else f"is a {family.name}"
        reason = find_missing(family)
        raise BadCheckpoint(
            f"{path} {what}, not a whole model: {reason} ({family.reason})",
            "give a file with U-Net, VAE and text encoder, or what is missing with --part; "
            "`fromnoise inspect` says what a file holds",
        )
    if strange := [key for key in family.unknown if key.startswith(MODEL)]:
        raise BadCheckpoint(
            f"{path} is a {family.name}, and no part of it has a place for "
            f"{escape(strange[0], 80)} ({len(strange):,} such tensors)",
            "it is of an architecture that is not known here",
        )
    if family.unknown:
        names = ", ".join(escape(key, 80) for key in family.unknown[:3])
        warnings.warn(
            f"{path}: {len(family.unknown):,} tensors are not used: {names}", stacklevel=3
        )
    if family.guessed and contents.derived:
        guess = family.prediction or "eps"
        other = "v" if guess == "eps" else "eps"
        warnings.warn(
            f"{path} does not say whether it predicts eps or v: {guess} is a guess "
            f"({family.prediction_reason}); if its pictures are noise, give --prediction {other}",
            stacklevel=3,
        )


def read_tokenizers(contents: Contents) -> dict[str, Tokenizer]:
    """The tokenizers of the text encoders, by the encoders' names."""
    encoders = [tower.part for tower in contents.family.texts]
    if contents.derived:
        return make_tokenizers(contents.family)
    tokenizers = {}
    with TemporaryDirectory() as place:  # where a folder's tokenizer is read from
        for part in encoders:
            name = part.replace("text_encoder", "tokenizer")
            folder = Path(place) / name
            folder.mkdir()
            for path, text in contents.texts.items():
                if path.startswith(f"{name}/"):
                    (Path(place) / path).write_bytes(text)
            try:
                tokenizers[part] = read_tokenizer(folder)
            except BadCheckpoint as error:
                fault = error.message.replace(str(folder), f"{contents.path}, {name}")
                raise BadCheckpoint(fault, error.remedy) from None
    return tokenizers


def read_head(contents: Contents, width: int) -> dict[str, Tensor]:
    """What completes CLIP, as LatentDiffusion calls it."""
    if (source := contents.parts.get("clip_head")) is None:
        return {}
    from fromnoise.checkpoints.formats.diffusers_towers import read_head_of

    return {key.removesuffix(".weight"): v for key, v in read_head_of(source, width).items()}


def read_schedule(texts: dict[str, Fields], channels: int) -> tuple[NoiseSchedule, str, dict]:
    """(schedule, prediction, what the model asks to be drawn with)."""
    scheduler = texts["scheduler/scheduler_config.json"]
    if "fromnoise.json" in texts:
        return *read_scheduler(scheduler), read_own(texts["fromnoise.json"], channels)
    from fromnoise.checkpoints.formats import diffusers_scheduler

    return diffusers_scheduler.read(scheduler, texts["model_index.json"])
