"""Noise from one Brownian path for each image.

With it, more steps refine a run's picture instead of drawing another one. The path is the virtual
Brownian tree (Gaines and Lyons 1997; Li et al. 2020, "Scalable gradients for stochastic
differential equations", section 4) of torchsde 0.2.6, with the same bits, so that k-diffusion's SDE
pictures can be drawn again."""

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, reduce
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from fromnoise.diffusion.noise import Noise, open_streams
from fromnoise.errors import BadInput

DIGITS = 6  # times are whole multiples of 10⁻⁶
# How far a level may lie outside of the range, as a share of it: exp(log(sigma)) in float32 has
# such an error.
SLACK = 1e-6
ROOT = 0, 0  # a node: its number within its depth, and its depth
POOL, MASK = 24, 2**32 - 1  # torchsde's seed sequences: words in the pool, and a word's bits
AHEAD = 2**20  # about how many numbers are computed before a sampler needs them


@lru_cache(1024)
def hash_entropy(seed: int) -> int:
    """The first word of a seed sequence's pool. The seeds of its children depend on this word
    alone."""
    from numpy.random import SeedSequence  # here, because it takes its time to load

    return int(SeedSequence(seed, pool_size=POOL).pool[0])


def spawn_seed(seed: int, place: Sequence[int]) -> int:
    """SeedSequence(seed, spawn_key=place, pool_size=POOL).generate_state(1)[0] for numbers below
    2³², in a fifth of the time. The arithmetic is the same (O'Neill 2015, "Developing a seed_seq
    alternative"), but only one word is computed."""
    word = hash_entropy(seed)
    for i, number in enumerate(place, POOL):
        # every word before this one took POOL hashes
        constant = 0x43B0D7E5 * pow(0x931E8875, i * POOL, 2**32) & MASK
        hashed = (number ^ constant) * (constant * 0x931E8875 & MASK) & MASK
        word = 0xCA01F9DD * word - 0x4973F715 * (hashed ^ hashed >> 16) & MASK
        word ^= word >> 16
    word = (word ^ 0x8B51F9DD) * (0x8B51F9DD * 0x58F38DED & MASK) & MASK
    return word ^ word >> 16


def round_to_float32(x: float) -> float:
    return float(torch.tensor(x, dtype=torch.float32))


class BrownianNoise:
    """`noise(sigma, sigma_next)` → (W(sigma_next) − W(sigma)) / √|sigma_next − sigma|, unit
    Gaussian noise (B, *shape), float32 on the CPU. Equal steps give equal noise, and steps that
    overlap give noise that is correlated. `noise(sigma, sigma_next, i)` → the noise of image i
    alone, (1, *shape).

    Image i has its own Brownian path W over [sigma_min, sigma_max], with the entropy seeds[i]. So
    image i of a batch is the image of its seed alone, bit for bit. `initial` (B, *shape) and the
    options are those of Noise. `rng` also draws the paths; eta_noise_seed_delta and the variation
    do not change them, as in the A1111 web UI. The noise has the bits of k-diffusion's
    BrownianTreeNoiseSampler(x, sigma_min, sigma_max, seeds) with float32 levels, which is how A1111
    calls it: this class rounds levels to float32 and times to 10⁻⁶ in the same way. A step of
    length h therefore has a variance between 1 and 10⁻⁶/h, and a level that differs by one float32
    rounding of 14.6 (10⁻⁶) changes the noise of a step of length 1 by a thousandth.

    Halving refines the path. A node [s, t] with the increment w splits at its middle m into w₁ =
    w·(m − s)/(t − s) + √((m − s)(t − m)/(t − s))·n on the left (the Brownian bridge) and w − w₁ on
    the right. n is a unit noise; its seed follows from the entropy and the node's place. A query is
    the sum over the nodes that tile it, at most two in each depth. The class keeps only the
    increments of the last query (less than 100 times the size of the images, for any number of
    steps), because the next query usually shares an end with it. A thread computes the steps that a
    sampler announced while the network works; the bits are the same. Raises the errors of Noise.
    Raises BadInput for a range that is not 0 ≤ sigma_min ≤ sigma_max < ∞, for a level outside of
    the range and for two levels that round to one time."""

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        sigma_min: float,
        sigma_max: float,
        *,
        rng: str = "cpu",
        **options: Any,
    ):
        if not 0 <= sigma_min <= sigma_max < math.inf:
            raise BadInput(
                f"there is no Brownian path from {sigma_min} to {sigma_max}",
                "give the smallest noise level of the run above 0 and the largest, both finite",
            )
        self.initial = Noise(seeds, shape, rng=rng, **options).initial
        self.seeds, self.shape, self.rng = list(seeds), tuple(shape), rng
        self.low, self.high = round_to_float32(sigma_min), round_to_float32(sigma_max)
        self.total = self.draw_unit() * math.sqrt(self.high - self.low)
        # the left increment of each node that the last query split
        self.left_cache: dict[tuple[int, int], Tensor] = {}
        # once there is a worker, only its thread uses `left_cache`
        self.worker: ThreadPoolExecutor | None = None
        self.steps: Iterator[tuple[float, float]] = iter(())  # announced, but not yet submitted
        self.pending: dict[tuple[float, float], Future[Tensor]] = {}

    def draw_unit(self, *place: int) -> Tensor:
        """The unit noise (B, *shape) of a node. Without a place: that of the whole path."""
        streams = open_streams(self.rng, [spawn_seed(s, place) for s in self.seeds])
        units = [stream(self.shape) for stream in streams]
        return torch.stack(units) if len(units) > 1 else units[0].unsqueeze(0)

    def announce(self, steps: Iterable[tuple[float, float]]) -> None:
        """Starts to compute the noise of steps (sigma, sigma_next), in the order of their later
        calls."""
        self.worker, self.steps = self.worker or ThreadPoolExecutor(1), iter(steps)
        ahead = islice(self.steps, max(2, AHEAD // self.total.numel()))
        self.pending = {step: Future() for step in ahead}
        self.worker.submit(self.fill, dict(self.pending), torch.is_inference_mode_enabled())

    def fill(self, pending: dict[tuple[float, float], Future[Tensor]], inference: bool) -> None:
        """Computes all pending noises in one task: each task costs time while the run waits."""
        for (sigma, sigma_next), future in pending.items():
            try:
                future.set_result(self.compute(sigma, sigma_next, inference))
            except Exception as error:  # of any kind: without it the caller waits for ever
                future.set_exception(error)

    def submit(self, sigma: float, sigma_next: float) -> Future[Tensor]:
        assert self.worker is not None
        inference = torch.is_inference_mode_enabled()
        return self.worker.submit(self.compute, sigma, sigma_next, inference)

    def __call__(self, sigma: float, sigma_next: float, image: int | None = None, /) -> Tensor:
        step = sigma, sigma_next
        if self.worker is None:
            noise = self.compute(sigma, sigma_next, torch.is_inference_mode_enabled())
        elif step in self.pending:
            noise = self.pending.pop(step).result()
            self.pending |= {other: self.submit(*other) for other in islice(self.steps, 1)}
        else:  # not announced, or needed a second time
            noise = self.submit(*step).result()
        return noise if image is None else noise[image].unsqueeze(0)

    def compute(self, sigma: float, sigma_next: float, inference: bool) -> Tensor:
        """The noise of a step (B, *shape). inference: torch's inference mode, which each thread
        sets for itself."""
        levels = [round_to_float32(sigma), round_to_float32(sigma_next)]
        if not all(self.low * (1 - SLACK) <= s <= self.high * (1 + SLACK) for s in levels):
            raise BadInput(
                f"the Brownian path from {self.low:g} to {self.high:g} has no step from {sigma} "
                f"to {sigma_next}",
                "make the path with the run's largest noise level and its smallest above 0",
            )
        start, end = round(self.low, DIGITS), round(self.high, DIGITS)
        s, t = (min(max(round(level, DIGITS), start), end) for level in levels)
        if s == t:
            raise BadInput(
                f"the noise levels {sigma} and {sigma_next} are equal for a Brownian path",
                f"use fewer steps, so that levels differ by more than 1e-{DIGITS}",
            )
        with torch.inference_mode(inference):
            used: dict[tuple[int, int], Tensor] = {}
            low, high = min(s, t), max(s, t)
            first, *others = self.split(ROOT, start, end, self.total, low, high, used)
            increment = reduce(Tensor.add_, others, first.clone())
            self.left_cache = used
            length = torch.tensor(levels[1], dtype=torch.float32) - torch.tensor(
                levels[0], dtype=torch.float32
            )
            return increment * length.sign() / length.abs().sqrt()

    def split(
        self,
        place: tuple[int, int],
        start: float,
        end: float,
        w: Tensor,
        a: float,
        b: float,
        used: dict,
    ) -> list[Tensor]:
        """The increments (B, *shape) over the nodes that tile [a, b], from left to right. The node
        `place` is [start, end] with the increment w. Stores the left increments that it uses in
        `used`."""
        if (a, b) == (start, end):
            return [w]
        middle = round(0.5 * (start + end), DIGITS)
        w_left = self.left_cache.get(place)
        if w_left is None:
            left, right, inverse = middle - start, end - middle, 1 / (end - start)
            # In place where no other code has the operand: the bits are the same, and these small
            # sums take most of the time.
            w_left = (
                (left * w)
                .mul_(inverse)
                .add_(self.draw_unit(*place).mul_(math.sqrt(left * right * inverse)))
            )
        used[place] = w_left
        (number, depth), increments = place, []
        if a < middle:
            child = 2 * number, depth + 1
            increments = self.split(child, start, middle, w_left, a, min(b, middle), used)
        if b > middle:
            child = 2 * number + 1, depth + 1
            increments += self.split(child, middle, end, w - w_left, max(a, middle), b, used)
        return increments
