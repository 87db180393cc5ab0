"""A request → an iterator of steps → pictures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from fromnoise.diffusion import samplers
from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.parameterization import coefficients
from fromnoise.diffusion.spacing import sigmas as spaced
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.unet import Conditioning
from fromnoise.pipeline import images
from fromnoise.pipeline.denoiser import denoiser
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared


@dataclass(frozen=True, eq=False)
class Step:
    """One finished step of a run. `x` and `x0` are latents, (count, C, h, w) in fp32 on the CPU."""

    index: int  # 0 … total − 1
    total: int
    sigma: float  # the noise level that x is at now; 0 after the last step
    x: Tensor  # the latents after the step; after the last one, the finished ones
    x0: Tensor  # the clean latents that the step headed for: a preview
    dropped: tuple[str, ...] = ()  # of prompt and negative prompt, the ends that did not fit the encoder


@torch.inference_mode()
def encode(model: LatentDiffusion, texts: list[str]) -> tuple[Conditioning, list[str]]:
    """Texts → (their Conditioning, context (B, N, dim) in fp32; of each text the end that did not fit, or "").

    Each text is encoded alone: its states do not depend, in any bit, on the texts beside it.
    """
    device = next(model.text_encoder.parameters()).device
    states: list[Tensor] = []
    dropped = []
    for text in texts:
        ids, rest = model.tokenizer.encode(text)
        states.append(model.text_encoder(torch.tensor([ids], device=device)).last_hidden)  # (1, N, dim)
        dropped.append(rest)
    return Conditioning(torch.cat(states)), dropped


def steps(
    model: LatentDiffusion, unet: Prepared, request: GenerationRequest, latents: Tensor | None = None
) -> Iterator[Step]:
    """Runs the sampler, yielding after each step; `unet` is `prepare(model.unet)`.

    latents: unit Gaussian noise to start from, (C, h, w) or (count, C, h, w), instead of the seeds'.
    Raises BadInput or UnknownName before the first step.
    """
    request = request.resolved(model)
    assert request.steps and request.width and request.height and request.spacing and request.sampler  # noqa: PT018
    assert request.seed is not None
    assert request.cfg is not None  # all are resolved
    factor, config = model.vae.config.factor, model.unet.config
    shape = (config.out_channels, request.height // factor, request.width // factor)
    noise = Noise([request.seed + i for i in range(request.count)], shape)
    if latents is None:
        latents = noise.initial
    elif latents.ndim not in (3, 4) or latents.expand(request.count, *latents.shape[-3:]).shape[-3:] != shape:
        raise BadInput(f"latents are {tuple(latents.shape)}", f"give (C, h, w) = {shape}, or {request.count} of those")
    else:
        latents = latents.to("cpu", torch.float32).expand(request.count, *shape)
    offset = model.configs.get("scheduler", {}).get("steps_offset", 0)
    options = {"steps_offset": offset} if request.spacing == "leading" else {}
    sigmas = spaced(model.schedule, request.steps, request.spacing, final_sigma(model, request), **options)
    guided = request.cfg != 1  # at 1 the negative prompt has no weight: half the work
    texts = [request.prompt, request.negative_prompt] if guided else [request.prompt]
    conditioning, dropped = encode(model, texts)
    answer = denoiser(
        unet, model.schedule, model.prediction, conditioning, request.cfg, request.cfg_rescale if guided else 0.0
    )
    # what the network is first shown is the noise itself, so x starts as the noise divided by c_in
    x = latents / coefficients(model.prediction, float(sigmas[0]))[2]
    extra = {} if request.eta is None else {"eta": request.eta}
    run = samplers.load(request.sampler)(x, sigmas, noise, **extra)
    query, total = next(run), len(sigmas) - 1
    while True:
        reply = answer(query)
        try:
            following = run.send(reply)
        except StopIteration as end:
            sigma = float(sigmas[-1])
            x = end.value * coefficients(model.prediction, sigma)[2]  # 1 at σ = 0
            yield Step(query.step, total, sigma, x, reply.x0, tuple(dropped))
            return
        if following.step != query.step:
            sigma = float(sigmas[following.step])
            yield Step(query.step, total, sigma, following.x, reply.x0, tuple(dropped))
        query = following


def final_sigma(model: LatentDiffusion, request: GenerationRequest) -> Literal["zero", "first"]:
    """Where a run ends: at σ = 0, but for DDIM on a model whose scheduler says `set_alpha_to_one: false` (Stable
    Diffusion 1): there at the schedule's first σ, as diffusers' DDIMScheduler does, so that pictures agree."""
    asked = model.configs.get("scheduler", {}).get("set_alpha_to_one", True) is False
    return "first" if asked and request.sampler == "ddim" and request.spacing == "leading" else "zero"


def generate(
    model: LatentDiffusion,
    unet: Prepared,
    request: GenerationRequest,
    latents: Tensor | None = None,
    watch: Callable[[Step], None] | None = None,
) -> list[Image.Image]:
    """The pictures of a request, each with its settings in `info["parameters"]`; `watch` is told of every step."""
    request = request.resolved(model)
    last = None
    for last in steps(model, unet, request, latents):
        if watch is not None:
            watch(last)
    assert last is not None  # there is at least one step
    pictures = images.pictures(model.vae, last.x)
    for i, picture in enumerate(pictures):
        picture.info["parameters"] = images.parameters(model, request, i, unet.plan)
    return pictures
