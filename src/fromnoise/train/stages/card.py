"""The model card: what a model was made of, on what, for how long, and what was measured."""

import json
import subprocess
from pathlib import Path
from typing import Any

from fromnoise.files import write_file
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.train.recipe import Recipe
from fromnoise.train.results import REMEDY

COLUMNS = (  # figures of done.json that the card's table has
    "pictures_before",
    "pictures",
    "steps",
    "seconds",
    "psnr",
    "psnr_inside",
    "top1_of_256",
    "vocab_size",
    "on",
)


def read_commit() -> str:
    """The commit of the working tree that trains, or "unknown" outside one."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def write_card(
    folder: Path, recipe: Recipe, model: LatentDiffusion, facts: dict[str, dict[str, Any]]
) -> None:
    """Writes README.md of a model's folder from the stages' figures.

    It also has the figures of `<runs>/evaluation/report.json`, where the model was evaluated.
    """
    networks = {
        "U-Net": model.unet,
        "VAE": model.vae,
        "text tower": model.text_encoder,
        "image tower": model.vision,
    }
    sizes = ", ".join(
        f"{name} {sum(p.numel() for p in network.parameters()) / 1e6:.2f}"
        for name, network in networks.items()
        if network is not None
    )
    lines = [
        f"# {recipe.name}",
        "",
        f"A text-to-image latent diffusion model, {model.size} × {model.size} pixels, trained from"
        f" nothing by the recipe\n`{recipe.name}.toml` of fromnoise (commit {read_commit()}) from"
        f" the source `{recipe.source}`.",
        "",
        f"Millions of parameters: {sizes}. Weights in fp16, prediction `{model.prediction}`.",
        "",
        "| stage | " + " | ".join(COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, figures in facts.items():
        cells = (_format_cell(figures.get(column, "")) for column in COLUMNS)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    report = recipe.runs / "evaluation" / "report.json"
    if report.exists():
        lines += ["", *format_measurements(json.loads(report.read_text("utf-8")))]
    text = "\n".join(lines) + "\n"
    write_file(folder / "README.md", lambda part: part.write_text(text, "utf-8"), remedy=REMEDY)


def format_measurements(report: dict[str, Any]) -> list[str]:
    """The evaluation's figures as a table: accuracy ± standard error, sample size, ceiling, share
    of the ceiling."""
    lines = ["## Measured", "", ", ".join(f"{k} {v}" for k, v in report["facts"].items()), ""]
    lines += [
        "| combinations | attribute | right | n | on real pictures | of ceiling |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for split, scores in report["faithfulness"].items():
        for name, row in scores["attributes"].items():
            drawn, real, share = (row[k] for k in ("drawn", "real", "of_ceiling"))
            cells = (
                split.replace("_", "-"),
                name,
                f"{drawn['accuracy']:.3f} ± {drawn['error']:.3f}",
                str(row["n"]),
                f"{real['accuracy']:.3f}",
                f"{share['ratio']:.3f} ± {share['error']:.3f}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    for name, row in report.get("reconstruction", {}).items():
        if isinstance(row, dict):
            lines += ["", f"Autoencoder PSNR, {name}: {row['psnr']:.2f} dB."]
    for name, row in report.get("retrieval", {}).items():
        figures = f"{row['top1']:.3f} ± {row['error']:.3f} (n = {row['n']})"
        lines += ["", f"CLIP top-1 of 256, {name}: {figures}."]
    return lines


def _format_cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
