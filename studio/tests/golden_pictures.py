"""Numbers for the explorables that draw, see write_golden.py: their mathematics on random numbers,
and their figures of the model, drawn by the Python engine."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from fromnoise.api import Engine

STUDIO = Path(__file__).parents[1]
PROMPT = "a neon cat in space"


def compute_pictures() -> dict[str, Any]:
    """What src/lab/{measure,latents,guidance,clip,maps,bench}.ts compute, on random numbers."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from fromnoise import load
    from fromnoise.diffusion.guidance import apply_cfg
    from fromnoise.evaluate.word_maps import INSIDE
    from fromnoise.pipeline.inside.trace import Call, Trace, Word, split_words

    tokenizer = load().model.tokenizer
    rng = np.random.default_rng(16)
    x0, uncond = (torch.from_numpy(rng.standard_normal((16, 4, 4), np.float32)) for _ in "ab")
    a, b = (rng.integers(0, 256, (8, 8, 3)).astype(np.uint8) for _ in "ab")
    a[:2] = 255
    luma = a @ np.array([0.299, 0.587, 0.114])
    inside = rng.random((8, 8)) < 0.8
    lumas = (b @ np.array([0.299, 0.587, 0.114]))[inside]
    change = np.abs(a - b.astype(float)).mean(2).reshape(4, 2, 4, 2).mean((1, 3))
    rows, columns = (
        F.normalize(torch.from_numpy(rng.standard_normal((3, 8))), dim=1) for _ in "ab"
    )
    cosines = rows @ columns.T
    raw = [
        {
            layer: torch.from_numpy(rng.standard_normal((2, side * side, 5), np.float32)).softmax(2)
            for layer, side in (("down_blocks.1.attentions.0", 4), ("mid_block.attentions.0", 2))
        }
        for _ in range(2)
    ]
    word = Word("cat", (2, 3))
    trace = Trace.__new__(Trace)  # it reads calls alone
    trace.calls = [
        [
            Call(step, 0, 0, 1.0, torch.zeros(1, 8, 8), x0, None, (word,), {
                name: map.mean(0).T.unflatten(1, (math.isqrt(map.shape[1]), -1))
                for name, map in maps.items()
            })
            for step, maps in enumerate(raw)
        ]
    ]  # fmt: skip
    map = trace.map("cat")
    area = map > map.min() + INSIDE * (map.max() - map.min())
    centre = area.nonzero().double().mean(0) / 8 + 0.5 / 8
    return {
        "x0": x0.flatten().tolist(),
        "uncond": uncond.flatten().tolist(),
        "average": ((x0 + uncond) / 2).flatten().tolist(),
        "rms": float(x0.square().mean().sqrt()),
        "distance": float((x0 - uncond).square().mean().sqrt()),
        "guided": {s: apply_cfg(x0, uncond, s).flatten().tolist() for s in (0, 0.4, 1, 4, 15)},
        "guided_rms": {
            s: float(apply_cfg(x0, uncond, s).square().mean().sqrt()) for s in (0, 4, 15)
        },
        "a": a.flatten().tolist(),
        "b": b.flatten().tolist(),
        "psnr": -10 * math.log10(np.square(a / 127.5 - b / 127.5).mean() / 4),
        "edge_share": float(((a <= 2) | (a >= 253)).mean()),
        "histogram": np.histogram(a, 8, (0, 256))[0].tolist(),
        "brightness": float(luma.mean()),
        "colour": float(np.ptp(a.astype(int), axis=2).mean()),
        "edges": float(np.abs(np.diff(a.astype(float), axis=1)).mean()),
        "spread": float(np.stack([a, b]).astype(float).std(0, ddof=1).mean()),
        "change": float((change > 4).mean()),
        "area": inside.flatten().tolist(),
        "bright": b[inside][lumas >= lumas.max() / 2].mean(0).tolist(),
        "means": F.avg_pool2d(torch.from_numpy(a).permute(2, 0, 1)[None].double() / 127.5 - 1, 2)
        .flatten()
        .tolist(),
        "rows": rows.tolist(),
        "columns": columns.tolist(),
        "cosines": cosines.tolist(),
        "probabilities": {
            "rows": (cosines / 0.07).softmax(1).tolist(),
            "columns": (cosines / 0.07).softmax(0).tolist(),
        },
        "maps": [{name: map.flatten().tolist() for name, map in maps.items()} for maps in raw],
        "word": map.flatten().tolist(),
        "word_of_one": trace.map("cat", 0, [1], ["mid_block.attentions.0"]).flatten().tolist(),
        "centre": centre.flip(0).tolist(),
        "words": {
            text: {
                "pieces": [
                    tokenizer.spell(i).removesuffix("</w>") for i in tokenizer.encode(text)[0]
                ],
                "words": [[w.text, list(w.at)] for w in split_words(tokenizer, text)[0][1:-1]],
            }
            for text in (
                "a neon cat in space",
                "Two  submarines, 12 o'clock: xylophone!",
                "it's a hippopotamus",
            )
        },
    }


def read_packed(part: str) -> "dict[str, np.ndarray]":
    """The weights of a part as the tab unpacks them."""
    import sys

    sys.path.insert(0, str(STUDIO / "build"))
    from export_model import unpack

    folder = STUDIO / "generated/model"
    entry = json.loads((folder / "manifest.json").read_text())["parts"][part]
    content = gzip.decompress((folder / entry["pack"]["file"]).read_bytes())
    return unpack(content, entry["tensors"])


def load_packed() -> "Engine":
    """The bundled model with the tab's weights: the pack keeps about 12 bits of each, so that a
    comparison to 1e-4 must start from these."""
    import torch

    from fromnoise import load

    engine = load()
    parts = {
        "unet": engine.model.unet,
        "text": engine.model.text_encoder,
        "decoder": engine.model.vae,
        "encoder": engine.model.vae,
    }
    for part, network in parts.items():
        own = network.state_dict()
        for name, values in read_packed(part).items():
            if name in own:
                own[name].copy_(torch.from_numpy(values))
            else:
                assert engine.model.text_projection is not None
                engine.model.text_projection.copy_(torch.from_numpy(values))
    return engine


def embed_packed(pictures: "np.ndarray") -> "np.ndarray":
    """uint8 (B, H, W, 3) → unit vectors (B, D) of the tab's image tower. Its norms are folded into
    its convolutions, so that ONNX Runtime runs the tab's own graph."""
    import numpy as np
    import onnx
    import onnxruntime
    from onnx.numpy_helper import from_array

    graph = onnx.load_from_string(
        gzip.decompress((STUDIO / "generated/model/tower.onnx.packed").read_bytes())
    )
    weights = read_packed("tower")
    for tensor in graph.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(from_array(weights[tensor.name], tensor.name))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    images = (pictures.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)
    embeds = np.concatenate([session.run(["embeds"], {"image": i[None]})[0] for i in images])
    return embeds / np.linalg.norm(embeds, axis=1, keepdims=True)


def compute_drawing() -> dict[str, Any]:
    """The figures that the explorables show at their first settings."""
    import numpy as np
    import torch
    from PIL import Image

    from fromnoise.diffusion.samplers.base import Query
    from fromnoise.evaluate.word_maps import INSIDE
    from fromnoise.pipeline.encoding import encode_picture
    from fromnoise.pipeline.generate import build_denoiser
    from fromnoise.pipeline.request import GenerationRequest

    engine = load_packed()
    model = engine.model

    def measure_distance(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a.double() - b.double()).square().mean().sqrt())

    def measure_pairs(x: torch.Tensor) -> float:
        pairs = [(a, b) for i, a in enumerate(x) for b in x[i + 1 :]]
        return sum(measure_distance(a, b) for a, b in pairs) / len(pairs)

    def to_array(latents: torch.Tensor) -> np.ndarray:
        return np.stack([np.asarray(p, dtype=float) for p in engine.pictures(latents)])

    def measure_psnr(a: np.ndarray, b: np.ndarray) -> float:
        return float(-20 * np.log10(np.sqrt(np.square(a - b).mean()) / 255))

    def ask(x: torch.Tensor, sigma: float, prompt: str) -> torch.Tensor:
        request = GenerationRequest.of(prompt=prompt, cfg=1, seed=0).resolve(model)
        answer, _ = build_denoiser(model, engine.unet, request, [prompt], None)
        return answer(Query(x, sigma, 0)).x0

    runs = [list(engine.steps(PROMPT, seed=seed, steps=12, cfg=1)) for seed in (1, 2, 3, 4)]
    looks = [torch.cat([run[i].x0 for run in runs]) for i in range(12)]
    one_look = {
        "first": looks[0].flatten(1).tolist(),
        "distances": [measure_pairs(look) for look in looks],
        "spread": [float(to_array(looks[i]).std(0, ddof=1).mean()) for i in (0, -1)],
    }

    steps = list(engine.steps(PROMPT, seed=1))
    guesses = to_array(torch.cat([step.x0 for step in steps]))
    reconstruct = {
        "sigmas": [step.sigma for step in steps],
        "middle": steps[9].x0.flatten().tolist(),
        "last": steps[-1].x0.flatten().tolist(),
        "psnr": [measure_psnr(guess, guesses[-1]) for guess in guesses[:-1]],
        "sharpness": [float(np.abs(np.diff(guess, axis=1)).mean()) for guess in guesses],
    }

    given = {path.stem: Image.open(path) for path in (STUDIO / "src/given").glob("*.webp")}
    with torch.inference_mode():
        latents = encode_picture(model, given["unicorn"].convert("RGB"))
    plain, harm = to_array(latents)[0], []
    for channel in range(16):
        cut = latents.clone()
        cut[:, channel] = 0
        changed = to_array(cut)[0]
        places = np.abs(changed - plain).mean(2).reshape(16, 8, 16, 8).mean((1, 3))
        harm.append([measure_psnr(plain, changed), float((places > 4).mean())])
    latent_lab = {
        "latents": latents.flatten().tolist(),
        "psnr": measure_psnr(np.asarray(given["unicorn"].convert("RGB"), float), plain),
        "harm": harm,
    }

    captions = [
        "a large unicorn at sunset",
        "an octopus underwater",
        "a sketch of a turtle in space",
        "a white pixel art whale underwater",
    ]
    names = ("unicorn", "octopus", "turtle", "whale")
    pictures = np.stack([np.asarray(given[name].convert("RGB")) for name in names])
    cosines = embed_packed(pictures) @ engine.seeing.texts(captions).numpy().T
    clip_matrix = {"captions": captions, "cosines": cosines.tolist(), "scale": engine.seeing.scale}

    picture, trace = engine.trace(PROMPT, seed=1, steps=8)
    without = engine.generate("a neon cat in", seed=1, steps=8)
    word_lens = {
        "words": [[w.text, list(w.at)] for w in trace.calls[0][0].words],
        "maps": {word: trace.map(word).flatten().tolist() for word in trace.words()},
        "layer": trace.map("space", 0, [3], ["mid_block.attentions.0.transformer_blocks.0.attn2"])
        .flatten()
        .tolist(),
        "psnr": measure_psnr(np.asarray(picture, float), np.asarray(without, float)),
    }

    states = list(engine.steps(PROMPT, seed=1, steps=8))
    x, sigma = states[3].x, states[3].sigma
    cond, uncond = ask(x, sigma, PROMPT), ask(x, sigma, "")
    guided = uncond + 4 * (cond - uncond)
    colours = to_array(guided)
    guidance_plane = {
        "sigma": sigma,
        "cond": cond.flatten().tolist(),
        "uncond": uncond.flatten().tolist(),
        "size": float(guided.square().mean().sqrt()),
        "distance": measure_distance(cond, uncond),
        "edge_share": float(((colours <= 2) | (colours >= 253)).mean()),
        "histogram": np.histogram(colours, 32, (0, 256))[0].tolist(),
    }

    bench = []
    for seed in (1, 2, 3, 4):
        row = []
        for prompt in ("a cat in space", PROMPT):
            drawn, trace = engine.trace(prompt, seed=seed, steps=8)
            pixels = np.asarray(drawn, dtype=float)
            luma = pixels @ np.array([0.299, 0.587, 0.114])
            map = trace.map("cat")
            area = map > map.min() + INSIDE * (map.max() - map.min())
            row.append(
                {
                    "brightness": float(luma.mean()),
                    "colour": float((pixels.max(2) - pixels.min(2)).mean()),
                    "lines": float(np.abs(np.diff(pixels, axis=1)).mean()),
                    "centre": (area.nonzero().double().mean(0) / 16 + 0.5 / 16).flip(0).tolist(),
                }
            )
        bench.append(row)

    return {
        "one-look": one_look,
        "reconstruct": reconstruct,
        "latent-lab": latent_lab,
        "clip-matrix": clip_matrix,
        "word-lens": word_lens,
        "guidance-plane": guidance_plane,
        "prompt-bench": bench,
    }


SUBJECTS: dict[str, Callable[[], Any]] = {
    "pictures": compute_pictures,
    "drawing": compute_drawing,
}
