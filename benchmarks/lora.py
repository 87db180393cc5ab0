"""How long a LoRA of 150 MB takes to be put on a model of Stable Diffusion 1's size, beside
diffusers' `load_lora_weights` and `fuse_lora`; and the memory over switches between several.

    python benchmarks/lora.py MODEL.safetensors FOLDER

MODEL and FOLDER hold the same model, as a single file and as diffusers has it. The files of LoRA
are random numbers: rank 128 for all attention and feed-forward layers of the U-Net and all layers
of the text encoder, in fp16 with the names of kohya's trainer, as the published ones of that size.

Seconds are those of the wall, then of the processor (of the program, of the kernel), which do not
depend on what else the machine does. The first time pays for new memory, too."""

import argparse
import gc
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import nn

from fromnoise import load
from fromnoise.pipeline.addon_fields.lora import Lora
from fromnoise.pipeline.addons import patched
from fromnoise.pipeline.addons.lora import put_on
from fromnoise.pipeline.request import GenerationRequest

RANK, SWITCHES = 128, 10


def write_lora(model, path: Path, seed: int) -> None:
    randomness, tensors = torch.Generator().manual_seed(seed), {}
    for part, network in (("unet", model.unet), ("te", model.text_encoder)):
        for name, module in network.named_modules():
            linear = isinstance(module, nn.Linear) and (
                part == "te" or {"attn", "ff"} & words(name)
            )
            if linear or (isinstance(module, nn.Conv2d) and "proj_" in name):
                stem = f"lora_{part}_{name.replace('.', '_')}"
                out, *rest = module.weight.shape
                shapes = {"down": (RANK, *rest), "up": (out, RANK, *[1] * (len(rest) - 1))}
                for side, shape in shapes.items():
                    numbers = 0.01 * torch.randn(shape, generator=randomness)
                    tensors[f"{stem}.lora_{side}.weight"] = numbers.half()
                tensors[f"{stem}.alpha"] = torch.tensor(RANK / 2).half()
    save_file(tensors, path)


def words(name: str) -> set[str]:
    return {part.rstrip("12") for part in name.split(".")}


def measure(act: Callable[[], object]) -> tuple[float, float, float]:
    """(seconds of the wall, of the program, of the kernel)."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    act()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return seconds, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime


def read_memory() -> float:
    """GiB that the process has now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / (1 << 20)


def tell(what: str, seconds: tuple[float, float, float]) -> None:
    print(f"{what:<44} {seconds[0]:6.2f} s   processor {seconds[1]:5.2f} + {seconds[2]:4.2f} s")


def measure_ours(model: Path, files: list[Path]) -> list[tuple[float, float, float]]:
    """Of each file after the other. The last one is put on twice, and asked for again."""
    gc.freeze()  # what was imported, as the command line and the server do
    engine, request = load(model), GenerationRequest.of(prompt="a")
    write_lora(engine.model, files[0], 0)
    for file in files[1:]:  # other files to the program, with other weights
        file.symlink_to(files[0])
    print(f"{files[0].stat().st_size / 1e6:.0f} MB, {torch.get_num_threads()} threads")

    def apply(place: int) -> None:
        item = Lora(name=str(place), file=files[place], weight=1 - place / 100)
        put_on(engine.model, engine.unet, request, [item])

    times, memory = [measure(lambda: apply(0))], [read_memory()]
    patched.BUDGET = 0  # each takes the place of the one before
    for place in range(1, len(files)):
        times.append(measure(lambda place=place: apply(place)))
        memory.append(read_memory())
    tell("fromnoise, the first time", times[0])
    tell(f"fromnoise, the best of {len(times) - 1} switches", min(times[1:]))
    tell("fromnoise, the same again", measure(lambda: apply(len(files) - 1)))
    print(f"memory over the switches: {memory[0]:.2f} GiB, at most {max(memory):.2f}")
    return times


def measure_theirs(folder: Path, file: Path) -> list[tuple[float, float, float]]:
    """Of the first time and of a second one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers

        pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)  # type: ignore[attr-defined]

        def fuse() -> None:
            pipeline.load_lora_weights(str(file))
            pipeline.fuse_lora()

        times = [measure(fuse)]
        pipeline.unfuse_lora()
        pipeline.unload_lora_weights()
        times.append(measure(fuse))
    tell("diffusers, load and fuse, the first time", times[0])
    tell("diffusers, load and fuse, again", times[1])
    return times


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--switches", type=int, default=SWITCHES)
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        files = [Path(name) / f"{i}.safetensors" for i in range(options.switches + 1)]
        ours = measure_ours(options.model, files)
        gc.collect()
        theirs = measure_theirs(options.folder, files[0])
    first, later = sum(ours[0][1:]), min(sum(times[1:]) for times in ours[1:])
    ratios = first / sum(theirs[0][1:]), later / sum(theirs[1][1:])
    print(
        f"processor seconds, ours / theirs: {ratios[0]:.2f} the first time, {ratios[1]:.2f} later"
    )


if __name__ == "__main__":
    main()
