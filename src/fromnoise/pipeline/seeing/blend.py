"""Two pictures → new pictures of what both share: their captions, their latents, and CLIP's view of
them."""

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
from fromnoise.pipeline.editing.redraw import redraw
from fromnoise.pipeline.encoding import encode_picture, refuse_seeing_model
from fromnoise.pipeline.generate import Step, build_denoiser, prepare_noise
from fromnoise.pipeline.images import decode_latents
from fromnoise.pipeline.provenance.write import format_number, write_infotext
from fromnoise.pipeline.resizing import resize
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
    """Draws `count` pictures of what both show, each with its settings in `info["parameters"]`.

    The run starts from the latents of both pictures, slerped by `weight`, with noise of the level
    that `strength` gives. Without a prompt both pictures are described in the words of `phrases`,
    and the states of the two captions are added by weight. The prompt says so with compel's .blend,
    so a negative prompt is read in that dialect too. With clip_scale each x0 moves towards the
    pictures' embeddings, slerped: see `guide_by_clip`. phrases: as in `ClipEmbedder.describe`; not
    needed with a prompt. Raises BadInput and UnknownName."""
    refuse_seeing_model(model)
    both = [pictures.read_rgb(first), pictures.read_rgb(second)]
    embedder = ClipEmbedder(model) if request.clip_scale or not request.prompt else None
    if embedder and not request.prompt:
        captions = [embedder.describe(picture, phrases, 1)[0].caption for picture in both]
        update = {"prompt": write_blend_prompt(captions, request.weight), "dialect": "compel"}
        request = request.model_copy(update=update)
    resolved = request.resolve(model)
    assert resolved.width and resolved.height  # noqa: PT018
    check_cost(model, resolved, [resolved.prompt], share=resolved.strength)
    sigmas, noise = prepare_noise(model, resolved, resolved.seeds(), resolved.strength)
    size = resolved.width, resolved.height
    latents = [encode_picture(model, resize(p, size, "crop"), resolved.tiling) for p in both]
    start = slerp(resolved.weight, *latents)
    left = resolved.model_copy(update={"steps": len(sigmas) - 1})
    answer, notes = build_denoiser(model, unet, left, [resolved.prompt], guide)
    if embedder and resolved.clip_scale:
        target = F.normalize(slerp(resolved.weight, *embedder.pictures(both)), dim=0)
        answer = guide_by_clip(model, answer, target, resolved.clip_scale * embedder.scale)
    last = redraw(model, resolved, sigmas, noise, start, answer, notes, watch)
    more: dict[str, str | None] = {
        "Blend weight": format_number(resolved.weight),
        "Blend strength": format_number(resolved.strength),
        "CLIP guidance scale": format_number(resolved.clip_scale) if resolved.clip_scale else None,
        "Image hash": pictures.hash_pixels(both[0]),
        "Second image hash": pictures.hash_pixels(both[1]),
    }
    finished = decode_latents(model.vae, last.x, resolved.tiling)
    for i, picture in enumerate(finished):
        picture.info["parameters"] = write_infotext(model, resolved, i, unet.plan, more, guide)
    return finished


def write_blend_prompt(captions: Sequence[str], weight: float) -> str:
    """The prompt, in compel's dialect, whose states are the weighted sum of two captions'
    states."""
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
    """Moves each x0 of the answers so that CLIP's embedding of the decoded x0 comes nearer to
    `target` (D,): x0 + σ²/(1 + σ²) · scale · ∇cos.

    For latents of unit variance, σ²/(1 + σ²) is the variance of x0 given x. So this is, to the
    first order, the mean of x0 given x and a caption of probability exp(scale · cos) (Dhariwal &
    Nichol 2021, alg. 1, with Song et al. 2023 "Pseudoinverse-guided diffusion models" for the
    variance). It works image by image, so that a batch changes no bit."""
    assert model.vision is not None
    vae, vision = model.vae, model.vision
    weight = next(vae.parameters())

    def climb(x0: Tensor, sigma: float) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            z = x0.clone().to(weight.device, weight.dtype).requires_grad_()
            cosine = F.cosine_similarity(embed(vision, vae.to_image(z)), target.clone()[None]).sum()
            (slope,) = torch.autograd.grad(cosine, z)
        return x0 + scale * sigma**2 / (1 + sigma**2) * slope.to(x0)

    def answer_guided(query: Query) -> Answer:
        plain = answer(query)
        x0 = torch.cat([climb(one, query.sigma) for one in plain.x0.split(1)])
        return Answer(x0, plain.x0_uncond)

    return answer_guided
