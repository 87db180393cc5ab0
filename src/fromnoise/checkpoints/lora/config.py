"""What PEFT's configuration says of the scale of a LoRA, where no tensor says it. No torch."""

import re
from collections.abc import Iterable, Mapping
from math import sqrt
from pathlib import Path
from typing import Any

from fromnoise.checkpoints.configs import Fields, Rule, parse_json, read_json

ADAPTER, CONFIG = "adapter_model", "adapter_config.json"  # PEFT's files
IN_HEADER = "lora_adapter_metadata"  # diffusers writes it there
RANK, ALPHA = Rule("r", int, 1, 1 << 16), Rule("lora_alpha", float, -1e6, 1e6)
ROOT = Rule("use_rslora")
NUMBER = Rule("", float, -1e6, 1e6)


def read_alphas(
    path: Path, metadata: Mapping[str, str], ranks: Mapping[str, int]
) -> dict[str, float]:
    """alpha by module, such that alpha / r is the scale. ranks: r of each module as the tensors
    have it. Raises BadCheckpoint."""
    configs: dict[str, Fields] = {}
    if text := metadata.get(IN_HEADER):
        place = f"{path}, {IN_HEADER}"
        values = parse_json(text.encode(errors="replace"), place)
        for part in ("unet", "text_encoder", "text_encoder_2"):
            own = {k.removeprefix(f"{part}."): v for k, v in values.items()}
            if f"{part}.r" in values or f"{part}.lora_alpha" in values:
                own = {k: v for k, v in own.items() if f"{part}.{k}" in values}
                configs[part] = Fields(place, own)
        if "lora_alpha" in values:
            configs[""] = Fields(place, values)
    elif path.stem == ADAPTER and (path.parent / CONFIG).is_file():
        configs[""] = read_json(path.parent / CONFIG)
    found: dict[str, float] = {}
    for stem, rank in ranks.items():
        part, _, inner = stem.partition(".")
        config = configs.get(part, configs.get(""))
        if config is not None and config.values.get("lora_alpha") is not None:
            name = inner if part in configs else stem
            alpha = match_pattern(config, name, config.get(ALPHA))
            config.get(RANK)
            found[stem] = alpha * sqrt(rank) if config.get(ROOT, False) else alpha
    return found


def match_pattern(config: Fields, name: str, default: float) -> float:
    """The module's own alpha, by PEFT's alpha_pattern: a name, or the end of one."""
    patterns: Any = config.values.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(map(NUMBER.admits, patterns.values())):
        config.refuse("alpha_pattern", "an object of numbers")
    return next((patterns[key] for key in _list_ends(name) if key in patterns), default)


def _list_ends(name: str) -> Iterable[str]:
    """The name without its first words, the longest first."""
    return (name[match.start() :] for match in re.finditer(r"(?:^|(?<=\.))[^.]", name))
