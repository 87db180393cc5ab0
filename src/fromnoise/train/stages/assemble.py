"""Puts the finished stages together into one model folder, in the layout that every other model
has; and takes a model apart, so that training goes on from it."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from fromnoise.checkpoints import training_state
from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.checkpoints.hub import BUNDLED, load_parts
from fromnoise.checkpoints.refusals import refuse_encoders
from fromnoise.data.loader import load_batches
from fromnoise.data.source import Source
from fromnoise.errors import BadInput
from fromnoise.files import write_file
from fromnoise.folders import replace_folder
from fromnoise.latent_diffusion import LatentDiffusion, TextEncoder
from fromnoise.models.clip import CLIPText
from fromnoise.prompt import tokenizer_files
from fromnoise.prompt.words import split_words
from fromnoise.train import parts
from fromnoise.train.recipe import Recipe, Stage
from fromnoise.train.results import REMEDY, START, describe_stage, read_figures, write_done
from fromnoise.train.stages import card
from fromnoise.train.stages.unet import build_schedule

FIT_SEEDS = 4_300_000_000  # first seed of the pictures that the preview's colours are fitted to
ORIGIN = "start.json"  # how the model was made that training goes on from


def build_model(recipe: Recipe) -> LatentDiffusion:
    """The model of all finished stages. The text encoder has no projection; the model keeps the
    projection beside it."""
    text, vision, words, scale = parts.load_clip(recipe)
    bare = CLIPText(dataclasses.replace(text.config, projection_dim=None))
    bare.text_model.load_state_dict(text.text_model.state_dict())
    unet, stage = parts.build_unet(recipe), parts.require_stage(recipe, "unet")
    path = stage.folder / "unet.safetensors"
    parts.fill_network(unet, parts.load_weights(path), path)
    assert text.text_projection is not None  # a contrastive text tower has one
    return LatentDiffusion(
        unet.eval(),
        parts.load_vae(recipe),
        (TextEncoder(bare.eval(), words),),
        build_schedule(stage["schedule"]),
        str(stage["prediction"]),
        vision,
        text.text_projection.weight,
        scale,
        defaults=dict(recipe.stage("assemble").values),
    )


def list_caption_words(source: Source, count: int = 5_000) -> list[str]:
    """The words of the source's captions, in lower case and in order: of `count` training samples,
    and all names that it has for the values of its attributes."""
    captions = [source.sample(seed, draw=False).caption for seed in range(count)]
    names = (source.list_names(attribute).values() for attribute in source.schema)
    texts = [*captions, *(name for values in names for some in values for name in some)]
    return sorted({word for text in texts for word in split_words(text)})


def fit_latent_rgb(model: LatentDiffusion, recipe: Recipe, count: int = 64) -> list[list[float]]:
    """(C + 1) × 3 numbers that turn C latent channels and a 1 into RGB in [−1, 1].

    The least-squares fit to shrunken pictures, for previews that cost nothing.
    """
    images = next(load_batches(recipe.open_source(), count, first=FIT_SEEDS)).images
    with torch.inference_mode():
        latents = model.vae.to_latents(images)
    small = torch.nn.functional.avg_pool2d(images, model.vae.config.factor)
    inputs = torch.cat((latents, torch.ones_like(latents[:, :1])), 1)
    rows = inputs.movedim(1, -1).flatten(0, 2)  # (N·h·w, C + 1)
    colours = small.movedim(1, -1).flatten(0, 2)  # (N·h·w, 3)
    fit = torch.linalg.lstsq(rows.double(), colours.double()).solution
    return [[round(v, 4) for v in row] for row in fit.tolist()]


def unpack_model(folder: str | Path | None, recipe: Recipe) -> None:
    """Turns a model (None: the bundled one) into finished stages, so that training goes on from it.

    Its U-Net becomes the start of the stage `unet`, its judge that of `classifier`. The recipe's
    networks must be the model's; else the stages that load them say so. Raises BadInput for a model
    without CLIP's image tower, or when the stages have begun.
    """
    model = load_parts(folder)
    refuse_encoders(model, "trained on")
    vision, projection, scale = model.vision, model.text_projection, model.logit_scale
    if vision is None or projection is None or scale is None:
        raise BadInput(
            f"{model.source} lacks CLIP's image tower",
            "start from a model that `fromnoise train` made",
        )
    for name in ("tokenizer", "clip", "vae", "unet"):
        if (recipe.stage(name).folder / training_state.FILE).exists():
            raise BadInput(
                f"stage {name!r} has begun in {recipe.stage(name).folder}",
                "leave out --start to go on with it, or name another folder with --runs",
            )
        recipe.stage(name).folder.mkdir(parents=True, exist_ok=True)
    tokenizer_files.save(model.tokenizer, recipe.stage("tokenizer").folder)
    clip = {f"text.{k}": v for k, v in model.text_encoder.state_dict().items()}
    clip |= {f"vision.{k}": v for k, v in vision.state_dict().items()}
    clip |= {"text.text_projection.weight": projection, "logit_scale": scale}
    tensors = {k: v.contiguous() for k, v in clip.items()}
    path = recipe.stage("clip").folder / "clip.safetensors"
    training_state.write_tensors(path, tensors, None, REMEDY)
    parts.save_weights(model.vae, recipe.stage("vae").folder / "vae.safetensors")
    parts.save_weights(model.unet, recipe.stage("unet").folder / START)
    home = Path(folder or BUNDLED).expanduser()
    facts = read_facts(home / "training.json")
    if facts:
        before = facts.get("unet", {})
        total = before.get("pictures", 0) + before.get("pictures_before", 0)
        write_json(recipe.runs / ORIGIN, facts)
        write_json(recipe.stage("unet").folder / ORIGIN, {"pictures_before": total})
    if "classifier" in recipe.stages and (home / "judge").is_dir():
        stage = recipe.stage("classifier")
        stage.folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "model.safetensors"):
            data = (home / "judge" / name).read_bytes()
            write_file(stage.folder / name, lambda p, data=data: p.write_bytes(data), remedy=REMEDY)
        write_done(stage, facts.get("classifier", {}), describe_origin(stage, recipe, model))
    figures = {"from": model.source, "scaling_factor": model.vae.config.scaling_factor}
    for name in ("tokenizer", "clip", "vae"):
        stage = recipe.stage(name)
        write_done(stage, figures, describe_origin(stage, recipe, model))


def describe_origin(stage: Stage, recipe: Recipe, model: LatentDiffusion) -> dict[str, Any]:
    """The words of a stage that another model gave."""
    return {**describe_stage(stage, recipe), "from": f"{model.source} {model.digest}".strip()}


def run(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    """Writes `<runs>/model` in fp16, with the judge in its folder `judge` if the recipe trained
    one. The model that was there before is replaced whole, or not at all."""
    folder = recipe.runs / "model"
    model = build_model(recipe)
    model.defaults["latent_rgb"] = fit_latent_rgb(model, recipe)
    model.defaults["words"] = list_caption_words(recipe.open_source())
    facts = read_facts(recipe.runs / ORIGIN)
    for name, other in recipe.stages.items():
        if other.done and other.name != stage.name:
            facts[name] = facts.get(name, {}) | read_figures(other)

    def write(part: Path) -> None:
        diffusers_folder_save.save(model, part)
        if "classifier" in recipe.stages and recipe.stage("classifier").done:
            (part / "judge").mkdir()
            for name in ("config.json", "model.safetensors"):
                shutil.copyfile(recipe.stage("classifier").folder / name, part / "judge" / name)
        write_json(part / "training.json", facts)
        card.write_card(part, recipe, model, facts)

    replace_folder(folder, write)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return {"folder": str(folder), "megabytes": round(size / 1e6, 2)}


def read_facts(path: Path) -> dict[str, dict[str, Any]]:
    """Stage → figures, of a training.json. Nothing when there is none. Raises BadInput when it is
    damaged."""
    if not path.exists():
        return {}
    try:
        facts = json.loads(path.read_text("utf-8"))
        if not isinstance(facts, dict) or not all(isinstance(v, dict) for v in facts.values()):
            raise ValueError("it is no table of stages")
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            f"{path} is damaged: {error}", "remove it; the model's card then lacks its figures"
        ) from None
    return facts


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2) + "\n"
    write_file(path, lambda part: part.write_text(text, "utf-8"), remedy=REMEDY)
