"""Writes the bundled model for the browser tab: studio/generated/model/.

python studio/build/export_model.py [--out FOLDER] [--pictures 3]

    manifest.json              all that the tab must know
    <part>.onnx.packed         the graph of a part without weights, gzipped
    unet-maps.onnx.packed      the U-Net's graph whose outputs include the map of each
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

    n high bytes, then n low bytes           of the tensors whose step is not 0, in order
    4 bytes a value, little-endian float32   of the tensors whose step is 0, in order

A value of the first kind is (256·high + low − 32768) · step, computed in float64 and rounded to
float32, as storing it into a `Float32Array` does. `data` is filled with the values of each tensor
as little-endian float32 from its offset on; the offsets are multiples of 4, and no gaps lie between
them. ONNX Runtime takes it as `externalData: [{ path: data.path, data: bytes }]`.

How fine the steps are. A step of size s adds an error of s²/12 to the square of each value (Widrow
1961), and the square of the part's output changes by that times the mean square of its derivative
by the tensor's values. The steps are chosen so that every tensor adds the same error a value, which
is the least error for the bytes, and all together the share ERROR of the output. A tensor
that would need far more than 16 bits is stored as float32. Parts that do not draw have steps of the
share 1/FINENESS of a tensor's own size.
"""

import argparse
import hashlib
import json
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import onnxscript
import torch
from torch import Tensor, nn

from fromnoise.checkpoints.hub import BUNDLED, load_parts
from fromnoise.checkpoints.onnx.parts import Part, make_part
from fromnoise.checkpoints.onnx.trace import Traced, drop_outputs, trace
from fromnoise.checkpoints.onnx.weights import refer_to_file
from fromnoise.folders import replace_folder
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.clip import TextOutput
from fromnoise.models.conditioning import Conditioning
from fromnoise.models.config import VAEConfig
from fromnoise.pipeline.generate import generate, run_steps
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared, Step, prepare_model

FOLDER = Path(__file__).parents[1] / "generated/model"
# the tab's name of a part → the package's
PARTS = {
    "unet": "unet",
    "text": "text_encoder",
    "decoder": "vae_decoder",
    "encoder": "vae_encoder",
    "tower": "image_tower",
}
LIMIT = 14_000_000  # bytes of the parts that draw, graphs included
# of the parts that draw: the error of the packed part, as a share of its output. Pictures of 20
# steps change by 0.03 levels on average, and single values by up to 2
ERROR = {"unet": 1.6e-4, "text": 2e-4, "decoder": 5e-4}
FINENESS = 500  # of the other parts: steps in the root mean square of a tensor's values
SMALL = 4096  # values; a smaller tensor (norms, biases) is stored as float32
ZERO = 32768  # the number that stands for 0
PICTURES = [  # prompt, seed, steps: drawn by both, to measure the difference
    ("a neon cat in space", 1, 8),
    ("a neon cat in space", 2, 20),
    ("three small yellow stars in the night city", 5, 20),
    ("a green dragon left of a castle at sunset", 3, 20),
    ("two red robots in the desert", 4, 8),
    ("a sketch of a whale in the ocean", 7, 20),
    ("a pixel art rocket on a purple background", 8, 20),
    ("a silhouette of a tree in the snow", 9, 8),
]
MEAN, MOST = 1.0, 3  # levels of 255 that a picture may differ by, on average and in a value


def choose_steps(
    network: nn.Module, examples: list[tuple[Tensor, ...]], outputs: int, error: float
) -> dict[str, float]:
    """Name of a weight → its step, for a relative error of the first `outputs` outputs."""
    squares = {name: 0.0 for name, _ in network.named_parameters()}  # of the derivative
    generator = torch.Generator().manual_seed(0)
    for example in examples:
        network.zero_grad()
        results = network(*example)
        results = results[:outputs] if isinstance(results, tuple) else (results,)
        # the derivative along a random direction of the output: its mean square is that of all
        along = [torch.randn(r.shape, generator=generator) / r.detach().norm() for r in results]
        torch.autograd.backward(results, along)
        for name, weight in network.named_parameters():
            if weight.grad is not None:
                squares[name] += float((weight.grad**2).mean()) / len(examples)
    sizes = {name: weight.numel() for name, weight in network.named_parameters()}
    count = sum(sizes[name] for name, square in squares.items() if square and sizes[name] >= SMALL)
    return {
        name.removeprefix("network."): error * (12 / (count * square)) ** 0.5
        for name, square in squares.items()
        if square
    }


def pack(
    weights: dict[str, np.ndarray], steps: dict[str, float]
) -> tuple[bytes, list[dict[str, Any]]]:
    """Weights → (a pack before gzip, the entries of its tensors)."""
    whole, raw, entries, offset = [], [], [], 0
    for name, values in weights.items():
        size = float(np.sqrt((values.astype(np.float64) ** 2).mean()))
        least = float(np.abs(values).max()) / 32600  # the step with which 16 bits hold all values
        step = steps.get(name, size / FINENESS)
        if values.size < SMALL or step < least / 4:
            step = 0.0
            raw.append(values.astype("<f4").tobytes())
        else:
            step = float(np.float32(max(step, least)))
            numbers = np.rint(values.astype(np.float64) / step) + ZERO
            whole.append(numbers.astype(np.uint16).ravel())
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
    numbers = data[:n].astype(np.float64) * 256 + data[n : 2 * n] - ZERO
    raw = data[2 * n :].view("<f4") if len(data) > 2 * n else np.empty(0, "<f4")
    weights, places = {}, {True: 0, False: 0}
    for count, entry in zip(counts, entries, strict=True):
        whole = bool(entry["step"])
        values = (numbers if whole else raw)[places[whole] : places[whole] + count]
        places[whole] += count
        values = (values * entry["step"] if whole else values).astype(np.float32)
        weights[entry["name"]] = values.reshape(entry["shape"])
    return weights


def compress(content: bytes, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    """gzip, with the time 0: the same bytes at every run."""
    stream = zlib.compressobj(9, zlib.DEFLATED, 31, 8, strategy)
    return stream.compress(content) + stream.flush()


def describe_file(name: str, content: bytes) -> dict[str, Any]:
    return {"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def describe_values(values: Any) -> dict[str, list[int]]:
    """Name → shape of a graph's inputs or outputs."""
    return {
        value.name: [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]
        for value in values
    }


class Exported:
    """A part on its way into the folder. `weights` are those that the tab will have."""

    def __init__(self, name: str, part: Part, examples: list[tuple[Tensor, ...]]):
        self.name, traced, steps = name, trace(part, fixed=True), {}
        if name in ERROR:
            outputs = len(part.outputs) - part.extra
            steps = choose_steps(part.network, examples, outputs, ERROR[name])
        content, self.tensors = pack(traced.weights, steps)
        self.weights = unpack(content, self.tensors)
        # numbers do not repeat: to look for repetitions makes the file larger
        self.files = {f"{name}.pack": compress(content, zlib.Z_RLE)}
        self.session: Any = None
        self.unpacked, self.path = len(content), f"{name}.weights"
        graphs = {"plain": traced}
        if part.extra:
            graphs = {"maps": traced, "plain": drop_outputs(traced, part.extra)}
        self.graphs = {kind: self.write_graph(kind, graph) for kind, graph in graphs.items()}

    def write_graph(self, kind: str, traced: Traced) -> dict[str, Any]:
        model = refer_to_file(traced, self.path, self.tensors)
        file = f"{self.name}{'' if kind == 'plain' else '-' + kind}.onnx.packed"
        self.model = model.SerializeToString(deterministic=True)  # at last the plain one
        self.files[file], body = compress(self.model), model.graph
        ports = {"inputs": describe_values(body.input), "outputs": describe_values(body.output)}
        return describe_file(file, self.files[file]) | ports

    def run(self, *inputs: Tensor) -> list[Tensor]:
        """What ONNX Runtime computes, with the weights that the tab will have."""
        if self.session is None:
            data = b"".join(weight.tobytes() for weight in self.weights.values())
            options = onnxruntime.SessionOptions()
            options.add_external_initializers_from_files_in_memory([self.path], [data], [len(data)])
            self.session = onnxruntime.InferenceSession(self.model, options)
        names = [port.name for port in self.session.get_inputs()]
        values = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(value) for value in self.session.run(None, values)]

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
        "digest": model.digest,  # starts of the SHA-256 of the files of U-Net and VAE
        "vaeDigest": model.vae_digest,
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


class OnnxUNet:
    """Stands for runtime.prepare.Prepared."""

    batch, plan, device = 1, "onnx", torch.device("cpu")

    def __init__(self, part: Exported):
        self.part = part

    def bind(self, conditioning: Conditioning) -> Step:
        def step(x: Tensor, t: Tensor, record: Any = None) -> Tensor:
            return self.part.run(x.float(), t.float().expand(len(x)), conditioning.context)[0]

        return step


class OnnxText(nn.Module):
    """Stands for models.clip.CLIPText."""

    def __init__(self, part: Exported):
        super().__init__()
        self.part, self.device = part, nn.Parameter(torch.empty(0))

    def forward(self, ids: Tensor) -> TextOutput:
        context, pooled, embeds = self.part.run(ids)
        return TextOutput(context, pooled, (), embeds)


class OnnxVAE(nn.Module):
    """Stands for models.vae.VAE."""

    def __init__(self, part: Exported, config: VAEConfig):
        super().__init__()
        self.part, self.config, self.device = part, config, nn.Parameter(torch.empty(0))

    def to_image(self, latents: Tensor) -> Tensor:
        return self.part.run(latents)[0]


def record_examples(model: LatentDiffusion, unet: Prepared) -> dict[str, list[tuple[Tensor, ...]]]:
    """Inputs of the parts that draw, as two pictures of 8 steps have them."""
    examples: dict[str, list[tuple[Tensor, ...]]] = {"unet": [], "text": [], "decoder": []}

    class Recorder(OnnxUNet):
        def bind(self, conditioning: Conditioning) -> Step:
            run = unet.bind(conditioning)

            def step(x: Tensor, t: Tensor, record: Any = None) -> Tensor:
                context = conditioning.context.clone()
                examples["unet"].append((x.clone(), t.expand(len(x)).clone(), context))
                return run(x, t, record)

            return step

    recorder: Any = Recorder.__new__(Recorder)
    for prompt, seed, _ in (PICTURES[0], PICTURES[2]):
        request = GenerationRequest.of(prompt=prompt, seed=seed, steps=8)
        *_, last = run_steps(model, recorder, request)
        examples["decoder"].append((last.x.clone(),))
    for prompt in ("", *(picture[0] for picture in PICTURES)):
        examples["text"].append((torch.tensor([model.tokenizer.encode(prompt)[0]]),))
    return examples


def compare_pictures(
    model: LatentDiffusion, unet: Prepared, parts: dict[str, Exported], count: int
) -> tuple[float, int]:
    """Draws pictures with PyTorch and with the packed parts in ONNX Runtime → the largest mean and
    the largest difference of a value, in levels of 255."""
    text: Any = OnnxText(parts["text"])
    vae: Any = OnnxVAE(parts["decoder"], model.vae.config)
    encoders = (replace(model.text_encoders[0], network=text),)
    packed, network = replace(model, text_encoders=encoders, vae=vae), OnnxUNet(parts["unet"])
    text.config = model.text_encoder.config
    mean, most = 0.0, 0
    for prompt, seed, steps in PICTURES[:count]:
        request = GenerationRequest.of(prompt=prompt, seed=seed, steps=steps)
        [ours] = generate(model, unet, request)
        [theirs] = generate(packed, cast(Prepared, network), request)
        levels = np.abs(np.asarray(ours).astype(int) - np.asarray(theirs))
        print(f"{prompt!r}, {steps} steps: {levels.mean():.3f} levels, at most {levels.max()}")
        mean, most = max(mean, float(levels.mean())), max(most, int(levels.max()))
    return mean, most


def hash_sources() -> str:
    """SHA-256 over all that the folder is made of: the bundled model, the code, the versions."""
    versions = f"{torch.__version__} {onnxscript.__version__} {zlib.ZLIB_RUNTIME_VERSION}"
    total, package = hashlib.sha256(versions.encode()), BUNDLED.parent
    folders = (BUNDLED, package / "models", package / "checkpoints/onnx")
    paths = [Path(__file__), *(path for folder in folders for path in folder.rglob("*"))]
    for path in sorted(path for path in paths if path.is_file() and "__pycache__" not in str(path)):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def write(folder: Path, model: LatentDiffusion, parts: dict[str, Exported], sources: str) -> None:
    files = dict(model.tokenizer.files)
    for part in parts.values():
        files |= part.files
    manifest = {
        "version": 1,
        "sources": sources,
        "model": describe_model(model),
        "tokenizer": {
            name: describe_file(name, files[name]) for name in ("vocab.json", "merges.txt")
        },
        "parts": {name: part.describe() for name, part in parts.items()},
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def is_current(folder: Path, sources: str) -> bool:
    """Whether the folder was made of these sources, and all its files are whole."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        entries = list(manifest["tokenizer"].values())
        for part in manifest["parts"].values():
            entries += [part["pack"], *part["graphs"].values()]
        return manifest["sources"] == sources and all(
            hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
            for entry in entries
        )
    except (OSError, ValueError, KeyError):
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--pictures", type=int, default=3, help="to compare; 0 to 8")
    args = parser.parse_args()
    sources = hash_sources()
    if is_current(args.out, sources):
        return print(f"{args.out} is up to date")
    torch.manual_seed(0)
    model = load_parts()
    unet = prepare_model(model)
    examples = record_examples(model, unet)
    parts = {
        name: Exported(name, make_part(model, ours, fixed=True), examples.get(name, []))
        for name, ours in PARTS.items()
    }
    for name, part in parts.items():
        print(f"{name:8} {part.size / 1e6:6.2f} MB")
    size = sum(parts[name].size for name in ERROR)
    print(f"drawing  {size / 1e6:6.2f} MB of {LIMIT / 1e6:.0f}")
    if size > LIMIT:
        sys.exit("the parts that draw are too large: raise ERROR")
    mean, most = compare_pictures(model, unet, parts, args.pictures)
    if mean > MEAN or most > MOST:
        sys.exit(f"the packed model draws other pictures (bars: {MEAN}, {MOST}): lower ERROR")
    replace_folder(args.out, lambda folder: write(folder, model, parts, sources))


if __name__ == "__main__":
    main()
