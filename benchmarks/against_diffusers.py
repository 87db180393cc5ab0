"""Process start to PNG on disk, ours against diffusers' StableDiffusionPipeline: one folder, one
setting, paired.

python benchmarks/against_diffusers.py [--model FOLDER] [--runs 5] [--steps 20] Whole processes,
alternating, so that both see the same machine; one unmeasured run of each comes first (file cache).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
OURS = "from fromnoise.cli.main import main; main()"
THEIRS = """
import sys, torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
prompt, model, steps, cfg, seed, out = sys.argv[1:]
pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
pipeline.set_progress_bar_config(disable=True)
generator = torch.Generator().manual_seed(int(seed))
settings = {"num_inference_steps": int(steps), "guidance_scale": float(cfg)}
pipeline(prompt, generator=generator, **settings).images[0].save(out)
"""


def time_run(command: list[str], out: Path) -> float:
    """Wall time of a whole process, which must leave a picture at `out`."""
    out.unlink(missing_ok=True)
    path = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
    start = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    spent = time.perf_counter() - start
    if done.returncode or not out.is_file():
        raise SystemExit(f"{command} failed:\n{done.stderr[-2000:]}")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", type=Path, default=SOURCE / "fromnoise" / "weights")
    parser.add_argument("--prompt", default="a neon cat in space")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=4.0)
    args = parser.parse_args()
    if not (args.model / "model_index.json").is_file():
        raise SystemExit(f"no model in {args.model}: give --model FOLDER")
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for run in range(args.runs + 1):
            a, b = Path(folder) / "ours.png", Path(folder) / "theirs.png"
            settings = [
                "--steps",
                str(args.steps),
                "--cfg",
                str(args.cfg),
                "--seed",
                str(run),
                "--sampler",
                "ddim",
            ]
            settings += ["--cfg-sigma-max", "inf"]  # as diffusers guides: at every level
            settings += ["--spacing", "trailing", "--model", str(args.model), "--out", str(a)]
            own = time_run([sys.executable, "-c", OURS, "generate", args.prompt, *settings], a)
            values = [
                args.prompt,
                str(args.model),
                str(args.steps),
                str(args.cfg),
                str(run),
                str(b),
            ]
            other = time_run([sys.executable, "-c", THEIRS, *values], b)
            if run:
                ours.append(own)
                theirs.append(other)
                print(
                    f"run {run}: fromnoise {own:.2f} s, diffusers {other:.2f} s, "
                    f"ratio {own / other:.3f}",
                    flush=True,
                )
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print("\n| process start → PNG | median s | best s |\n|---|---|---|")
    for name, times in (("fromnoise", ours), ("diffusers", theirs)):
        print(f"| {name} | {statistics.median(times):.2f} | {min(times):.2f} |")
    print(f"| ratio of paired runs | {statistics.median(ratios):.3f} | {min(ratios):.3f} |")
    print(
        f"\n{args.steps} steps of DDIM, cfg {args.cfg:g}, one picture, {os.cpu_count()} CPUs, "
        f"{args.model.name}"
    )
    print(
        f"bars: fromnoise ≤ 3 s, ratio ≤ 0.4 → {statistics.median(ours) <= 3} "
        f"{statistics.median(ratios) <= 0.4}"
    )


if __name__ == "__main__":
    main()
