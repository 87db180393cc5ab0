"""Guidance: what each form is by its own equation, and when it acts."""

import math

import pytest
import torch

from fromnoise.diffusion.guidance import Guidance, apply_cfg
from fromnoise.diffusion.projection import project, rescale
from fromnoise.errors import BadInput


def draw_pictures(seed):
    return torch.randn(
        3, 4, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


A, B = draw_pictures(1) + 0.4, draw_pictures(2)


def test_plain_guidance_is_cfg_and_its_rescaling():
    assert torch.equal(Guidance(3.0).mix(A, B)[0], apply_cfg(A, B, 3.0))
    assert torch.equal(Guidance(3.0, 0.7).mix(A, B)[0], rescale(apply_cfg(A, B, 3.0), A, 0.7))
    assert torch.equal(Guidance(1.0).mix(A, B)[0], A)


def test_projected_guidance():
    """With everything kept it is CFG; with nothing of what points along x0, the guidance is
    orthogonal to it; it is never longer than its norm; an image does not look at its neighbours."""
    whole = Guidance(5.0, apg=True, apg_parallel=1.0).mix(A, B)[0]
    assert (whole - apply_cfg(A, B, 5.0)).abs().max() < 1e-12  # float64
    dims = (1, 2, 3)
    across = project(A - B, A, 0.0, math.inf)
    assert ((across * A).sum(dims) / (A.square().sum(dims))).abs().max() < 1e-12
    along = A - B - across  # the rest points along x0
    assert (
        along.square().sum(dims) * A.square().sum(dims) - (along * A).sum(dims) ** 2
    ).abs().max() < 1e-6
    short = project(A - B, A, 1.0, 0.3)
    assert torch.allclose(
        short.square().mean(dims).sqrt(), torch.full((3,), 0.3, dtype=torch.float64)
    )
    assert torch.allclose(short / 0.3, (A - B) / (A - B).square().mean(dims, keepdim=True).sqrt())
    assert torch.equal(project(A - B, A, 1.0, 99.0), A - B)
    assert torch.equal(project(A - B, A, 0.2, 0.3)[1:2], project((A - B)[1:2], A[1:2], 0.2, 0.3))
    assert torch.equal(project(A * 0, A, 0.0, 0.3), A * 0)


def test_projected_guidance_remembers_with_its_momentum():
    guidance = Guidance(2.0, apg=True, apg_parallel=1.0, apg_momentum=-0.5)
    first, last = guidance.mix(A, B)
    assert torch.allclose(first, A + (A - B), atol=1e-12)
    second, last = guidance.mix(B, A, last)
    assert last is not None
    assert torch.allclose(last, (B - A) - 0.5 * (A - B), atol=1e-12)
    assert torch.allclose(second, B + last, atol=1e-12)
    assert Guidance(2.0).mix(A, B)[1] is None


def test_when_guidance_acts():
    interval = Guidance(3.0, low=0.5, high=5.0)
    assert [interval.acts(s, 0) for s in (0.5, 0.51, 5.0, 5.01)] == [False, True, True, False]
    skipping = Guidance(3.0, skip_below=1.0)
    assert [skipping.acts(0.9, step) for step in range(4)] == [True, False, True, False]
    assert all(skipping.acts(1.0, step) for step in range(4))
    assert not Guidance(1.0).acts(1.0, 0)
    assert Guidance(0.0).acts(1.0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": -1.0},
        {"scale": float("nan")},
        {"scale": math.inf},
        {"rescale": 1.1},
        {"rescale": float("nan")},
        {"low": 2.0, "high": 1.0},
        {"low": -1.0},
        {"high": float("nan")},
        {"skip_below": -1.0},
        {"apg_parallel": 2.0},
        {"apg_norm": 0.0},
        {"apg_norm": float("nan")},
        {"apg_momentum": 1.0},
        {"apg_momentum": float("nan")},
    ],
)
def test_values_out_of_range(wrong):
    with pytest.raises(BadInput) as error:
        Guidance(**wrong)
    assert error.value.remedy
