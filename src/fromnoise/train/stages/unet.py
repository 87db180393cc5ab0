"""Trains the U-Net to undo noise on cached latents, conditioned on CLIP's token states (Rombach
2022, eq. 3)."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.data.latents import LatentCache
from fromnoise.data.loader import Batch
from fromnoise.diffusion import forward, losses
from fromnoise.diffusion.guidance import apply_cfg
from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.parameterization import compute_coefficients
from fromnoise.diffusion.samplers import load as load_sampler
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.diffusion.samplers.drive import drive
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.schedules import (
    make_cosine,
    make_flow,
    make_linear,
    rescale_zero_terminal_snr,
)
from fromnoise.diffusion.spacing import make_sigmas
from fromnoise.errors import BadInput, UnknownName
from fromnoise.files import write_file
from fromnoise.models.conditioning import Conditioning
from fromnoise.train import parts
from fromnoise.train.loop.fit import fit
from fromnoise.train.loop.optimizer import scale_rate
from fromnoise.train.recipe import Recipe, Stage
from fromnoise.train.results import REMEDY
from fromnoise.train.stages.align import Aligner, read_states
from fromnoise.train.stages.sheet import write_sheet

PREVIEW_SEED = 4_200_000_000
PREVIEWS = 32  # pictures of a preview
WEIGHTINGS = ("uniform", "min_snr", "truncated")


def build_schedule(values: dict[str, Any]) -> NoiseSchedule:
    """The recipe's `schedule = { kind = …, … }`."""
    kinds = {
        "linear": make_linear,
        "scaled_linear": NoiseSchedule.scaled_linear,
        "cosine": make_cosine,
        "flow": make_flow,
    }
    values = dict(values)
    kind, zero = str(values.pop("kind", "")), values.pop("zero_terminal_snr", False)
    if kind not in kinds:
        raise UnknownName("schedule", kind, kinds)
    try:
        result = kinds[kind](**values)
    except TypeError as error:
        raise BadInput(
            f"schedule = {{ kind = {kind!r}, … }}: {error}", "correct its fields"
        ) from None
    return rescale_zero_terminal_snr(result) if zero else result


def weigh_error(name: str, snr: Tensor, prediction: str, gamma: float) -> Tensor:
    """The weight of the squared error at `snr`.

    "min_snr" leaves the noisiest steps almost untrained, because its weight on v falls with the
    SNR; yet there the caption decides what the picture shows. "truncated" keeps these steps whole
    and lowers only the nearly clean ones: in terms of x0 it is min(SNR + 1, γ).
    """
    if name not in WEIGHTINGS:
        raise UnknownName("weighting", name, WEIGHTINGS)
    if name == "min_snr":
        return losses.compute_min_snr_weight(snr, prediction, gamma)
    return torch.ones_like(snr) if name == "uniform" else (gamma / (snr + 1)).clamp(max=1)


def place_timesteps(
    schedule: NoiseSchedule, uniform: Tensor, share: float, mean: float, std: float
) -> Tensor:
    """Numbers in [0, 1) → timesteps.

    The first `share` of [0, 1) covers ln σ ~ N(mean, std²) (Karras 2022, §5). The rest covers all
    timesteps evenly, so that each one is trained.
    """
    last = len(schedule) - 1
    log_sigma = mean + std * torch.special.ndtri(
        (uniform.double() / max(share, 1e-6)).clamp(1e-6, 1 - 1e-6)
    )
    focused = schedule.sigma_to_t(log_sigma.exp()).round().long()
    even = ((uniform - share) / max(1 - share, 1e-6) * len(schedule)).long().clamp(0, last)
    return torch.where(uniform < share, focused, even)


def first_process_first(world: int) -> AbstractContextManager[None]:
    """Inside it the first of `world` processes works alone; the others follow when it is done."""
    if world == 1:
        return nullcontext()
    from accelerate import PartialState

    return PartialState().main_process_first()


class UNetTask:
    """MSE of the prediction at a random timestep, plus `align` × the Aligner's loss.

    A caption is dropped with probability `caption_drop`; guidance later subtracts the prediction
    without a caption (Ho & Salimans 2022, Alg. 1). Timesteps are drawn in equal strata; `focus`
    (share, mean, std of ln σ) says where most of them lie. `object_weight` says how much more the
    error counts on the source's objects, until the learning rate falls.
    """

    def __init__(self, stage: Stage, recipe: Recipe):
        self.stage, self.recipe, self.source = stage, recipe, recipe.open_source()
        text, _, self.words, _ = parts.load_clip(recipe)
        self.text, self.vae = text, parts.load_vae(recipe, decoder=False)
        self.schedule, self.prediction = build_schedule(stage["schedule"]), str(stage["prediction"])
        self.unet = parts.build_unet(recipe)
        self.align, self.aligner = float(stage.get("align", 0)), None
        self.object_weight = float(stage.get("object_weight", 0))
        self.middle: Tensor | None = None  # of the last call of the network
        if (
            start := stage.folder / "start.safetensors"
        ).exists():  # of another model: see assemble.unpack
            parts.fill_network(self.unet, parts.load_weights(start), start)
        self.module: nn.Module = nn.ModuleDict({"unet": self.unet})
        self.extras = {}
        if self.align:
            self.vision = parts.load_clip(recipe, image_tower=False)[1]
            side = self.unet.config.sample_size // 2 ** (
                len(self.unet.config.block_out_channels) - 1
            )
            self.feature_shape = read_states(
                self.vision, torch.zeros(1, 3, self.source.size, self.source.size), side
            ).shape[1:]
            self.module["aligner"] = self.aligner = Aligner(
                self.unet.config.block_out_channels[-1], self.feature_shape[0]
            )

            def remember(module: nn.Module, inputs: Any, middle: Tensor) -> None:
                self.middle = middle

            self.unet.mid_block.register_forward_hook(remember)
        self.weights = weigh_error(
            str(stage.get("weighting", "min_snr")),
            self.schedule.snr,
            self.prediction,
            float(stage.get("gamma", 5.0)),
        ).float()
        # what the network is told at each timestep
        self.times = torch.stack(
            [self.schedule.find_time(s) for s in self.schedule.sigmas.tolist()]
        )
        self.empty = torch.tensor(self.words.encode("")[0])

    def cache(
        self, shapes: dict[str, tuple[int, ...]], encode: Callable[[Batch], Iterable[Tensor]]
    ) -> LatentCache:
        """The encoded pictures and captions of the source, all of them.

        The cache is made anew when the source or the networks that encode have changed.
        """
        from rich.progress import Progress

        made_by = {"vae": "vae.safetensors", "tokenizer": "merges.txt", "clip": "clip.safetensors"}
        files = [
            (parts.require_stage(self.recipe, stage).folder / file).read_bytes()
            for stage, file in made_by.items()
        ]
        key = "-".join(
            (self.source.fingerprint, *shapes, *(hashlib.sha256(f).hexdigest()[:16] for f in files))
        )
        cache = LatentCache(
            self.stage.folder / "cache",
            key,
            shapes,
            self.words.max_length,
            int(self.stage["cached"]),
        )
        with Progress() as bar:
            line = bar.add_task("encoding", total=cache.count, completed=cache.filled)
            cache.fill(
                self.source,
                encode,
                lambda caption: self.words.encode(caption)[0],
                workers=self.stage.get("workers", 0),
                progress=lambda done: bar.update(line, completed=done),
            )
        return cache

    def batches(
        self, step: int, size: int, rank: int, world: int
    ) -> Iterator[tuple[Tensor | None, ...]]:
        """Latents, token ids, and where the loss needs them (else None) the features of CLIP's
        image tower, and how much of each latent's place the objects cover (B, 1, h, w)."""
        config, side = self.vae.config, self.source.size // self.vae.config.factor
        device = next(self.module.parameters()).device
        # eight pictures fit a CPU's cache: twice as fast at full resolution
        slices = 8 if device.type == "cpu" else 64
        shapes: dict[str, tuple[int, ...]] = {"latents": (config.latent_channels, side, side)}
        shapes |= {"seen": tuple(self.feature_shape)} if self.align else {}
        shapes |= {"masks": (1, side, side)} if self.object_weight else {}

        def encode(batch: Batch) -> Iterator[Tensor]:
            images = batch.images.to(device).split(slices)
            yield torch.cat([self.vae.to_latents(some) for some in images])
            if self.align:
                yield torch.cat(
                    [read_states(self.vision, some, self.feature_shape[-1]) for some in images]
                )
            if self.object_weight:
                yield F.avg_pool2d(batch.masks, config.factor)

        encoders = [self.vae, *([self.vision] if self.align else [])]
        for network in encoders:
            network.to(device)
        with first_process_first(world):
            cache = self.cache(shapes, encode)
        rows = cache.batches(size, step, self.recipe.seed, rank, world, device)
        for network in encoders:
            network.cpu()
        names = [*shapes, "ids"]
        tables = (dict(zip(names, row, strict=True)) for row in rows)
        return (
            tuple(row.get(name) for name in ("latents", "ids", "seen", "masks")) for row in tables
        )

    def context(self, ids: Tensor) -> Tensor:
        with torch.no_grad():
            return self.text(ids).last_hidden

    def loss(
        self, batch: tuple[Tensor | None, ...], progress: float, noise: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        latents, ids, features, masks = batch
        assert latents is not None
        assert ids is not None
        b, device = len(latents), latents.device
        self.text.to(device)
        # on a GPU by its own generator: the CPU would take longer than the network
        generator = noise
        if device.type != "cpu":
            generator = torch.Generator(device).manual_seed(noise.initial_seed())
        dropped = torch.rand(b, generator=noise) < self.stage.get("caption_drop", 0.1)
        ids = torch.where(dropped[:, None].to(device), self.empty.to(device), ids)
        strata = (torch.randperm(b, generator=noise) + torch.rand(b, generator=noise)) / b
        t = place_timesteps(self.schedule, strata, *self.stage.get("focus", (0.0, 0.0, 1.0)))
        eps = torch.randn(latents.shape, generator=generator, device=device)
        x = forward.add_noise(self.schedule, latents, eps, t)
        goal = forward.compute_target(self.prediction, self.schedule, latents, eps, t)
        out = self.unet(x, self.times[t].to(device), Conditioning(self.context(ids)))
        error = (out.float() - goal).square()
        if masks is not None:
            # The weight fades with the learning rate. A weight that depends on where things are
            # makes them too large, because its optimum is not the posterior's mean; only the last
            # part of training has to be right.
            extra = self.object_weight * scale_rate(progress, 0, 1, self.stage.get("decay", 0.3))
            error = error * ((1 + extra * masks) / (1 + extra * masks.mean()))
        error = error.mean((1, 2, 3))
        loss, figures = (error * self.weights[t].to(device)).mean(), {"mse": error.mean().item()}
        if self.aligner is not None and features is not None:
            distance = self.aligner(self.middle, features)
            loss, figures["align"] = loss + self.align * distance, distance.item()
        return loss, figures

    def preview(self, path: Path) -> None:
        """PREVIEWS fixed captions, DPM++ 2M, 20 steps, guidance 4."""
        samples = [self.source.sample(PREVIEW_SEED + i, draw=False) for i in range(PREVIEWS)]
        captions = [sample.caption for sample in samples]
        write_sheet(self.draw(captions, list(range(PREVIEWS))), path)
        text = "\n".join(captions) + "\n"
        write_file(path.with_suffix(".txt"), lambda p: p.write_text(text, "utf-8"), remedy=REMEDY)

    def draw(
        self, captions: list[str], seeds: list[int], steps: int = 20, scale: float = 4.0
    ) -> Tensor:
        """Images (N, 3, H, W) of captions, drawn by the network as it is now."""
        unet, device = self.unet, next(self.module.parameters()).device
        b, side = len(captions), self.source.size // self.vae.config.factor
        ids = torch.tensor([self.words.encode(c)[0] for c in captions] + [self.empty.tolist()] * b)
        context = Conditioning(self.context(ids.to(device)))

        def answer(query: Query) -> Answer:
            skip, out, scale_in = compute_coefficients(self.prediction, query.sigma)
            t = float(self.schedule.find_time(query.sigma))
            x, times = (
                (query.x * scale_in).repeat(2, 1, 1, 1).to(device),
                torch.full((2 * b,), t, device=device),
            )
            cond, uncond = (
                skip * query.x + out * f for f in unet(x, times, context).cpu().chunk(2)
            )
            return Answer(apply_cfg(cond, uncond, scale), uncond)

        grid = make_sigmas(self.schedule, steps, "karras")
        noise = Noise(seeds, (self.vae.config.latent_channels, side, side))
        latents = drive(
            load_sampler("dpmpp_2m")(noise.initial * float(grid[0]), grid, noise), answer
        )
        return self.vae.to(device).to_image(latents.to(device)).cpu()

    def export(self, folder: Path) -> dict[str, Any]:
        parts.save_weights(self.unet, folder / "unet.safetensors")
        origin = folder / "start.json"  # see assemble.unpack_model
        return json.loads(origin.read_text("utf-8")) if origin.exists() else {}


def run(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    return fit(UNetTask(stage, recipe), stage, recipe)
