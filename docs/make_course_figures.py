"""Writes src/fromnoise/learn/course/figures.json: every measured number of the course's text, with
the file it was read from. `--check` fails if it is stale.

A chapter says `{{name}}`; the value comes from here and from nowhere else. Each row below finds one
value in a document that a measurement wrote, or in a file of the bundled model.
"""

import json
import math
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
WEIGHTS = "src/fromnoise/weights"
TARGET = ROOT / "src/fromnoise/learn/course/figures.json"
CARD, SAMPLERS, GUIDANCE = f"{WEIGHTS}/README.md", "docs/samplers.md", "docs/guidance.md"
EXPLORABLES = "docs/explorables.json"
LOG, INSIDE, PROMPTS = "docs/log.md", "docs/inside.md", "docs/prompts.md"


def of_ceiling(kind: str, attribute: str) -> str:
    return rf"\| {kind} \| {attribute} \|(?:[^|]*\|){{3}} ([\d.]+ ± [\d.]+) \|"


def error_at(name: str, column: int) -> str:
    return rf"\| `{name}` \|(?:[^|\n]*\|){{{5 + column}}} ([\d.]+) \|"


def follows(name: str, column: int) -> str:
    return rf"\n\| `{name}` \|(?:[^|\n]*±[^|\n]*\|){{{column}}} ([\d.]+ ± [\d.]+) \|"


def guided(name: str, column: int) -> str:
    return rf"\| {re.escape(name)} \| [^|]*\|(?:[^|]*\|){{{column}}} ([\d.]+(?: ± [\d.]+)?) \|"


# name → (file, regular expression whose first group is the value)
FOUND = {
    "object_seen": (CARD, of_ceiling("seen", "object")),
    "object_held_out": (CARD, of_ceiling("held-out", "object")),
    "psnr_whole": (CARD, r"PSNR, whole picture: ([\d.]+) dB"),
    "psnr_inside": (CARD, r"PSNR, inside the object: ([\d.]+) dB"),
    "top1_of_captions": (CARD, r"picture → caption: ([\d.]+ ± [\d.]+)"),
    "millions_unet": (CARD, r"U-Net ([\d.]+)"),
    "millions_vae": (CARD, r"VAE ([\d.]+)"),
    "euler_error_20": (SAMPLERS, error_at("euler", 2)),
    "heun_error_10": (SAMPLERS, error_at("heun", 1)),
    "heun_error_20": (SAMPLERS, error_at("heun", 2)),
    "dpmpp_2m_4": (SAMPLERS, follows("dpmpp_2m", 0)),
    "dpmpp_2m_8": (SAMPLERS, follows("dpmpp_2m", 1)),
    "dpmpp_2m_12": (SAMPLERS, follows("dpmpp_2m", 2)),
    "dpmpp_2m_20": (SAMPLERS, follows("dpmpp_2m", 3)),
    "dpmpp_2m_50": (SAMPLERS, follows("dpmpp_2m", 4)),
    "euler_8": (SAMPLERS, follows("euler", 1)),
    "unipc_8": (SAMPLERS, follows("unipc", 1)),
    "fast_8": (SAMPLERS, r"\| dpmpp_2m sgm_uniform \| ([\d.]+ ± [\d.]+) \|"),
    "followed_cfg_1": (GUIDANCE, guided("no guidance", 0)),
    "followed_cfg_4": (GUIDANCE, guided("CFG 4", 0)),
    "followed_cfg_8": (GUIDANCE, guided("CFG 8", 0)),
    "diversity_cfg_1": (GUIDANCE, guided("no guidance", 2)),
    "diversity_cfg_4": (GUIDANCE, guided("CFG 4", 2)),
    "followed_interval": (GUIDANCE, guided("CFG 4, where σ ≤ 3", 0)),
    "diversity_interval": (GUIDANCE, guided("CFG 4, where σ ≤ 3", 2)),
    "pixel_narrow": (LOG, r"costs (2\.1 to 2\.8) ×"),
    "pixel_same_widths": (LOG, r"more levels (8 to 12) ×"),
    "pixel_same_network": (LOG, r"full resolution (95 × \(64 px\) to 1,790 × \(512 px\))"),
    "first_top1": (LOG, r"gave (0\.72) top-1 of 256"),
    "first_objects": (LOG, r"objects \((0\.017)\)"),
    "first_text_objects": (LOG, r"pooled state found (17) %"),
    "mended_text_objects": (LOG, r"text (0\.87) / 1\.0"),
    "second_model_objects": (LOG, r"object (0\.55) ± 0\.04 \(was 0\.017\)"),
    "style_everywhere": (LOG, r"style (285) at every level"),
    "style_low_sigma": (LOG, r"(293) below σ = 3"),
    "muon_share": (LOG, r"needed about (a third) of the pictures"),
    "hard_before": (LOG, r"\(was (0\.680 ± 0\.038)\)"),
    "hard_after": (PROMPTS, r"\| object \| (0\.847 ± 0\.030) \|"),
    "map_object": (INSIDE, r"(0\.53 ± 0\.01)"),
    "map_other": (INSIDE, r"(0\.27) and 0\.33"),
    "weight_06": (PROMPTS, r"\| object \| (0\.037) ± 0\.013"),
    "weight_10": (PROMPTS, r"\| object \| 0\.037 [^|]*\|[^|]*\| (0\.558)"),
    "weight_14": (PROMPTS, r"\| object \| 0\.037 (?:[^|]*\|){4} (0\.835)"),
}


def read_json(path: str) -> dict:
    return json.loads((ROOT / path).read_text())


def from_model() -> dict[str, tuple[str, str]]:
    """(value, file) of what the bundled model's own files say."""
    vae = read_json(f"{WEIGHTS}/vae/config.json")
    unet = read_json(f"{WEIGHTS}/unet/config.json")
    text = read_json(f"{WEIGHTS}/text_encoder/config.json")
    noise = read_json(f"{WEIGHTS}/scheduler/scheduler_config.json")
    stages = read_json(f"{WEIGHTS}/training.json")
    recipe = tomllib.loads((ROOT / "recipes/stickers.toml").read_text())
    side, channels, pixels = unet["sample_size"], vae["latent_channels"], vae["sample_size"]
    bars, bar, T = [], 1.0, noise["num_train_timesteps"]
    low, high = noise["beta_start"] ** 0.5, noise["beta_end"] ** 0.5
    for t in range(T):
        bar *= 1 - (low + (high - low) * t / (T - 1)) ** 2
        bars.append(bar)
    drawn = stages["unet"]["pictures_before"] + stages["unet"]["pictures"]
    values = {
        "side": (pixels, "vae/config.json"),
        "pixel_values": (pixels**2 * 3, "vae/config.json"),
        "latent_side": (side, "unet/config.json"),
        "latent_channels": (channels, "vae/config.json"),
        "latent_values": (side**2 * channels, "unet/config.json"),
        "fewer_values": (pixels**2 * 3 // (side**2 * channels), "vae/config.json"),
        "factor": (pixels // side, "vae/config.json"),
        "vocabulary": (text["vocab_size"], "text_encoder/config.json"),
        "token_width": (text["hidden_size"], "text_encoder/config.json"),
        "longest": (text["max_position_embeddings"], "text_encoder/config.json"),
        "timesteps": (T, "scheduler/scheduler_config.json"),
        "bar_first": (f"{bars[0]:.4f}", "scheduler/scheduler_config.json"),
        "bar_middle": (f"{bars[T // 2]:.3f}", "scheduler/scheduler_config.json"),
        "bar_last": (f"{bars[-1]:.5f}", "scheduler/scheduler_config.json"),
        "sigma_low": (f"{math.sqrt(1 / bars[0] - 1):.3f}", "scheduler/scheduler_config.json"),
        "sigma_high": (f"{math.sqrt(1 / bars[-1] - 1):.0f}", "scheduler/scheduler_config.json"),
        "million_pictures": (f"{drawn / 1e6:.1f}", "training.json"),
        "minutes_gpu": (f"{stages['unet']['seconds'] / 60:.1f}", "training.json"),
        "clip_minutes": (f"{stages['clip']['seconds'] / 60:.0f}", "training.json"),
        "clip_pictures": (stages["clip"]["pictures"], "training.json"),
    }
    found = {
        name: (f"{value:,}" if isinstance(value, int) else value, f"{WEIGHTS}/{file}")
        for name, (value, file) in values.items()
    }
    drop = recipe["unet"]["caption_drop"]
    kl, ema = recipe["vae"]["kl"], recipe["unet"]["ema"]
    for name, value in (("drop", f"{drop:.0%}"), ("kl_weight", f"{kl:g}"), ("ema", f"{ema:g}")):
        found[name] = (value.replace("%", " %"), "recipes/stickers.toml")
    return found


def read_unwrapped(path: str) -> str:
    """A document in which no line of prose is broken; rows of tables stay rows."""
    return re.sub(r"(?<!\n)\n(?![\n|])", " ", (ROOT / path).read_text())


def build() -> str:
    figures = {}
    for name, (file, pattern) in FOUND.items():
        values = set(re.findall(pattern, read_unwrapped(file)))
        if len(values) != 1:
            sys.exit(f"{name}: {file} holds {sorted(values)} for {pattern}; mend the row here")
        figures[name] = {"value": values.pop(), "source": file}
    for name, (value, file) in from_model().items():
        figures[name] = {"value": value, "source": file}
    for row in read_json(EXPLORABLES)["explorables"].values():
        for name, value in row["figures"].items():
            figures[name] = {"value": value, "source": EXPLORABLES}
    head = {"made_by": "docs/make_course_figures.py", "figures": dict(sorted(figures.items()))}
    return json.dumps(head, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    new = build()
    if "--check" not in sys.argv:
        TARGET.write_text(new)
    elif not TARGET.exists() or TARGET.read_text() != new:
        sys.exit(f"{TARGET.name} is stale: run `python docs/make_course_figures.py`")
