"""What runs gain from sharing the calls of a network: pictures a second of equal requests, together
and one after the other; a lone request's time through the batcher and without it; and 16 mixed
requests that arrive at random, each compared with itself alone.

python benchmarks/batching.py [--size 128] [--steps 20] [--rounds 3] [--threads N] [--mixed] In each
round both ways follow each other, so both see the same machine; the median of the rounds' ratios is
shown. Processor time is shown too, since what else the machine does counts less there."""

import argparse
import os
import random
import statistics
import threading
import time

import torch

from fromnoise import load
from fromnoise.pipeline.batching.batcher import Batcher
from fromnoise.pipeline.editing.edit import edit
from fromnoise.pipeline.editing.request import EditRequest
from fromnoise.pipeline.generate import generate
from fromnoise.pipeline.request import GenerationRequest

SAMPLERS = ("euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_sde", "lms", "unipc", "ddim")
PROMPTS = ("a neon cat in space", "a red cat AND a blue dog :0.7", "a [cat:dog:0.5] in the sea")


def clock(job) -> tuple[float, float]:
    """(seconds, seconds of the processor)."""
    wall, cpu = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure_equal(engine, size: int, steps: int, rounds: int, always: bool) -> None:
    """Prints how 16 equal requests compare, together and one after the other."""
    guided = {"cfg_sigma_max": float("inf")} if always else {}
    requests = [
        GenerationRequest.of(
            prompt="a neon cat in space", seed=i, steps=steps, width=size, height=size, **guided
        )
        for i in range(16)
    ]

    def one_by_one() -> None:
        for request in requests:
            generate(engine.model, engine.unet, request)

    with Batcher() as batcher:

        def draw_one(request):
            return lambda run: generate(engine.model, run.share(engine.unet), request)

        def together() -> None:
            for run in [batcher.submit(draw_one(request)) for request in requests]:
                run.result()

        together()  # the first calls of a kind are tried alone as well
        together()
        times = [(clock(one_by_one), clock(together)) for _ in range(rounds)]
    for i, name in enumerate(("time", "processor time")):
        ratios = [alone[i] / shared[i] for alone, shared in times]
        alone, shared = (statistics.median(t[way][i] for t in times) for way in (0, 1))
        print(
            f"16 requests, guidance {'at all steps' if always else 'as the model has it'}: {name} "
            f"{alone:.1f} s → {shared:.1f} s, {statistics.median(ratios):.2f} x the pictures a "
            f"second (bar: 1.3; rounds: {', '.join(f'{r:.2f}' for r in ratios)})"
        )


def measure_lone(engine, size: int, steps: int, count: int) -> None:
    """Prints the times of single requests, each directly and through the batcher."""
    direct, through = [], []
    with Batcher() as batcher:
        for i in range(count + 1):
            request = GenerationRequest.of(
                prompt="a neon cat in space", seed=i, steps=steps, width=size, height=size
            )

            def draw_one(run=None, request=request):
                unet = run.share(engine.unet) if run else engine.unet
                return generate(engine.model, unet, request)

            direct.append(clock(draw_one))
            through.append(clock(lambda job=draw_one: batcher.submit(job).result()))
    for i, name in enumerate(("time", "processor time")):
        (m1, p1), (m2, p2) = (
            (statistics.median(v), sorted(v)[int(0.95 * (len(v) - 1))])
            for v in ([t[i] for t in times[1:]] for times in (direct, through))
        )
        print(
            f"alone, {name}: median {m1:.3f} s, p95 {p1:.3f} s; through the batcher {m2:.3f} s, "
            f"p95 {p2:.3f} s: p95 {p2 / p1 - 1:+.1%} (bar: +10 %)"
        )


def compare_mixed(engine, size: int, seed: int) -> None:
    """Draws 16 mixed requests that arrive at random, and each alone. Stops where bytes differ."""
    chance, jobs = random.Random(seed), []
    for i in range(16):
        settings = {
            "prompt": PROMPTS[i % 3],
            "sampler": SAMPLERS[i % 8],
            "steps": chance.randint(6, 30),
            "cfg": float(chance.randint(1, 9)),
            "seed": i,
            "tiling": ("none", "none", "none", "both", "x")[i % 5],
            "cfg_sigma_max": chance.choice([3.0, float("inf")]),
        }
        if i % 4 == 3:
            jobs.append(("edit", EditRequest.of(strength=0.7, **settings)))
        else:
            jobs.append(("generate", GenerationRequest.of(width=size, height=size, **settings)))
    start = generate(
        engine.model,
        engine.unet,
        GenerationRequest.of(prompt="a dog", seed=1, width=size, height=size),
    )[0]

    def draw(kind, request, unet):
        if kind == "edit":
            return edit(engine.model, unet, request, start)[0]
        return generate(engine.model, unet, request)[0]

    alone = [draw(kind, request, engine.unet) for kind, request in jobs]
    with Batcher() as batcher:
        runs = []
        for kind, request in jobs:
            runs.append(
                batcher.submit(lambda run, k=kind, r=request: draw(k, r, run.share(engine.unet)))
            )
            threading.Event().wait(chance.uniform(0, 0.3))
        drawn = [run.result() for run in runs]
        print(f"mixed: {batcher.served} queries in {batcher.calls} calls", end=", ")
    for one, other, (_, request) in zip(drawn, alone, jobs, strict=True):
        if one.tobytes() != other.tobytes() or one.info != other.info:
            raise SystemExit(f"differs: {request}")
    print("16 pictures, each identical to alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--lone", type=int, default=20)
    parser.add_argument("--mixed", action="store_true", help="only the comparison")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    engine = load()
    load_before = os.getloadavg()[0]
    print(f"{torch.get_num_threads()} threads, load {load_before:.1f}, {args.size} px")
    compare_mixed(engine, args.size, seed=1)
    if not args.mixed:
        measure_equal(engine, args.size, args.steps, args.rounds, always=True)
        measure_equal(engine, args.size, args.steps, args.rounds, always=False)
        measure_lone(engine, args.size, args.steps, args.lone)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
