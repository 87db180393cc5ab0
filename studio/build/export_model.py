"""Writes the bundled model for the browser tab: studio/generated/model/.

python studio/build/export_model.py [--out FOLDER]

    manifest.json              all that the tab must know; see `write_manifest`
    <part>.onnx.gz             the graph of a part without weights, gzipped
    unet-maps.onnx.gz          the U-Net's graph whose outputs include the map of each
                               cross-attention; it has the weights of unet.onnx
    <part>.pack                the weights of a part, packed
    vocab.json, merges.txt     the tokenizer's files

Parts: unet, text, decoder, encoder, tower. The graphs have fixed sizes except for the batch; all
inputs and outputs are float32, except `ids`, int64. An entry of `parts` in the manifest:

    graphs    name ("plain", for the U-Net also "maps") → file, bytes, sha256, inputs, outputs
              (name → shape; the first entry of each shape is the batch, written -1)
    pack      file, bytes, sha256, unpacked: its bytes when gzip is undone
    data      path, bytes: the file of weights as the graphs name it (ONNX external data)
    tensors   in the order of the pack: name, shape, offset (bytes in `data`), step

A pack. Undo gzip (`DecompressionStream("gzip")`). Let n be the count of all values of the tensors
whose step is not 0. The bytes are

    n high bytes, then n low bytes        of the tensors whose step is not 0, in order
    4 bytes a value, little-endian float32   of the tensors whose step is 0, in order

A value of the first kind is (256·high + low − 32768) · step, computed in float64 and rounded to
float32: `new Float32Array` does so. `data` is filled with the values of each tensor as
little-endian float32 from its offset on; the offsets are multiples of 4, and no gaps lie between
them. ONNX Runtime takes it as `externalData: [{ path: data.path, data: bytes }]`.

Weights are stored as whole multiples of a step, a share of their tensor's own size. The entropy of
such a number is about 2 + log2(size / step) bits; its high byte compresses, its low byte does not.
"""

import argparse
import gzip
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fromnoise.checkpoints.hub import BUNDLED, load_parts
from fromnoise.checkpoints.onnx.parts import Part, make_part
from fromnoise.checkpoints.onnx.trace import Traced, drop_outputs, trace
from fromnoise.checkpoints.onnx.weights import refer_to_file
from fromnoise.folders import replace_folder
from fromnoise.latent_diffusion import LatentDiffusion

FOLDER = Path(__file__).parents[1] / "generated/model"
# the tab's name of a part → the package's
PARTS = {
    "unet": "unet",
    "text": "text_encoder",
    "decoder": "vae_decoder",
    "encoder": "vae_encoder",
    "tower": "image_tower",
}
DRAWING = ("unet", "text", "decoder")  # what a picture from words needs
LIMIT = 14_000_000  # bytes of these parts, graphs included
FINENESS = 500  # steps in the root mean square of a tensor's values
SMALL = 4096  # values; a smaller tensor (norms, biases) is stored as float32


def pack(weights: dict[str, np.ndarray]) -> tuple[bytes, list[dict[str, Any]]]:
    """Weights → (a pack before gzip, the entries of its tensors)."""
    whole, raw, entries, offset = [], [], [], 0
    for name, values in weights.items():
        step = 0.0
        if values.size < SMALL:
            raw.append(values.astype("<f4").tobytes())
        else:
            size = float(np.sqrt((values.astype(np.float64) ** 2).mean()))
            # a tensor with values far from the others gets a larger step, so that they fit
            step = float(np.float32(max(size / FINENESS, np.abs(values).max() / 32767)))
            steps = np.rint(values.astype(np.float64) / step) + 32768
            whole.append(steps.clip(0, 65535).astype(np.uint16).ravel())
        entries.append({"name": name, "shape": values.shape, "offset": offset, "step": step})
        offset += 4 * values.size
    numbers = np.concatenate(whole)
    planes = (numbers >> 8).astype(np.uint8).tobytes(), (numbers & 255).astype(np.uint8).tobytes()
    return b"".join((*planes, *raw)), entries


def unpack(content: bytes, entries: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The reverse of `pack`, as the tab does it: weights in float32."""
    counts = [int(np.prod(entry["shape"])) for entry in entries]
    n = sum(count for count, entry in zip(counts, entries, strict=True) if entry["step"])
    data = np.frombuffer(content, np.uint8)
    numbers = data[:n].astype(np.float64) * 256 + data[n : 2 * n] - 32768
    raw = data[2 * n :].view("<f4") if len(data) > 2 * n else np.empty(0, "<f4")
    weights, places = {}, {True: 0, False: 0}
    for count, entry in zip(counts, entries, strict=True):
        whole = bool(entry["step"])
        values = (numbers if whole else raw)[places[whole] : places[whole] + count]
        places[whole] += count
        values = (values * entry["step"] if whole else values).astype(np.float32)
        weights[entry["name"]] = values.reshape(entry["shape"])
    return weights


def compress(content: bytes) -> bytes:
    return gzip.compress(content, 9, mtime=0)


def describe_file(name: str, content: bytes) -> dict[str, Any]:
    return {"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def describe_values(values: Any) -> dict[str, list[int]]:
    """Name → shape of a graph's inputs or outputs."""
    return {
        value.name: [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]
        for value in values
    }


class Exported:
    """A part on its way into the folder."""

    def __init__(self, name: str, part: Part):
        self.name, traced = name, trace(part, fixed=True)
        content, self.tensors = pack(traced.weights)
        self.weights = unpack(content, self.tensors)
        self.files = {f"{name}.pack": compress(content)}
        self.unpacked, self.path = len(content), f"{name}.weights"
        graphs = {"plain": traced}
        if part.extra:
            graphs = {"plain": drop_outputs(traced, part.extra), "maps": traced}
        self.graphs = {kind: self.write_graph(kind, graph) for kind, graph in graphs.items()}

    def write_graph(self, kind: str, traced: Traced) -> dict[str, Any]:
        self.model = refer_to_file(traced, self.path, self.tensors)
        file = f"{self.name}{'' if kind == 'plain' else '-' + kind}.onnx.gz"
        self.files[file] = compress(self.model.SerializeToString(deterministic=True))
        body = self.model.graph
        ports = {"inputs": describe_values(body.input), "outputs": describe_values(body.output)}
        return describe_file(file, self.files[file]) | ports

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values()))

    def describe(self) -> dict[str, Any]:
        file = f"{self.name}.pack"
        size = sum(weight.nbytes for weight in self.weights.values())
        return {
            "graphs": self.graphs,
            "pack": describe_file(file, self.files[file]) | {"unpacked": self.unpacked},
            "data": {"path": self.path, "bytes": size},
            "tensors": self.tensors,
        }


def describe_model(model: LatentDiffusion) -> dict[str, Any]:
    """What the tab must know besides the parts."""
    unet, vae, words = model.unet.config, model.vae.config, model.tokenizer
    assert model.logit_scale is not None
    assert model.vision is not None
    return {
        "hash": hash_model(),
        "digest": model.digest,
        "prediction": model.prediction,
        "alphaBars": model.schedule.alpha_bar.tolist(),
        "latents": [unet.out_channels, unet.sample_size, unet.sample_size],
        "factor": vae.factor,
        "scalingFactor": vae.scaling_factor,
        "shiftFactor": vae.shift_factor,
        "latentRgb": model.defaults["latent_rgb"],
        "defaults": {k: v for k, v in model.defaults.items() if k not in ("latent_rgb", "words")},
        "words": model.defaults["words"],
        "tokens": {
            "length": words.max_length,
            "begin": words.bos_id,
            "end": words.eos_id,
            "padding": words.pad_id,
        },
        "logitScale": float(model.logit_scale),
        "clipScale": float(model.logit_scale.exp()),
        "towerSize": model.vision.config.image_size,
    }


def hash_model() -> str:
    """SHA-256 over all files of the bundled model and this script."""
    total = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(BUNDLED.rglob("*")):
        if path.is_file():
            total.update(str(path.relative_to(BUNDLED)).encode() + path.read_bytes())
    return total.hexdigest()


def write(folder: Path, model: LatentDiffusion, parts: list[Exported]) -> None:
    files = dict(model.tokenizer.files)
    for part in parts:
        files |= part.files
    manifest = {
        "version": 1,
        "model": describe_model(model),
        "tokenizer": {
            name: describe_file(name, files[name]) for name in ("vocab.json", "merges.txt")
        },
        "parts": {part.name: part.describe() for part in parts},
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = load_parts()
    parts = [Exported(name, make_part(model, ours, fixed=True)) for name, ours in PARTS.items()]
    size = sum(part.size for part in parts if part.name in DRAWING)
    for part in parts:
        print(f"{part.name:8} {part.size / 1e6:6.2f} MB")
    print(f"drawing  {size / 1e6:6.2f} MB of {LIMIT / 1e6:.0f}")
    if size > LIMIT:
        sys.exit("the parts that draw are too large: lower FINENESS")
    replace_folder(args.out, lambda folder: write(folder, model, parts))


if __name__ == "__main__":
    main()
