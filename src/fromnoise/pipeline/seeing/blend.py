"""Two pictures → new ones that share what is in both: their captions, their latents, and what CLIP
sees in them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fromnoise.data.source import Source
from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.diffusion.variation import slerp
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline import pictures
from fromnoise.pipeline.conditioning.cost import check_cost
from fromnoise.pipeline.editing.edit import resize
from fromnoise.pipeline.editing.redraw import redraw
from fromnoise.pipeline.encoding import encode_picture, refuse_inpainting_model
from fromnoise.pipeline.generate import Step, build_denoiser, prepare_noise
from fromnoise.pipeline.images import decode_latents
from fromnoise.pipeline.provenance.write import format_number, write_infotext
from fromnoise.pipeline.seeing.clip import ClipEmbedder, embed
from fromnoise.pipeline.seeing.request import BlendRequest
from fromnoise.prompt.grammar import write_prompt
from fromnoise.prompt.tree import Chunk, Part, Prompt
from fromnoise.runtime.prepare import Prepared

Picture = Image.Image | str | Path


@torch.inference_mode()
def blend(
    model: LatentDiffusion,
    unet: Prepared,
    request: BlendRequest,
    first: Picture,
    second: Picture,
    phrases: Source | Sequence[str] = (),
    watch: Callable[[Step], None] | None = None,
    guide: Prepared | None = None,
) -> list[Image.Image]:
    """`count` pictures of what both show, each with its settings in `info["parameters"]`.

    The run starts at the level of noise that `strength` says, from the latents of both, slerped by
    `weight`, with noise added. Without a prompt both are described in the words of `phrases`, and
    the states of the two captions are added by weight: compel's .blend, so that the prompt says it
    (and a negative prompt is read in that dialect too). With clip_scale each x0 is moved towards
    the pictures' embeddings, slerped: see `guide_by_clip`. phrases: as `ClipEmbedder.describe`
    takes them; not
    needed where there is a prompt. Raises BadInput, UnknownName."""
    refuse_inpainting_model(model)
    both = [pictures.read_rgb(first), pictures.read_rgb(second)]
    see = ClipEmbedder(model) if request.clip_scale or not request.prompt else None
    if see and not request.prompt:
        captions = [see.describe(picture, phrases, 1)[0].caption for picture in both]
        update = {"prompt": write_blend_prompt(captions, request.weight), "dialect": "compel"}
        request = request.model_copy(update=update)
    drawn = request.resolve(model)
    assert drawn.width and drawn.height  # noqa: PT018
    check_cost(model, drawn, [drawn.prompt], share=drawn.strength)
    sigmas, noise = prepare_noise(model, drawn, drawn.seeds(), drawn.strength)
    size = drawn.width, drawn.height
    begun = slerp(
        drawn.weight, *(encode_picture(model, resize(p, size, "crop"), drawn.tiling) for p in both)
    )
    left = drawn.model_copy(update={"steps": len(sigmas) - 1})
    answer, notes = build_denoiser(model, unet, left, [drawn.prompt], guide)
    if see and drawn.clip_scale:
        target = F.normalize(slerp(drawn.weight, *see.pictures(both)), dim=0)
        answer = guide_by_clip(model, answer, target, drawn.clip_scale * see.scale)
    last = redraw(model, drawn, sigmas, noise, begun, answer, notes, watch)
    more: dict[str, str | None] = {
        "Blend weight": format_number(drawn.weight),
        "Blend strength": format_number(drawn.strength),
        "CLIP guidance scale": format_number(drawn.clip_scale) if drawn.clip_scale else None,
        "Image hash": pictures.hash_pixels(both[0]),
        "Second image hash": pictures.hash_pixels(both[1]),
    }
    finished = decode_latents(model.vae, last.x, drawn.tiling)
    for i, picture in enumerate(finished):
        picture.info["parameters"] = write_infotext(model, drawn, i, unet.plan, more, guide)
    return finished


def write_blend_prompt(captions: Sequence[str], weight: float) -> str:
    """The prompt, in compel's dialect, whose states are those of two captions, added by weight."""
    shares = zip(captions, (1 - weight, weight), strict=True)
    return write_prompt(
        Prompt(
            tuple(Part((Chunk(text),), share) for text, share in shares if share),
            (),
            "compel",
            True,
        )
    )


def guide_by_clip(
    model: LatentDiffusion, answer: Callable[[Query], Answer], target: Tensor, scale: float
) -> Callable[[Query], Answer]:
    """The answers, each x0 moved uphill towards where CLIP's image tower puts the decoded x0 at
    `target` (D,): x0 + σ²/(1 + σ²) · scale · ∇cos. σ²/(1 + σ²) is the variance of x0 given x for
    latents of unit variance, so that this is the mean of x0 given x and a caption of probability
    exp(scale · cos), to the first order (Dhariwal & Nichol 2021, alg. 1, with Song et al. 2023
    "Pseudoinverse-guided diffusion models" for the variance). Image by image, so that a batch
    changes no bit."""
    assert model.vision is not None
    vae, vision = model.vae, model.vision
    weight = next(vae.parameters())

    def moved(x0: Tensor, sigma: float) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            z = x0.clone().to(weight.device, weight.dtype).requires_grad_()
            cosine = F.cosine_similarity(embed(vision, vae.to_image(z)), target.clone()[None]).sum()
            (slope,) = torch.autograd.grad(cosine, z)
        return x0 + scale * sigma**2 / (1 + sigma**2) * slope.to(x0)

    def answered(query: Query) -> Answer:
        found = answer(query)
        return Answer(
            torch.cat([moved(x0, query.sigma) for x0 in found.x0.split(1)]), found.x0_uncond
        )

    return answered
