"""A picture that says how it was drawn → the same again, and whether it is the same."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image

from fromnoise import __version__
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline import pictures
from fromnoise.pipeline.conditioning import regions
from fromnoise.pipeline.decoding import open_picture
from fromnoise.pipeline.editing.edit import edit
from fromnoise.pipeline.editing.request import EditRequest
from fromnoise.pipeline.enlarging import upscale
from fromnoise.pipeline.enlarging.hires import hires
from fromnoise.pipeline.enlarging.request import HiresRequest
from fromnoise.pipeline.generate import generate
from fromnoise.pipeline.provenance import fields as infotext_fields
from fromnoise.pipeline.provenance.read import read_settings, read_text
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.sequences import film
from fromnoise.runtime.prepare import Prepared
from fromnoise.runtime.upscaler import Upscaler

# what a picture says of others that it was made from, and no field of a request
OTHER = ("Inpaint area", "Resize to", "Extend", "Image hash", "Mask hash", "Second image hash")
LARGER = ("Hires upscaler", "Postprocess upscaler")
NEAR = 2  # levels of 255: the bound of the batched plan, see runtime.prepare


@dataclass(frozen=True, eq=False)
class Replay:
    """`difference` is the greatest in any pixel's channel, in levels of 255; None where the sizes
    are not equal."""

    picture: Image.Image
    difference: int | None
    reasons: tuple[str, ...]  # why it may differ
    unused: dict[str, str]  # what the picture says and no request can: see infotext_fields.request

    @property
    def verdict(self) -> str:
        """ "identical", "near" or "different"."""
        if self.difference is None or self.difference > NEAR:
            return "different"
        return "near" if self.difference else "identical"


def read_plan(path: Path) -> tuple[str, str] | None:
    """(device, dtype) that a picture of this program was drawn on, or None."""
    *_, device, dtype = ["", *read_settings(path).fields.get("Plan", "").split("-")]
    return (device, dtype) if device and dtype else None


def replay(
    path: Path,
    model: LatentDiffusion,
    unet: Prepared,
    image: Path | None = None,
    mask: Path | None = None,
    masks: Mapping[str, Path] = MappingProxyType({}),
    network: Upscaler | None = None,
    image2: Path | None = None,
) -> Replay:
    """Draws the picture at `path` again, with as many threads as it was drawn with, and compares.
    image and mask: what it was made from, if it is an edit; image and image2, if it is a blend;
    masks: those that its prompt names; network: what enlarged it, if one did. Raises BadInput for a
    picture that says nothing, or not enough to draw it again, and where it was made from other
    pictures or networks than are given."""
    info = read_settings(path)
    if "Script" in info.fields:  # A1111's grids say so too
        raise BadInput(
            f"{path} is a sheet of many pictures ({info.fields['Script']})",
            "replay one of its cells: fromnoise grid … --cells FOLDER keeps them",
        )
    given, unused = infotext_fields.to_request(info)
    if masks := regions.check_replayed_masks(path, info.fields, masks):
        given, unused = (
            given | {"masks": masks},
            {key: why for key, why in unused.items() if key != "Masks"},
        )
    if given.get("seed") is None:
        raise BadInput(
            f"{path} does not say its seed",
            "nothing can draw it again: noise without a seed is lost",
        )
    methods = _find_upscalers(path, info.fields, network)
    threads = (
        int(said)
        if (said := info.fields.get("Threads", "")).isdecimal() and 0 < int(said) <= 1024
        else None
    )
    with _use_threads(threads):
        source, painted, second = _read_sources(
            path, info.fields, image=image, mask=mask, image2=image2
        )
        if more := infotext_fields.to_hires(info):
            own = methods.get("Hires upscaler")
            own = own if isinstance(own, Upscaler) else None
            picture = hires(model, unet, HiresRequest.of(**given | more), own)[0]
            said = {*infotext_fields.HIRES, "Hires resize", "Hires upscaler hash"}
            unused = {key: why for key, why in unused.items() if key not in said}
        elif more := infotext_fields.to_blend(info):
            from fromnoise.pipeline.seeing.blend import BlendRequest, blend

            if source is None or second is None:
                raise BadInput(
                    f"{path} is a blend and does not say of what",
                    "only this program's own can be replayed",
                )
            picture = blend(model, unet, BlendRequest.of(**given | more), source, second)[0]
            unused = {
                key: why
                for key, why in unused.items()
                if key not in (*infotext_fields.BLENDS, *OTHER)
            }
        elif more := infotext_fields.to_edit(info):
            if source is None:
                raise BadInput(
                    f"{path} is an edit and does not say of what",
                    "only this program's own can be replayed",
                )
            picture = edit(model, unet, EditRequest.of(**given | more), source, painted)[0]
            unused = {
                key: why
                for key, why in unused.items()
                if key not in (*infotext_fields.EDITS, *OTHER)
            }
        elif "Film" in info.fields:
            picture = film.redraw_frame(model, unet, given, info.fields["Film"])
            unused = {key: why for key, why in unused.items() if key != "Film"}
        else:
            picture = generate(model, unet, GenerationRequest.of(**given))[0]
        if "Postprocess upscaler" in methods:
            picture = _enlarge_again(picture, info.fields, methods["Postprocess upscaler"])
            unused = {
                key: why for key, why in unused.items() if not key.startswith("Postprocess upscale")
            }
        now = {
            "Version": f"fromnoise {__version__}",
            "Model hash": model.digest,
            "VAE hash": model.vae_digest,
            "Plan": unet.plan,
            "Torch": torch.__version__,
            "Threads": str(torch.get_num_threads()),
        }
    reasons = [
        f"{key}: {was}, now {now[key]}"
        for key in now
        if (was := info.fields.get(key)) and was != now[key]
    ]
    reasons += [f"{key}: not said" for key in now if now[key] and key not in info.fields]
    reasons += [
        f"{key} hash: not said"
        for key, method in methods.items()
        if isinstance(method, Upscaler) and f"{key} hash" not in info.fields
    ]
    file = open_picture(path)
    kind, before = file.format, np.asarray(file.convert(picture.mode), np.int16)
    after = np.asarray(picture, np.int16)
    if before.shape != after.shape:
        reasons.append(
            f"size: {before.shape[1]}x{before.shape[0]}, now {after.shape[1]}x{after.shape[0]}"
        )
        return Replay(picture, None, tuple(reasons), unused)
    difference = int(np.abs(before - after).max())
    if difference and kind != "PNG":
        reasons.append(f"{kind} files keep exact pixels only where they are lossless")
    if difference and not reasons:
        reasons.append("all that is recorded is equal: another processor may add in another order")
    return Replay(picture, difference, tuple(reasons), unused)


def _find_upscalers(
    path: Path, fields: dict[str, str], network: Upscaler | None
) -> dict[str, upscale.Method | Upscaler]:
    """What enlarged the picture, by the key that says so. Raises BadInput where another network, or
    none, is given."""
    if (read_text(path) or "").count("Postprocess upscaler: ") > 1:
        raise BadInput(
            f"{path} was enlarged more than once", "replay the picture before it was enlarged"
        )
    found = {
        key: upscale.UPSCALERS.get(fields[key].strip().lower(), network)
        for key in LARGER
        if key in fields
    }
    for key, method in found.items():
        if method is None:
            raise BadInput(
                f"{path} was enlarged by the network {fields[key]!r}",
                "give its file with --upscaler",
            )
        if (
            isinstance(method, Upscaler)
            and (was := fields.get(f"{key} hash", method.digest)) != method.digest
        ):
            raise BadInput(
                f"{method.name} is not the network that enlarged {path} (hash {method.digest}, then {was})",
                f"give the very same file, {fields[key]}",
            )
    if network is not None and network not in found.values():
        raise BadInput(f"{path} was not enlarged by a network", "leave out --upscaler")
    return {key: method for key, method in found.items() if method is not None}


def _enlarge_again(
    picture: Image.Image, fields: dict[str, str], method: upscale.Method | Upscaler
) -> Image.Image:
    """What `fromnoise upscale` makes of a picture. Raises BadInput for a size that is none."""
    by, to = fields.get("Postprocess upscale by"), fields.get("Postprocess upscale to", "")
    try:
        width, height = (
            upscale.scale_size(picture.size, float(by)) if by else map(int, to.split("x"))
        )
    except ValueError:
        raise BadInput(
            f"it was enlarged by {by!r} or to {to!r}, which cannot be read", "correct its text"
        ) from None
    return upscale.upscale_picture(picture, (width, height), method)


def _read_sources(
    path: Path, fields: dict[str, str], **given: Path | None
) -> tuple[Image.Image | None, ...]:
    """Image, mask and second image that a picture was made from. Raises BadInput where others, or
    none, are given."""
    found: list[Image.Image | None] = []
    for name, source in given.items():
        key = {"image": "Image hash", "mask": "Mask hash", "image2": "Second image hash"}[name]
        if key in fields and source is None:
            raise BadInput(
                f"{path} was made from another picture, its {name}", f"give it with --{name}"
            )
        if source is None:
            found.append(None)
            continue
        if key not in fields:
            without = (
                f"made without --{name}" if "Image hash" in fields else "drawn from words alone"
            )
            raise BadInput(f"{path} was {without}", f"leave out --{name}")
        picture = pictures.read_mask(source) if name == "mask" else pictures.read_picture(source)
        now = pictures.hash_pixels(picture)
        if now != fields[key]:  # without a mask, and in blends, transparent parts become white
            picture = pictures.flatten(picture)
        if now != fields[key] and pictures.hash_pixels(picture) != fields[key]:
            raise BadInput(
                f"{source} is not the {name} that {path} was made from "
                f"(hash {now}, then {fields[key]})",
                "give the very same pixels",
            )
        found.append(picture)
    return tuple(found)


@contextmanager
def _use_threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
