"""A picture, words, and perhaps a mask → the picture redrawn: image to image, and inpainting."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from fromnoise.diffusion.samplers.base import Answer, Query
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline import pictures
from fromnoise.pipeline.editing.redraw import redraw
from fromnoise.pipeline.editing.request import EditRequest
from fromnoise.pipeline.editing.seam import match_seam, measure_freedom
from fromnoise.pipeline.generate import Step, build_denoiser, prepare_noise
from fromnoise.pipeline.images import decode_latents, encode_picture
from fromnoise.pipeline.provenance.write import format_number, write_infotext
from fromnoise.runtime.prepare import Prepared

CELLS = (2, 4, 8, 16, 32, 64)  # a picture's longer side: how finely colours are carried into a mask


@dataclass(frozen=True, eq=False)
class Canvas:
    """`whole` is what comes back outside of the mask; `area` of it, (left, top, right, bottom), is
    drawn, as `work` of a size that the model can draw, with the mask of that."""

    whole: Image.Image
    area: tuple[int, int, int, int]
    work: Image.Image
    mask: Image.Image | None  # of `whole`, "L", 0 or 255
    work_mask: Image.Image | None


def resize(
    picture: Image.Image, size: tuple[int, int], how: str, method=Image.Resampling.LANCZOS
) -> Image.Image:
    """To `size` (width, height): "stretch", "crop" (the middle of what covers it) or "fill" (whole,
    its edges drawn out)."""
    if picture.size == size:
        return picture
    if how == "stretch":
        return picture.resize(size, method)
    ratios = [a / b for a, b in zip(size, picture.size, strict=True)]
    scale = (max if how == "crop" else min)(ratios)
    bound = (
        max if how == "crop" else min
    )  # against a rounding that leaves a pixel free, or has one too many
    width, height = (
        bound(round(side * scale), end) for side, end in zip(picture.size, size, strict=True)
    )
    middle = picture.resize((max(width, 1), max(height, 1)), method)
    left, top = (size[0] - middle.width) // 2, (size[1] - middle.height) // 2
    if how == "crop":
        return middle.crop((-left, -top, size[0] - left, size[1] - top))
    pixels = np.asarray(middle)
    pad = [(top, size[1] - middle.height - top), (left, size[0] - middle.width - left), (0, 0)][
        : pixels.ndim
    ]
    return Image.fromarray(np.pad(pixels, pad, "edge"))


def make_canvas(
    model: LatentDiffusion, request: EditRequest, image: Image.Image, mask: Image.Image | None
) -> Canvas:
    """Image (RGB) and mask ("L") at the sizes that the request asks for, then extended as it asks.
    Raises BadInput for a mask of another size."""
    if mask is not None and mask.size != image.size:
        raise BadInput(
            f"the mask is {mask.width}x{mask.height}, the picture {image.width}x{image.height}",
            "give a mask of the picture's size",
        )
    whole = image
    if not request.only_masked:
        size = _size(request, image)
        whole, nearest = resize(image, size, request.resize), Image.Resampling.NEAREST
        mask = None if mask is None else resize(mask, size, request.resize, nearest)
    if any(request.extends):
        from fromnoise.pipeline.editing.outpaint import extend  # only where it is asked for

        whole, mask = extend(whole, mask, request, model.multiple)
    area, size = (0, 0, *whole.size), whole.size
    if request.only_masked:
        if mask is None:
            raise BadInput("only_masked needs a mask", "give one, white where to draw")
        if request.tiling != "none":
            raise BadInput(
                "tiling is of a whole picture, and only_masked draws a part",
                "leave out one of them",
            )
        size = request.width or model.size, request.height or model.size
        area = _around(mask, request.padding, size[0] / size[1])
    wide, high = (max(round(side / model.multiple), 1) * model.multiple for side in size)
    work, work_mask = (None if p is None else p.crop(area) for p in (whole, mask))
    assert work is not None
    if work_mask is not None:
        work_mask = work_mask.resize((wide, high), Image.Resampling.NEAREST)
    return Canvas(whole, area, resize(work, (wide, high), "stretch"), mask, work_mask)


def _size(request: EditRequest, image: Image.Image) -> tuple[int, int]:
    return request.width or image.width, request.height or image.height


def _around(mask: Image.Image, padding: int, ratio: float) -> tuple[int, int, int, int]:
    """The mask's bounding box and so many pixels more, widened towards width / height = ratio,
    inside the picture."""
    box = mask.getbbox()
    assert box is not None
    sides = []
    wide, high = box[2] - box[0] + 2 * padding, box[3] - box[1] + 2 * padding
    wide, high = max(wide, round(high * ratio)), max(high, round(wide / ratio))
    for low, high_end, length, end in (
        (box[0], box[2], wide, mask.width),
        (box[1], box[3], high, mask.height),
    ):
        length = min(length, end)
        start = min(max((low + high_end - length) // 2, 0), end - length)
        sides.append((start, start + length))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


def fill_mask(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The mask's inside in the colours around it: averages of what is outside, over cells that are
    smaller and smaller, each as far as it reaches."""
    pixels, outside = np.asarray(image, np.float32), (np.asarray(mask) == 0).astype(np.float32)
    known = np.dstack((pixels * outside[..., None], outside))
    result = np.broadcast_to(pixels.mean((0, 1)), pixels.shape)
    for cells in CELLS:
        wide, high = (max(1, round(side * cells / max(image.size))) for side in image.size)
        layers = [
            Image.fromarray(a).resize((wide, high), Image.Resampling.BOX)
            for a in known.transpose(2, 0, 1)
        ]
        spread = np.dstack(
            [np.asarray(layer.resize(image.size, Image.Resampling.BICUBIC)) for layer in layers]
        )
        reach = spread[..., 3:]
        result = np.where(reach > 0.05, spread[..., :3] / np.maximum(reach, 0.05), result)
    inside = Image.fromarray(result.round().clip(0, 255).astype(np.uint8))
    return Image.composite(inside, image, mask)


@torch.inference_mode()
def edit(
    model: LatentDiffusion,
    unet: Prepared,
    request: EditRequest,
    image: Image.Image | str | Path,
    mask: Image.Image | str | Path | None = None,
    watch: Callable[[Step], None] | None = None,
    guide: Prepared | None = None,
) -> list[Image.Image]:
    """The picture redrawn `count` times, each with its settings in `info["parameters"]`.

    The run starts at the level of noise that `strength` says, from the picture's latents with noise
    added (SDEdit, Meng et al. 2022, eq. 6), and with a mask every x0 is the picture's own outside
    of it (as in A1111; Lugmayr et al. 2022 "RePaint" does it to x), in part where the mask ends
    within a latent. At the end what is not masked is put back pixel by pixel: its bytes are the
    picture's (or, where the request resizes it, the resized picture's). mask: white is drawn. Any
    pictures that `pictures.rgb` and `pictures.mask` take. Raises BadInput, UnknownName."""
    image, mask = pictures.read_rgb(image), None if mask is None else pictures.read_mask(mask)
    on = make_canvas(model, request, image, mask)
    drawn = request.model_copy(update={"width": on.work.width, "height": on.work.height}).resolve(
        model
    )
    seeds = drawn.seeds()
    sigmas, noise = prepare_noise(model, drawn, seeds, drawn.strength)
    work = fill_mask(on.work, on.work_mask) if on.work_mask and drawn.content == "fill" else on.work
    kept = encode_picture(model, on.work, drawn.tiling)  # (1, C, h, w)
    begun = kept if work is on.work else encode_picture(model, work, drawn.tiling)
    free = None  # how far the latents may change: (1, 1, h, w)
    if on.work_mask is not None:
        free = measure_freedom(on.work_mask, model.vae.config.factor)
        if drawn.content == "noise":
            begun = torch.lerp(begun, noise.initial, free)
    if model.unet.config.in_channels > model.unet.config.out_channels:
        from fromnoise.pipeline.conditioning.inpainting import (
            add_inpainting_channels,  # only for models made for it
        )

        unet, guide = add_inpainting_channels(
            model, drawn, unet, guide, on.work if on.work_mask else None, on.work_mask
        )
        free = None  # they have learnt to keep what they see
    # times in the prompt are shares of the run that is left
    left = drawn.model_copy(update={"steps": len(sigmas) - 1})
    answer, notes = build_denoiser(model, unet, left, [drawn.prompt], guide)

    def masked(query: Query) -> Answer:
        found = answer(query)
        if free is None:
            return found
        uncond = found.x0_uncond
        return Answer(
            torch.lerp(kept, found.x0, free),
            None if uncond is None else torch.lerp(kept, uncond, free),
        )

    last = redraw(model, drawn, sigmas, noise, begun, masked, notes, watch)
    finished = []
    more = describe_edit(request, image, mask)
    for i, picture in enumerate(decode_latents(model.vae, last.x, drawn.tiling)):
        finished.append(composite(on, picture, drawn.mask_blur))
        finished[-1].info["parameters"] = write_infotext(model, drawn, i, unet.plan, more)
    return finished


def composite(on: Canvas, drawn: Image.Image, blur: float) -> Image.Image:
    """What was drawn, put where it belongs; outside of the mask the whole as it was. Inside, as far
    as the mask softened by `blur` pixels is not white, what was there before shows through."""
    left, top, right, bottom = on.area
    drawn = resize(drawn, (right - left, bottom - top), "stretch")
    if on.mask is None:
        return drawn
    soft = on.mask.filter(ImageFilter.GaussianBlur(blur)) if blur else on.mask
    over = on.whole.copy()
    over.paste(match_seam(drawn, on.whole.crop(on.area), on.mask.crop(on.area)), (left, top))
    return Image.composite(over, on.whole, soft)


def describe_edit(
    request: EditRequest, image: Image.Image, mask: Image.Image | None
) -> dict[str, str | None]:
    """What the file says of an edit beside its request's settings, in A1111's words where it has
    some."""
    said: dict[str, str | None] = {"Denoising strength": format_number(request.strength)}
    if (request.width or request.height) and not request.only_masked:
        width, height = _size(request, image)
        said |= {"Resize to": f"{width}x{height}", "Resize mode": request.resize}
    if any(request.extends):
        said["Extend"] = " ".join(map(str, request.extends))
    if mask is not None or any(request.extends):
        said |= {"Mask blur": format_number(request.mask_blur), "Masked content": request.content}
        if request.only_masked:
            said |= {"Inpaint area": "Only masked", "Masked area padding": str(request.padding)}
    sources = {"Image": image} if mask is None else {"Image": image, "Mask": mask}
    return said | {f"{name} hash": pictures.hash_pixels(source) for name, source in sources.items()}
