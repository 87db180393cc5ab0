"""A model → a folder of ONNX files that ONNX Runtime runs, proven against PyTorch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fromnoise import __version__
from fromnoise.checkpoints.onnx.parts import Part, list_parts, make_part
from fromnoise.checkpoints.onnx.trace import Traced, drop_outputs, require_onnx, trace
from fromnoise.checkpoints.onnx.weights import DTYPES, refer_to_file, store, write_weights
from fromnoise.checkpoints.refusals import refuse_encoders
from fromnoise.errors import BadCheckpoint, UnknownName
from fromnoise.folders import write_folder
from fromnoise.latent_diffusion import LatentDiffusion

# how far ONNX Runtime's output may lie from PyTorch's, as a share of its root mean square: in fp32
# only sums have another order
BOUNDS = {"fp32": 1e-4, "fp16": 1e-2, "int8": 1e-2}


@dataclass(frozen=True)
class Report:
    """What was written: for every part its files, bytes, dtype and error, and notes for the
    user."""

    folder: Path
    parts: dict[str, dict[str, Any]]
    notes: list[str] = field(default_factory=list)


def export(
    model: LatentDiffusion,
    folder: Path,
    dtype: str = "fp32",
    parts: Sequence[str] | None = None,
) -> Report:
    """Writes `<part>.onnx` and its weights `<part>.weights` for each part (all of them if None),
    `unet-maps.onnx`, which gives the map of every cross-attention besides and has the weights of
    `unet.onnx`, and the tokenizer's files.

    dtype: of the weights in the file, "fp32", "fp16" or "int8"; all is computed in fp32. A part
    whose outputs would differ by more than BOUNDS from PyTorch's has more precise weights instead,
    and a note says so. Written whole or not at all, over no other file. Raises BadInput without
    the packages of the extra [onnx], or for a folder that cannot be written; UnknownName for a
    dtype or a part; BadCheckpoint for a model that ONNX Runtime computes otherwise."""
    refuse_encoders(model, "exported as ONNX")
    require_onnx()
    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, DTYPES)
    chosen = {name: make_part(model, name) for name in parts or list_parts(model)}
    report = Report(folder, {})

    def write(place: Path) -> None:
        for name, part in chosen.items():
            report.parts[name] = write_part(place, model, name, part, dtype, report.notes)
        if "text_encoder" in chosen:
            for name, content in model.tokenizer.files.items():
                (place / name).write_bytes(content)

    return Report(write_folder(folder, write), report.parts, report.notes)


def write_part(
    place: Path, model: LatentDiffusion, name: str, part: Part, dtype: str, notes: list[str]
) -> dict[str, Any]:
    """Writes the files of a part in the first dtype, from `dtype` on to finer ones, that keeps its
    bound."""
    traced, error = trace(part), np.inf
    for trial in DTYPES[DTYPES.index(dtype) :: -1]:
        files = write_files(place, model, name, part, traced, trial)
        error = measure_error(place / f"{name}.onnx", part)
        if error <= BOUNDS[trial]:
            size = sum((place / file).stat().st_size for file in files)
            return {"files": files, "bytes": size, "dtype": trial, "error": error}
        if trial != "fp32":
            notes.append(
                f"{name}: weights in {trial} change its output by {error:.2%}, more than "
                f"{BOUNDS[trial]:.0%}: it has finer ones"
            )
    raise BadCheckpoint(
        f"ONNX Runtime computes the {name} otherwise than PyTorch: they differ by {error:.1e}",
        "check the weights: very large values, or NaN, do so",
    )


def write_files(
    place: Path, model: LatentDiffusion, name: str, part: Part, traced: Traced, dtype: str
) -> list[str]:
    """Writes weights and graphs of a part → the names of the files."""
    graphs = {f"{name}.onnx": traced}
    if part.extra:
        graphs = {f"{name}.onnx": drop_outputs(traced, part.extra), f"{name}-maps.onnx": traced}
    weights = f"{name}.weights"
    entries = write_weights(place / weights, store(traced.weights, dtype))
    facts = {
        "fromnoise": __version__,
        "model": model.source,
        "unet_hash": model.digest,
        "vae_hash": model.vae_digest,
        "part": name,
        "dtype": dtype,
        **part.facts,
    }
    for file, graph in graphs.items():
        proto = refer_to_file(graph, weights, entries)
        proto.producer_name, proto.producer_version = "fromnoise", __version__
        for key, value in facts.items():
            text = value if isinstance(value, str) else json.dumps(value)
            proto.metadata_props.add(key=key, value=text)
        (place / file).write_bytes(proto.SerializeToString(deterministic=True))
    return [*graphs, weights]


@torch.inference_mode()
def measure_error(path: Path, part: Part) -> float:
    """How far ONNX Runtime's outputs lie from PyTorch's for the example of a part: the largest root
    mean square of the difference, as a share of the output's."""
    import onnxruntime

    expected = part.network(*part.inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    results = session.run(None, {name: value.numpy() for name, value in part.inputs.items()})
    errors = [
        np.linalg.norm(result - right.numpy()) / max(np.linalg.norm(right.numpy()), 1e-30)
        for result, right in zip(results, expected, strict=False)  # maps come last
    ]
    return float(np.nan_to_num(max(errors, key=np.nan_to_num), nan=np.inf))
