"""A request → an iterator of steps → pictures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from fromnoise.diffusion import samplers
from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.parameterization import coefficients
from fromnoise.diffusion.spacing import sigmas as spaced
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline import images
from fromnoise.pipeline.conditioning import encode
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
    sigmas = spaced(model.schedule, request.steps, request.spacing, **options)
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
            yield Step(query.step, total, float(sigmas[-1]), end.value, reply.x0, tuple(dropped))
            return
        if following.step != query.step:
            sigma = float(sigmas[following.step])
            yield Step(query.step, total, sigma, following.x, reply.x0, tuple(dropped))
        query = following


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
