"""A request → an iterator of steps → pictures."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from fromnoise.diffusion import samplers
from fromnoise.diffusion.noise import Noise
from fromnoise.diffusion.parameterization import compute_coefficients
from fromnoise.diffusion.samplers.base import Answer, Query, Sampling
from fromnoise.diffusion.spacing import make_sigmas
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.models.conditioning import Conditioning
from fromnoise.pipeline.denoiser import check_finite, make_denoiser
from fromnoise.pipeline.images import decode_latents
from fromnoise.pipeline.provenance.write import write_infotext
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import Prepared

if TYPE_CHECKING:
    from fromnoise.diffusion.brownian import BrownianNoise
    from fromnoise.pipeline.conditioning.blocks import Observer
    from fromnoise.pipeline.conditioning.concat import Seen

SYNTAX = re.compile(r"[()\[\]\\<]|\bAND\b|\bBREAK\b")  # what makes a prompt more than words
SURELY_CHEAP = 100  # steps times pictures, of the model's own size, whose cost needs no estimate


@dataclass(frozen=True, eq=False)
class Step:
    """One finished step of a run. `x` and `x0` are latents, (count, C, h, w) in fp32 on the CPU."""

    index: int  # 0 … total − 1
    total: int
    sigma: float  # the noise level that x is at now; 0 after the last step
    x: Tensor  # the latents after the step; after the last one, the finished ones
    x0: Tensor  # the clean latents that the step headed for: a preview
    notes: tuple[str, ...] = ()  # what the user should know, of the run as a whole


def prepare_noise(
    model: LatentDiffusion, request: GenerationRequest, seeds: list[int], strength: float = 1.0
) -> tuple[Tensor, "Noise | BrownianNoise"]:
    """(noise levels of a resolved request; noise in latents, a picture a seed). strength: the share
    of the run that is kept, its end, as A1111 counts: int(min(strength, 0.999) · steps) + 1."""
    assert request.steps
    assert request.spacing
    factor, size = model.vae.config.factor, (request.height or 0, request.width or 0)
    shape = (model.unet.config.out_channels, size[0] // factor, size[1] // factor)
    entry, options = samplers.find(request.sampler or ""), dict(request.spacing_options)
    if request.spacing == "leading":
        offset = model.configs.get("scheduler", {}).get("steps_offset") or 0
        options = {"steps_offset": offset} | options
    of = request.steps, request.spacing, request.final_sigma
    less = bool(request.discard_penultimate)
    sigmas = make_sigmas(model.schedule, *of, discard_penultimate=less, **options)
    sigmas = sigmas[len(sigmas) - 2 - int(min(strength, 0.999) * (len(sigmas) - 1)) :]
    names = "rng", "eta_noise_seed_delta", "variation_strength"
    randomness: dict[str, Any] = {name: getattr(request, name) for name in names}
    randomness |= {"variation_seeds": request.variation_seeds(), "blend": request.variation_blend}
    if not entry.brownian:
        return sigmas, Noise(seeds, shape, **randomness)
    from fromnoise.diffusion.brownian import BrownianNoise

    ends = float(sigmas[sigmas > 0].min()), float(sigmas[0])
    return sigmas, BrownianNoise(seeds, shape, *ends, **randomness)


def start_sampler(
    model: LatentDiffusion,
    request: GenerationRequest,
    seeds: list[int],
    latents: Tensor | None = None,
    mix: Callable[["Noise | BrownianNoise"], Noise] | None = None,
) -> tuple[Tensor, Sampling]:
    """(noise levels of a resolved request; its sampler, ready to be asked), a picture a seed.

    latents: unit noise to start from in place of the seeds' own, (C, h, w) or (pictures, C, h, w).
    mix: makes other noise of the seeds' own. Raises BadInput."""
    sigmas, noise = prepare_noise(model, request, seeds)
    noise = mix(noise) if mix else noise
    if latents is None:
        latents = noise.initial
    else:
        from fromnoise.pipeline.latents import fit_latents  # only for latents of one's own

        latents = fit_latents(latents, noise.initial.shape)
    # "unit": c_in·x, what the network sees, is the noise itself; else x starts as in k-diffusion
    first, unit = float(sigmas[0]), request.noise_scaling == "unit"
    x = latents / compute_coefficients(model.prediction, first)[2] if unit else latents * first
    sampler = samplers.load(request.sampler or "", model.schedule)
    return sigmas, sampler(x, sigmas, noise, **request.options)


def build_denoiser(
    model: LatentDiffusion,
    unet: Prepared,
    request: GenerationRequest,
    prompts: list[str],
    guide: Prepared | None,
    observer: "Observer | None" = None,
    first: int = 0,
    seen: "Seen | None" = None,
) -> tuple[Callable[[Query], Answer], list[str]]:
    """(what answers the sampler of a resolved request; notes for the user).

    prompts: one for all pictures, or one each. observer: see conditioning.blocks. first: the steps
    of an earlier pass that this one continues, see prompt.tree. seen: the pictures for a model that
    sees some. Raises BadInput for what cannot be drawn or costs too much, and NotFinite."""
    tagged = request.dialect != "a1111" or "<" in "".join((*prompts, request.negative_prompt))
    if model.addons is None and (request.addons or tagged or model.text_encoder.config.dim >= 768):
        from fromnoise.pipeline.addons.apply import add_on

        return add_on(build_denoiser, model, unet, request, prompts, guide, observer, first, seen)
    if model.refiner is not None:
        from fromnoise.pipeline.conditioning.handover import hand_over

        rest = request, prompts, guide, observer, first, seen
        return hand_over(build_denoiser, model, unet, *rest)
    if request.tiling != "none" or request.timesteps != "exact":
        from fromnoise.runtime.variants import vary

        unet = vary(unet, request.tiling, request.timesteps)
        guide = guide and vary(guide, request.tiling, request.timesteps)
    if model.concat:  # only for models made for it
        from fromnoise.pipeline.conditioning.concat import show_pictures

        unet, guide = show_pictures(model, request, unet, guide, seen)
    always = samplers.find(request.sampler or "").uncond
    # at 1 the negative prompt has no weight: half the work, unless the sampler itself steers by it
    paired = request.cfg != 1 or always
    texts = [*prompts, request.negative_prompt] if paired else prompts
    special = request.dialect != "a1111" or request.clip_skip > 1 or request.masks
    special = special or request.size_conditions
    long = any(model.tokenizer.encode(text)[1] for text in texts)
    if special or long or not model.is_plain or any(map(SYNTAX.search, texts)):
        # only for more than words and guidance
        from fromnoise.pipeline.conditioning.compose import build_composed_denoiser

        return build_composed_denoiser(model, unet, request, prompts, guide, observer, first)
    size = max(request.width or 0, request.height or 0)
    count = (request.steps or 1) * request.count
    if size > model.size or count > SURELY_CHEAP or request.max_cost is not None:
        from fromnoise.pipeline.conditioning.cost import check_cost

        check_cost(model, request, prompts)
    conditioning = encode_texts(model, texts)
    prompt = conditioning.rows(range(len(prompts)))
    negative = conditioning.rows([len(prompts)]) if paired else None
    named = observer and partial(observer, prompts)
    parts = (model.schedule, model.prediction, prompt, negative, request.guidance, always)
    return make_denoiser(unet, *parts, guide, named), model.note_unknown_words(texts)


@torch.inference_mode()
def encode_texts(model: LatentDiffusion, texts: list[str]) -> Conditioning:
    """Texts → Conditioning with context (B, N, dim) in fp32; of each as many words as fit.

    Each text is encoded alone: those beside it change no bit of its states. Raises NotFinite."""
    device = next(model.text_encoder.parameters()).device
    states: list[Tensor] = []
    for text in texts:
        ids, _ = model.tokenizer.encode(text)
        encoded = model.text_encoder(torch.tensor([ids], device=device))
        states.append(encoded.last_hidden)  # (1, N, dim)
    context = torch.cat(states)
    check_finite(context, "the text encoder", model.text_encoder)
    return Conditioning(context)


def run_steps(
    model: LatentDiffusion,
    unet: Prepared,
    request: GenerationRequest,
    latents: Tensor | None = None,
    guide: Prepared | None = None,
    observer: "Observer | None" = None,
) -> Iterator[Step]:
    """Runs the sampler, yielding after each step; `unet` is `prepare(model.unet)`. guide: see
    `denoiser`; observer: see conditioning.blocks; latents: see `start_sampler`. Raises BadInput or
    UnknownName before the first step, NotFinite after it."""
    request = request.resolve(model)
    answer, notes = build_denoiser(model, unet, request, [request.prompt], guide, observer)
    sigmas, sampling = start_sampler(model, request, request.seeds(), latents)
    yield from run_sampler(model, request, sigmas, sampling, answer, notes)


def run_sampler(
    model: LatentDiffusion,
    request: GenerationRequest,
    sigmas: Tensor,
    sampling: Sampling,
    answer: Callable[[Query], Answer],
    notes: list[str],
) -> Iterator[Step]:
    """Asks and answers to the end, yielding after each step. Raises NotFinite."""
    query, total = next(sampling), len(sigmas) - 1
    x = x0 = torch.empty(0)  # of all pictures, also where the sampler takes them one by one
    while True:
        check_finite(query.x, f"the sampler, before step {query.step + 1},", model.unet)
        reply = answer(query)
        check_finite(reply.x0, f"the network, at step {query.step + 1},", model.unet)
        x0 = _update_images(x0, reply.x0, query.image, request.count)
        try:
            following = sampling.send(reply)
        except StopIteration as end:
            sigma = float(sigmas[-1])
            x = end.value * compute_coefficients(model.prediction, sigma)[2]
            check_finite(x, "the sampler, in its last step,", model.unet)
            yield Step(total - 1, total, sigma, x, x0, tuple(notes))
            return
        x = _update_images(x, following.x, following.image, request.count)
        if (following.step, following.image) != (query.step, query.image):
            index = query.step
            if query.image is not None:
                index = (query.image * total + query.step) // request.count
            yield Step(index, total, following.sigma, x, x0, tuple(notes))
        query = following


def _update_images(images: Tensor, new: Tensor, image: int | None, count: int) -> Tensor:
    """`new` as (count, …): an image in its place among the others, the first in all places."""
    if image is None or len(images) != count:
        return new if image is None else new.repeat(count, 1, 1, 1)
    return images.index_copy(0, torch.tensor([image]), new)


def generate(
    model: LatentDiffusion,
    unet: Prepared,
    request: GenerationRequest,
    latents: Tensor | None = None,
    watch: Callable[[Step], None] | None = None,
    guide: Prepared | None = None,
    observer: "Observer | None" = None,
) -> list[Image.Image]:
    """The pictures of a request, with settings in `info["parameters"]`; `watch` sees each step."""
    request = request.resolve(model)
    last = None
    for last in run_steps(model, unet, request, latents, guide, observer):
        if watch is not None:
            watch(last)
    assert last is not None  # there is at least one step
    pictures = decode_latents(model.vae, last.x, request.tiling)
    for i, picture in enumerate(pictures):
        more = None, guide, latents
        picture.info["parameters"] = write_infotext(model, request, i, unet.plan, *more)
    return pictures
