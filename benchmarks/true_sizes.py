"""Models of true size with random weights: from the start of a process to the end of the first
step, and peak memory, against diffusers that does the same from the same files.

python benchmarks/true_sizes.py FOLDER [--family sd15 sdxl] [--runs 3] [--size 512]

FOLDER takes the files (2.1 GB for sd15, 7 GB for sdxl); they are written where they are not there.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# children's code: one step, then the word STEP; the parent holds the watch
OURS = """
import sys
from fromnoise import load
model, size = sys.argv[1], int(sys.argv[2])
engine = load(model)
steps = engine.steps("a cat", seed=1, steps=int(sys.argv[3]), width=size, height=size, cfg=7.0,
                     max_cost=float("inf"))  # the sampler is that of the folder, DDIM
last = next(steps)
print("STEP", flush=True)
for last in steps: pass
engine.pictures(last.x)[0].save(sys.argv[4])
"""
PEER = """
import sys
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
model, size = sys.argv[1], int(sys.argv[2])
kind = StableDiffusionXLPipeline if "sdxl" in model else StableDiffusionPipeline
more = {"safety_checker": None} if kind is StableDiffusionPipeline else {}
if model.endswith(".safetensors"):
    pipe = kind.from_single_file(model, config=sys.argv[5], local_files_only=True,
                                 torch_dtype=torch.float32, **more)
else:
    pipe = kind.from_pretrained(model, torch_dtype=torch.float32, local_files_only=True, **more)
pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
pipe.set_progress_bar_config(disable=True)
def watch(pipe, index, t, values):
    if index == 0: print("STEP", flush=True)
    return values
result = pipe("a cat", num_inference_steps=int(sys.argv[3]), width=size, height=size,
              guidance_scale=7.0, generator=torch.Generator().manual_seed(1),
              callback_on_step_end=watch)
result.images[0].save(sys.argv[4])
"""
END = "<|endoftext|>"
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}
UNET = {
    "sd15": {
        "sample_size": 64,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "layers_per_block": 2,  # diffusers' reader of single files wants all of these
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "in_channels": 4,
        "out_channels": 4,
    },
    "sdxl": {
        "sample_size": 128,
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "layers_per_block": 2,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280],
        "use_linear_projection": True,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
TEXT = {
    "text_encoder": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "hidden_act": "quick_gelu",
        "projection_dim": 768,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    },
    "text_encoder_2": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_attention_heads": 20,
        "num_hidden_layers": 32,
        "hidden_act": "gelu",
        "projection_dim": 1280,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    },
}


def write_pipeline(folder: Path, family: str) -> None:
    """Writes a pipeline in fp16 as diffusers lays it out, with random weights of a usual size."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    generator = torch.Generator().manual_seed(0)

    def fill(shape: torch.Size, name: str) -> torch.Tensor:
        if len(shape) < 2:  # norms are 1, biases 0
            return torch.full(shape, float("norm" in name and "weight" in name)).half()
        deviation = (shape[1:].numel()) ** -0.5 if "embedding" not in name else 0.02
        return (torch.randn(shape, generator=generator) * deviation).half()

    def write(part: str, network: Any, name: str, config: dict[str, Any]) -> None:
        (folder / part).mkdir(parents=True, exist_ok=True)
        tensors = {key: fill(value.shape, key) for key, value in network.state_dict().items()}
        save_file(tensors, folder / part / name, metadata={"format": "pt"})
        (folder / part / "config.json").write_text(json.dumps(config))

    xl = family == "sdxl"
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline",
        "_diffusers_version": "0.30.0",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if xl:
        index["force_zeros_for_empty_prompt"] = True
    else:
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**UNET[family]), AutoencoderKL(**VAE)
    name = "diffusion_pytorch_model.safetensors"
    write("unet", unet, name, {"_class_name": "UNet2DConditionModel", **UNET[family]})
    factor = {"scaling_factor": 0.13025 if xl else 0.18215, "sample_size": 1024 if xl else 512}
    write("vae", vae, name, {"_class_name": "AutoencoderKL", **VAE, **factor})
    for part, sizes in TEXT.items():
        if part == "text_encoder_2" and not xl:
            continue
        kind = CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel
        with torch.device("meta"):
            text = kind(CLIPTextConfig(**sizes))
        config = {"architectures": [kind.__name__], "model_type": "clip_text_model", **sizes}
        config |= {"vocab_size": 49408, "max_position_embeddings": 77}
        write(part, text, "model.safetensors", config)
        index[part] = ["transformers", kind.__name__]
        tokenizer = part.replace("text_encoder", "tokenizer")
        write_tokenizer(folder / tokenizer, "!" if part == "text_encoder_2" else END)
        index[tokenizer] = ["transformers", "CLIPTokenizer"]
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (folder / "model_index.json").write_text(json.dumps(index))


def write_tokenizer(folder: Path, pad: str) -> None:
    """CLIP's vocabulary, as transformers writes it."""
    from fromnoise.prompt.clip_vocabulary import read_vocabulary

    folder.mkdir(parents=True, exist_ok=True)
    for name, data in read_vocabulary()[2].items():
        (folder / name).write_bytes(data)
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": pad}
    settings |= dict.fromkeys(("eos_token", "unk_token"), END)
    settings["bos_token"] = "<|startoftext|>"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def run_child(code: str, *arguments: object) -> tuple[float, float, float]:
    """(seconds until the first step has finished, seconds in all, MiB at the peak)."""
    # pip compiles the peer's modules when it installs them; ours are compiled by the first run
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert child.stdout
    first = next((time.perf_counter() - begun for line in child.stdout if "STEP" in line), None)
    _, status, usage = os.wait4(child.pid, 0)
    if status or first is None:
        raise SystemExit("the child failed, see above")
    return first, time.perf_counter() - begun, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--family", nargs="+", choices=[*UNET], default=["sd15"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--size", type=int, default=512)
    given = parser.parse_args()
    print("| model | from | | s to the first step | × | s in all | × | peak MiB | × |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for family in given.family:
        folder, single = given.folder / family, given.folder / f"{family}.safetensors"
        if not (folder / "model_index.json").is_file():
            write_pipeline(folder, family)
        if not single.is_file():
            convert = ["fromnoise", "convert", str(folder), str(single), "--to", "single-file"]
            subprocess.run(convert, check=True)
        for source, path in (("a folder", folder), ("a file", single)):
            compare(family, source, path, folder, given)


def compare(family: str, source: str, path: Path, config: Path, given: argparse.Namespace) -> None:
    """Prints a row for diffusers and one for us: medians over the runs, one after the other in
    turn, after one of each that only fills the page cache."""
    rows: dict[str, list[tuple[float, ...]]] = {"diffusers": [], "fromnoise": []}
    for run in range(given.runs + 1):
        for name, code in (("diffusers", PEER), ("fromnoise", OURS)):
            out = given.folder / f"{family}-{name}.png"
            result = run_child(code, path, given.size, given.steps, out, config)
            if run:
                rows[name].append(result)
    medians = {n: [statistics.median(c) for c in zip(*r, strict=True)] for n, r in rows.items()}
    for name, values in medians.items():
        ratios = [value / peer for value, peer in zip(values, medians["diffusers"], strict=True)]
        cells = (f"{v:,.1f} | {r:.2f}" for v, r in zip(values, ratios, strict=True))
        print(f"| {family} | {source} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
