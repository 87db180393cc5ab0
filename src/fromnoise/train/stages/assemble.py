"""Puts the finished stages together into one model folder, in the layout that every other model
has."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from fromnoise.checkpoints.formats import diffusers_folder
from fromnoise.checkpoints.hub import BUNDLED, load_parts
from fromnoise.data.loader import load_batches
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.clip import CLIPText
from fromnoise.prompt import tokenizer_files
from fromnoise.train import parts
from fromnoise.train.recipe import Recipe, Stage
from fromnoise.train.stages import card
from fromnoise.train.stages.unet import build_schedule


def build_model(recipe: Recipe) -> LatentDiffusion:
    """Everything the recipe's stages have made; the text encoder without its projection, which is
    kept beside it."""
    text, vision, words, scale = parts.load_clip(recipe)
    bare = CLIPText(dataclasses.replace(text.config, projection_dim=None))
    bare.text_model.load_state_dict(text.text_model.state_dict())
    unet, stage = parts.build_unet(recipe), parts.require_stage(recipe, "unet")
    unet.load_state_dict(load_file(stage.folder / "unet.safetensors"))
    asks = recipe.stage("assemble").values
    assert text.text_projection is not None  # a contrastive text tower has one
    return LatentDiffusion(
        unet.eval(),
        parts.load_vae(recipe),
        bare.eval(),
        words,
        build_schedule(stage["schedule"]),
        str(stage["prediction"]),
        vision,
        text.text_projection.weight,
        scale,
        defaults=dict(asks),
    )


def fit_latent_rgb(made: LatentDiffusion, recipe: Recipe, count: int = 64) -> list[list[float]]:
    """(C + 1) × 3 numbers that make RGB in [−1, 1] of C latent channels and a 1: the least-squares
    fit to shrunken pictures, for previews that cost nothing."""
    images = next(load_batches(recipe.open_source(), count, first=4_300_000_000)).images
    with torch.inference_mode():
        latents = made.vae.to_latents(images)
    small = torch.nn.functional.avg_pool2d(images, made.vae.config.factor)
    known = (
        torch.cat((latents, torch.ones_like(latents[:, :1])), 1).movedim(1, -1).flatten(0, 2)
    )  # (N·h·w, C + 1)
    fit = torch.linalg.lstsq(known.double(), small.movedim(1, -1).flatten(0, 2).double()).solution
    return [[round(v, 4) for v in row] for row in fit.tolist()]


def unpack_model(folder: str | Path | None, recipe: Recipe) -> None:
    """The way back: a model (None: the bundled one) becomes finished stages of the recipe, so that
    training goes on from it; its U-Net becomes the start of the stage `unet`, its judge that of
    `classifier`. The recipe's networks must be the model's; strict loading says so otherwise.
    Raises BadInput for a model without CLIP's image tower, or where the stages have begun."""
    made = load_parts(folder)
    if made.vision is None or made.text_projection is None or made.logit_scale is None:
        raise BadInput(
            f"{made.source} lacks CLIP's image tower",
            "start from a model that `fromnoise train` made",
        )
    for name in ("tokenizer", "clip", "vae", "unet"):
        if (recipe.stage(name).folder / "state.safetensors").exists():
            raise BadInput(
                f"stage {name!r} has begun in {recipe.stage(name).folder}",
                "name another folder with --runs",
            )
        recipe.stage(name).folder.mkdir(parents=True, exist_ok=True)
    tokenizer_files.save(made.tokenizer, recipe.stage("tokenizer").folder)
    clip = {f"text.{k}": v for k, v in made.text_encoder.state_dict().items()}
    clip |= {f"vision.{k}": v for k, v in made.vision.state_dict().items()}
    clip |= {"text.text_projection.weight": made.text_projection, "logit_scale": made.logit_scale}
    save_file(
        {k: v.contiguous() for k, v in clip.items()},
        recipe.stage("clip").folder / "clip.safetensors",
    )
    parts.save_weights(made.vae, recipe.stage("vae").folder / "vae.safetensors")
    parts.save_weights(made.unet, recipe.stage("unet").folder / "start.safetensors")
    home, facts = Path(folder or BUNDLED).expanduser(), {}
    if (told := home / "training.json").exists():
        facts = json.loads(told.read_text())
        before = facts.get("unet", {})
        seen = before.get("pictures", 0) + before.get("pictures_before", 0)
        shutil.copy(told, recipe.runs / "start.json")
        (recipe.stage("unet").folder / "start.json").write_text(
            json.dumps({"pictures_before": seen})
        )
    if "classifier" in recipe.stages and (home / "judge").is_dir():
        judge = recipe.stage("classifier").folder
        shutil.copytree(home / "judge", judge, dirs_exist_ok=True)
        (judge / "done.json").write_text(json.dumps(facts.get("classifier", {})))
    done = {"from": made.source, "scaling_factor": made.vae.config.scaling_factor}
    for name in ("tokenizer", "clip", "vae"):
        (recipe.stage(name).folder / "done.json").write_text(json.dumps(done))


def run(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    """Writes `<runs>/model` (fp16, with the judge in its folder `judge` if the recipe trained
    one)."""
    folder: Path = recipe.runs / "model"
    made = build_model(recipe)
    made.defaults["latent_rgb"] = fit_latent_rgb(made, recipe)
    shutil.rmtree(folder, ignore_errors=True)  # an earlier one may hold parts that this one has not
    diffusers_folder.save(made, folder)
    if "classifier" in recipe.stages and recipe.stage("classifier").done:
        (folder / "judge").mkdir(exist_ok=True)
        for name in ("config.json", "model.safetensors"):
            shutil.copy(recipe.stage("classifier").folder / name, folder / "judge" / name)
    told = recipe.runs / "start.json"  # how the model that this one goes on from was made
    facts = json.loads(told.read_text()) if told.exists() else {}
    for name, done in recipe.stages.items():
        if done.done:
            facts[name] = facts.get(name, {}) | json.loads((done.folder / "done.json").read_text())
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    card.write_card(folder, recipe, made, facts)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    stage.folder.mkdir(parents=True, exist_ok=True)
    return {"folder": str(folder), "megabytes": round(size / 1e6, 2)}
