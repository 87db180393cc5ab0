"""How an add-on's file fits a model: told from headers, before anything is drawn."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fromnoise.checkpoints.entries import Header
from fromnoise.checkpoints.families import BASES, CONTEXTS
from fromnoise.checkpoints.formats import lora as loras
from fromnoise.checkpoints.formats.controlnet import open_network
from fromnoise.checkpoints.formats.ip_adapter import check_sizes, open_adapter
from fromnoise.checkpoints.headers import peek
from fromnoise.checkpoints.inspection import read_values
from fromnoise.checkpoints.library import shorten
from fromnoise.checkpoints.lora.place import place
from fromnoise.checkpoints.lora.report import LoraReport, describe_lora, list_facts
from fromnoise.errors import FromnoiseError, escape
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.controlnet import ControlNet
from fromnoise.pipeline.addons.embedding import read_embedding
from fromnoise.pipeline.addons.ip_adapter import find_encoder
from fromnoise.pipeline.addons.lora import read_embeddings
from fromnoise.pipeline.addons.vectors import WIDTHS, Named, fit_parts
from fromnoise.runtime.control import Control, check_made_for

LISTED = 50  # modules without a place that are named
WORDS = 12  # of a training that are offered
LONGEST = 80  # characters of such words
# how the keys of matrices end that read the text: their second size is its width
READING_TEXT = ("attn2.to_k.weight", "to_k_ip.weight")
Fit = Literal["whole", "part", "none", "unknown"]


@dataclass
class Match:
    """How much of a file has a place in a model: "whole", "part" or "none" of it; "unknown" where
    the model is not loaded. `summary` says it in words. `made_for`: the family that the header
    tells, or "". matched: of `total` modules, where the file is a LoRA; lost: names of the others,
    `lost_count` in all. triggers: words for the prompt that the file's training knew."""

    fits: Fit
    summary: str
    made_for: str = ""
    matched: int | None = None
    total: int | None = None
    lost: list[str] = field(default_factory=list)
    lost_count: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    triggers: list[str] = field(default_factory=list)


def match_addon(kind: str, path: Path, model: LatentDiffusion | None, family: str) -> Match:
    """The match of a file of a kind of KINDS. model: None where it is not loaded; family: the name
    of its family then, or "". A file that cannot be read fits nothing, and the summary says why."""
    try:
        found = describe_file(kind, path)
        if model is None:
            return compare_families(found, family)
        return KINDS[kind](path, model, found)
    except FromnoiseError as error:
        return Match("none", f"It does not fit: {error.message}. What to do: {error.remedy}.")


def describe_file(kind: str, path: Path) -> Match:
    """What the file says of itself, where no model is asked."""
    found = Match("unknown", "Whether it fits is known once the model is loaded.")
    if kind == "embedding":
        embedding = read_embedding(path)
        widths = tuple(part.shape[-1] for part in embedding.parts.values())
        found.made_for = WIDTHS.get(widths, "")
        found.facts = {"vectors": f"{embedding.vectors}"}
        found.facts["width"] = " and ".join(map(str, widths))
        found.triggers = pick_words([shorten(path.as_posix())])
        return found
    header = peek(path)
    if kind == "lora":
        report = describe_lora(header, lambda key: read_values(header, key))
        found.made_for = report.base or escape(report.facts.get("base", ""))
        found.facts, found.triggers = list_facts(report), list_triggers(report)
    else:
        found.made_for = find_base(header)
    return found


def compare_families(found: Match, family: str) -> Match:
    """The match with a model of which only the family is known."""
    names = {base.name for base in BASES.values()}
    if {found.made_for, family} <= names:
        same = found.made_for == family
        found.fits = "unknown" if same else "none"
        found.summary = (
            f"It was made for {family}, as this model is. Its parts are counted once the model is "
            "loaded."
            if same
            else f"It does not fit this model: it was made for {found.made_for}, and the model is "
            f"{family}."
        )
    return found


def match_lora(path: Path, model: LatentDiffusion, found: Match) -> Match:
    """How many of its modules have a place."""
    lora = loras.load(path, outline=True)
    placement, (named, misfits) = place(lora, model), read_embeddings(lora, model)
    lost = [*placement.unplaced, *lora.unknown, *misfits]
    found.total, found.matched = lora.count, lora.count - len(placement.unplaced)
    found.lost, found.lost_count = [escape(name, 100) for name in lost[:LISTED]], len(lost)
    count = f"{found.matched:,} of {found.total:,} parts have a place"
    if not placement.counts and not named:
        made = f" It was made for {found.made_for}." if found.made_for else ""
        found.fits, found.summary = "none", f"It does not fit this model: {count}.{made}"
    elif lost:
        found.fits, found.summary = "part", f"It fits in part: {count}. The rest is not used."
    else:
        found.fits, found.summary = "whole", f"It fits: {count}."
    return found


def match_embedding(path: Path, model: LatentDiffusion, found: Match) -> Match:
    """Whether its vectors are as wide as the model's text is."""
    fit_parts(model, Named([shorten(path.as_posix())], read_embedding(path).parts))
    tokens = "token" if found.facts["vectors"] == "1" else "tokens"
    found.fits = "whole"
    found.summary = f"It fits. It takes the place of {found.facts['vectors']} {tokens}."
    return found


def match_control(path: Path, model: LatentDiffusion, found: Match) -> Match:
    """Whether the network sees what this model's U-Net sees."""
    network, *_ = open_network(path, model.unet.config)
    control = Control(network, shorten(path.as_posix()))
    check_made_for(control, model.unet.config, model.vae.config.factor)
    named = isinstance(network, ControlNet)
    union = named and network.settings.kinds
    name = "ControlNet Union" if union else "ControlNet" if named else "T2I-Adapter"
    found.fits, found.facts["network"] = "whole", name
    found.summary = f"It fits: it is a {name} for such a model."
    return found


def match_ip_adapter(path: Path, model: LatentDiffusion, found: Match) -> Match:
    """Whether its layers are those of the U-Net, and its image tower is here."""
    file = open_adapter(path)
    check_sizes(path, file.sizes, file.config, model.unet)
    found.facts["network"] = f"IP-Adapter ({file.config.kind})"
    found.fits, found.summary = "whole", "It fits: it was made for such a model."
    try:
        find_encoder(path, file.config, None)
    except FromnoiseError as error:
        found.fits = "part"
        found.summary = f"It fits the model, but {error.message}. What to do: {error.remedy}."
    return found


Matcher = Callable[[Path, LatentDiffusion, Match], Match]
# a kind of library.KINDS → its match with a model
KINDS: dict[str, Matcher] = {
    "lora": match_lora,
    "embedding": match_embedding,
    "controlnet": match_control,
    "t2i-adapter": match_control,
    "ip-adapter": match_ip_adapter,
}


def find_base(header: Header) -> str:
    """The family whose text the file's network reads, or ""."""
    for key, entry in header.entries.items():
        if key.endswith(READING_TEXT) and len(entry.shape) == 2:
            base = CONTEXTS.get(entry.shape[1])
            return BASES[base].name if base else ""
    return ""


def list_triggers(report: LoraReport) -> list[str]:
    """The words that call a LoRA: those that it names, then the most frequent of its training."""
    named = report.facts.get("trigger", "").split(",")
    return pick_words([*named, *report.tags])


def pick_words(words: Iterable[str]) -> list[str]:
    """Words that a prompt can hold, each once: none that would name another add-on."""
    found = dict.fromkeys(word.strip() for word in words)
    return [word for word in found if is_plain(word)][:WORDS]


def is_plain(word: str) -> bool:
    return 0 < len(word) <= LONGEST and word.isprintable() and not {*"<>"} & {*word}
