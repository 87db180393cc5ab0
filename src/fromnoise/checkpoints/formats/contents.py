"""What a model on disk holds, whatever its layout: its parts under the keys of a diffusers folder,
the texts of such a folder, and what has no place in one. Only headers and texts are read here; the
tensors stay in their files."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from torch import Tensor

from fromnoise.checkpoints.configs import (
    JSON_BYTES,
    TABLE_BYTES,
    parse_json,
    read_bytes,
    read_json,
)
from fromnoise.checkpoints.families import BASES, FLOW, TOWERS, Family, tell_family
from fromnoise.checkpoints.formats.diffusers_configs import WEIGHTS
from fromnoise.checkpoints.formats.diffusers_old import ATTENTION
from fromnoise.checkpoints.formats.published import FLOW_SCHEDULER, WORDS, describe_folder
from fromnoise.checkpoints.inspection import read_beside
from fromnoise.checkpoints.keymap import Group, forth
from fromnoise.checkpoints.measures import measure_text, measure_unet, measure_vae
from fromnoise.checkpoints.sources import TensorSource, open_tensors
from fromnoise.checkpoints.tensors import Keys, See, Stored, TensorFile
from fromnoise.errors import BadCheckpoint, BadInput, UnknownName, escape
from fromnoise.prompt.clip_vocabulary import MERGES_SHA256, VOCAB_SHA256, read_vocabulary

OURS = "fromnoise."  # what a single file holds for us begins so: fromnoise.<path>
FOREIGN = re.compile(rf"{re.escape(OURS)}(\w{{1,40}}):(.+)", re.DOTALL)  # fromnoise.<part>:<key>
EXTRAS, HEADER = "extras.safetensors", f"{OURS}header"
LAYOUT = "layout"  # a text that says how older or newer files call the keys of a part
# the texts of a folder that a single file can hold, and no other path
TABLES = ("vocab.json", "merges.txt", "tokenizer.json")
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "image_encoder", "depth_estimator")
PARTS += ("image_tower",)
PATHS = {"model_index.json", "fromnoise.json", "scheduler/scheduler_config.json", LAYOUT}
PATHS |= {"feature_extractor/preprocessor_config.json"}
PATHS |= {f"{part}/config.json" for part in PARTS}
PATHS |= {f"{t}/{name}" for t in ("tokenizer", "tokenizer_2") for name in (*TABLES, *SETTINGS)}
FILES = {part: f"{part}/{WEIGHTS.get(part, 'model.safetensors')}" for part in PARTS}
FILES |= {"clip_head": "clip_head.safetensors"}
# older keys of a folder → today's
FLAT = ("embeddings.", "encoder.", "final_layer_norm.")  # transformers 5 leaves out "text_model."
LEFT_OUT = ("safety_checker",)  # it looks at finished pictures and draws nothing
TEXTS_ONLY = ("tokenizer", "tokenizer_2", "scheduler", "feature_extractor", "image_processor")


class Mapped:
    """Some tensors of a file under other keys, as rules make them: a TensorSource itself."""

    def __init__(self, source: TensorSource, groups: Mapping[str, Group]):
        """groups: key in the file → its rule."""
        self.source, self.groups = source, groups
        self.path, self.metadata = source.path, source.metadata
        stored: dict[str, Stored] = {}
        for key, group in groups.items():
            entries = forth(group, source.stored[key], f"{self.path}: {key[:200]}")
            stored |= zip(group.keys, entries, strict=True)
        self.stored: Mapping[str, Stored] = stored

    def stream(self, see: See = None, keys: Keys = None) -> Iterator[tuple[str, Tensor]]:
        wanted = [
            k for k, g in self.groups.items() if keys is None or not {*g.keys}.isdisjoint(keys)
        ]
        for key, tensor in self.source.stream(see, {*wanted}):
            group = self.groups[key]
            for name, value in zip(group.keys, forth(group, tensor, key), strict=True):
                if keys is None or name in keys:
                    yield name, value

    def read(self, see: See = None, keys: Keys = None) -> dict[str, Tensor]:
        return dict(self.stream(see, keys))


@dataclass
class Contents:
    """A model on disk. parts: the weights, by the names of a diffusers folder; extras: what has no
    part, under the keys of a single file; texts: path in a folder → bytes; header: the first bytes
    of the single file that it comes from, shapes: of its tensors; derived: whether the texts are
    those of the family, since the file brings none; others: files of a folder that are none of
    these."""

    path: Path
    family: Family
    parts: dict[str, TensorSource]
    texts: dict[str, bytes]
    extras: Mapped | None = None
    header: bytes = b""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    derived: bool = False
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_contents(path: Path, prediction: str | None = None) -> Contents:
    """The contents of a folder or a single file. prediction: "eps" or "v", against what the file
    says. Raises NotFound, BadCheckpoint, and UnknownName for a prediction."""
    return read_folder(path, prediction) if path.is_dir() else read_single(path, prediction)


def read_single(path: Path, prediction: str | None = None) -> Contents:
    """The contents of a single file."""
    check_prediction(prediction)
    source = open_tensors(path)
    family = tell_source(source, read_beside(path))
    if prediction:
        family = replace(
            family, prediction=prediction, prediction_reason="you say so", guessed=False
        )
    keymap = family.make_keymap()
    groups: dict[str, dict[str, Group]] = {}
    extras: dict[str, Group] = {}
    for key in source.stored:
        if (group := keymap.groups.get(key)) is not None:
            groups.setdefault(group.part, {})[key] = group
        elif (match := FOREIGN.fullmatch(key)) and match[1] in FILES:
            groups.setdefault(match[1], {})[key] = Group(key, match[1], (match[2],))
        elif key.removeprefix(OURS) not in PATHS:
            extras[key] = Group(key, "", (key,))
    parts: dict[str, TensorSource] = {name: Mapped(source, g) for name, g in groups.items()}
    contents = Contents(path, family, parts, unpack_texts(source), Mapped(source, extras))
    contents.header = getattr(source, "head", b"")
    contents.shapes = {key: entry.shape for key, entry in source.stored.items()}
    if "model_index.json" not in contents.texts and not find_missing(family):
        contents.texts, contents.derived = describe_folder(family), True
    if prediction:
        set_prediction(contents, prediction)
    return contents


def find_missing(family: Family) -> str:
    """What keeps the file from being a whole model, or ""."""
    if family.kind != "model" or not family.vae or not family.texts:
        return family.problems[0] if family.problems else f"it is {family.name}"
    return "a text encoder is missing" if family.base == "xl" and len(family.texts) < 2 else ""


def tell_source(source: TensorSource, beside: str = "") -> Family:
    """The family of an open file."""
    shapes = {key: entry.shape for key, entry in source.stored.items()}

    def read(key: str) -> list[float]:
        return source.read(keys=[key])[key].double().flatten().tolist()

    return tell_family(shapes, source.metadata, read, beside)


def check_prediction(prediction: str | None) -> None:
    """Raises UnknownName."""
    if prediction is not None and prediction not in WORDS:
        raise UnknownName("prediction", prediction, WORDS)


def set_prediction(contents: Contents, prediction: str) -> None:
    """The scheduler of the contents with another prediction."""
    name = "scheduler/scheduler_config.json"
    if name in contents.texts:
        value = parse_json(contents.texts[name], f"{contents.path}, {name}")
        is_flow = value.get("_class_name") == FLOW
        if is_flow and prediction != "flow":
            fault = f"{contents.path} is of a flow model, which cannot predict {prediction}"
            raise BadInput(fault, "leave --prediction out")
        if prediction == "flow" and not is_flow:
            value = FLOW_SCHEDULER
        elif value.get("prediction_type", "epsilon") == WORDS[prediction]:
            return
        else:
            value["prediction_type"] = WORDS[prediction]
        contents.texts[name] = (json.dumps(value, indent=2) + "\n").encode()


def read_folder(path: Path, prediction: str | None = None) -> Contents:
    """The contents of a diffusers folder."""
    check_prediction(prediction)
    index = read_json(path / "model_index.json")
    texts = {"model_index.json": read_bytes(path / "model_index.json", JSON_BYTES)}
    parts: dict[str, TensorSource] = {}
    layout: dict[str, str] = {}
    others, notes = [], []
    for name, value in index.values.items():
        named = isinstance(value, list) and any(word is not None for word in value)
        if not named or name in (*PARTS, *TEXTS_ONLY):
            continue
        if name not in LEFT_OUT:
            fault = f"{index.file}: no place is known for its part {name[:200]}"
            raise BadInput(fault, "convert a model of Stable Diffusion 1, 2 or XL")
    for name in PARTS:
        if os.path.isdir(path / name) and (name == "image_tower" or index.values.get(name)):
            source = open_weights(path / name, Path(FILES[name]).name)
            parts[name], layout[name] = rename_keys(name, source)
    if os.path.lexists(path / FILES["clip_head"]):
        parts["clip_head"] = TensorFile(path / FILES["clip_head"])
    for name in sorted(PATHS - {"model_index.json", LAYOUT}):
        if os.path.lexists(path / name):
            limit = TABLE_BYTES if name.endswith(TABLES) else JSON_BYTES
            texts[name] = read_bytes(path / name, limit)
    if layout := {name: word for name, word in layout.items() if word}:
        texts[LAYOUT] = json.dumps(layout, sort_keys=True).encode()
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        taken = name in texts or name == EXTRAS or name in FILES.values()
        weights = file.parent.name in parts and file.suffix not in (".json", ".txt", ".md")
        weights |= ".index." in file.name
        if file.is_file() and not taken and not weights:
            others.append(name)
    family = tell_folder(path, parts, texts)
    contents = Contents(path, family, parts, texts, others=others, notes=notes)
    if os.path.lexists(path / EXTRAS):
        read_extras(contents, TensorFile(path / EXTRAS))
    if prediction:
        set_prediction(contents, prediction)
    return contents


def open_weights(folder: Path, name: str) -> TensorSource:
    """The weights of a part: its usual file, shards, a variant or a pickle."""
    if os.path.lexists(folder / name):
        return TensorFile(folder / name)
    from fromnoise.checkpoints.formats.diffusers_weights import find_weights

    return find_weights(folder / name)


def rename_keys(part: str, source: TensorSource) -> tuple[Mapped, str]:
    """(the part under today's keys, the word for the keys that its file has: "", "flat" or
    "old")."""
    groups, word = {}, ""
    for key in source.stored:
        new = key
        if part.startswith("text_encoder") and key.startswith(FLAT):
            new, word = f"text_model.{key}", "flat"
        elif part == "vae":
            for old, name in ATTENTION.items():
                new = new.replace(f"attentions.0.{old}.", f"attentions.0.{name}.")
            word = "old" if new != key else word
        groups[key] = Group(key, part, (new if new == key or new not in source.stored else key,))
    return Mapped(source, groups), word


def restore_key(word: str, key: str) -> str:
    """The inverse for one key."""
    if word == "flat":
        return key.removeprefix("text_model.")
    if word == "old":
        for old, name in ATTENTION.items():
            key = key.replace(f"attentions.0.{name}.", f"attentions.0.{old}.")
    return key


def tell_folder(
    path: Path, parts: Mapping[str, TensorSource], texts: Mapping[str, bytes]
) -> Family:
    """The family of a folder: its sizes by its shapes, its base by its text encoders."""
    shapes = {
        name: {key: entry.shape for key, entry in part.stored.items()}
        for name, part in parts.items()
    }
    for name in ("unet", "vae"):
        if name not in parts:
            raise BadCheckpoint(f"{path} has no {name}", "give the folder of a whole pipeline")
    unet = measure_unet(shapes["unet"], "", original=False)
    vae = measure_vae(shapes["vae"], "", original=False)
    encoders = [name for name in ("text_encoder", "text_encoder_2") if name in parts]
    if not encoders:
        raise BadCheckpoint(f"{path} has no text encoder", "give the folder of a whole pipeline")
    config = parse_json(texts.get("text_encoder/config.json", b"{}"), path / "text_encoder")
    base = "xl" if len(encoders) == 2 else "refiner"
    if encoders == ["text_encoder"]:
        base = "sd2" if config.get("hidden_act") == "gelu" else "sd1"
    towers = []
    for part, prefix, owner in TOWERS:
        if owner == base:
            tower = measure_text(shapes[part], part, "", projects=part == "text_encoder_2")
            towers.append(tower._replace(prefix=prefix, open_clip=".model." in prefix))
    family = Family(
        BASES[base].name, "model", "it is a folder", base, unet=unet, vae=vae, texts=tuple(towers)
    )
    scheduler = parse_json(texts.get("scheduler/scheduler_config.json", b"{}"), path / "scheduler")
    words = {word: ours for ours, word in WORDS.items()}
    prediction = words.get(str(scheduler.get("prediction_type", "epsilon")), "eps")
    prediction = "flow" if scheduler.get("_class_name") == FLOW else prediction
    return replace(family, prediction=prediction)


def read_extras(contents: Contents, file: TensorFile) -> None:
    """Takes what a single file held beside its parts, and its header, from a folder."""
    groups = {key: Group(key, "", (key,)) for key in file.stored if key != HEADER}
    contents.extras = Mapped(file, groups)
    if HEADER in file.stored:
        contents.header = bytes(file.read(keys=[HEADER])[HEADER].flatten().tolist())


def pack_texts(texts: Mapping[str, bytes]) -> tuple[dict[str, str], dict[str, bytes]]:
    """The texts of a folder as a single file holds them: (in its metadata, as tensors of bytes).
    CLIP's own vocabulary is named by its hash alone."""
    metadata, tables = {}, {}
    for name, data in sorted(texts.items()):
        if name.endswith(TABLES):
            if (digest := sha256(data).hexdigest()) in (VOCAB_SHA256, MERGES_SHA256):
                metadata[OURS + name] = f"sha256:{digest}"
            else:
                tables[OURS + name] = data
            continue
        try:
            metadata[OURS + name] = data.decode()
        except UnicodeDecodeError:
            tables[OURS + name] = data
    return metadata, tables


def unpack_texts(source: TensorSource) -> dict[str, bytes]:
    """The inverse. Raises BadCheckpoint for a text that is too long, and for an unknown
    vocabulary."""
    texts: dict[str, bytes] = {}
    known = {f"sha256:{VOCAB_SHA256}": "vocab.json", f"sha256:{MERGES_SHA256}": "merges.txt"}
    for key, value in source.metadata.items():
        name = key.removeprefix(OURS)
        if name == key or name not in PATHS:
            continue
        if name.endswith(TABLES):
            if value not in known:
                fault = f"{source.path}: its metadata names a vocabulary {escape(value, 80)}"
                raise BadCheckpoint(fault, "only CLIP's own is known here")
            texts[name] = read_vocabulary()[2][known[value]]
        else:
            texts[name] = value.encode()
    for key, entry in source.stored.items():
        name = key.removeprefix(OURS)
        if name != key and name in PATHS:
            if len(entry.shape) != 1 or entry.shape[0] > TABLE_BYTES or entry.dtype.itemsize > 1:
                fault = f"{source.path}: {key} is no text of at most {TABLE_BYTES:,} bytes"
                raise BadCheckpoint(fault, "fetch the file again")
            texts[name] = source.read(keys=[key])[key].numpy().tobytes()
    return texts
