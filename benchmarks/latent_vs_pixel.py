"""How much cheaper diffusion is on latents than on pixels: the same U-Net family on both, all costs
counted.

    python benchmarks/latent_vs_pixel.py [--model FOLDER] [--sizes 64 128 256 512] [--steps 20]
[--plot docs/…png]

Four networks are compared on pictures of each size:
  latent        the model's own U-Net on its latents, with its autoencoder (encoder in training,
decoder in drawing)
  pixel narrow  a U-Net on pixels with the same levels below further ones, one for each halving that
the autoencoder
                does and as narrow as the autoencoder's: the least that a U-Net on pixels can cost
  pixel         the same, the further levels as wide as the model's first one: what one would build
  pixel same    the very same U-Net on pixels, attention at full resolution included
Operations are counted (multiply and add are two). Times and memory are measured, each in a process
of its own on one thread: CPU seconds, so that other programs disturb little. Drawing is a batch of
2 (with and without the prompt), training one picture. A picture costs steps × a step + the decoder;
one step is run and multiplied. A step that would take too long or too much memory here is counted
and not run ("–")."""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from fromnoise.models.conditioning import Conditioning
from fromnoise.models.config import UNetConfig, VAEConfig
from fromnoise.models.unet import UNet
from fromnoise.models.vae import VAE

NETWORKS = ("latent", "pixel narrow", "pixel", "pixel same")
TOKENS = 32  # states of the text encoder that cross-attention sees


def make_configs(model: str | None) -> tuple[UNetConfig, VAEConfig, str]:
    """Of the bundled model, or of another folder or hub id."""
    from fromnoise.checkpoints.hub import load_parts

    parts = load_parts(model)
    return parts.unet.config, parts.vae.config, model or "the bundled model"


def make_variant(kind: str, unet: UNetConfig, vae: VAEConfig) -> UNetConfig:
    if kind == "latent":
        return unet
    pixels = replace(unet, in_channels=3, out_channels=3)
    if kind == "pixel same":
        return pixels
    more, groups = len(vae.block_out_channels) - 1, unet.norm_groups
    widths = (
        vae.block_out_channels[:more]
        if kind == "pixel narrow"
        else [unet.block_out_channels[0]] * more
    )
    widths = [-(-width // groups) * groups for width in widths]
    return replace(
        pixels,
        block_out_channels=(*widths, *unet.block_out_channels),
        attention=(*[False] * more, *unet.attention),
        heads=(*[1] * more, *unet.heads),
    )


def make_parts(
    kind: str, size: int, unet: UNetConfig, vae: VAEConfig, device: str
) -> dict[str, Callable[[], object]]:
    """The work of one step and what surrounds it, by name: draw, train, decode, encode."""
    with torch.device(device):
        network = UNet(make_variant(kind, unet, vae))
        side = size // vae.factor if kind == "latent" else size
        x = torch.randn(2, network.config.in_channels, side, side)
        context = torch.randn(2, TOKENS, unet.context_dim)
        t = torch.full((2,), 500.0)

        def draw() -> None:
            with torch.no_grad():
                network(x, t, Conditioning(context))

        def train() -> None:
            network(x[:1], t[:1], Conditioning(context[:1])).square().mean().backward()

        work: dict[str, Callable[[], object]] = {"draw": draw, "train": train}
        if kind == "latent":
            autoencoder = VAE(vae)
            z, image = (
                torch.randn(1, vae.latent_channels, side, side),
                torch.randn(1, 3, size, size),
            )
            work["decode"] = torch.no_grad()(lambda: autoencoder.decode(z))
            work["encode"] = torch.no_grad()(lambda: autoencoder.encode(image).mean)
    return work


def count_flops(kind: str, size: int, unet: UNetConfig, vae: VAEConfig) -> dict[str, int]:
    """Counted on the meta device: nothing is computed."""
    counted = {}
    for name, work in make_parts(kind, size, unet, vae, "meta").items():
        with FlopCounterMode(display=False) as counter:
            work()
        counted[name] = counter.get_total_flops()
    return counted


def measure(
    kind: str, size: int, name: str, unet: UNetConfig, vae: VAEConfig, budget: float
) -> dict[str, float]:
    """CPU seconds of one piece of work (the best of several within `budget` seconds) and the memory
    in bytes that it adds at its peak to a process that already holds the weights."""
    torch.set_num_threads(1)
    work = make_parts(kind, size, unet, vae, "cpu")[name]
    before = measure_memory()
    times, end = [], time.process_time() + budget
    while not times or (time.process_time() < end and len(times) < 20):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return {"seconds": min(times), "bytes": measure_memory(peak=True) - before}


def measure_memory(peak: bool = False) -> float:
    """Bytes that this process holds; or its peak since the last call without `peak`, where Linux
    tells it."""
    status = Path("/proc/self/status")
    if not status.exists():  # elsewhere: the peak since the start
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1.0 if sys.platform == "darwin" else 1024.0
        )
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far (proc(5))
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024.0 * int(lines["VmHWM" if peak else "VmRSS"].split()[0])


def run(
    kind: str, size: int, name: str, unet: UNetConfig, vae: VAEConfig, budget: float
) -> dict[str, float] | None:
    """`measure` in a process of its own; None if that process was stopped for want of memory or
    time."""
    task = json.dumps([kind, size, name, asdict(unet), asdict(vae), budget])
    done = subprocess.run(
        [sys.executable, __file__, "--task", task], capture_output=True, text=True
    )
    return json.loads(done.stdout) if done.returncode == 0 else None


def thaw(raw: dict, cls: type) -> UNetConfig | VAEConfig:
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()})


def format_amount(value: float | None, unit: str) -> str:
    """1234567 → "1.23 M"."""
    if value is None or math.isnan(value):
        return "–"
    power = max(-1, min(4, math.floor(math.log10(max(value, 1e-9)) / 3)))
    prefix = "m" if power < 0 else ("", "k", "M", "G", "T")[power]
    return f"{value / 1000**power:.3g} {prefix}{unit}"


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--model")
    ask.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    ask.add_argument("--steps", type=int, default=20)
    ask.add_argument(
        "--budget", type=float, default=8.0, help="seconds to measure one piece of work for"
    )
    ask.add_argument(
        "--longest",
        type=float,
        default=120.0,
        help="do not run a step expected to take more seconds",
    )
    ask.add_argument("--plot", type=Path, default=Path("docs/latent_vs_pixel.png"))
    ask.add_argument("--json", type=Path, help="write every figure here")
    ask.add_argument("--task", help=argparse.SUPPRESS)
    options = ask.parse_args()
    if options.task:
        kind, size, name, unet, vae, budget = json.loads(options.task)
        print(
            json.dumps(
                measure(kind, size, name, thaw(unet, UNetConfig), thaw(vae, VAEConfig), budget)
            )
        )  # type: ignore[arg-type]
        return

    unet, vae, title = make_configs(options.model)
    say = Console(width=110, highlight=False)
    memory = 0.6 * (
        int(Path("/proc/meminfo").read_text().split()[1]) * 1024
        if Path("/proc/meminfo").exists()
        else 8e9
    )
    say.print(
        f"[bold]latents against pixels[/]: {title}, 1/{vae.factor} of the side, "
        f"{vae.latent_channels} channels; "
        f"{options.steps} steps with guidance; one CPU thread, fp32"
    )
    found: list[dict] = []
    speed, bytes_a_pixel = (
        30e9,
        {},
    )  # operations a second and bytes a pixel, bettered by every measurement
    for size in options.sizes:
        for kind in NETWORKS:
            counted = count_flops(kind, size, unet, vae)
            row: dict = {"size": size, "network": kind}
            for name, operations in counted.items():
                expected = bytes_a_pixel.get((kind, name), 0) * size**2
                fits = operations / speed < options.longest and expected < memory
                measured = run(kind, size, name, unet, vae, options.budget) if fits else None
                row[name] = {
                    "flops": operations,
                    **(measured or {"seconds": math.nan, "bytes": math.nan}),
                }
                if measured:
                    speed = operations / measured["seconds"]
                    bytes_a_pixel[kind, name] = measured["bytes"] / size**2
            row["picture"] = {
                k: options.steps * row["draw"][k] + row.get("decode", {k: 0})[k]
                for k in ("flops", "seconds")
            }
            row["picture"]["bytes"] = max(row[n]["bytes"] for n in ("draw", "decode") if n in row)
            row["step"] = {
                k: row["train"][k] + row.get("encode", {k: 0})[k] for k in ("flops", "seconds")
            }
            row["step"]["bytes"] = max(row[n]["bytes"] for n in ("train", "encode") if n in row)
            found.append(row)
            say.print(
                f"  {size:>4} px  {kind:12} "
                f"a picture: {format_amount(row['picture']['flops'], 'FLOP'):>11} "
                f"{format_amount(row['picture']['seconds'], 's'):>9}   a training step: "
                f"{format_amount(row['step']['flops'], 'FLOP'):>11} "
                f"{format_amount(row['step']['seconds'], 's'):>9}"
            )

    for what, words in (
        ("draw", "one U-Net step of drawing (batch of 2: with and without the prompt)"),
        ("picture", f"a picture: {options.steps} steps, and the decoder for latents"),
        ("step", "a training step of one picture, forward and back, and the encoder for latents"),
    ):
        table = Table(title=words, title_justify="left")
        for heading in ("size", "", "FLOP", "× latent", "time", "× latent", "memory", "× latent"):
            table.add_column(heading, justify="right" if heading else "left")
        for row in found:
            base = next(r for r in found if r["size"] == row["size"] and r["network"] == "latent")[
                what
            ]
            cells = [f"{row['size']} px" if row["network"] == "latent" else "", row["network"]]
            for key, unit in (("flops", "FLOP"), ("seconds", "s"), ("bytes", "B")):
                value = row[what][key]
                ratio = value / base[key] if base[key] and not math.isnan(value) else math.nan
                cells += [format_amount(value, unit), "–" if math.isnan(ratio) else f"{ratio:.1f}"]
            table.add_row(*cells, end_section=row["network"] == NETWORKS[-1])
        say.print(table)
    if options.json:
        options.json.write_text(
            json.dumps({"model": title, "steps": options.steps, "rows": found}, indent=1) + "\n"
        )
    plot(found, options.steps, options.plot)
    say.print(f"plot: {options.plot}")


def plot(found: list[dict], steps: int, path: Path) -> None:
    """Cost of a picture and of a training step over the size, with the ratio to latents written at
    each point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    colours = dict(zip(NETWORKS, ("#2a9d8f", "#8a8d91", "#e9a23b", "#c8553d"), strict=True))
    words = (
        "on latents",
        "on pixels, as narrow as the VAE",
        "on pixels",
        "on pixels, the very same network",
    )
    labels = dict(zip(NETWORKS, words, strict=True))
    cells = figure.subplots(2, 3, sharex=True)
    units = (
        ("flops", "TFLOP", 1e12),
        ("seconds", "CPU seconds, one thread", 1),
        ("bytes", "peak memory, GB", 1e9),
    )
    for line, (what, title) in enumerate(
        (("picture", f"a picture, {steps} steps"), ("step", "a training step"))
    ):
        for axes, (key, unit, scale) in zip(cells[line], units, strict=True):
            base = {r["size"]: r[what][key] for r in found if r["network"] == "latent"}
            for kind in NETWORKS:
                points = [
                    (r["size"], r[what][key])
                    for r in found
                    if r["network"] == kind and not math.isnan(r[what][key]) and r[what][key] > 0
                ]
                axes.plot(
                    [s for s, _ in points],
                    [v / scale for _, v in points],
                    "o-",
                    color=colours[kind],
                    label=labels[kind],
                )
                for size, value in points:
                    if kind != "latent" and base[size]:
                        axes.annotate(
                            f"{value / base[size]:.0f}×"
                            if value > 10 * base[size]
                            else f"{value / base[size]:.1f}×",
                            (size, value / scale),
                            (0, 5),
                            textcoords="offset points",
                            ha="center",
                            fontsize=8,
                            color=colours[kind],
                        )
            sizes = sorted({r["size"] for r in found})
            axes.set(
                xscale="log",
                yscale="log",
                title=f"{title}: {unit}",
                xlim=(sizes[0] / 1.3, sizes[-1] * 1.3),
            )
            axes.set_xticks(sizes, [f"{s}" for s in sizes], minor=False)
            axes.minorticks_off()
            axes.grid(alpha=0.25)
            if line:
                axes.set_xlabel("pixels a side")
            axes.margins(y=0.12)
    lines, names = cells[0][0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=len(names), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
