"""Noise from one Brownian path an image: refining a run's steps then refines its picture, instead
of drawing another.

The path is the virtual Brownian tree (Gaines and Lyons 1997; Li et al. 2020, "Scalable gradients
for stochastic differential equations", section 4) of torchsde 0.2.6 to the bit, so that
k-diffusion's SDE pictures can be drawn again."""

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, reduce
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.streams import open_stream
from fromnoise.errors import BadInput

DIGITS = 6  # times are whole multiples of 10⁻⁶
# how far, relatively, a level may lie outside: exp(log(sigma)) in float32 strays that far from
# sigma
SLACK = 1e-6
ROOT = 0, 0  # a node's number within its depth, and its depth
POOL, MASK = 24, 2**32 - 1  # of torchsde's seed sequences
AHEAD = 2**20  # numbers that are made before they are asked for, about


@lru_cache(1024)
def hash_entropy(seed: int) -> int:
    """Of the pool of a seed sequence's entropy: all that the seeds of its children depend on."""
    from numpy.random import SeedSequence  # here, because it takes its time to load

    return int(SeedSequence(seed, pool_size=POOL).pool[0])


def spawn_seed(seed: int, place: Sequence[int]) -> int:
    """SeedSequence(seed, spawn_key=place, pool_size=POOL).generate_state(1)[0] for numbers below
    2³², in a fifth of the time: the same arithmetic (O'Neill 2015, "Developing a seed_seq
    alternative"), of the one word that is wanted."""
    word = hash_entropy(seed)
    for i, number in enumerate(place, POOL):
        constant = (
            0x43B0D7E5 * pow(0x931E8875, i * POOL, 2**32) & MASK
        )  # POOL hashes for every word before
        hashed = (number ^ constant) * (constant * 0x931E8875 & MASK) & MASK
        word = 0xCA01F9DD * word - 0x4973F715 * (hashed ^ hashed >> 16) & MASK
        word ^= word >> 16
    word = (word ^ 0x8B51F9DD) * (0x8B51F9DD * 0x58F38DED & MASK) & MASK
    return word ^ word >> 16


def round_to_float32(x: float) -> float:
    return float(torch.tensor(x, dtype=torch.float32))


class BrownianNoise:
    """`noise(sigma, sigma_next)` → (W(sigma_next) − W(sigma)) / √|sigma_next − sigma|, unit
    Gaussian noise (B, *shape), float32 on the CPU: the same at every asking, and of steps that
    overlap, correlated as the steps do. `noise(sigma, sigma_next, i)` → that of image i alone, (1,
    *shape).

    Image i has a Brownian path W of its own over [sigma_min, sigma_max], of entropy seeds[i]: image
    i of a batch is the image of its seed alone, bit for bit. `initial` (B, *shape) and the options
    are those of Noise. `rng` also draws the paths; eta_noise_seed_delta and the variation leave
    them alone, as in the A1111 web UI. Equals, bit for bit, k-diffusion's
    BrownianTreeNoiseSampler(x, sigma_min, sigma_max, seeds) fed float32 levels, as A1111 feeds it:
    levels are rounded to float32 here first, and times to 10⁻⁶ as there. So a step of length h has
    variance 1 to 10⁻⁶/h, and a level that differs by one float32 rounding of 14.6 (10⁻⁶) changes
    the noise of a step of length 1 by a thousandth.

    The path is refined by halving: a node [s, t] of increment w splits at its middle m into w₁ =
    w·(m − s)/(t − s) + √((m − s)(t − m)/(t − s))·n on the left, the Brownian bridge, and w − w₁ on
    the right, n being a unit noise whose seed follows from the entropy and the node's place. A
    query is the sum over the nodes that tile it, at most two a depth. Only the increments that the
    last query met are kept (under 100 images' worth, whatever the number of steps), because the
    next one mostly shares an end with it. What a sampler announced is made ahead of its asking by a
    thread of the path's own, while the network is at work: the same bits. Raises what Noise raises,
    and BadInput for a range that is not 0 ≤ sigma_min ≤ sigma_max < ∞, for a level outside it and
    for two levels that round to one time."""

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
        self.whole = self.unit() * math.sqrt(self.high - self.low)
        self.kept: dict[
            tuple[int, int], Tensor
        ] = {}  # the left increment of each node that the last query split
        self.worker: ThreadPoolExecutor | None = None  # who alone touches `kept`, once there is one
        self.steps: Iterator[tuple[float, float]] = iter(())  # announced, not begun
        self.coming: dict[tuple[float, float], Future[Tensor]] = {}

    def unit(self, *place: int) -> Tensor:
        """The unit noise (B, *shape) of a node, or of the whole path where no place is given."""
        units = [open_stream(self.rng, spawn_seed(s, place))(self.shape) for s in self.seeds]
        return torch.stack(units) if len(units) > 1 else units[0].unsqueeze(0)

    def announce(self, steps: Iterable[tuple[float, float]]) -> None:
        """(sigma, sigma_next) of all that will be asked, in order."""
        self.worker, self.steps = self.worker or ThreadPoolExecutor(1), iter(steps)
        ahead = islice(self.steps, max(2, AHEAD // self.whole.numel()))
        self.coming = {step: Future() for step in ahead}
        self.worker.submit(self.fill, dict(self.coming), torch.is_inference_mode_enabled())

    def fill(self, coming: dict[tuple[float, float], Future[Tensor]], inference: bool) -> None:
        """Makes what is coming: one errand for all, since each costs time where the run waits."""
        for (sigma, sigma_next), future in coming.items():
            try:
                future.set_result(self.made(sigma, sigma_next, inference))
            except Exception as error:  # whatever it is: who asks would wait for ever
                future.set_exception(error)

    def begun(self, sigma: float, sigma_next: float) -> Future[Tensor]:
        assert self.worker is not None
        return self.worker.submit(self.made, sigma, sigma_next, torch.is_inference_mode_enabled())

    def __call__(self, sigma: float, sigma_next: float, image: int | None = None, /) -> Tensor:
        step = sigma, sigma_next
        if self.worker is None:
            noise = self.made(sigma, sigma_next, torch.is_inference_mode_enabled())
        elif step in self.coming:
            noise = self.coming.pop(step).result()
            self.coming |= {other: self.begun(*other) for other in islice(self.steps, 1)}
        else:  # not announced, or asked for again
            noise = self.begun(*step).result()
        return noise if image is None else noise[image].unsqueeze(0)

    def made(self, sigma: float, sigma_next: float, inference: bool) -> Tensor:
        """The noise of a step (B, *shape). inference: torch's inference mode, which is each
        thread's own."""
        levels = [round_to_float32(sigma), round_to_float32(sigma_next)]
        if not all(self.low * (1 - SLACK) <= s <= self.high * (1 + SLACK) for s in levels):
            raise BadInput(
                f"the Brownian path from {self.low:g} to {self.high:g} knows no step from {sigma} to {sigma_next}",
                "make it with the smallest noise level of the run above 0 and the largest",
            )
        start, end = round(self.low, DIGITS), round(self.high, DIGITS)
        s, t = (min(max(round(level, DIGITS), start), end) for level in levels)
        if s == t:
            raise BadInput(
                f"a Brownian path cannot tell the noise levels {sigma} and {sigma_next} apart",
                f"use fewer steps, so that levels differ by more than 1e-{DIGITS}",
            )
        with torch.inference_mode(inference):
            met: dict[tuple[int, int], Tensor] = {}
            first, *others = self.pieces(ROOT, start, end, self.whole, min(s, t), max(s, t), met)
            increment = reduce(Tensor.add_, others, first.clone())
            self.kept = met
            length = torch.tensor(levels[1], dtype=torch.float32) - torch.tensor(
                levels[0], dtype=torch.float32
            )
            return increment * length.sign() / length.abs().sqrt()

    def pieces(
        self,
        place: tuple[int, int],
        start: float,
        end: float,
        w: Tensor,
        a: float,
        b: float,
        met: dict,
    ) -> list[Tensor]:
        """The increments (B, *shape) over the nodes that tile [a, b], from left to right, within
        the node [start, end] of increment w."""
        if (a, b) == (start, end):
            return [w]
        middle = round(0.5 * (start + end), DIGITS)
        w_left = self.kept.get(place)
        if w_left is None:
            left, right, inverse = middle - start, end - middle, 1 / (end - start)
            # in place where the operand is nobody else's: same bits, and these small sums are most
            # of the time
            w_left = (
                (left * w)
                .mul_(inverse)
                .add_(self.unit(*place).mul_(math.sqrt(left * right * inverse)))
            )
        met[place] = w_left
        (number, depth), found = place, []
        if a < middle:
            found = self.pieces(
                (2 * number, depth + 1), start, middle, w_left, a, min(b, middle), met
            )
        if b > middle:
            found += self.pieces(
                (2 * number + 1, depth + 1), middle, end, w - w_left, max(a, middle), b, met
            )
        return found
