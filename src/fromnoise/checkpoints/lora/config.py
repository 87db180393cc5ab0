"""What PEFT's configuration says of the scale of a LoRA, where no tensor says it."""

import re
from collections.abc import Iterable, Mapping
from math import sqrt
from pathlib import Path
from typing import Any

from fromnoise.checkpoints.configs import Fields, Rule, parse_json, read_json
from fromnoise.checkpoints.lora import products
from fromnoise.errors import BadCheckpoint

ADAPTER, CONFIG = "adapter_model", "adapter_config.json"  # PEFT's files
IN_HEADER = "lora_adapter_metadata"  # diffusers writes it there
RANK, ALPHA = Rule("r", int, 1, 1 << 16), Rule("lora_alpha", float, -1e6, 1e6)
OTHER_ALPHA = Rule("alpha", float, -1e6, 1e6)  # of LoHa and LoKr
ROOT, SERIES = Rule("use_rslora"), Rule("use_cayley_neumann")
TERMS = Rule("num_cayley_neumann_terms", int, 1, 1000)
NUMBER = Rule("", float, -1e6, 1e6)


def read_scales(
    path: Path, metadata: Mapping[str, str], ranks: Mapping[str, int | None]
) -> tuple[dict[str, float], dict[str, int]]:
    """(alpha by module, such that alpha / r is the scale; r by module). ranks: r of each module as
    the tensors have it, None where they have none. Raises BadCheckpoint."""
    alphas: dict[str, float] = {}
    told: dict[str, int] = {}
    configs = read_configs(path, metadata) if ranks else {}
    for stem, rank in ranks.items():
        part, _, inner = stem.partition(".")
        config = configs.get(part, configs.get(""))
        if config is None:
            continue
        name = inner if part in configs else stem
        rule = ALPHA if config.values.get("lora_alpha") is not None else OTHER_ALPHA
        if config.values.get(rule.key) is None:
            continue
        alpha = match_pattern(config, "alpha_pattern", name, config.get(rule))
        given = match_pattern(config, "rank_pattern", name, config.get(RANK, 0))
        if rank is None and given >= 1:
            told[stem] = int(given)
        root = config.get(ROOT, False)
        alphas[stem] = alpha * sqrt(rank or told.get(stem, 1)) if root else alpha
    return alphas, told


def read_configs(path: Path, metadata: Mapping[str, str]) -> dict[str, Fields]:
    """PEFT's configurations by part of the model, "" for all of it."""
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
        config = configs[""] = read_json(path.parent / CONFIG)
        if config.values.get("peft_type") == "OFT" and not (
            config.get(SERIES, True) and config.get(TERMS, products.TERMS) == products.TERMS
        ):
            fault = f"{path.parent / CONFIG}: this OFT is not the series of {products.TERMS} terms"
            raise BadCheckpoint(fault, "merge it into its model with PEFT, and load that")
    return configs


def match_pattern(config: Fields, field: str, name: str, default: float) -> float:
    """The module's own number, by PEFT's patterns: a name, or the end of one."""
    patterns: Any = config.values.get(field) or {}
    if not isinstance(patterns, dict) or not all(map(NUMBER.admits, patterns.values())):
        config.refuse(field, "an object of numbers")
    return next((patterns[key] for key in _list_ends(name) if key in patterns), default)


def _list_ends(name: str) -> Iterable[str]:
    """The name without its first words, the longest first."""
    return (name[match.start() :] for match in re.finditer(r"(?:^|(?<=\.))[^.]", name))
