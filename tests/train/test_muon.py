"""Muon against the definitions it is made from."""

import pytest
import torch
from torch import nn

from fromnoise.checkpoints import training_state
from fromnoise.errors import UnknownName
from fromnoise.train.loop.muon import Muon, group_parameters, orthogonalize
from fromnoise.train.loop.optimizer import build_optimizer
from fromnoise.train.recipe import Stage, read_recipe
from fromnoise.train.run import run_stage


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (24, 24)])
def test_orthogonal_keeps_the_singular_vectors_and_evens_the_values(shape):
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(shape[0], min(shape), generator=generator))
    v, _ = torch.linalg.qr(torch.randn(shape[1], min(shape), generator=generator))
    values = torch.logspace(0, -2, min(shape))
    out = orthogonalize(7 * u @ values.diag() @ v.T)
    core = u.T @ out @ v
    # Jordan's five steps bring [0.002, 1] to [0.68, 1.21], the published band of the iteration; off
    # the diagonal only fp32 rounding, 1e-7 × the amplification of 500
    assert 0.67 < core.diagonal().min() < core.diagonal().max() < 1.21
    assert (core - core.diagonal().diag()).abs().max() < 1e-3
    assert torch.isfinite(orthogonalize(torch.zeros(shape))).all()


def test_a_step_moves_matrices_evenly_and_everything_else_as_adamw():
    def made() -> nn.Module:
        torch.manual_seed(1)
        return nn.ModuleList(
            [nn.Conv2d(32, 48, 3), nn.Linear(64, 32), nn.Linear(64, 8), nn.Embedding(50, 40)]
        )

    ours, theirs = made(), made()
    optimizer = Muon(group_parameters(ours, 0.0), lr=0.01, betas=(0.9, 0.99))
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0)
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    for _ in range(2):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        optimizer.step()
        reference.step()
    after, other = ours.state_dict(), theirs.state_dict()
    for name in ("0.weight", "1.weight"):
        assert not torch.equal(after[name], other[name])
    for name in ("0.bias", "2.weight", "2.bias", "3.weight"):
        torch.testing.assert_close(after[name], other[name], rtol=0, atol=1e-7)
    # a single step from rest: lr × 0.2 (the RMS of Adam's), whatever the gradient's size; singular
    # values of 0.68 to 1.21 allow 1 ± 0.2
    for size in (1e-4, 1e4):
        for name, p in (("0.weight", ours[0].weight), ("1.weight", ours[1].weight)):
            alone = nn.Parameter(before[name].clone())
            alone.grad = size * torch.randn(p.shape)
            Muon([{"params": [alone], "muon": True, "weight_decay": 0.0}], lr=0.01).step()
            rms = (alone - before[name]).square().mean().sqrt()
            assert rms.item() == pytest.approx(0.01 * 0.2, rel=0.2)


def test_matrices_of_one_shape_move_together_as_each_would_alone():
    generator = torch.Generator().manual_seed(0)
    start = [
        torch.randn(shape, generator=generator)
        for shape in ((32, 40), (32, 8, 5), (40, 32), (32, 40))
    ]
    gradients = [torch.randn(w.shape, generator=generator) for w in start]

    def moved(chosen: list[int]) -> list[torch.Tensor]:
        weights = [nn.Parameter(start[i].clone()) for i in chosen]
        for w, i in zip(weights, chosen, strict=True):
            w.grad = gradients[i].clone()
        Muon([{"params": weights, "muon": True, "weight_decay": 0.1}], lr=0.1).step()
        return [w.detach() for w in weights]

    for i, together in enumerate(moved([0, 1, 2, 3])):
        # a step of 0.02 in fp32; sums of a stack may come in another order
        torch.testing.assert_close(together, moved([i])[0], rtol=0, atol=1e-6)


def test_the_recipe_names_the_optimizer(tmp_path):
    module = nn.Linear(40, 40)
    assert isinstance(
        build_optimizer(module, Stage("unet", tmp_path, {"lr": 1e-3, "optimizer": "muon"})), Muon
    )
    with pytest.raises(UnknownName, match="muon"):
        build_optimizer(module, Stage("unet", tmp_path, {"lr": 1e-3, "optimizer": "lion"}))


def test_muon_resumes_exactly_and_a_change_of_optimizer_is_said(
    begun, recipe_file, tmp_path, capsys
):
    recipe = begun

    def plan(folder: str, scale: str, **values):
        made = read_recipe(recipe_file, scale, tmp_path / folder)
        made.runs.mkdir(exist_ok=True)
        for name in ("tokenizer", "clip", "vae"):
            if not (made.runs / name).exists():
                (made.runs / name).symlink_to(recipe.runs / name)
        made.stage("unet").values.update(decay=0, optimizer="muon", **values)
        made.stage("unet").values["network"]["block_out_channels"] = [32, 64]
        return made

    run_stage(plan("halves", "half"), "unet")
    run_stage(whole := plan("halves", "whole"), "unet")
    run_stage(straight := plan("straight", "whole"), "unet")
    a, b = (training_state.load(p.stage("unet").folder) for p in (whole, straight))
    assert a
    assert b
    assert any("momentum" in state for state in a[0]["optimizer"].values())
    assert all(torch.equal(v, b[0]["weights"][k]) for k, v in a[0]["weights"].items())
    assert "warning" not in capsys.readouterr().err
    changed = plan("straight", "whole", pictures=28)
    changed.stage("unet").values["optimizer"] = "adamw"
    run_stage(changed, "unet")
    assert "goes on with adamw after muon" in capsys.readouterr().err
