"""PSNR of the mean squared error over a set."""

from math import log10

import numpy as np
import pytest

from fromnoise.evaluate.reconstruction import PSNR, build_reconstructor, evaluate


def test_psnr_is_that_of_the_mean_error_over_all_pictures(source):
    errors = iter([0, 30])  # one perfect batch, one bad: the mean of their PSNRs would be infinite

    def spoil(images):
        return (images.astype(int) + np.where(images < 128, 1, -1) * next(errors)).astype(np.uint8)

    found = evaluate(spoil, source, n=64, batch=32)
    assert found.whole.db == pytest.approx(10 * log10(1 / (0.5 * (30 / 255) ** 2)), abs=1e-9)
    assert found.whole.db_error > 0
    assert found.n == 64
    assert len(found.shown) == 12


def test_inside_the_mask_counts_only_the_object(source):
    def spoil(images):
        back = images.copy()
        back[:, 12:20, 12:20] = 255 - back[:, 12:20, 12:20]
        return back

    found = evaluate(spoil, source, n=40)
    samples = [source.sample(6_000_000_000 + i) for i in range(40)]
    errors = [((s.image / 255 - spoil(s.image[None])[0] / 255) ** 2) for s in samples]
    inside = np.concatenate([e[s.mask].ravel() for s, e in zip(samples, errors, strict=True)])
    assert found.inside.mse == pytest.approx(inside.mean(), rel=1e-9)
    assert found.whole.mse == pytest.approx(np.mean(errors), rel=1e-9)


def test_the_standard_error_is_that_of_repeated_measurements():
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 100, (400, 200)).astype(float)
    runs = [PSNR.of(s * rng.gamma(4, 0.01, 200), s) for s in sizes]
    spread = np.std([r.db for r in runs])
    # the spread of 400 runs is itself known to 3.5 %
    assert np.mean([r.db_error for r in runs]) == pytest.approx(spread, rel=0.12)


def test_perfect_is_infinite_and_no_mask_is_none(source):
    found = evaluate(lambda x: x, source, n=8)
    assert found.whole.db == float("inf")


def test_an_autoencoder_gives_pictures_back():
    torch = pytest.importorskip("torch")
    from fromnoise.models.config import VAEConfig
    from fromnoise.models.vae import VAE

    vae = VAE(VAEConfig(block_out_channels=(8, 8), layers_per_block=1, norm_groups=4))
    with torch.no_grad():
        vae.decoder.conv_out.weight.zero_()
        vae.decoder.conv_out.bias.copy_(torch.tensor([-1.0, 0.0, 3.0]))
    back = build_reconstructor(vae)(np.zeros((2, 32, 32, 3), np.uint8))
    assert back.dtype == np.uint8
    assert back.shape == (2, 32, 32, 3)
    assert back[0, 0, 0].tolist() == [0, 128, 255]  # −1, 0 and, clipped, 3
