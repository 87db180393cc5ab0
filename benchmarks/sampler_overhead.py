"""The share of a run that is spent outside the network, for every sampler: 20 steps of the bundled
model.

python benchmarks/sampler_overhead.py [--runs 3] [--steps 20] [--threads N] Each run's network calls
are timed inside it, so both see the same machine; the least share of the runs is shown, since
whatever else the machine does can only add to it. Encoding the words and decoding the picture count
as neither."""

import argparse
import time

import torch

from fromnoise import load
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.pipeline.generate import build_denoiser, start_sampler
from fromnoise.pipeline.request import GenerationRequest


def measure_share(engine, sampler: str, steps: int) -> tuple[float, float]:
    """(share of the time outside the network, seconds of the whole)."""
    request = GenerationRequest.of(
        prompt="a neon cat in space", sampler=sampler, steps=steps, seed=1
    )
    request = request.resolve(engine.model)
    answer, _ = build_denoiser(engine.model, engine.unet, request, [request.prompt], None)
    spent = 0.0

    def before(*_) -> None:
        nonlocal spent
        spent -= time.perf_counter()

    def after(*_) -> None:
        nonlocal spent
        spent += time.perf_counter()

    project = engine.model.unet.project

    def projecting(context):  # the text's keys and values, once a run: the network's work too
        before()
        found = project(context)
        after()
        return found

    engine.model.unet.project = projecting
    hooks = [
        engine.model.unet.register_forward_pre_hook(before),
        engine.model.unet.register_forward_hook(after),
    ]
    started = time.perf_counter()
    with torch.inference_mode():
        run = start_sampler(engine.model, request, request.seeds())[1]
        query = next(run)
        while True:
            try:
                query = run.send(answer(query))
            except StopIteration:
                break
    whole = time.perf_counter() - started
    for hook in hooks:
        hook.remove()
    del engine.model.unet.project
    return 1 - spent / whole, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    engine = load()
    measure_share(engine, "dpmpp_2m", args.steps)  # warm
    worst = 0.0
    for name in SAMPLERS:
        found = min(measure_share(engine, name, args.steps) for _ in range(args.runs))
        worst = max(worst, found[0])
        print(f"{name:28} {100 * found[0]:5.2f} % of {found[1]:.2f} s", flush=True)
    print(f"most: {100 * worst:.2f} %")


if __name__ == "__main__":
    main()
