"""What a model's file or folder is, from its headers: no torch, and of the tensors one norm."""

import hashlib
import os
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fromnoise.checkpoints.configs import open_file, read_json
from fromnoise.checkpoints.entries import BITS, Header
from fromnoise.checkpoints.families import FLOW, PREDICTIONS, Family, tell_family
from fromnoise.checkpoints.headers import peek
from fromnoise.checkpoints.lora.report import LoraReport, describe_lora
from fromnoise.errors import BadCheckpoint, FromnoiseError, NotFound

ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
FILES = 100  # most of one folder
BESIDE = 1 << 20  # bytes of a configuration beside the file
NUMBERS = {"F16": "e", "F32": "f", "F64": "d"}  # types whose values `struct` reads
PIECE = 1 << 20  # bytes that are hashed at once


@dataclass
class Part:
    """One part of a model, as it lies in the file."""

    name: str
    tensors: int = 0
    parameters: int = 0
    types: Counter[str] = field(default_factory=Counter)  # type → values of that type


@dataclass
class Report:
    path: Path
    size: int  # bytes
    kind: str  # safetensors, pickle, gguf or folder
    family: Family | None = None
    parts: list[Part] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    placeholders: list[str] = field(default_factory=list)  # globals of a pickle, none of them used
    hashes: dict[str, str] = field(default_factory=dict)
    lora: LoraReport | None = None
    files: list["Report"] = field(default_factory=list)  # of a folder


def inspect(path: Path, hashes: bool = False) -> Report:
    """Raises NotFound, and BadCheckpoint for a file that holds no tensors that can be read."""
    return inspect_folder(path, hashes) if path.is_dir() else inspect_file(path, hashes)


def inspect_file(path: Path, hashes: bool = False) -> Report:
    """A single file, of any of the kinds that can be read."""
    header = peek(path)
    family = tell_family(
        header.shapes,
        header.metadata,
        lambda key: read_values(header, key),
        read_beside(path),
    )
    report = Report(path, path.stat().st_size, header.kind, family, metadata=header.metadata)
    report.parts = count_parts(header, family)
    report.problems += family.problems
    if family.unused:
        report.notes.append(f"beside the parts: {', '.join(family.unused)}")
    report.notes += header.notes
    if len(header.shapes) < len(header.entries):
        report.notes.append("its weights of 8 bits have scales, which are multiplied in")
    report.placeholders += header.placeholders
    if family.kind == "lora":
        report.lora = describe_lora(header, lambda key: read_values(header, key))
    if hashes:
        report.hashes = hash_file(path, family.kind == "lora" and header.kind == "safetensors")
    return report


def count_parts(header: Header, family: Family) -> list[Part]:
    """What each part has, the largest first in the order of a model."""
    prefixes = {tower.prefix: tower.part for tower in family.texts}
    if family.unet:
        prefixes[family.unet_prefix] = "unet"
    if family.vae:
        prefixes[family.vae_prefix] = "vae"
    order = sorted(prefixes, key=len, reverse=True)
    names = ("unet", "vae", "text_encoder", "text_encoder_2")
    parts = {name: Part(name) for name in names}
    whole = "beside them" if prefixes else family.kind
    for key in header.shapes:
        prefix = next((prefix for prefix in order if key.startswith(prefix)), None)
        name = whole if prefix is None else prefixes[prefix]
        part, entry = parts.setdefault(name, Part(name)), header.entries[key]
        part.tensors += 1
        part.parameters += entry.count
        part.types[entry.dtype] += entry.count
    return [part for part in parts.values() if part.tensors]


def read_values(header: Header, key: str) -> Sequence[float]:
    """The values of one small tensor. Raises BadCheckpoint where it is not written plainly."""
    entry = header.entries[key]
    plain = entry.dtype in ("BF16", *NUMBERS)
    if not plain or (entry.end - entry.start) * 8 != entry.count * BITS[entry.dtype]:
        raise BadCheckpoint(f"{header.path}: {key[:200]} is not written plainly", "convert it")
    with open_file(header.path) as file:
        file.seek(entry.start)
        data = file.read(entry.end - entry.start)
    if entry.dtype == "BF16":
        data = b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2))
    return struct.unpack(f"<{entry.count}{NUMBERS.get(entry.dtype, 'f')}", data)


def read_beside(path: Path) -> str:
    """The text of a configuration with the file's name and another ending."""
    for ending in (".yaml", ".yml", ".json"):
        if path.with_suffix(ending).is_file():
            with open_file(path.with_suffix(ending)) as file:
                return file.read(BESIDE).decode("utf-8", "replace")
    return ""


def hash_file(path: Path, lora: bool = False) -> dict[str, str]:
    """The names that people know a file by. SHA-256; AutoV2, its first ten signs; the legacy hash
    of A1111, of 64 kB alone; of a LoRA AutoV3, of all behind its header."""
    whole, behind = hashlib.sha256(), hashlib.sha256()
    with open_file(path) as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        file.seek(0x100000)
        legacy = hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
        file.seek(0)
        place = 0
        while piece := file.read(PIECE):
            whole.update(piece)
            if lora and place + len(piece) > start:
                behind.update(piece[max(start - place, 0) :])
            place += len(piece)
    found = {"SHA-256": whole.hexdigest(), "AutoV2": whole.hexdigest()[:10], "legacy": legacy}
    return found | ({"AutoV3": behind.hexdigest()[:12]} if lora else {})


def inspect_folder(path: Path, hashes: bool = False) -> Report:
    """A pipeline's folder, or any other that holds files of tensors: each file by itself, and what
    the U-Net and the scheduler say of the whole."""
    report = Report(path, 0, "folder")
    for file in find_files(path):
        try:
            one = inspect_file(file, hashes)
        except FromnoiseError as error:
            report.problems.append(error.message)
            continue
        report.files.append(one)
        report.size += one.size
        name = str(file.relative_to(path))
        part = Part(name, types=Counter())
        for inner in one.parts:
            part.tensors += inner.tensors
            part.parameters += inner.parameters
            part.types += inner.types
        report.parts.append(part)
        report.placeholders += [
            name for name in one.placeholders if name not in report.placeholders
        ]
        report.notes += [f"{name}: {note}" for note in one.notes]
    if not report.files and not report.problems:
        raise NotFound(
            f"there is no file of tensors in {path}: none ends with {', '.join(ENDINGS)}",
            "give a model's file, or the folder of a pipeline",
        )
    family = next((f.family for f in report.files if f.family and f.family.unet), None)
    try:
        read_settings(path, report)
        if family and len(report.files) > 1:
            report.family = settle(family, path)
    except FromnoiseError as error:
        report.problems.append(error.message)
    return report


def find_files(path: Path) -> Iterable[Path]:
    """The files of tensors in a folder and in those inside it."""
    found: list[Path] = []
    for folder in (path, *sorted(p for p in path.iterdir() if p.is_dir())):
        if len(found) < FILES:
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if e.name.lower().endswith(ENDINGS))
            found += (folder / name for name in names)
    return found[:FILES]


def settle(family: Family, path: Path) -> Family:
    """A U-Net's family as that of the pipeline that it is part of, whose scheduler tells the
    prediction."""
    scheduler = path / "scheduler" / "scheduler_config.json"
    name, kind = family.name.removeprefix("U-Net of "), "model"
    if not os.path.lexists(scheduler):
        return replace(family, name=name, kind=kind, problems=())
    values = read_json(scheduler).values
    word = values.get("prediction_type") or "epsilon"
    prediction, field = PREDICTIONS.get(str(word)[:40], ""), "prediction_type"
    if values.get("_class_name") == FLOW:
        prediction, field = "flow", "_class_name"
    reason = f"{field} in {scheduler.name}"
    family = replace(family, prediction=prediction, prediction_reason=reason, guessed=False)
    return replace(family, name=name, kind=kind, problems=())


def read_settings(path: Path, report: Report) -> None:
    """What the folder's own texts say."""
    if os.path.lexists(index := path / "model_index.json"):
        values = read_json(index).values
        name = values.get("_class_name")
        report.metadata["pipeline"] = name[:200] if isinstance(name, str) else "?"
        for part, value in values.items():
            known = isinstance(value, list) and len(value) == 2 and value[0] is not None
            if known and not part.startswith("_") and not (path / part).is_dir():
                report.problems.append(f"{part[:200]} is named in model_index.json, and not there")
    if os.path.lexists(scheduler := path / "scheduler" / "scheduler_config.json"):
        values = read_json(scheduler).values
        for name in ("_class_name", "prediction_type", "beta_schedule", "timestep_spacing"):
            if isinstance(value := values.get(name), str):
                report.metadata[f"scheduler {name.strip('_')}"] = value[:200]
