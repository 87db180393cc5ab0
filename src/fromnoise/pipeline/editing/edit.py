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
from fromnoise.pipeline.conditioning.blocks import Observer
from fromnoise.pipeline.conditioning.concat import Seen
from fromnoise.pipeline.conditioning.cost import check_cost
from fromnoise.pipeline.decoding import Notes
from fromnoise.pipeline.editing.redraw import redraw
from fromnoise.pipeline.editing.request import EditRequest
from fromnoise.pipeline.editing.seam import match_seam, measure_freedom
from fromnoise.pipeline.editing.working_size import choose_working_size
from fromnoise.pipeline.encoding import encode_picture
from fromnoise.pipeline.generate import Step, build_denoiser, prepare_noise
from fromnoise.pipeline.images import decode_latents
from fromnoise.pipeline.provenance.write import format_number, write_infotext
from fromnoise.pipeline.resizing import resize
from fromnoise.runtime.prepare import Prepared

CELLS = (2, 4, 8, 16, 32, 64)  # along a picture's longer side: from coarse colours to fine ones


@dataclass(frozen=True, eq=False)
class Canvas:
    """Where an edit takes place. `whole` ("RGB" or "RGBA") comes back outside of the mask; `area`
    of it, (left, top, right, bottom), is drawn: as `work` ("RGB"), of a size that the model can
    draw, with `work_mask`, the mask at that size."""

    whole: Image.Image
    area: tuple[int, int, int, int]
    work: Image.Image
    mask: Image.Image | None  # of `whole`, "L", 0 or 255
    work_mask: Image.Image | None


def make_canvas(
    model: LatentDiffusion,
    request: EditRequest,
    image: Image.Image,
    mask: Image.Image | None,
    notes: Notes,
) -> tuple[Canvas, EditRequest]:
    """(image ("RGB" or "RGBA") and mask ("L") at the sizes that the request asks for, then extended
    as it asks; the request, with what `choose_working_size` decides). Raises BadInput for a mask
    of another size."""
    if mask is not None and mask.size != image.size:
        raise BadInput(
            f"the mask is {mask.width}x{mask.height}, the picture {image.width}x{image.height}",
            "give a mask of the picture's size",
        )
    whole = image
    if not request.only_masked:
        size = _target_size(request, image)
        whole = resize(image, size, request.resize)
        nearest = Image.Resampling.NEAREST
        mask = None if mask is None else resize(mask, size, request.resize, nearest)
    if any(request.extends):
        from fromnoise.pipeline.editing.outpaint import extend  # only where it is asked for

        whole, mask = extend(whole, mask, request, model.multiple)
    adapted = choose_working_size(model, request, whole.size, mask, notes)
    if mask is None and adapted is not request:
        whole = resize(whole, _target_size(adapted, whole), adapted.resize)
    request = adapted
    area, size = (0, 0, *whole.size), whole.size
    if request.only_masked:
        if mask is None:
            raise BadInput("only_masked needs a mask", "give one, white where to draw")
        if request.tiling != "none":
            raise BadInput(
                "tiling is for a whole picture, and only_masked draws a part",
                "leave out one of them",
            )
        size = request.width or model.size, request.height or model.size
        area = _surround(mask, request.padding, size[0] / size[1])
    wide, high = (max(round(side / model.multiple), 1) * model.multiple for side in size)
    work = resize(pictures.flatten(whole.crop(area)), (wide, high), "stretch")
    work_mask = None
    if mask is not None:
        work_mask = mask.crop(area).resize((wide, high), Image.Resampling.NEAREST)
    return Canvas(whole, area, work, mask, work_mask), request


def _target_size(request: EditRequest, image: Image.Image) -> tuple[int, int]:
    return request.width or image.width, request.height or image.height


def _surround(mask: Image.Image, padding: int, ratio: float) -> tuple[int, int, int, int]:
    """The bounding box of a mask with `padding` pixels more, widened towards width / height =
    ratio, inside the picture."""
    box = mask.getbbox()
    assert box is not None
    sides = []
    wide, high = box[2] - box[0] + 2 * padding, box[3] - box[1] + 2 * padding
    wide, high = max(wide, round(high * ratio)), max(high, round(wide / ratio))
    for low, top, length, end in (
        (box[0], box[2], wide, mask.width),
        (box[1], box[3], high, mask.height),
    ):
        length = min(length, end)
        start = min(max((low + top - length) // 2, 0), end - length)
        sides.append((start, start + length))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


def fill_mask(image: Image.Image, mask: Image.Image) -> Image.Image:
    """An RGB picture whose masked part has the colours around it.

    The colours are averages of the pixels outside of the mask, over cells that become smaller and
    smaller; each size replaces the one before as far as it reaches."""
    pixels, outside = np.asarray(image, np.float32), (np.asarray(mask) == 0).astype(np.float32)
    known = np.dstack((pixels * outside[..., None], outside))
    result = np.broadcast_to(pixels.mean((0, 1)), pixels.shape)
    for cells in CELLS:
        wide, high = (max(1, round(side * cells / max(image.size))) for side in image.size)
        layers = [
            Image.fromarray(layer).resize((wide, high), Image.Resampling.BOX)
            for layer in known.transpose(2, 0, 1)
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
    observer: Observer | None = None,
) -> list[Image.Image]:
    """The picture redrawn `count` times, each with its settings in `info["parameters"]`.

    The run starts at the level of noise that `strength` says, from the picture's latents with noise
    added (SDEdit, Meng et al. 2022, eq. 6). With a mask, every x0 is the picture's own outside of
    it (as in A1111; Lugmayr et al. 2022 "RePaint" does it to x), in part where the mask ends
    within a latent. At the end the pixels outside of the mask are put back: their bytes are the
    picture's, converted to sRGB, or those of the resized picture where the request resizes it.

    image and mask: any pictures that `pictures.read_picture` and `pictures.read_mask` take; white
    in the mask is drawn. Of an RGBA picture, colours and alpha stay outside of the mask; what is
    drawn is opaque. Without a mask, the transparent parts become white, and the result is RGB.
    A picture that is far larger than the model's own size is edited at a size near that: see
    `choose_working_size`. observer: see conditioning.blocks.
    Raises BadInput, UnknownName, NotFound.
    """
    seen: Notes = {}
    image = pictures.read_picture(image, seen)
    mask = None if mask is None else pictures.read_mask(mask, seen)
    if image.mode == "RGBA" and mask is None and not any(request.extends):
        image = pictures.flatten(image)
        seen["without a mask, the transparent parts of the picture become white"] = None
    if model.concat == "instruct" and "strength" not in request.model_fields_set:
        # it learnt to draw from noise alone, with the picture beside it
        request = request.model_copy(update={"strength": 1.0})
    canvas, request = make_canvas(model, request, image, mask, seen)
    work, work_mask = canvas.work, canvas.work_mask
    drawn = request.model_copy(update={"width": work.width, "height": work.height}).resolve(model)
    check_cost(model, drawn, [drawn.prompt], share=drawn.strength)
    sigmas, noise = prepare_noise(model, drawn, drawn.seeds(), drawn.strength)
    kept = encode_picture(model, work, drawn.tiling)  # (1, C, h, w)
    start = kept
    if work_mask and drawn.content == "fill":
        start = encode_picture(model, fill_mask(work, work_mask), drawn.tiling)
    freedom = None  # how far the latents may change: (1, 1, h, w)
    if work_mask is not None:
        freedom = measure_freedom(work_mask, model.vae.config.factor)
        if drawn.content == "noise":
            start = torch.lerp(start, noise.initial, freedom)
    shown = None
    if model.concat:
        shown = Seen(work, work_mask, fit_depths(request, canvas), request.image_cfg)
    if model.concat == "inpainting":
        freedom = None  # such a model has learnt to keep what it sees
    # times in the prompt are shares of the run that is left
    left = drawn.model_copy(update={"steps": len(sigmas) - 1})
    if left.addons and left.addons.controls:
        from fromnoise.pipeline.addons.control import show_canvas

        left = show_canvas(left, canvas.whole.size, canvas.area, work, work_mask)
    ask, notes = build_denoiser(model, unet, left, [drawn.prompt], guide, observer, seen=shown)

    def answer(query: Query) -> Answer:
        """The network's answer, where the mask lets it differ from the picture."""
        free = ask(query)
        if freedom is None:
            return free
        uncond = free.x0_uncond
        return Answer(
            torch.lerp(kept, free.x0, freedom),
            None if uncond is None else torch.lerp(kept, uncond, freedom),
        )

    last = redraw(model, drawn, sigmas, noise, start, answer, [*seen, *notes], watch)
    results = []
    more = describe_edit(request, image, mask)
    for i, picture in enumerate(decode_latents(model.vae, last.x, drawn.tiling)):
        results.append(composite(canvas, picture, drawn.mask_blur))
        results[-1].info["parameters"] = write_infotext(model, drawn, i, unet.plan, more, guide)
    return results


def fit_depths(request: EditRequest, canvas: Canvas) -> Image.Image | None:
    """The map of depths ("L") of what is drawn of a canvas, without the size that it is drawn at.
    Raises NotFound, and BadInput for a map of another shape than the picture's."""
    if request.depth_map is None:
        return None
    depths = pictures.read_picture(request.depth_map).convert("L")
    wide, high = canvas.whole.size
    if not 0.95 < depths.width * high / (depths.height * wide) < 1.05:
        raise BadInput(
            f"the map of depths is {depths.width}x{depths.height}, the picture {wide}x{high}",
            "give a map of the picture's shape",
        )
    left, top, right, bottom = canvas.area
    x, y = depths.width / wide, depths.height / high
    return depths.crop((round(left * x), round(top * y), round(right * x), round(bottom * y)))


def composite(canvas: Canvas, drawn: Image.Image, blur: float) -> Image.Image:
    """The drawn picture ("RGB") in its place on the canvas. Outside of the mask every pixel is the
    canvas's own. Inside, the old picture shows through as far as the mask, softened by `blur`
    pixels, is not white."""
    left, top, right, bottom = canvas.area
    drawn = resize(drawn, (right - left, bottom - top), "stretch")
    if canvas.mask is None:
        return drawn
    soft = canvas.mask.filter(ImageFilter.GaussianBlur(blur)) if blur else canvas.mask
    flat = pictures.flatten(canvas.whole)
    over = flat.copy()
    over.paste(
        match_seam(drawn, flat.crop(canvas.area), canvas.mask.crop(canvas.area)), (left, top)
    )
    if canvas.whole.mode == "RGB":
        return Image.composite(over, canvas.whole, soft)
    return _composite_alpha(
        over, canvas.whole, np.where(np.asarray(canvas.mask), np.asarray(soft), 0)
    )


def _composite_alpha(over: Image.Image, whole: Image.Image, share: np.ndarray) -> Image.Image:
    """`over` ("RGB", opaque) on `whole` ("RGBA") as far as share (height, width), 0 to 255, says.
    Between, colours are mixed by their alpha (Porter & Duff 1984), so that the colour of a pixel
    that cannot be seen does not count. Where the share is 0 every byte stays."""
    result = np.array(whole)
    result[share == 255, :3], result[share == 255, 3] = np.asarray(over)[share == 255], 255
    between = (share > 0) & (share < 255)
    new, old = np.asarray(over)[between].astype(np.float32), result[between].astype(np.float32)
    part = share[between].astype(np.float32)[:, None] / 255
    rest = (1 - part) * old[:, 3:] / 255
    alpha = part + rest
    mixed = np.hstack(((part * new + rest * old[:, :3]) / alpha, 255 * alpha))
    result[between] = mixed.round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(result)


def describe_edit(
    request: EditRequest, image: Image.Image, mask: Image.Image | None
) -> dict[str, str | None]:
    """What the file says of an edit beside the settings of its request, in A1111's words where it
    has some."""
    fields: dict[str, str | None] = {"Denoising strength": format_number(request.strength)}
    if (request.width or request.height) and not request.only_masked:
        width, height = _target_size(request, image)
        fields |= {"Resize to": f"{width}x{height}", "Resize mode": request.resize}
    if any(request.extends):
        fields["Extend"] = " ".join(map(str, request.extends))
    if mask is not None or any(request.extends):
        fields |= {"Mask blur": format_number(request.mask_blur), "Masked content": request.content}
        if request.only_masked:
            fields |= {"Inpaint area": "Only masked", "Masked area padding": str(request.padding)}
    sources = {"Image": image} if mask is None else {"Image": image, "Mask": mask}
    hashes = {f"{name} hash": pictures.hash_pixels(source) for name, source in sources.items()}
    if request.depth_map is not None:
        depths = pictures.read_picture(request.depth_map).convert("L")
        hashes["Depth map hash"] = pictures.hash_pixels(depths)
    if request.image_cfg != EditRequest.model_fields["image_cfg"].default:
        fields["Image CFG scale"] = format_number(request.image_cfg)
    return fields | hashes
