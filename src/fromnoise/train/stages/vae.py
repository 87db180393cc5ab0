"""Trains the autoencoder: reconstruction, a small KL, the features of our own CLIP,
and a critic if the recipe has one (Rombach 2022, §3.1)."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.data.loader import Batch, load_batches
from fromnoise.errors import BadInput
from fromnoise.models.vae import VAE
from fromnoise.train import parts
from fromnoise.train.loop.fit import fit
from fromnoise.train.recipe import Recipe, Stage

HELD_BACK = 4_100_000_000  # first seed of the pictures that only measure
MEASURED = 512


def crop_pictures(
    images: Tensor, masks: Tensor, side: int, multiple: int, noise: torch.Generator
) -> Tensor:
    """One crop of each picture: (B, 3, side, side).

    Three in four are centred on a pixel of an object, the rest lie anywhere: the network learns
    flat backgrounds soon, and objects late. Corners lie on multiples of `multiple`, the grid of the
    latents.
    """
    crops = []
    for image, mask in zip(images, masks, strict=True):
        high = [n - side for n in image.shape[-2:]]
        inside = mask[0].nonzero()
        if len(inside) and torch.rand((), generator=noise) < 0.75:
            corner = inside[torch.randint(len(inside), (), generator=noise)] - side // 2
        else:
            corner = torch.stack([torch.randint(h + 1, (), generator=noise) for h in high])
        y, x = (
            int(min(max(a, 0), h)) // multiple * multiple
            for a, h in zip(corner.tolist(), high, strict=True)
        )
        crops.append(image[:, y : y + side, x : x + side])
    return torch.stack(crops)


def read_features(vision: parts.ImageTower, image: Tensor) -> list[Tensor]:
    """CLIP's patch states after each layer, normalized: the space of the perceptual loss. Each
    (B, N, dim)."""
    return [F.normalize(h[:, 1:], dim=-1) for h in vision(image).hidden_states[1:]]


class VaeTask:
    """loss = MSE + kl·(KL a latent) + perceptual·(distance in CLIP) + critic·(−critic's judgement).

    The first `crop_share` of the stage sees crops of `crop` pixels: they cost less and show more of
    the objects. The rest sees whole pictures, so that the group norms have the statistics of later
    use. KL: at its optimum the posterior's noise costs half of `kl` in MSE, so `kl` = 4e-4 costs
    2e-4, which is 3 % of the MSE of a 28 dB picture. `frozen_encoder` trains the decoder alone: the
    latents no longer change, because the U-Net may already train on them.
    """

    def __init__(self, stage: Stage, recipe: Recipe, network: VAE, frozen_encoder: bool = False):
        self.stage, self.source = stage, recipe.open_source()
        self.vae = network.requires_grad_(True)
        if frozen_encoder:
            assert network.encoder is not None
            network.encoder.requires_grad_(False)
            if network.quant_conv is not None:
                network.quant_conv.requires_grad_(False)
        self.frozen = frozen_encoder
        self.module: nn.Module = nn.ModuleDict({"vae": network})
        self.vision = parts.load_clip(recipe)[1] if stage.get("perceptual", 0) else None
        self.critic = None
        if stage.get("critic", 0):
            from fromnoise.train.stages.critic import CriticTrainer

            self.critic = CriticTrainer(float(stage["critic"]))
        self.extras = {} if self.critic is None else {"critic": self.critic}

    def batches(self, step: int, size: int, rank: int, world: int) -> Iterator[Batch]:
        return load_batches(
            self.source,
            size,
            step,
            first=int(self.stage.get("first", 0)),
            workers=self.stage.get("workers", 0),
            rank=rank,
            world=world,
        )

    def loss(
        self, batch: Batch, progress: float, noise: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        side, whole, figures = self.stage.get("crop"), batch.images, {}
        if side and side % self.vae.config.factor:
            raise BadInput(
                f"crop = {side} does not divide into latents",
                f"use a multiple of {self.vae.config.factor}",
            )
        if cut := bool(side and progress < self.stage.get("crop_share", 0.75)):
            whole = crop_pictures(batch.images, batch.masks, side, self.vae.config.factor, noise)
        device = next(self.vae.parameters()).device
        image = whole.to(device)
        if self.frozen:
            with torch.no_grad():
                posterior = self.vae.encode(image)
        else:
            posterior = self.vae.encode(image)
        z = posterior.sample(torch.randn(posterior.mean.shape, generator=noise).to(device))
        out = self.vae.decode(z)
        mse = F.mse_loss(out, image)
        figures["psnr"] = -10 * np.log10(mse.item() / 4)  # the range is 2 wide
        loss = mse
        if not self.frozen:
            kl = posterior.kl().mean() / posterior.mean[0].numel()
            loss, figures["kl"] = loss + self.stage["kl"] * kl, kl.item()
        if self.vision is not None and not cut:
            self.vision.to(device)
            distances = [
                F.mse_loss(a, b) * a.shape[-1]
                for a, b in zip(
                    read_features(self.vision, out), read_features(self.vision, image), strict=True
                )
            ]
            perceptual = torch.stack(distances).mean()
            loss, figures["perceptual"] = (
                loss + self.stage["perceptual"] * perceptual,
                perceptual.item(),
            )
        if self.critic is not None and progress >= self.stage.get("critic_from", 0.5):
            adversarial, figures["critic"] = self.critic(image, out)
            loss = loss + adversarial
        return loss, figures

    def preview(self, path: Path) -> None:
        from fromnoise.train.stages.sheet import write_sheet

        image = next(load_batches(self.source, 8, first=HELD_BACK)).images.to(
            next(self.vae.parameters()).device
        )
        write_sheet(
            torch.cat((image, self.vae.decode(self.vae.encode(image).mean))), path, columns=8
        )

    def export(self, folder: Path) -> dict[str, Any]:
        parts.save_weights(self.vae, folder / "vae.safetensors")
        wrong, inside, pixels, weight, latents = 0.0, 0.0, 0, 0.0, []
        count = -(-int(self.stage.get("check", MEASURED)) // 16)
        for batch in islice(load_batches(self.source, 16, first=HELD_BACK), count):
            mean = self.vae.encode(batch.images.to(next(self.vae.parameters()).device)).mean
            square = (self.vae.decode(mean).clamp(-1, 1).cpu() - batch.images).square() / 4
            wrong, pixels = wrong + square.sum().item(), pixels + square.numel()
            inside, weight = (
                inside + (square * batch.masks).sum().item(),
                weight + 3 * batch.masks.sum().item(),
            )
            latents.append(mean)
        z = torch.cat(latents)
        return {
            "psnr": -10 * np.log10(wrong / pixels),
            "psnr_inside": -10 * np.log10(inside / weight),
            "scaling_factor": round(1 / z.square().mean().sqrt().item(), 5),
        }


def run(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    return fit(VaeTask(stage, recipe, parts.build_vae(recipe)), stage, recipe)


def run_decoder(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    """Goes on with the decoder alone, its latents fixed, from the finished `vae` stage."""
    return fit(
        VaeTask(stage, recipe, parts.load_vae(recipe, decoder=False), frozen_encoder=True),
        stage,
        recipe,
    )
