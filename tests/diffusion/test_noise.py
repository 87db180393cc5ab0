"""Noise: the generators' known answers, what belongs to which image, variations, and Brownian
paths."""

import math
from itertools import pairwise, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import SeedSequence
from torchsde import BrownianTree
from torchsde._brownian import brownian_interval

from fromnoise.diffusion import philox
from fromnoise.diffusion.brownian import BrownianNoise, spawn_seed
from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.samplers import SAMPLERS, load
from fromnoise.diffusion.samplers.base import Answer
from fromnoise.diffusion.samplers.drive import drive
from fromnoise.diffusion.variation import BLENDS, slerp, slerp_columns
from fromnoise.errors import BadInput, UnknownName

pytestmark = pytest.mark.filterwarnings(
    "ignore:Should have"
)  # torchsde's, about levels a rounding outside
SHAPE = (4, 8, 8)
FF = 2**32 - 1


def draw_initial(seeds, shape):
    return Noise(seeds, shape).initial


def make_noise(seeds, shape=SHAPE, **options):
    return Noise(seeds, shape, **options)


def make_brownian(seeds, shape=SHAPE, **options):
    return BrownianNoise(seeds, shape, 0.03, 14.6, **options)


SOURCES = [make_noise, make_brownian]


# --- the generator of NVIDIA GPUs


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([FF] * 4, (FF, FF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, answer):
    assert philox.run_philox(torch.tensor([counter]).T, key).T.tolist() == [answer]


def test_nv_gives_what_the_a1111_web_ui_documents():
    """Its code has since taken 2π in float32, off by 1.75e-7, which √(−2 ln u) ≤ 3 brings to 5.3e-7
    at most; the digits printed and float32 add less than 1e-7. The bits are compared below."""
    documented = [
        [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
        [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
        [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
    ]
    assert (philox.randn(0, 0, (3, 4)) - torch.tensor(documented)).abs().max() < 6e-7


@pytest.mark.parametrize("seed", [0, 5, 2**32, 3 * 2**40 + 7, 2**64 - 1])
def test_nv_against_python_integers(seed):
    """Which word of seed, call and element goes where. Python's log and sin may differ from
    PyTorch's in the last bit of float64, which reaches float32 once in 10⁸ values."""
    noise = Noise([seed], (2, 3, 5), rng="nv")
    draws = [noise.initial, noise(2.0, 1.0), noise(1.0, 0.5)]
    for call, i in product(range(3), range(30)):
        a, b, c, d, k, l = call, 0, i, 0, seed % 2**32, seed // 2**32
        for _ in range(10):
            (p, p_low), (q, q_low) = divmod(a * 0xD2511F53, 2**32), divmod(c * 0xCD9E8D57, 2**32)
            a, b, c, d, k, l = (
                q ^ b ^ k,
                q_low,
                p ^ d ^ l,
                p_low,
                (k + 0x9E3779B9) % 2**32,
                (l + 0xBB67AE85) % 2**32,
            )
        two_pi = float(torch.tensor(2 * math.pi, dtype=torch.float32))
        value = math.sqrt(-2 * math.log((a + 0.5) / 2**32)) * math.sin(two_pi * (b + 0.5) / 2**32)
        assert float(draws[call].flatten()[i]) == float(torch.tensor(value, dtype=torch.float32))


def test_cpu_is_pytorchs_own_generator():
    noise, generator = Noise([42], SHAPE), torch.Generator().manual_seed(42)
    for draw in (noise.initial, noise(2.0, 1.0), noise(1.0, 0.5)):
        assert torch.equal(draw[0], torch.randn(SHAPE, generator=generator))


def test_cpu_looks_at_32_bits_of_a_seed():
    assert torch.equal(draw_initial([7], SHAPE), draw_initial([2**32 + 7], SHAPE))


# --- what any source promises


@pytest.mark.parametrize("rng", ["cpu", "nv"])
@pytest.mark.parametrize("source", SOURCES)
def test_noise_of_an_image_is_that_of_its_seed_alone(source, rng):
    def draws(seeds, others):
        noise = source(
            seeds, rng=rng, variation_seeds=others, variation_strength=0.3, eta_noise_seed_delta=9
        )
        return [noise.initial, noise(2.0, 1.0), noise(1.0, 0.5), noise(2.0, 0.5)]

    for batch, alone in zip(draws([7, 8, 9], [1, 2, 3]), draws([8], [2]), strict=True):
        assert batch.shape == (3, *SHAPE)
        assert batch.dtype == torch.float32
        assert torch.equal(batch[1:2], alone)
        assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize("source", SOURCES)
def test_noise_for_one_image_of_a_batch(source):
    """It moves that image's generator and no other's."""
    noise, alone = source([7, 8, 9]), [source([s]) for s in (7, 8, 9)]
    for image in (1, 1, 2):
        assert torch.equal(noise(2.0, 1.0, image), alone[image](2.0, 1.0))
    assert torch.equal(noise(1.0, 0.5), torch.cat([one(1.0, 0.5) for one in alone]))


@pytest.mark.parametrize("rng", ["cpu", "nv"])
@pytest.mark.parametrize("source", SOURCES)
def test_noise_is_unit_gaussian_and_independent(source, rng):
    """n = 16384 values: mean 0 ± 1/√n, mean square 1 ± √(2/n), mean fourth power 3 ± √(96/n), and
    the correlation of two images, or of an image with its own starting noise, 0 ± 1/√n: all within
    5 standard errors."""
    noise = source([7, 8], (4, 64, 64), rng=rng)
    n, first, draw = 4 * 64 * 64, noise.initial, noise(2.0, 1.0)
    for x in (*first, *draw):
        for power, expected, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
            assert float((x**power).mean()) == pytest.approx(
                expected, abs=5 * math.sqrt(variance / n)
            )
    for x, y in (
        (first[0], first[1]),
        (draw[0], draw[1]),
        (first[0], draw[0]),
        (draw[0], noise(1.0, 0.5)[0]),
    ):
        assert float((x * y).mean()) == pytest.approx(0, abs=5 / math.sqrt(n))


@pytest.mark.parametrize("source", SOURCES)
def test_noise_leaves_the_global_generator_alone(source):
    before = torch.get_rng_state()
    source([1])(1.0, 0.5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("source", SOURCES)
def test_bad_input(source):
    for seeds in ([], [-1], [2**64], [1.5], [True], [float("nan")], [3, -1]):
        with pytest.raises(BadInput, match="seeds"):
            source(seeds)
    source([2**64 - 1])  # the largest there is
    source([2**64 - 1], rng="nv")
    with pytest.raises(BadInput, match="seeds"):
        source([2**64], rng="nv")
    for seed, delta in ((3, -4), (2**64 - 1, 1), (3, 0.5)):
        with pytest.raises(BadInput, match="eta_noise_seed_delta"):
            source([seed], eta_noise_seed_delta=delta)
    for rng in ("gpu", ""):
        with pytest.raises(UnknownName, match="choose one of: cpu, nv"):
            source([1], rng=rng)
    for others in ([], [5], [5, 6, 7], [5, -6]):
        with pytest.raises(BadInput, match="variation seeds"):
            source([1, 2], variation_seeds=others, variation_strength=0.5)
    for strength in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="variation_strength"):
            source([1], variation_seeds=[2], variation_strength=strength)
    with pytest.raises(BadInput, match="variation seeds with it"):
        source([1], variation_strength=0.5)


# --- ENSD and variations


@pytest.mark.parametrize("rng", ["cpu", "nv"])
@pytest.mark.parametrize("delta", [31337, -2])
def test_eta_noise_seed_delta_moves_the_steps_alone(rng, delta):
    moved = Noise([5, 6], SHAPE, rng=rng, eta_noise_seed_delta=delta)
    fresh = Noise([5 + delta, 6 + delta], SHAPE, rng=rng)
    assert torch.equal(moved.initial, Noise([5, 6], SHAPE, rng=rng).initial)
    for draw in (fresh.initial, fresh(2.0, 1.0)):
        assert torch.equal(moved(2.0, 1.0), draw)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("rng", ["cpu", "nv"])
def test_variation_from_end_to_end(rng, blend):
    def noise(strength):
        return Noise(
            [5], SHAPE, rng=rng, variation_seeds=[6], variation_strength=strength, blend=blend
        )

    a, b = Noise([5], SHAPE, rng=rng), Noise([6], SHAPE, rng=rng)
    assert torch.equal(noise(0.0).initial, a.initial)
    # one or two float32 roundings of values up to 4; PyTorch's sin(ω)/sin(ω) is 1
    assert (noise(1.0).initial - b.initial).abs().max() < 4 * 2**-22
    assert torch.equal(noise(0.3).initial, BLENDS[blend](0.3, a.initial[0], b.initial[0])[None])
    assert torch.equal(
        noise(0.3)(2.0, 1.0), a(2.0, 1.0)
    )  # the steps' noise is the seed's, and not delayed


def test_slerp_is_an_arc_of_even_speed():
    """Two noises made of one norm: it is kept, and the angle from the first grows evenly; float64
    throughout."""
    a, b = draw_initial([5, 6], SHAPE).double()
    b = b * a.norm() / b.norm()
    angle = math.acos(float((a * b).sum() / a.norm() ** 2))
    for strength in (0.0, 0.1, 0.5, 0.8, 1.0):
        x = slerp(strength, a, b)
        assert float(x.norm() / a.norm()) == pytest.approx(1, rel=1e-12)
        for end, turn in ((a, strength * angle), (b, (1 - strength) * angle)):
            assert float((x * end).sum() / a.norm() ** 2) == pytest.approx(
                math.cos(turn), abs=1e-12
            )


@pytest.mark.parametrize("blend", BLENDS)
def test_a_variation_is_unit_noise(blend):
    """n = 16384 values of mean square 1 ± √(2/n), within 5 standard errors, 0.055; the straight
    line would give ½. Columns of 64 add (|a| − |b|)²/2, about ½ in 64, to theirs."""
    a, b = draw_initial([5, 6], (4, 64, 64))
    assert float(BLENDS[blend](0.5, a, b).square().mean()) == pytest.approx(
        1, abs=5 * math.sqrt(2 / a.numel())
    )


def test_slerp_where_there_is_no_arc():
    a = draw_initial([5], SHAPE)[0]
    assert torch.allclose(slerp(0.3, a, a), a, rtol=1e-6)  # float32
    assert torch.allclose(slerp(0.25, a, -a), a / 2, rtol=1e-6)
    assert torch.allclose(slerp(0.3, a, 2 * a), 1.3 * a, rtol=1e-6)


def test_slerp_columns_turns_each_column_by_itself():
    a, b = draw_initial([5, 6], (2, 8, 3)).double()
    ours = slerp_columns(0.3, a, b)
    for c, w in product(range(2), range(3)):
        assert torch.allclose(
            ours[c, :, w], slerp(0.3, a[c, :, w], b[c, :, w]), rtol=1e-9
        )  # float64
    assert (ours - slerp(0.3, a, b)).abs().max() > 0.01  # and that is another thing


def test_slerp_columns_keeps_the_originals_slip():
    a, b = draw_initial([5, 6], SHAPE)
    near = a + 0.01 * b  # cosine 1 − 0.01²/2, far above 0.9995
    assert torch.allclose(
        slerp_columns(0.25, a, near), a + 0.0075 * b, atol=1e-6
    )  # float32; 0.0025 would be right


# --- Brownian paths


class Reference:
    """k-diffusion's BrownianTreeNoiseSampler, said again over the same torchsde."""

    def __init__(self, seeds, shape, sigma_min, sigma_max):
        self.trees = [
            BrownianTree(sigma_min, torch.zeros(shape), sigma_max, entropy=s) for s in seeds
        ]

    def __call__(self, sigma, sigma_next):
        sign, ends = (1, (sigma, sigma_next)) if sigma < sigma_next else (-1, (sigma_next, sigma))
        return (
            torch.stack([tree(*ends) for tree in self.trees])
            * sign
            / (sigma_next - sigma).abs().sqrt()
        )


def make_karras(steps, low=0.03, high=14.6):
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return (high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7


def in_order(levels):
    return list(pairwise(levels))


def with_middles(levels):
    """As DPM++ SDE asks, (s, middle) and then (s, t), and the rest of the step besides."""
    return [
        q
        for s, t in pairwise(levels)
        for q in ((s, (s * t) ** 0.5), (s, t), ((s * t) ** 0.5, t), (s, t))
    ]


def as_k_diffusion_computes(levels):
    """DPM++ SDE's own levels exp(log(sigma)) in float32, a rounding off."""
    back = [s.log().exp() for s in levels]
    return [q for s, t in pairwise(back) for q in ((s, ((s.log() + t.log()) / 2).exp()), (s, t))]


def upwards(levels):
    return [(t, s) for s, t in reversed(list(pairwise(levels)))]


def far_apart(levels):
    return [
        (levels[i], levels[(7 * i + 3) % len(levels)])
        for i in range(len(levels))
        if (6 * i + 3) % len(levels)
    ]


@pytest.mark.parametrize("steps", [20, 50])
@pytest.mark.parametrize(
    "queries", [in_order, with_middles, as_k_diffusion_computes, upwards, far_apart]
)
def test_a_path_is_torchsdes_bit_for_bit(queries, steps):
    seeds, levels = [1234567, 2**64 - 1], make_karras(steps).float()
    ours, theirs = (
        BrownianNoise(seeds, SHAPE, 0.03, 14.6),
        Reference(seeds, SHAPE, levels[-1], levels[0]),
    )
    for s, t in queries(levels):
        assert torch.equal(ours(float(s), float(t)), theirs(s, t))


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0291675, 14.614643), (0.002, 80.0), (0.1, 4518.2), (1.0000004, 1.5000006), (0.0, 1.0)],
)
def test_ranges_and_roundings(low, high):
    """Ends that round up and down to 10⁻⁶, float64 levels that float32 must round first, and whole
    ranges at once."""
    levels = torch.linspace(1, 0, 14, dtype=torch.float64) ** 2 * (high - low) + low
    rounded = levels.float()
    ours, theirs = (
        BrownianNoise([3], SHAPE, low, high),
        Reference([3], SHAPE, rounded[-1], rounded[0]),
    )
    for (s, t), (s32, t32) in zip(pairwise(levels.tolist()), pairwise(rounded), strict=True):
        assert torch.equal(ours(s, t), theirs(s32, t32))
    assert torch.equal(ours(high, low), theirs(rounded[0], rounded[-1]))


def test_levels_a_rounding_outside_the_range_are_its_ends():
    low, high = torch.tensor(5.0), torch.tensor(14.6)
    ours, theirs = BrownianNoise([3], SHAPE, 5.0, 14.6), Reference([3], SHAPE, low, high)
    for s, t in ((high + 2e-6, low), (high, low - 2e-6), (high + 2e-6, low - 2e-6)):
        assert torch.equal(ours(float(s), float(t)), theirs(s, t))


@pytest.mark.parametrize("ahead", [0, 10**9])
def test_what_is_announced_has_the_same_bits(ahead, monkeypatch):
    """Made one or all steps ahead, in inference mode or not; asked in order, again and
    unannounced."""
    monkeypatch.setattr("fromnoise.diffusion.brownian.AHEAD", ahead)
    steps, seeds = list(pairwise(make_karras(12).tolist())), [7, 8]
    expected = {step: make_brownian(seeds)(*step) for step in [*steps, (14.0, 9.0)]}
    for mode in (False, True):
        with torch.inference_mode(mode):
            noise = make_brownian(seeds)
            noise.announce(steps)
            for step in [*steps[:5], steps[2], (14.0, 9.0), *steps[5:]]:
                assert torch.equal(noise(*step), expected[step])
                assert noise(*step).is_inference() == mode
            assert torch.equal(noise(*steps[0], 1), expected[steps[0]][1:])
    assert not noise.pending


def test_an_error_in_what_is_announced_comes_when_it_is_asked_for():
    noise = make_brownian([3])
    noise.announce([(2.0, 1.0), (1.0, 1.0)])
    noise(2.0, 1.0)
    with pytest.raises(BadInput, match="are equal for a Brownian path"):
        noise(1.0, 1.0)


@pytest.mark.parametrize("name", [name for name, entry in SAMPLERS.items() if entry.brownian])
@pytest.mark.parametrize("eta", [1.0, 0.0])
def test_samplers_on_a_path_announce_what_they_ask(name, eta):
    """All of it, in order, and nothing else."""

    class Path(Noise):
        def __init__(self):
            super().__init__([3], SHAPE)
            self.said, self.asked = [], []

        def announce(self, steps):
            self.said = list(steps)

        def __call__(self, *step):
            self.asked.append(step)
            return super().__call__(*step)

    for levels in (
        make_karras(8),
        torch.cat((make_karras(8), torch.zeros(1, dtype=torch.float64))),
    ):
        path = Path()
        drive(
            load(name)(path.initial * 14.6, levels, path, eta=eta),
            lambda query: Answer(query.x / 2),
        )
        assert path.said == path.asked
        assert bool(path.said) == bool(eta)


def test_a_path_of_nv_numbers_is_a1111s(monkeypatch):
    """A1111 replaces torchsde's source of normal numbers by its own."""
    monkeypatch.setattr(
        brownian_interval,
        "_randn",
        lambda size, dtype, device, seed: philox.randn(int(seed), 0, size),
    )
    levels = make_karras(5).float()
    ours, theirs = make_brownian([3], rng="nv"), Reference([3], SHAPE, levels[-1], levels[0])
    for s, t in pairwise(levels):
        assert torch.equal(ours(float(s), float(t)), theirs(s, t))


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**32 - 1), max_size=3))
def test_seeds_of_nodes_are_numpys(seed, place):
    assert (
        spawn_seed(seed, place)
        == SeedSequence(seed, spawn_key=place, pool_size=24).generate_state(1)[0]
    )


def compute_increment(noise, s, t):
    return noise(s, t) * math.sqrt(abs(t - s))


def measure_gap(noise):
    """How far increments over [a, b] and [b, c] miss that over [a, c], which is asked for first,
    last and backwards."""
    misses = []
    for a, b, c in (
        (14.5, 9.125, 3.25),
        (3.25, 1.0, 0.03125),
        (2.0, 2 - 2**-13, 1.875),
        (0.5, 0.5625, 7.0),
    ):
        before, there, on = (compute_increment(noise, *ends) for ends in ((a, c), (a, b), (b, c)))
        after, back = compute_increment(noise, a, c), compute_increment(noise, c, a)
        misses += [there + on - before, there + on - after, there + on + back]
    return max(float(m.abs().max()) for m in misses)


def test_increments_of_a_path_add_up():
    """To the rounding of the sum of some 50 float32 terms, none above 4·√14.6 = 16: 50 × 16 × 2⁻²⁴
    = 5e-5. The levels are float32 as they stand. Noise that is fresh at every call misses by about
    itself."""
    assert measure_gap(make_brownian([3, 4])) < 5e-5
    assert measure_gap(make_noise([3, 4])) > 1


def compute_correlations(noise):
    """Of increments over steps that overlap: (measured covariance, the length they share, standard
    error), from n values, √((the lengths' product + shared²)/n) as Isserlis' theorem has it."""
    steps, n = [(14.6, 5.0), (9.0, 2.0), (5.0, 2.0), (3.0, 0.03), (0.03, 6.0)], 4 * 64 * 64
    found = [compute_increment(noise, *step).flatten() for step in steps]
    for (x, (a, b)), (y, (c, d)) in product(zip(found, steps, strict=True), repeat=2):
        shared = max(0.0, min(max(a, b), max(c, d)) - max(min(a, b), min(c, d))) * math.copysign(
            1, (b - a) * (d - c)
        )
        error = math.sqrt((abs(b - a) * abs(d - c) + shared**2) / n)
        yield float((x * y).mean()), shared, error


def test_increments_of_a_path_correlate_as_their_steps_overlap():
    """Within 5 standard errors. Fresh noise, of covariance 0, is off by tens of them where steps
    overlap."""
    assert all(
        abs(found - shared) < 5 * error
        for found, shared, error in compute_correlations(make_brownian([3], (4, 64, 64)))
    )
    off = [
        abs(found - shared) / error
        for found, shared, error in compute_correlations(make_noise([3], (4, 64, 64)))
    ]
    assert max(off) > 20


def test_a_path_forgets_nothing_and_keeps_little(monkeypatch):
    """1000 steps leave at most two nodes a depth, of which the tick of 10⁻⁶ allows 24; what was
    asked before changes no bit; and a step asked for again is not drawn again."""
    levels, noise = make_karras(1001).tolist(), make_brownian([3], (1, 4, 4))
    for s, t in pairwise(levels):
        last = noise(s, t)
        assert len(noise.left_cache) <= 2 * 24
    assert torch.equal(last, make_brownian([3], (1, 4, 4))(s, t))
    assert torch.equal(
        noise(levels[0], levels[1]), make_brownian([3], (1, 4, 4))(levels[0], levels[1])
    )
    again = noise(s, t)
    monkeypatch.delattr(BrownianNoise, "draw_unit")
    assert torch.equal(noise(s, t), again)


def test_a_path_starts_as_noise_does():
    """And the options of Noise that concern the steps leave the path alone, as in A1111."""
    options = {
        "variation_seeds": [8],
        "variation_strength": 0.4,
        "eta_noise_seed_delta": 5,
        "blend": "columns",
    }
    assert torch.equal(make_brownian([3], **options).initial, Noise([3], SHAPE, **options).initial)
    assert torch.equal(make_brownian([3], **options)(2.0, 1.0), make_brownian([3])(2.0, 1.0))


def test_bad_levels():
    for low, high in ((2.0, 1.0), (-1.0, 1.0), (0.1, math.inf), (math.nan, 1.0), (0.1, math.nan)):
        with pytest.raises(BadInput, match="no Brownian path"):
            BrownianNoise([1], SHAPE, low, high)
    noise = make_brownian([1])
    for s, t in (
        (14.7, 1.0),
        (1.0, 14.7),
        (1.0, 0.0),
        (0.029, 1.0),
        (math.nan, 1.0),
        (1.0, math.inf),
    ):
        with pytest.raises(BadInput, match="has no step"):
            noise(s, t)
    for s, t in ((1.0, 1.0), (1.0, 1.0000003)):
        with pytest.raises(BadInput, match="are equal for a Brownian path"):
            noise(s, t)
    one_level = BrownianNoise([1], SHAPE, 14.6, 14.6)  # a run of one step, which asks for no noise
    assert one_level.initial.shape == (1, *SHAPE)
