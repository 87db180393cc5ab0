"""Ours against diffusers on a GPU, in one process, as ratios of paired runs; and the bundled
model's pictures a second.

python benchmarks/on_gpu.py [--device cuda] [--dtype fp16] [--runs 5] [--steps 20] [--tiny] The
model has Stable Diffusion 1.5's true sizes and random weights, written by diffusers' and
transformers' own classes into a temporary folder; nothing is downloaded. Both draw from the same
noise with DDIM at guidance 7.5, warm, one run unmeasured, then alternating; the time is from the
call to Pillow pictures, the device synchronised on both sides. "a step" is the slope between runs
of all and of half the steps, "the rest" what is left of the whole: words, decoding. Peak memory is
a pipeline's own weights and what a call of it holds on top: whatever else lies on the device
meanwhile stays constant and is subtracted, so neither needs to be moved away for the other. Ours
keeps its autoencoder and text encoder in fp32 on purpose; the table of parts shows what that costs.
--tiny: a toy of the same shape, and fewer pictures, to rehearse the script on a CPU."""

import argparse
import gc
import json
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel

from fromnoise import load
from fromnoise.checkpoints.configs import read_tokenizer
from fromnoise.models.conditioning import Conditioning
from fromnoise.pipeline.images import to_picture
from fromnoise.prompt import tokenizer_files
from fromnoise.prompt.tokenizer import BOS, EOS
from fromnoise.runtime.prepare import DTYPES

GB = 2**30
PROMPT = "a neon cat in space, highly detailed, 4k"
UNET = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "norm_num_groups": 32,
}
VAE = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "latent_channels": 4,
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 32,
}
TEXT = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
DDIM = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
SMALLER = {
    "sample_size": 8,
    "block_out_channels": (32, 32, 64, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
TINY = {
    "unet": SMALLER | {"cross_attention_dim": 32, "attention_head_dim": 4},
    "vae": SMALLER | {"sample_size": 64},
    "text": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    },
}


def print_progress(text: str, since: float = time.perf_counter()) -> None:
    print(f"[{time.perf_counter() - since:6.1f} s] {text}", flush=True)


# ---- a model of the true sizes
# ---------------------------------------------------------------------------------------


def randomize(network: torch.nn.Module, seed: int) -> None:
    """Random numbers in every parameter, norms and biases too, at the size that keeps activations
    near 1."""
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.ndim > 1:
                p.normal_(0, p[0].numel() ** -0.5, generator=generator)
            else:
                p.normal_(
                    float("norm" in name and name.endswith("weight")), 0.1, generator=generator
                )


def write_words(folder: Path, size: int) -> None:
    """CLIP's tokenizer files with `size` ids: every byte, every byte that ends a word, fillers,
    start and end."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(s + "</w>" for s in letters)]
    words += [f"filler{i}" for i in range(size - len(words) - 2)] + [BOS, EOS]
    folder.mkdir(parents=True)
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    vocab.write_text(
        json.dumps({word: i for i, word in enumerate(words)}, ensure_ascii=False), encoding="utf-8"
    )
    merges.write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer_files.save(read_tokenizer(folder, 77), folder)


def write_model(folder: Path, device: torch.device, tiny: bool) -> None:
    """The folder of a StableDiffusionPipeline in fp16, by the classes that others write theirs
    with."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    small = TINY if tiny else {"unet": {}, "vae": {}, "text": {}}
    with torch.device(device):
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel(**UNET | small["unet"]),
            "vae": AutoencoderKL(**VAE | small["vae"]),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT | small["text"])),
        }
    for seed, (name, network) in enumerate(parts.items()):
        randomize(network, seed)
        network.half().save_pretrained(folder / name)
    DDIMScheduler(**DDIM).save_pretrained(folder / "scheduler")
    write_words(folder / "tokenizer", TEXT["vocab_size"])
    theirs = {name: ["diffusers", type(part).__name__] for name, part in parts.items()}
    index = (
        {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False}
        | theirs
        | {
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "feature_extractor": [None, None],
            "safety_checker": [None, None],
        }
    )
    (folder / "model_index.json").write_text(json.dumps(index))


# ---- measuring
# ----------------------------------------------------------------------


class Device:
    """Time and memory of a device. On a CPU there is nothing to wait for, and memory is not told
    (0)."""

    def __init__(self, name: str):
        self.torch, self.cuda = torch.device(name), name.startswith("cuda")

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def held(self) -> int:
        """Bytes of live tensors, once those that nothing names any more are gone."""
        gc.collect()
        self.wait()
        return torch.cuda.memory_allocated() if self.cuda else 0

    def seconds(self, call: Callable[[], Any]) -> tuple[float, Any]:
        self.wait()
        start = time.perf_counter()
        result = call()
        self.wait()
        return time.perf_counter() - start, result

    def peak(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """(GiB that a call holds at most on top of what is held before it, its result)."""
        before = self.held()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        result = call()
        self.wait()
        return (torch.cuda.max_memory_allocated() - before if self.cuda else 0) / GB, result


def load_diffusers(folder: Path, device: Device, dtype: str) -> Any:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, torch_dtype=DTYPES[dtype], safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device.torch)


@contextmanager
def set_convolutions(tf32: bool = True, deterministic: bool = False) -> Iterator[None]:
    """PyTorch's own settings, or others, for a while: loading ours may set them for the process,
    and theirs runs as it comes."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    cudnn.allow_tf32, cudnn.deterministic = tf32, deterministic
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic = before


def make_diffusers_run(
    pipeline: Any, noise: torch.Tensor, side: int, tf32: bool = True
) -> Callable[[int], list[Image.Image]]:
    latents = noise.to(pipeline.device, pipeline.unet.dtype)

    @set_convolutions(tf32)
    def draw(steps: int) -> list[Image.Image]:
        return pipeline(
            PROMPT,
            negative_prompt="",
            num_images_per_prompt=len(noise),
            num_inference_steps=steps,
            guidance_scale=7.5,
            latents=latents,
            width=side,
            height=side,
        ).images

    return draw


def make_own_run(engine: Any, noise: torch.Tensor, side: int) -> Callable[[int], list[Image.Image]]:
    def draw(steps: int) -> list[Image.Image]:
        drawn = engine.generate(
            PROMPT,
            latents=noise,
            count=len(noise),
            steps=steps,
            cfg=7.5,
            sampler="ddim",
            spacing="leading",
            width=side,
            height=side,
            seed=0,
        )
        return drawn if isinstance(drawn, list) else [drawn]

    return draw


def compare_pictures(a: list[Image.Image], b: list[Image.Image]) -> tuple[int, float]:
    """(greatest, mean) difference of pictures, in levels of 255."""
    apart = np.abs(
        np.asarray([np.asarray(p) for p in a], int) - np.asarray([np.asarray(p) for p in b], int)
    )
    return int(apart.max()), float(apart.mean())


def time_pairs(
    device: Device, draws: dict[str, Callable[[int], list]], steps: int, runs: int
) -> dict[str, list[float]]:
    """Seconds of `runs` alternating runs of each, after one of each that is not measured."""
    found: dict[str, list[float]] = {name: [] for name in draws}
    for run in range(runs + 1):
        for name, draw in draws.items():
            spent, _ = device.seconds(lambda draw=draw: draw(steps))
            if run:
                found[name].append(spent)
    return found


def print_table(head: str, rows: list[list[str]]) -> None:
    names = head.split("|")
    print(
        "\n"
        + "\n".join(
            f"| {' | '.join(row)} |"
            for row in [names, ["---", *["---:"] * (len(names) - 1)], *rows]
        )
    )


# ---- the tables
# ----------------------------------------------------------------------


def compare(folder: Path, device: Device, args: argparse.Namespace) -> None:
    side = 64 if args.tiny else 512
    loading: dict[str, list[float]] = {"fromnoise": [], "diffusers": []}
    own: dict[str, float] = {}
    engine: Any = None
    pipeline: Any = None
    for _ in range(2):  # the first load of each also imports what it needs
        engine = pipeline = None
        before = device.held()
        spent, engine = device.seconds(lambda: load(folder, args.device, args.dtype))
        loading["fromnoise"].append(spent)
        own["fromnoise"] = (device.held() - before) / GB
        before = device.held()
        spent, pipeline = device.seconds(lambda: load_diffusers(folder, device, args.dtype))
        loading["diffusers"].append(spent)
        own["diffusers"] = (device.held() - before) / GB
    weights = [folder / part / "diffusion_pytorch_model.safetensors" for part in ("unet", "vae")]
    hashing = device.seconds(lambda: [sha256(path.read_bytes()) for path in weights])[0]
    rows = [
        [name, *(f"{s:.2f}" for s in found), f"{own[name]:.2f}"] for name, found in loading.items()
    ]
    ratios = [
        f"{a / b:.2f}" for a, b in zip(loading["fromnoise"], loading["diffusers"], strict=True)
    ]
    rows += [
        ["ratio", *ratios, ""],
        ["of ours, the SHA-256 of the files", "", f"{hashing:.2f}", ""],
    ]
    print_table("folder → device|first s|second s|weights GiB", rows)
    print_progress("loaded")

    rows, shape = [], (4, side // 8, side // 8)
    for count in (1, 4):
        noise = (
            torch.randn(count, *shape, generator=torch.Generator().manual_seed(1)).half().float()
        )
        drawing = make_own_run(engine, noise, side)

        def at(batch: int, draw: Callable[[int], list] = drawing) -> Callable[[int], list]:
            def drawn(steps: int) -> list:
                engine.unet.batch = batch
                return draw(steps)

            return drawn

        draws = {"fromnoise": at(count)} | ({"fromnoise, exact plan": at(1)} if count > 1 else {})
        draws["diffusers"] = make_diffusers_run(pipeline, noise, side)
        whole, half = (
            time_pairs(device, draws, args.steps, args.runs),
            time_pairs(device, draws, args.steps // 2, 2),
        )
        peaks = {
            name: device.peak(lambda draw=draw: draw(args.steps)) for name, draw in draws.items()
        }
        for name, (peak, pictures) in peaks.items():
            middle = statistics.median(whole[name])
            step = (middle - statistics.median(half[name])) / (args.steps - args.steps // 2)
            apart, mean = compare_pictures(pictures, peaks["diffusers"][1])
            pairs = zip(whole[name], whole["diffusers"], strict=True)
            rows.append(
                [
                    str(count),
                    name,
                    f"{middle:.3f}",
                    f"{min(whole[name]):.3f}",
                    f"{statistics.median(a / b for a, b in pairs):.3f}",
                    f"{1e3 * step:.1f}",
                    f"{1e3 * (middle - args.steps * step):.0f}",
                    f"{own[name.split(',')[0]] + peak:.2f}",
                    "" if name == "diffusers" else f"{apart} ({mean:.2f})",
                ]
            )
        print_progress(
            f"{count} at a time, pictures of standard deviation "
            f"{np.asarray(peaks['diffusers'][1]).std():.0f}"
        )
    print_table(
        f"{side} × {side}, {args.steps} steps, batch|whose|median s|best s|ratio|ms a step|"
        "the rest ms|peak GiB|"
        "greatest (mean) difference of levels",
        rows,
    )
    engine.unet.batch = 1

    both, noise = (
        (load(folder, args.device, "fp32"), load_diffusers(folder, device, "fp32")),
        torch.randn(1, *shape),
    )
    with set_convolutions(tf32=False):
        draws = (
            make_own_run(both[0], noise, side),
            make_diffusers_run(both[1], noise, side, tf32=False),
        )
        drawn = [draw(args.steps) for draw in draws]
    del both, draws
    apart, mean = compare_pictures(*drawn)
    print(
        f"\nBoth in fp32, without TF32: greatest difference {apart} of 255 levels, mean {mean:.4f}"
    )
    print_progress("in fp32")
    print_table(
        "part of a run of one picture|ms",
        time_parts(device, engine, pipeline, torch.randn(1, *shape), args.dtype),
    )


def time_parts(
    device: Device, engine: Any, pipeline: Any, latents: torch.Tensor, dtype: str
) -> list[list[str]]:
    """Where a run's time goes, and what is left to win. Leaves our autoencoder in fp32, channels
    last."""
    unet, vae, z, half = engine.unet, engine.model.vae, latents.to(device.torch), DTYPES[dtype]
    rows: list[list[str]] = []

    def row(name: str, call: Callable[[], Any], times: int = 1, runs: int = 7) -> None:
        call()
        found = [
            device.seconds(lambda: [call() for _ in range(times)])[0] / times for _ in range(runs)
        ]
        rows.append([name, f"{1e3 * statistics.median(found):.2f}"])

    with torch.inference_mode():
        context = torch.randn(2, 77, unet.network.config.context_dim)
        step, x, t = (
            unet.bind(Conditioning(context)),
            latents.repeat(2, 1, 1, 1),
            torch.tensor(500.0),
        )
        row("a step, from the host and back: ours", lambda: step(x, t).cpu())
        last = {"memory_format": torch.channels_last}
        x, t, bound = (
            x.to(device.torch, half, **last),
            t.to(device.torch),
            Conditioning(context.to(device.torch, half)),
        )
        constants = unet.network.constants(bound)

        def ours() -> torch.Tensor:
            return unet.network(x, t, bound, None, constants)

        plain = x.contiguous()

        @set_convolutions()
        def others() -> Any:
            return pipeline.unet(plain, t, encoder_hidden_states=bound.context, return_dict=False)

        for name, forward in (("ours", ours), ("diffusers", others)):
            row(f"U-Net, one call: {name}", forward)
            row(f"U-Net, each of ten calls in a row: {name}", forward, 10, 3)
        decode = set_convolutions()(lambda: pipeline.vae.decode(z.to(half), return_dict=False))
        row(f"decoder, {dtype}: diffusers", decode)
        row("decoder, fp32: ours", lambda: vae.to_image(z))
        row("decoder and the way to Pillow, fp32: ours", lambda: to_picture(vae.to_image(z)[0]))
        row("decoder, fp32, with TF32: ours, not used", set_convolutions()(lambda: vae.to_image(z)))
        vae.to(half)
        row(f"decoder, {dtype}: ours, not used", lambda: vae.to_image(z.to(half)))
        for p in vae.parameters():
            p.data = p.data.contiguous(**last) if p.ndim == 4 else p.data
        row(f"decoder, {dtype}, channels last: ours, not used", lambda: vae.to_image(z.to(half)))
        vae.float()
        row("decoder, fp32, channels last: ours, not used", lambda: vae.to_image(z))
        row(
            "decoder, fp32, channels last, with TF32: ours, not used",
            set_convolutions()(lambda: vae.to_image(z)),
        )
        if device.cuda:  # last, since a capture that fails could spoil what follows
            for name, forward in (("ours", ours), ("diffusers", others)):
                graph = capture_graph(forward)
                if isinstance(graph, str):
                    rows.append([f"U-Net as a CUDA graph: {name}", graph])
                else:
                    row(f"U-Net as a CUDA graph, which no launch holds up: {name}", graph.replay)
    return rows


def capture_graph(forward: Callable[[], Any]) -> "torch.cuda.CUDAGraph | str":
    """The call as a graph of kernels, or why it cannot be one."""
    try:
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                forward()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            forward()
    except RuntimeError as error:
        return f"failed: {str(error).splitlines()[0][:80]}"
    return graph


def measure_bundled(device: Device, tiny: bool) -> None:
    """Pictures a second of the model that comes along, with its own settings: 20 steps of DPM++
    2M."""
    rows = []
    for dtype in ("bf16", "fp32"):
        for batch in (1, 2) if tiny else (1, 16, 64, 256):
            engine = load(None, str(device.torch), dtype, batch=batch)

            def draw(seed: int, engine: Any = engine, batch: int = batch) -> Any:
                return engine.generate(
                    "a neon cat in space", count=batch, seed=seed, steps=20, sampler="dpmpp_2m"
                )

            draw(0)
            runs = 5 if batch == 1 else 2
            found = [device.seconds(lambda i=i, draw=draw: draw(i))[0] for i in range(runs)]
            peak = device.held() / GB + device.peak(lambda draw=draw: draw(0))[0]
            middle = statistics.median(found)
            rows.append(
                [
                    dtype,
                    f"{batch}" + (" (exact plan)" if batch == 1 else ""),
                    f"{middle:.3f}",
                    f"{batch / middle:.1f}",
                    f"{peak:.2f}",
                ]
            )
            del engine, draw
    print_table("bundled model, 128 × 128|batch|s|pictures/s|peak GiB", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="fp16", choices=list(DTYPES))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    device = Device(args.device)
    name = torch.cuda.get_device_name() if device.cuda else platform.machine()
    engine = load(None, args.device)
    print(
        f"{name}, torch {torch.__version__}; ours with TF32 {torch.backends.cudnn.allow_tf32}, "
        "deterministic "
        f"{torch.backends.cudnn.deterministic}",
        flush=True,
    )
    del engine
    measure_bundled(device, args.tiny)
    print_progress("bundled model")

    import diffusers
    import transformers

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    print(
        f"\ndiffusers {diffusers.__version__}, transformers {transformers.__version__}, "
        f"both in {args.dtype}"
    )
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "model", device.torch, args.tiny)
        print_progress("model written")
        compare(Path(folder) / "model", device, args)
    print_progress("done")


if __name__ == "__main__":
    main()
