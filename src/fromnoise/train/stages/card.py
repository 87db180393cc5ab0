"""The model card: what a model was made of, on what, for how long, and what was measured."""

import json
import subprocess
from pathlib import Path
from typing import Any

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.train.recipe import Recipe

SHOWN = (
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
    try:
        root = Path(__file__).parent
        command = ["git", "rev-parse", "--short", "HEAD"]
        return subprocess.run(
            command, cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_card(
    folder: Path, recipe: Recipe, made: LatentDiffusion, facts: dict[str, dict[str, Any]]
) -> None:
    """README.md of a model's folder, from the stages' `done.json` and, where the model was
    evaluated before, from `<runs>/evaluation/report.json`."""
    networks = {
        "U-Net": made.unet,
        "VAE": made.vae,
        "text tower": made.text_encoder,
        "image tower": made.vision,
    }
    count = {
        name: sum(p.numel() for p in m.parameters()) / 1e6
        for name, m in networks.items()
        if m is not None
    }
    lines = [
        f"# {recipe.name}",
        "",
        f"A text-to-image latent diffusion model, {made.size} × {made.size} pixels, trained from nothing by the recipe",
        f"`{recipe.name}.toml` of fromnoise (commit {read_commit()}) from the source `{recipe.source}`.",
        "",
        f"Millions of parameters: {', '.join(f'{k} {v:.2f}' for k, v in count.items())}. Weights in fp16, prediction"
        f" `{made.prediction}`.",
        "",
        "| stage | " + " | ".join(SHOWN) + " |",
        "|---|" + "---:|" * len(SHOWN),
    ]
    for name, done in facts.items():
        cells = (
            f"{v:.4g}" if isinstance(v := done.get(key, ""), float) else str(v) for key in SHOWN
        )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    report = recipe.runs / "evaluation" / "report.json"
    if report.exists():
        lines += ["", *format_measurements(json.loads(report.read_text()))]
    (folder / "README.md").write_text("\n".join(lines) + "\n")


def format_measurements(report: dict[str, Any]) -> list[str]:
    """The evaluation's figures as a table: accuracy ± standard error, sample size, ceiling, share
    of the ceiling."""
    lines = ["## Measured", "", ", ".join(f"{k} {v}" for k, v in report["facts"].items()), ""]
    lines += [
        "| combinations | attribute | right | n | on real pictures | of ceiling |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for split, found in report["faithfulness"].items():
        for name, row in found["attributes"].items():
            drawn, real, share = (row[k] for k in ("drawn", "real", "of_ceiling"))
            right = f"{drawn['accuracy']:.3f} ± {drawn['error']:.3f}"
            lines.append(
                f"| {split.replace('_', '-')} | {name} | {right} | {row['n']} | {real['accuracy']:.3f} |"
                f" {share['ratio']:.3f} ± {share['error']:.3f} |"
            )
    for name, row in report.get("reconstruction", {}).items():
        if isinstance(row, dict):
            lines += ["", f"Autoencoder PSNR, {name}: {row['psnr']:.2f} dB."]
    for name, row in report.get("retrieval", {}).items():
        lines += [
            "",
            f"CLIP top-1 of 256, {name}: {row['top1']:.3f} ± {row['error']:.3f} (n = {row['n']}).",
        ]
    return lines
