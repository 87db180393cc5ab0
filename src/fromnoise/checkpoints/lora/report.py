"""What a LoRA's header says of it: for `fromnoise inspect`. No torch, and no tensor is read but the
first numbers called alpha."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fromnoise.checkpoints.entries import Header
from fromnoise.checkpoints.lora.keys import EMBEDDED, LISTED, NUMBERED, name_part, split_key
from fromnoise.errors import BadCheckpoint, escape

BASES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}
KINDS = (  # how a leaf begins → what such a change is called, the most telling first
    ("dora_scale", "DoRA"),
    ("magnitude", "DoRA"),
    ("hada_", "LoHa"),
    ("lokr_", "LoKr"),
    ("on_input", "(IA)³"),
    ("oft_", "OFT"),
    ("a1", "GLoRA"),
    ("lora_", "LoRA"),
    ("diff", "differences"),
    ("w_norm", "norms"),
    ("unread", "of a kind that is not read"),
)
ALPHAS = 50  # numbers that are looked at: trainers give all modules one or two
TAGS = 20  # of the training that are told
FACTS = (  # of kohya's trainer and of the model specification, with our names for them
    ("ss_base_model_version", "base"),
    ("modelspec.architecture", "base"),
    ("ss_sd_model_name", "trained on"),
    ("modelspec.title", "title"),
    ("modelspec.trigger_phrase", "trigger"),
    ("ss_resolution", "resolution"),
)


@dataclass
class LoraReport:
    """Modules by part and by kind; ranks and alphas, each with how many have it; the most frequent
    words of the training's captions; other facts."""

    modules: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    ranks: dict[int, int] = field(default_factory=dict)
    alphas: dict[str, int] = field(default_factory=dict)
    embeddings: list[str] = field(default_factory=list)
    base: str = ""
    tags: dict[str, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    unknown: int = 0  # tensors of no known layout


def describe_lora(header: Header, read: Any) -> LoraReport:
    """read: a key → the values of that tensor."""
    report = LoraReport()
    modules: dict[str, set[str]] = {}
    ranks, alphas, pairs = Counter[int](), Counter[str](), Counter[str]()
    embeddings = dict[str, None]()
    for key, entry in header.entries.items():
        shape = entry.shape
        if place := split_key(key):
            modules.setdefault(place.stem, set()).add(place.leaf)
            if place.leaf in ("lora_down", "hada_w1_b", "lokr_w2_b", "a2") and shape:
                ranks[shape[0]] += 1
            elif place.leaf == "alpha" and sum(alphas.values()) < ALPHAS:
                alphas[_read_alpha(read, key)] += 1
            ends = place.stem.replace(".", "_").endswith(("attn2_to_k", "attn2_to_v"))
            if ends and place.leaf == "lora_down" and len(shape) > 1:
                report.base = BASES.get(shape[1], report.base)
        elif match := NUMBERED.fullmatch(key):
            pairs[match[1]] += match[3] == "up"
            ranks[shape[0] if shape else 0] += match[3] == "down"
        elif LISTED.fullmatch(key):
            pairs["unet"] += int(key) % 2
            ranks[shape[0] if shape else 0] += int(key) % 2
        elif match := EMBEDDED.fullmatch(key):
            embeddings[match[1]] = None
        elif header.metadata.get(key) == "<embed>":
            embeddings[key] = None
        else:
            report.unknown += 1
    report.modules = dict(Counter(map(name_part, modules)) + pairs)
    kinds = Counter(_name_kind(leaves) for leaves in modules.values())
    report.kinds = dict(kinds + Counter({"LoRA of 2022": sum(pairs.values())}))
    report.ranks, report.alphas = dict(ranks.most_common()), dict(alphas.most_common())
    report.embeddings = [*embeddings]
    read_facts(header.metadata, report)
    return report


def _name_kind(leaves: set[str]) -> str:
    named = (kind for start, kind in KINDS if any(leaf.startswith(start) for leaf in leaves))
    return next(named, "other")


def _read_alpha(read: Any, key: str) -> str:
    try:
        values: Sequence[float] = read(key)
        return f"{values[0]:g}" if len(values) == 1 else "?"
    except BadCheckpoint:
        return "?"


def list_facts(report: LoraReport) -> dict[str, str]:
    """The report in words, every text of the file escaped and cut."""
    lines = {
        "modules": [f"{count:,} of {part}" for part, count in report.modules.items()],
        "kinds": [f"{kind} ({count:,})" for kind, count in report.kinds.items()],
        "rank": [f"{rank} ({count:,})" for rank, count in [*report.ranks.items()][:8]],
        "alpha": [*report.alphas][:8],
        "embeddings": [escape(name, 80) for name in report.embeddings[:8]],
        "made for": [report.base] if report.base else [],
        "tags": [f"{escape(tag, 80)} ({count:,})" for tag, count in report.tags.items()],
    }
    lines |= {name: [escape(value, 160)] for name, value in report.facts.items()}
    lines["unknown"] = [f"{report.unknown:,} tensors"] if report.unknown else []
    return {name: ", ".join(values) for name, values in lines.items() if values}


def read_facts(metadata: dict[str, str], report: LoraReport) -> None:
    """What the trainer wrote of the training. Whatever is not as kohya's trainer writes it is left
    out: nothing depends on it."""
    for key, name in FACTS:
        if value := metadata.get(key):
            report.facts.setdefault(name, value[:200])
    text = metadata.get("ss_tag_frequency", "")
    try:
        folders = json.loads(text) if len(text) < 1 << 20 else {}
    except (ValueError, RecursionError):
        return
    total = Counter[str]()
    for tags in folders.values() if isinstance(folders, dict) else ():
        if isinstance(tags, dict):
            total.update({k.strip()[:80]: n for k, n in tags.items() if type(n) is int and n > 0})
    report.tags = dict(total.most_common(TAGS))
