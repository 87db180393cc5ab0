"""What settings do to prompt-following and diversity on the bundled model: the same captions and
seeds for all of them.

python benchmarks/following.py samplers|few|guidance [--model FOLDER] [--n 300] [--only TEXT]
[--guide FOLDER]
    [--dtype fp32] [--device cpu]
Writes docs/following.json after every setting and goes on where it stopped; docs/make_samplers.py
and docs/make_guidance.py make their tables of it. Another model, n, dtype or device begins anew.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from fromnoise import load
from fromnoise.api import Engine
from fromnoise.cli.evaluate import find_judge
from fromnoise.data.source import Source
from fromnoise.data.sources import open_source
from fromnoise.evaluate import faithfulness
from fromnoise.evaluate.judge import Judge
from fromnoise.pipeline.seeing.clip import build_embedders

FILE = Path(__file__).resolve().parents[1] / "docs" / "following.json"
FIRST = (
    faithfulness.SEEDS + 70_000_000
)  # captions that no evaluation draws: settings are chosen on these
ALIKE, EACH = 24, 6  # for diversity: captions, and pictures of each
BATCH, MANY = 30, 150  # pictures a call, on the CPU and elsewhere

ODE = ("dpmpp_2m", "unipc", "euler")
SDE = ("euler_a", "dpmpp_2m_sde")
ALL = {"cfg_sigma_max": 1e9}  # guided at every level, whatever the model prefers
GUIDANCE = {
    "no guidance": {"cfg": 1.0},
    "CFG 2": ALL | {"cfg": 2.0},
    "CFG 4": ALL | {"cfg": 4.0},
    "CFG 8": ALL | {"cfg": 8.0},
    "CFG 8, rescale 0.7": ALL | {"cfg": 8.0, "cfg_rescale": 0.7},
    "CFG 8, APG": ALL | {"cfg": 8.0, "apg": True, "apg_momentum": -0.5, "apg_norm": 0.3},
    "CFG 4, where 0.3 < σ ≤ 5": {"cfg": 4.0, "cfg_sigma_min": 0.3, "cfg_sigma_max": 5.0},
    "CFG 4, where σ ≤ 3": {"cfg": 4.0, "cfg_sigma_max": 3.0},
    "CFG 4, every second step below σ 2": ALL | {"cfg": 4.0, "skip_uncond_below": 2.0},
    "CFG++ 1 (Euler)": ALL | {"cfg": 1.0, "sampler": "euler_cfg_pp"},
    "CFG++ 2 (Euler)": ALL | {"cfg": 2.0, "sampler": "euler_cfg_pp"},
    "CFG 4 (Euler)": ALL | {"cfg": 4.0, "sampler": "euler"},
    "autoguidance 2": ALL | {"cfg": 2.0, "guide": True},
    "autoguidance 4": ALL | {"cfg": 4.0, "guide": True},
}
SETS: dict[str, dict[str, dict]] = {
    "samplers": {
        f"{sampler} {steps}": {"sampler": sampler, "steps": steps, "spacing": "karras"}
        for sampler in (*ODE, *SDE)
        for steps in (8, 12, 20, 4, 50)
    }
    | {
        f"{s} 500": {"sampler": s, "steps": 500, "spacing": "karras"}
        for s in ("dpmpp_2m", "dpmpp_2m_sde")
    },
    "few": {
        f"{sampler} {spacing} 8": {"sampler": sampler, "spacing": spacing, "steps": 8}
        for sampler in ("dpmpp_2m", "unipc")
        for spacing in ("sgm_uniform", "beta", "align_your_steps", "exponential")
    },
    "guidance": GUIDANCE,
}


def measure_following(
    engine: Engine, judge: Judge, source: Source, n: int, settings: dict
) -> tuple[str, str, float]:
    """(of every picture how many of its caption's statements the judge reads, of how many;
    seconds), a digit each."""
    draw, right, stated = faithfulness.build_drawer(engine, **settings), "", ""
    started = time.perf_counter()
    todo = list(faithfulness.choose_scenes(source, n, seed=FIRST))
    for some in (todo[i : i + engine.unet.batch] for i in range(0, n, engine.unet.batch)):
        found = judge.read(draw([s.sample.caption for s in some], [s.seed for s in some]))
        for scene, read in zip(some, found, strict=True):
            right += str(sum(scene.sample.attributes[name] == read[name] for name in scene.counted))
            stated += str(len(scene.counted))
    return right, stated, time.perf_counter() - started


def measure_diversity(engine: Engine, source: Source, settings: dict) -> tuple[float, float]:
    """(mean, standard error over captions) of 1 − cosine between pictures of one caption, as CLIP's
    image tower sees them."""
    draw, see, size = (
        faithfulness.build_drawer(engine, **settings),
        build_embedders(engine.model)[0],
        engine.unet.batch,
    )
    rows = [
        (scene.sample.caption, scene.seed + 1000 * k)
        for scene in faithfulness.choose_scenes(source, ALIKE, seed=FIRST + 1_000_000)
        for k in range(EACH)
    ]
    parts = (rows[i : i + size] for i in range(0, len(rows), size))
    with torch.inference_mode():
        whole = torch.cat(
            [see(draw([text for text, _ in some], [seed for _, seed in some])) for some in parts]
        )
    found = []
    for seen in F.normalize(whole.double(), dim=1).split(EACH):
        found.append(1 - float((seen.sum(0) @ seen.sum(0) - EACH) / (EACH * (EACH - 1))))
    return float(np.mean(found)), float(np.std(found, ddof=1) / len(found) ** 0.5)


def compute_share(run: dict, of: dict | None = None) -> tuple[float, float]:
    """(statements that were right, as a share of all or of those right in another run; its standard
    error over pictures). Captions and seeds are the same in both, so the error is that of the
    paired difference."""
    a = np.array([int(digit) for digit in run["right"]], dtype=float)
    b = np.array([int(digit) for digit in (of["right"] if of else run["stated"])], dtype=float)
    value = a.sum() / b.sum()
    return float(value), float((a - value * b).std(ddof=1) * len(a) ** 0.5 / b.sum())


def read_results() -> dict | None:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--model")
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--only", default="", help="settings whose name holds this")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--guide", help="an earlier checkpoint, for autoguidance")
    args = parser.parse_args()
    how = {
        "device": args.device,
        "dtype": args.dtype,
        "batch": BATCH if args.device == "cpu" else MANY,
    }
    engine = load(args.model, **how)
    guided = load(args.model, guide=args.guide, **how) if args.guide else None
    judge = Judge.load(find_judge(args.model)).to(engine.unet.device)
    source = open_source("stickers", size=engine.model.size)
    head = {"model": engine.model.digest, "n": args.n, "plan": engine.unet.plan, "first": FIRST}
    kept = read_results() or {}
    if {k: kept.get(k) for k in head} != head:
        kept = head | {"runs": {}}
    for name, settings in SETS[args.set].items():
        if args.only not in name or name in kept["runs"]:
            continue
        asked = {k: v for k, v in settings.items() if k != "guide"}
        used = guided if "guide" in settings else engine
        if used is None:
            print(f"{name}: left out, it needs --guide")
            continue
        right, stated, seconds = measure_following(used, judge, source, args.n, asked)
        row = {"settings": settings, "right": right, "stated": stated, "seconds": round(seconds, 1)}
        if args.set == "guidance":
            row["diversity"] = [round(v, 4) for v in measure_diversity(used, source, asked)]
        kept["runs"][name] = row
        FILE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(
            f"{name}: {sum(map(int, right)) / sum(map(int, stated)):.4f} in {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
