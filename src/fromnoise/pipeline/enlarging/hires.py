"""Two passes: a picture is drawn small, enlarged, and drawn over at the larger size (A1111's "hires
fix")."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fromnoise.diffusion import samplers, spacing
from fromnoise.diffusion.samplers.base import Query
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.conditioning.blocks import Observer, Texts
from fromnoise.pipeline.conditioning.cost import check_cost
from fromnoise.pipeline.editing.redraw import redraw
from fromnoise.pipeline.encoding import encode_picture, refuse_seeing_model
from fromnoise.pipeline.enlarging import upscale
from fromnoise.pipeline.enlarging.request import SIDE, HiresRequest
from fromnoise.pipeline.generate import Step, build_denoiser, prepare_noise, run_steps
from fromnoise.pipeline.images import decode_latents
from fromnoise.pipeline.provenance.write import format_number, write_infotext
from fromnoise.pipeline.request import OPTIONS
from fromnoise.prompt.grammar import parse_prompt
from fromnoise.prompt.tree import Box
from fromnoise.runtime.prepare import Prepared
from fromnoise.runtime.upscaler import Upscaler


@torch.inference_mode()
def hires(
    model: LatentDiffusion,
    unet: Prepared,
    request: HiresRequest,
    network: Upscaler | None = None,
    watch: Callable[[Step], None] | None = None,
    guide: Prepared | None = None,
    observer: Observer | None = None,
) -> list[Image.Image]:
    """Draws the pictures of a request in two passes, each with its settings in
    `info["parameters"]`.

    The second pass starts from the enlarged latents, with the seed's own noise of that size added.
    (A method in pixels enlarges the picture, and the picture is encoded again.) As in A1111 the
    second pass takes all of its `hires_steps`: they are the last steps of a run of
    int(hires_steps / hires_strength) steps. Changes in prompts continue from the first pass
    (`tree.Prompt.resolve`). network: the upscaler, where the request's hires_upscaler is a file.
    watch: is called with every step of both passes, counted as one run, and so is the observer, see
    conditioning.blocks. Raises BadInput or UnknownName before the first step."""
    refuse_seeing_model(model)
    first = request.resolve(model)
    method = network or upscale.find_upscaler(first.hires_upscaler or "")
    if method is None:
        raise BadInput(
            f"{first.hires_upscaler!r} is a file, and no network was given",
            "load it, and hand it over",
        )
    prompts = (first.prompt, first.negative_prompt, first.hires_prompt, first.hires_negative_prompt)
    for part in (part for text in prompts for part in parse_prompt(text, first.dialect).parts):
        if any(isinstance(region, Box) and region.pixels for region in part.regions):
            raise BadInput(
                "a MASK in pixels holds in one size alone, and two passes have two",
                "say where in shares of the picture, as in MASK(0 0.5)",
            )
    second, notes = plan_second_pass(model, request, first)
    here, there = ((r.width or 0, r.height or 0) for r in (first, second))
    if not (isinstance(method, upscale.Method) and method.latent):
        # raises for too many pixels now, and not after the first pass
        upscale.count_passes(here, cover_size(here, there), method)
    taken = second.steps or 1
    whole = second.model_copy(update={"steps": int(taken / min(first.hires_strength or 1, 0.999))})
    check_cost(model, second, [second.prompt])
    sigmas, noise = prepare_noise(model, whole, second.seeds())
    sigmas = sigmas[-taken - 1 :]
    entry = samplers.find(first.sampler or "")
    calls = (first.steps or 1) * ((entry.evaluations or 1) if first.prompt_steps == "call" else 1)
    before = 0  # steps of the first pass

    def observe_second(shown: list[str] | Texts, query: Query, *more: Any, **named: Any) -> None:
        assert observer is not None
        observer(shown, replace(query, step=before + query.step), *more, **named)

    observe = None if observer is None else observe_second
    answer, more = build_denoiser(model, unet, second, [second.prompt], guide, observe, calls)
    notes += more
    report, last = watch or (lambda step: None), None
    for last in run_steps(model, unet, first, guide=guide, observer=observer):
        report(replace(last, total=last.total + len(sigmas) - 1, notes=(*last.notes, *notes)))
    assert last is not None  # there is at least one step
    enlarged = enlarge_to_size(model, last.x, there, method, unet.device, first.tiling)
    before = last.total

    def report_second(step: Step) -> None:
        report(replace(step, index=before + step.index, total=before + step.total))

    last = redraw(model, second, sigmas, noise, enlarged, answer, notes, report_second)
    finished = decode_latents(model.vae, last.x, second.tiling)
    more_settings = describe_passes(request, first, second, method)
    for i, picture in enumerate(finished):
        picture.info["parameters"] = write_infotext(
            model, first, i, unet.plan, more_settings, guide
        )
    return finished


def plan_second_pass(
    model: LatentDiffusion, request: HiresRequest, first: HiresRequest
) -> tuple[HiresRequest, list[str]]:
    """(the resolved request of the second pass alone, notes for the user). first: the resolved
    request. Raises BadInput and UnknownName."""
    (width, height), notes = choose_final_size(model, first)
    entry, fused = samplers.parse(request.hires_sampler or first.sampler or "")
    kind = (
        request.hires_spacing
        or fused
        or ("automatic" if _is_automatic(request.spacing) else first.spacing or "")
    )
    levels_of = spacing.find(entry.spacing if _is_automatic(kind) else kind)
    # options of the first pass's sampler and spacing that those of the second pass do not take
    given = {k for k in OPTIONS if getattr(first, k) is not None} | first.sampler_options.keys()
    lost = given - {*entry.options} | first.spacing_options.keys() - {*levels_of.options}
    if lost:
        notes.append(
            f"the second pass does without {', '.join(sorted(lost))}: {entry.name} or its "
            "spacing takes none"
        )
    own = {
        "width": width,
        "height": height,
        "steps": request.hires_steps or first.steps,
        "cfg": first.cfg if request.hires_cfg is None else request.hires_cfg,
        "prompt": request.hires_prompt or first.prompt,
        "negative_prompt": request.hires_negative_prompt or first.negative_prompt,
        "sampler": entry.name,
        "spacing": levels_of.name,
        "discard_penultimate": first.discard_penultimate
        if entry.name == first.sampler
        else entry.discard_penultimate,
        **{k: None for k in OPTIONS if k in lost},
        "sampler_options": {k: v for k, v in first.sampler_options.items() if k not in lost},
        "spacing_options": {
            k: v for k, v in first.spacing_options.items() if k in levels_of.options
        },
    }
    return first.model_copy(update=own).resolve(model), notes


def _is_automatic(name: str | None) -> bool:
    return (name or "").strip().lower() == "automatic"


def choose_final_size(
    model: LatentDiffusion, first: HiresRequest
) -> tuple[tuple[int, int], list[str]]:
    """((width, height) of the finished pictures, notes). first: the resolved request. Raises
    BadInput for sides that are too long, and for given sides that do not fit the model."""
    wide, high, many = first.width or 0, first.height or 0, model.multiple
    given = (first.hires_width, first.hires_height)
    if given == (None, None):
        asked = (int(wide * first.hires_scale), int(high * first.hires_scale))
    else:
        asked = (
            given[0] or (given[1] or 0) * wide // high,
            given[1] or (given[0] or 0) * high // wide,
        )
    fits = tuple(max(side // many, 1) * many for side in asked)
    if max(asked) > SIDE:
        raise BadInput(
            f"the second pass cannot draw {asked[0]}x{asked[1]} pixels",
            f"ask for sides of {SIDE} at most",
        )
    for side, of, name in zip(given, fits, ("hires_width", "hires_height"), strict=True):
        if side not in (None, of):
            raise BadInput(
                f"{name} {side} does not fit this model", f"use a multiple of {many}, such as {of}"
            )
    note = (
        f"the second pass draws {fits[0]}x{fits[1]}: {asked[0]}x{asked[1]} is no multiple of "
        f"{many} for this model"
    )
    return (fits[0], fits[1]), [note] if fits != asked else []


def cover_size(size: tuple[int, int], to: tuple[int, int]) -> tuple[int, int]:
    """The smallest (width, height) in the proportions of `size` that covers `to`."""
    (wide, high), (width, height) = size, to
    return (
        (width, width * high // wide)
        if width * high > height * wide
        else (height * wide // high, height)
    )


def enlarge_to_size(
    model: LatentDiffusion,
    latents: Tensor,
    size: tuple[int, int],
    method: upscale.Method | Upscaler,
    device: torch.device,
    tiling: str = "none",
) -> Tensor:
    """Enlarges latents (B, C, h, w) until they cover `size`, a (width, height) in pixels, and cuts
    out their middle."""
    factor, (high, wide) = model.vae.config.factor, latents.shape[-2:]
    width, height = (side // factor for side in size)
    cover = cover_size((wide, high), (width, height))
    if isinstance(method, upscale.Method) and method.latent:
        large = upscale.enlarge_latents(latents, (cover[1], cover[0]), method)
    else:
        if isinstance(method, Upscaler):
            method.network.to(device)
        pixels = (cover[0] * factor, cover[1] * factor)
        drawn = decode_latents(model.vae, latents, tiling)
        large = torch.cat(
            [
                encode_picture(model, upscale.upscale_picture(picture, pixels, method), tiling)
                for picture in drawn
            ]
        )
    left, top = (cover[0] - width) // 2, (cover[1] - height) // 2
    return large[..., top : top + height, left : left + width]


def describe_passes(
    request: HiresRequest,
    first: HiresRequest,
    second: HiresRequest,
    method: upscale.Method | Upscaler,
) -> dict[str, str | None]:
    """The settings of the second pass for the picture's file, in A1111's words."""
    sides = (request.hires_width, request.hires_height)
    network = isinstance(method, Upscaler)
    return {
        "Denoising strength": format_number(first.hires_strength),
        "Hires upscale": None if any(sides) else format_number(request.hires_scale),
        "Hires resize": f"{sides[0] or 0}x{sides[1] or 0}" if any(sides) else None,
        "Hires steps": str(request.hires_steps) if request.hires_steps else None,
        "Hires upscaler": method.name if network else method.label,
        "Hires upscaler hash": method.digest if network else None,
        "Hires sampler": samplers.SAMPLERS[second.sampler or ""].label
        if request.hires_sampler
        else None,
        # also where it follows from the sampler, as in "DPM++ 2M Karras"
        "Hires schedule type": spacing.find(second.spacing or "").label
        if second.spacing != first.spacing
        else None,
        "Hires CFG Scale": None if request.hires_cfg is None else format_number(request.hires_cfg),
        "Hires prompt": request.hires_prompt or None,
        "Hires negative prompt": request.hires_negative_prompt or None,
    }
