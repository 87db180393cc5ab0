"""The one training loop: any task, progress with ETA, plots, checkpoints, resume, one process or
many (Accelerate)."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from fromnoise.checkpoints import training_state
from fromnoise.errors import BadInput, UnknownName
from fromnoise.train.loop import muon
from fromnoise.train.loop.ema import Ema
from fromnoise.train.loop.hardware import name_hardware
from fromnoise.train.loop.precision import Fp32Attention, choose_precision
from fromnoise.train.recipe import Recipe, Stage

OPTIMIZERS = ("adamw", "muon")


class Task(Protocol):
    """What a stage trains. `module` holds every trained weight; `batches` must depend on the step
    alone."""

    @property
    def module(self) -> nn.Module: ...

    def batches(self, step: int, size: int, rank: int, world: int) -> Iterator[Any]: ...

    def loss(
        self, batch: Any, progress: float, noise: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """(scalar loss, figures to log). `progress` runs from 0 to 1 over the stage."""
        ...

    def preview(self, path: Path) -> None:
        """Draws what the averaged weights, loaded at the moment, can do into `path` (a .png); may
        draw nothing."""
        ...

    def export(self, folder: Path) -> dict[str, Any]:
        """Writes the result, averaged weights loaded, and returns figures for `done.json`."""
        ...


def scale_rate(progress: float, step: int, warmup: int, decay: float) -> float:
    """Share of the peak rate: linear warm-up, constant, then linear to zero over the last `decay`
    of the stage (the trapezoid of Hägele et al. 2024: a longer run goes on from any checkpoint
    before the descent)."""
    return min(1.0, (step + 1) / max(warmup, 1)) * min(
        1.0, (1 - progress) / decay if decay else 1.0
    )


def build_optimizer(module: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """The stage's `optimizer`, "adamw" or "muon", over all trained weights of `module`."""
    name, decay = stage.get("optimizer", "adamw"), stage.get("weight_decay", 0.01)
    if name not in OPTIMIZERS:
        raise UnknownName("optimizer", name, OPTIMIZERS)
    options = {
        "lr": float(stage["lr"]),
        "betas": tuple(stage.get("betas", (0.9, 0.99))),
        "fused": True,
    }
    if name == "muon":
        return muon.Muon(muon.group_parameters(module, decay), **options)
    weights = [p for p in module.parameters() if p.requires_grad]
    kinds = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(kinds, **options)


def fit(task: Task, stage: Stage, recipe: Recipe) -> dict[str, Any]:
    """Trains `task` for `pictures` (or `minutes`, whichever ends first) and exports it; resumes
    what it finds."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import broadcast
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    size, goal, minutes = int(stage["batch"]), int(stage["pictures"]), stage.get("minutes")
    if size < 1 or goal < size:
        raise BadInput(
            f"[{stage.name}] trains {goal} pictures in batches of {size}",
            "raise pictures or lower batch",
        )
    # said outright, else several processes without a GPU would each believe themselves alone
    cpu = stage.get("device") == "cpu" or not torch.accelerator.is_available()
    # it outlives a stage, and would have the next one keep this one's precision
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=choose_precision(stage.get("precision", "no"), cpu), cpu=cpu
    )
    rank, world = accelerator.process_index, accelerator.num_processes
    task.module.to(accelerator.device)
    ema = Ema(task.module, stage.get("ema", 0.999))
    weights = [p for p in task.module.parameters() if p.requires_grad]
    optimizer = build_optimizer(task.module, stage)
    step, pictures, elapsed, log = 0, 0, 0.0, []
    if found := training_state.load(stage.folder):
        trees, counters = found
        task.module.load_state_dict(trees["weights"])
        moments = trees.get("optimizer", {})
        before = "muon" if any("momentum" in state for state in moments.values()) else "adamw"
        if moments and before != (now := stage.get("optimizer", "adamw")):
            moments = {}
            if rank == 0:
                print(
                    f"warning: [{stage.name}] goes on with {now} after {before}, whose moments are left behind"
                )
        training_state.load_optimizer(optimizer, moments)
        ema.load(trees["ema"], counters["ema_updates"])
        step, elapsed, log = counters["step"], counters["elapsed"], counters["log"]
        pictures = int(
            counters.get("pictures") or step * size * world
        )  # older states do not count them
    if world > 1:
        broadcast([p.data for p in task.module.parameters()])
    base = float(stage["lr"])

    def progress() -> float:
        return min(1.0, max(pictures / goal, elapsed / (60 * minutes) if minutes else 0.0))

    def save() -> None:
        if accelerator.is_main_process:
            trees = {"weights": task.module.state_dict(), "ema": ema.shadow}
            trees["optimizer"] = training_state.optimizer_tree(optimizer)
            counters = {"step": step, "pictures": pictures, "elapsed": elapsed}
            training_state.save(
                stage.folder, trees, counters | {"ema_updates": ema.updates, "log": log}
            )

    def with_average(action):
        inner = task.module
        live = {k: v.clone() for k, v in inner.state_dict().items()}
        inner.load_state_dict(ema.shadow)
        inner.eval()
        try:
            with torch.no_grad():
                return action()
        finally:
            inner.load_state_dict(live)
            inner.train()

    stage.folder.mkdir(parents=True, exist_ok=True)
    task.module.train()
    batches = task.batches(step, size, rank, world)
    last_save = last_preview = time.monotonic()
    sums: dict[str, float] = {}
    count = 0
    columns = (
        TextColumn(stage.name),
        BarColumn(),
        TextColumn("{task.percentage:>5.1f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, disable=not accelerator.is_main_process, refresh_per_second=1) as bar:
        line = bar.add_task(stage.name, total=1.0, text="")
        tick = time.monotonic()
        rate = 0.0
        while progress() < 1:
            for group in optimizer.param_groups:
                group["lr"] = base * scale_rate(
                    progress(), step, stage.get("warmup", 100), stage.get("decay", 0.3)
                )
            noise = torch.Generator().manual_seed((recipe.seed * 1_000_003 + step) * 64 + rank)
            with accelerator.autocast(), Fp32Attention() if cpu else nullcontext():
                loss, figures = task.loss(next(batches), progress(), noise)
            if not math.isfinite(loss.item()):
                raise BadInput(
                    f"[{stage.name}] the loss became {loss.item()} at step {step}",
                    f"lower lr; the last good state is {stage.folder}",
                )
            accelerator.backward(loss)
            if world > 1:  # the gradients of all processes in one message
                grads = [p.grad for p in weights if p.grad is not None]
                mean = cast(
                    Tensor, accelerator.reduce(torch.cat([g.flatten() for g in grads]), "mean")
                )
                for g, m in zip(grads, mean.split([g.numel() for g in grads]), strict=True):
                    g.copy_(m.view_as(g))
            nn.utils.clip_grad_norm_(weights, stage.get("clip", 1.0))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ema.update(task.module)
            step, pictures = step + 1, pictures + size * world
            now = time.monotonic()
            elapsed, spent, tick = elapsed + now - tick, now - tick, now
            if world > 1 and minutes:  # all must agree when to stop
                elapsed = float(
                    cast(Tensor, broadcast(torch.tensor(elapsed, device=accelerator.device)))
                )
            rate = size * world / spent if not rate else 0.95 * rate + 0.05 * size * world / spent
            for k, v in {"loss": loss.item(), **figures}.items():
                sums[k] = sums.get(k, 0.0) + v
            count += 1
            if step % int(stage.get("log_every", 50)) == 0:
                means = {k: round(v / count, 6) for k, v in sums.items()}
                log.append(
                    {
                        "pictures": pictures,
                        "seconds": round(elapsed, 1),
                        "rate": round(rate, 2),
                        **means,
                    }
                )
                sums, count = {}, 0
                if accelerator.is_main_process:
                    (stage.folder / "log.jsonl").write_text(
                        "".join(json.dumps(row) + "\n" for row in log)
                    )
            text = " ".join(f"{k} {v:.4g}" for k, v in {"loss": loss.item(), **figures}.items())
            bar.update(line, completed=progress(), text=f"{text} · {rate:.1f} pictures/s")
            if now - last_save > 60 * stage.get("checkpoint_minutes", 3):
                save()
                last_save = time.monotonic()
            if accelerator.is_main_process and now - last_preview > 60 * stage.get(
                "preview_minutes", 10
            ):
                with_average(partial(task.preview, stage.folder / f"step-{step:07d}.png"))
                plot_log(log, stage.folder / "loss.png")
                last_preview = time.monotonic()
    save()
    result: dict[str, Any] = {}
    if accelerator.is_main_process:
        plot_log(log, stage.folder / "loss.png")
        result = with_average(
            lambda: (task.preview(stage.folder / "final.png"), task.export(stage.folder))[1]
        )
        result |= {
            "pictures": pictures,
            "steps": step,
            "seconds": round(elapsed),
            "on": name_hardware(cpu),
        }
        (stage.folder / "done.json").write_text(json.dumps(result, indent=2) + "\n")
    accelerator.wait_for_everyone()
    return result


def plot_log(log: list[dict[str, float]], path: Path) -> None:
    """Every figure of the log against pictures seen, each in its own panel."""
    if len(log) < 2:
        return
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    names = [k for k in log[-1] if k not in ("pictures", "seconds", "rate")]
    figure, axes = plt.subplots(1, len(names), figsize=(4 * len(names), 3), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        axis.plot(
            [row["pictures"] for row in log if name in row],
            [row[name] for row in log if name in row],
            lw=1,
        )
        axis.set(title=name, xlabel="pictures")
        axis.grid(alpha=0.3)
        if name == "loss" and min(row[name] for row in log) > 0:
            axis.set_yscale("log")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
