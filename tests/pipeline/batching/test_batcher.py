"""Many runs at once: each picture is, to the byte, the one that its run alone draws."""

import gc
import random
import threading
from collections import Counter
from concurrent.futures import CancelledError

import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise.checkpoints.hub import load_parts
from fromnoise.errors import BadInput, NotFinite
from fromnoise.pipeline.batching import batcher as batching
from fromnoise.pipeline.batching.batcher import Batcher, Cancelled, Run
from fromnoise.pipeline.editing.edit import edit
from fromnoise.pipeline.editing.request import EditRequest
from fromnoise.pipeline.enlarging.hires import hires
from fromnoise.pipeline.enlarging.request import HiresRequest
from fromnoise.pipeline.generate import generate
from fromnoise.pipeline.inside.trace import Trace
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.guide import prepare_guide
from fromnoise.runtime.prepare import prepare_model
from fromnoise.runtime.shared_call import Verdicts

SMALL = {"width": 64, "height": 64}
ALWAYS = {"cfg_sigma_max": float("inf")}  # guidance at every step: calls of two rows
HALF = Image.fromarray(np.tri(64, 64, dtype=np.uint8) * 255)
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).resize(
    (64, 64)
)

# 8 samplers and more, 6 to 30 steps, guidance of 1 to 9, and all that changes what is asked
MIXED: list[tuple[str, dict]] = [
    ("generate", {"sampler": "euler", "steps": 30, "cfg": 1.0}),
    ("generate", {"sampler": "euler_ancestral", "steps": 12, "cfg": 9.0}),
    ("generate", {"sampler": "heun", "steps": 6, "cfg": 4.0, **ALWAYS}),
    ("generate", {"sampler": "dpmpp_2m", "steps": 20, "cfg": 5.0}),
    ("generate", {"sampler": "dpmpp_sde", "steps": 6, "cfg": 3.0, "eta": 0.5}),
    ("generate", {"sampler": "dpmpp_2m_sde", "steps": 8, "cfg": 2.0, "cfg_rescale": 0.7}),
    ("generate", {"sampler": "lms", "steps": 15, "cfg": 7.0, "skip_uncond_below": 1.0}),
    ("generate", {"sampler": "unipc", "steps": 10, "cfg": 6.0, "apg": True, "apg_momentum": -0.5}),
    ("generate", {"sampler": "ddim", "steps": 9, "prompt": "a red cat AND a blue dog :0.7"}),
    ("generate", {"sampler": "euler", "steps": 8, "prompt": "a [cat:dog:0.5] (in space:1.3)"}),
    ("generate", {"steps": 7, "prompt": "a cat MASK(0 0.5) AND a dog MASK(0.5 1)"}),
    ("generate", {"steps": 6, "negative_prompt": "ugly, " * 60, **ALWAYS}),
    ("generate", {"steps": 6, "tiling": "both", "count": 2}),
    ("generate", {"steps": 8, "tiling": "x", **ALWAYS}),
    ("edit", {"steps": 12, "strength": 0.6}),
    ("hires", {"steps": 6, "hires_steps": 3, "hires_scale": 1.5}),
]


@pytest.fixture(scope="module")
def parts():
    model = load_parts(None)
    return model, prepare_model(model)


def draw(parts, kind: str, settings: dict, watch=None, run: Run | None = None, guide=None):
    """The pictures of a request, alone or in a run."""
    model, unet = parts
    if run is not None:
        unet, guide = run.share(unet), guide and run.share(guide)
    settings = {"prompt": "a neon cat in space", "seed": 3, **SMALL} | settings
    if kind == "edit":
        return edit(model, unet, EditRequest.of(**settings), PICTURE, HALF, watch)
    if kind == "hires":
        return hires(model, unet, HiresRequest.of(**settings), None, watch)
    return generate(model, unet, GenerationRequest.of(**settings), None, watch, guide)


def describe(pictures) -> list[tuple[bytes, str]]:
    return [(picture.tobytes(), picture.info["parameters"]) for picture in pictures]


def finish(batcher: Batcher, runs: list[Run]) -> None:
    while not all(run.future.done() for run in runs):
        batcher.step()


def begin(batcher: Batcher, job) -> Run:
    """A run that has arrived."""
    run = batcher.submit(job)
    while run not in batcher.entering and len(batcher.entering) < batcher.limit:
        threading.Event().wait(0.001)
        if len(batcher.active) + len(batcher.entering) >= batcher.limit:
            break  # it waits for a thread
    return run


def test_sixteen_mixed_requests_that_arrive_at_random_are_those_of_runs_alone(parts):
    alone = [describe(draw(parts, kind, settings)) for kind, settings in MIXED]
    batcher, chance, runs, together = Batcher(), random.Random(1), {}, Counter()
    order = chance.sample(range(len(MIXED)), len(MIXED))
    for i in order:
        kind, settings = MIXED[i]

        def job(run, kind=kind, settings=settings):
            return draw(parts, kind, settings, lambda step: together.update([run.together]), run)

        runs[i] = begin(batcher, job)
        for _ in range(chance.randrange(4)):
            batcher.step()
    finish(batcher, [*runs.values()])
    batcher.close()
    for i, picture in enumerate(alone):
        assert describe(runs[i].result()) == picture, MIXED[i]
    assert max(together) >= 8  # they did share
    assert batcher.calls < batcher.served / 2
    assert all(batcher.trusted.values())  # and no kind had to stay alone


def test_a_guide_and_a_trace_go_through_it(parts):
    model, unet = parts
    guide = prepare_guide(model, load_parts(None))
    request = GenerationRequest.of(prompt="a cat", seed=1, steps=4, **SMALL, **ALWAYS)
    request = request.resolve(model)
    records = Trace(model, request), Trace(model, request)
    alone = [
        describe(draw(parts, "generate", {"steps": 4, **ALWAYS}, guide=guide)),
        describe(generate(model, unet, request, None, None, None, records[0].observe)),
    ]
    batcher = Batcher()
    runs = [
        begin(
            batcher,
            lambda run: draw(parts, "generate", {"steps": 4, **ALWAYS}, None, run, guide),
        )
        for _ in range(2)
    ]
    runs.append(
        begin(
            batcher,
            lambda run: generate(
                model, run.share(unet), request, None, None, None, records[1].observe
            ),
        )
    )
    finish(batcher, runs)
    batcher.close()
    assert [describe(run.result()) for run in runs] == [alone[0], *alone]
    assert len(records[0].calls[0]) == 4
    for one, other in zip(records[0].calls[0], records[1].calls[0], strict=True):
        assert torch.equal(one.cond, other.cond)


def test_a_cancelled_run_asks_no_more_and_its_slot_is_free(parts):
    batcher, seen, left = Batcher(runs=1), [], []

    def enter(steps: int, watch) -> tuple[Run, threading.Thread]:
        run = Run(batcher)

        def work():
            try:
                left.append(
                    batcher.run(
                        lambda run: draw(parts, "generate", {"steps": steps}, watch, run), run
                    )
                )
            except Cancelled:
                left.append(run)

        thread = threading.Thread(target=work)
        thread.start()
        while run not in batcher.entering:
            threading.Event().wait(0.001)
        return run, thread

    (first, one), (_, two), (third, three) = enter(20, seen.append), enter(2, None), enter(2, None)
    for _ in range(3):
        batcher.step()
    assert (batcher.calls, len(seen)) == (3, 2)
    first.cancel()
    third.cancel()  # before it began
    three.join(60)
    assert left == [third]
    batcher.step()  # the first call of the second run, in the slot that is free
    one.join(60)
    assert left == [third, first]
    assert (batcher.calls, len(seen)) == (4, 2)
    while two.is_alive():
        batcher.step()
    assert batcher.calls == 5
    assert describe(left[2]) == describe(draw(parts, "generate", {"steps": 2}))
    late = Batcher(runs=1)
    runs = [late.submit(lambda run: draw(parts, "generate", {"steps": 1}, None, run))]
    runs.append(late.submit(lambda run: None))  # has no thread yet
    runs[1].cancel()
    with pytest.raises(CancelledError):
        runs[1].result(0)
    finish(late, runs)
    late.close()


def test_what_a_watcher_raises_ends_the_run_before_the_next_call(parts):
    def stop(step):
        if step.index == 1:
            raise KeyError("enough")

    batcher = Batcher()
    run = begin(batcher, lambda run: draw(parts, "generate", {"steps": 9}, stop, run))
    finish(batcher, [run])
    batcher.close()
    assert isinstance(run.future.exception(), KeyError)
    assert batcher.calls == 2


def test_a_run_that_fails_leaves_the_others_alone(parts, monkeypatch):
    model, unet = parts
    broken = torch.full((16, 8, 8), 3e38)  # the first sum is infinite

    def fail(run):
        request = GenerationRequest.of(prompt="a cat", steps=4, **SMALL)
        return generate(model, run.share(unet), request, broken)

    compute = batching.call_together

    def refuse(calls, verdicts):
        if len(calls) == 3:  # as a call that is too large for the memory
            raise MemoryError
        return compute(calls, verdicts)

    monkeypatch.setattr(batching, "call_together", refuse)
    batcher = Batcher()
    runs = [
        begin(batcher, job)
        for job in (
            lambda run: draw(parts, "generate", {"steps": 4, "seed": 5}, None, run),
            lambda run: draw(parts, "generate", {"steps": 0}, None, run),
            fail,
            lambda run: draw(parts, "generate", {"steps": 4, "seed": 6}, None, run),
            lambda run: draw(parts, "generate", {"steps": 4, "seed": 7}, None, run),
        )
    ]
    finish(batcher, runs)
    batcher.close()
    assert isinstance(runs[1].future.exception(), BadInput)
    assert isinstance(runs[2].future.exception(), NotFinite)
    for i, seed in ((0, 5), (3, 6), (4, 7)):
        alone = draw(parts, "generate", {"steps": 4, "seed": seed})
        assert describe(runs[i].result()) == describe(alone)


def test_a_loop_of_its_own_serves_threads_that_wait(parts):
    alone = [describe(draw(parts, "generate", {"steps": 3, "seed": i})) for i in range(4)]
    found = {}
    with Batcher(runs=3) as batcher:

        def work(i):
            found[i] = batcher.run(
                lambda run: draw(parts, "generate", {"steps": 3, "seed": i}, None, run)
            )

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert [describe(found[i]) for i in range(4)] == alone
    with pytest.raises(BadInput, match="closed"):
        batcher.submit(lambda run: None)


def test_a_call_has_no_more_rows_than_allowed_and_nobody_starves(parts):
    batcher, order = Batcher(runs=6, rows=1), []  # 4 rows at 64 pixels, a fourth of the model's
    runs = [
        begin(
            batcher,
            lambda run, i=i: draw(
                parts,
                "generate",
                {"steps": 4, "seed": i, **ALWAYS},
                lambda step: order.append((step.index, run.together)),
                run,
            ),
        )
        for i in range(6)
    ]
    finish(batcher, runs)
    batcher.close()
    assert max(together for _, together in order) == 2
    assert [index for index, _ in order] == sorted(index for index, _ in order)


def test_memory_does_not_grow_with_the_runs(parts):
    def count_tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    def serve(batcher: Batcher, seed: int) -> None:
        runs = [
            begin(
                batcher,
                lambda run, i=i: draw(
                    parts, "generate", {"steps": 2, "seed": seed + i, **ALWAYS}, None, run
                ),
            )
            for i in range(3)
        ]
        runs[0].cancel()
        finish(batcher, runs)

    batcher, counts = Batcher(), []
    for i in range(4):
        serve(batcher, 10 * i)
        counts.append((count_tensors(), len(batcher.verdicts.differ), len(batcher.trusted)))
    batcher.close()
    assert counts[1:] == [counts[1]] * 3


def serve_equal(parts, batcher: Batcher, count: int = 3) -> list:
    settings = {"steps": 4, **ALWAYS}
    runs = [
        begin(
            batcher,
            lambda run, i=i: draw(parts, "generate", settings | {"seed": i}, None, run),
        )
        for i in range(count)
    ]
    finish(batcher, runs)
    batcher.close()
    return [run.result()[0] for run in runs]


def test_a_planted_fault_is_found_and_what_differs_runs_alone(parts, monkeypatch):
    alone = [draw(parts, "generate", {"steps": 4, "seed": i, **ALWAYS})[0] for i in range(3)]
    monkeypatch.setattr(Verdicts, "find", lambda *arguments: False)  # nothing is run by run
    batcher = Batcher()
    drawn = serve_equal(parts, batcher)
    if all(batcher.trusted.values()):
        pytest.skip("on this processor no operation looks at the number of rows")
    assert describe(drawn) == describe(alone)
    blind = Batcher()  # without the comparison the fault reaches the latents
    monkeypatch.setattr(blind, "trusted", Everything())
    last = []
    for batcher in (blind, None):
        steps: list = []
        last.append(steps)
        if batcher is None:
            draw(parts, "generate", {"steps": 4, "seed": 0, **ALWAYS}, steps.append)
        else:
            runs = [
                begin(
                    batcher,
                    lambda run, i=i, watch=watch: draw(
                        parts, "generate", {"steps": 4, "seed": i, **ALWAYS}, watch, run
                    ),
                )
                for i, watch in enumerate((steps.append, None, None))
            ]
            finish(batcher, runs)
            batcher.close()
    assert not torch.equal(last[0][-1].x, last[1][-1].x)


class Everything(dict):
    def get(self, key, default=None):
        return True

    def __contains__(self, key):
        return True


def test_the_batched_plan_says_its_name_and_its_measured_bound(parts):
    alone = [draw(parts, "generate", {"steps": 4, "seed": i, **ALWAYS})[0] for i in range(3)]
    batcher = Batcher(exact=False)
    drawn = serve_equal(parts, batcher)
    # in fp32 a call differs by about 1e-6 of its size (runtime.prepare); 1e-5 leaves room
    assert 0 <= batcher.bound < 1e-5
    for one, other in zip(drawn, alone, strict=True):
        assert f"Plan: batched({batcher.bound:.1e})-cpu-fp32" in one.info["parameters"]
        assert "Plan: exact-cpu-fp32" in other.info["parameters"]
        levels = np.abs(np.asarray(one, int) - np.asarray(other, int))
        assert levels.max() <= 2  # replay.NEAR


def test_threads_keep_the_number_that_the_batcher_was_made_with(parts):
    before, seen = torch.get_num_threads(), []
    batcher = Batcher()

    def job(run):
        torch.set_num_threads(before + 1)  # as a replay would
        pictures = draw(
            parts, "generate", {"steps": 2}, lambda step: seen.append(torch.get_num_threads()), run
        )
        return pictures

    try:
        run = begin(batcher, job)
        finish(batcher, [run])
        batcher.close()
    finally:
        torch.set_num_threads(before)
    assert seen == [before, before]
    assert describe(run.result()) == describe(draw(parts, "generate", {"steps": 2}))
