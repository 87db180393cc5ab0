"""Puts the finished stages together into one model folder, in the layout that every other model has."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from fromnoise.checkpoints.formats import diffusers_folder
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.clip import CLIPText
from fromnoise.train import parts
from fromnoise.train.recipe import Recipe, Stage
from fromnoise.train.unet import schedule


def model(recipe: Recipe) -> LatentDiffusion:
    """Everything the recipe's stages have made; the text encoder without its projection, which is kept beside it."""
    text, vision, words, scale = parts.clip(recipe)
    bare = CLIPText(dataclasses.replace(text.config, projection_dim=None))
    bare.text_model.load_state_dict(text.text_model.state_dict())
    unet, stage = parts.build_unet(recipe), parts.needs(recipe, "unet")
    unet.load_state_dict(load_file(stage.folder / "unet.safetensors"))
    asks = recipe.stage("assemble").values
    assert text.text_projection is not None  # a contrastive text tower has one
    return LatentDiffusion(
        unet.eval(),
        parts.vae(recipe),
        bare.eval(),
        words,
        schedule(stage["schedule"]),
        str(stage["prediction"]),
        vision,
        text.text_projection.weight,
        scale,
        defaults=dict(asks),
    )


def run(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    """Writes `<runs>/model` (fp16, with the judge in its folder `judge` if the recipe trained one)."""
    folder: Path = recipe.runs / "model"
    diffusers_folder.save(model(recipe), folder)
    if "classifier" in recipe.stages and recipe.stage("classifier").done:
        (folder / "judge").mkdir(exist_ok=True)
        for path in recipe.stage("classifier").folder.glob("judge*"):
            if path.is_file():
                shutil.copy(path, folder / "judge" / path.name)
    facts = {name: json.loads((s.folder / "done.json").read_text()) for name, s in recipe.stages.items() if s.done}
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    stage.folder.mkdir(parents=True, exist_ok=True)
    return {"folder": str(folder), "megabytes": round(size / 1e6, 2)}
