"""A picture that says how it was drawn → the same again, and whether it is the same."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image, ImageChops

from fromnoise import __version__
from fromnoise.errors import BadInput
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline import pictures
from fromnoise.pipeline.addon_fields.addons import Addons
from fromnoise.pipeline.conditioning import regions
from fromnoise.pipeline.decoding import open_picture
from fromnoise.pipeline.editing.edit import edit
from fromnoise.pipeline.editing.request import EditRequest
from fromnoise.pipeline.enlarging import upscale
from fromnoise.pipeline.enlarging.hires import hires
from fromnoise.pipeline.enlarging.request import HiresRequest
from fromnoise.pipeline.generate import generate
from fromnoise.pipeline.provenance import fields as infotext_fields
from fromnoise.pipeline.provenance.infotext import Infotext
from fromnoise.pipeline.provenance.read import read_settings, read_text
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.sequences import film
from fromnoise.runtime.prepare import Prepared
from fromnoise.runtime.upscaler import Upscaler

# what a picture says of others that it was made from, and no field of a request
OTHER = ("Inpaint area", "Resize to", "Extend", "Image hash", "Mask hash", "Second image hash")
OTHER += ("Depth map hash",)
LARGER = ("Hires upscaler", "Postprocess upscaler")
MAX_COST = 100.0  # default pictures of the model; a picture of strangers may ask for anything
NEAR = 2  # levels of 255: the bound of the batched plan, see runtime.prepare


@dataclass(frozen=True, eq=False)
class Replay:
    """`difference` is the greatest in any pixel's channel, in levels of 255; None where the sizes
    are not equal."""

    picture: Image.Image
    difference: int | None
    reasons: tuple[str, ...]  # why it may differ
    unused: dict[str, str]  # what the picture says and no request can: see fields.to_request

    @property
    def verdict(self) -> str:
        """ "identical", "near" or "different"."""
        if self.difference is None or self.difference > NEAR:
            return "different"
        return "near" if self.difference else "identical"


@dataclass(frozen=True)
class _Inputs:
    """What a picture was made with besides its words: the pictures and networks that its hashes
    name."""

    guide: Prepared | None
    image: Image.Image | None
    mask: Image.Image | None
    image2: Image.Image | None
    upscalers: dict[str, upscale.Method | Upscaler]  # by the key that names each


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
    guide: Prepared | None = None,
    max_cost: float = MAX_COST,
    depth_map: Path | None = None,
    loras: Mapping[str, Path] = MappingProxyType({}),
    control_images: Sequence[Path] = (),
    controls: Mapping[str, Path] = MappingProxyType({}),
    others: Mapping[str, Sequence[Path]] = MappingProxyType({}),
) -> Replay:
    """Draws the picture at `path` again, with as many threads as it was drawn with (and this
    machine has), and compares.

    image and mask: what it was made from, if it is an edit; image and image2, if it is a blend;
    masks: those that its prompt names; network: what enlarged it, if one did; guide: the network
    that guided it, if one did; depth_map: the depths that it was drawn by, if its model saw some;
    loras: the files of LoRA that lie in no folder of models, by the names in its prompt;
    control_images, controls: what its ControlNets saw, in their order, and their files by name;
    others: files of its embeddings and IP-Adapters, see addons.described.read_back;
    max_cost: the most that the drawing may cost, see conditioning.cost. Raises BadInput, before
    the drawing, for a picture that is not whole, or says nothing, or not enough to draw it again,
    and where it was made from other pictures or networks than are given.
    """
    info = read_settings(path)
    check_replayable(path, info.fields)
    file = open_picture(path)  # whole, before anything is drawn
    request, unused = infotext_fields.to_request(info)
    request |= {"max_cost": max_cost}
    if masks := regions.check_replayed_masks(path, info.fields, masks):
        request |= {"masks": masks}
        unused.pop("Masks", None)
    if request.get("seed") is None:
        raise BadInput(
            f"{path} does not say its seed",
            "nothing can draw it again: noise without a seed is lost",
        )
    guide = check_guide(path, info.fields, guide)
    check_refiner(path, info.fields, model)
    if loras or "Lora hashes" in info.fields:
        from fromnoise.pipeline.addons.record import check_files

        request |= {"addons": check_files(path, info.fields, loras)}
        unused.pop("Lora hashes", None)
    if control_images or controls or any(key.startswith("ControlNet") for key in info.fields):
        from fromnoise.pipeline.addons.control_record import list_unused, read_controls

        items = read_controls(path, info.fields, control_images, controls)
        addons = request.get("addons") or Addons()
        request |= {"addons": addons.model_copy(update={"controls": items})}
        unused = {key: why for key, why in unused.items() if not key.startswith("ControlNet")}
        unused |= list_unused(info.fields)
    ours = info.fields.get("Version", "").startswith("fromnoise")
    if any(others.values()) or {"TI hashes", "IP-Adapter 0"} & info.fields.keys() or ours:
        from fromnoise.pipeline.addons.described import read_back

        addons = request.get("addons") or Addons()
        found, keys = read_back(path, info.fields, others)
        new = {name: getattr(found, name) for name in found.model_fields_set}
        request |= {"addons": addons.model_copy(update=new)}
        unused = {key: why for key, why in unused.items() if key not in keys}
    if check_depths(path, info.fields, depth_map):
        request |= {"depth_map": depth_map}
    upscalers = _find_upscalers(path, info.fields, network)
    source, painted, second = _read_sources(
        path, info.fields, image=image, mask=mask, image2=image2
    )
    inputs = _Inputs(guide, source, painted, second, upscalers)
    with _use_threads(info.fields.get("Threads", "")):
        picture, used = _draw_again(path, model, unet, info, request, inputs)
        now = describe_machine(model, unet)
    unused = {key: why for key, why in unused.items() if key not in used}
    reasons = explain_differences(info.fields, now, upscalers)
    kind = file.format or ""
    return _compare(file.convert(picture.mode), kind, picture, reasons, unused)


def check_replayable(path: Path, fields: dict[str, str]) -> None:
    """Raises BadInput for a picture that no request can draw again."""
    if "Script" in fields:  # A1111's grids say so too
        raise BadInput(
            f"{path} is a sheet of many pictures ({fields['Script']})",
            "replay one of its cells: fromnoise grid … --cells FOLDER keeps them",
        )
    if "Latents hash" in fields:
        raise BadInput(
            f"{path} began with latents of its own (hash {fields['Latents hash']}), "
            "which no seed gives",
            "draw it in Python: engine.generate(…, latents=…)",
        )


def check_guide(path: Path, fields: dict[str, str], guide: Prepared | None) -> Prepared | None:
    """The guide. Raises BadInput where another one, or none, guided the picture."""
    recorded = fields.get("Guide hash")
    if guide is None and recorded is not None:
        raise BadInput(
            f"{path} was drawn with a guide (hash {recorded})", "give its model with --guide"
        )
    if guide is not None and recorded is None:
        raise BadInput(f"{path} was drawn without a guide", "leave out --guide")
    if guide is not None and guide.digest != recorded:
        raise BadInput(
            f"the guide is not the one that {path} was drawn with "
            f"(hash {guide.digest}, then {recorded})",
            "give the very same model",
        )
    return guide


def check_refiner(path: Path, fields: dict[str, str], model: LatentDiffusion) -> None:
    """Raises BadInput where another refiner, or none, drew the end of the picture."""
    recorded = fields.get("Refiner")
    now = None if model.refiner is None else model.refiner.describe()
    if now is None and recorded is not None:
        switch = fields.get("Refiner switch at", "0.8")
        raise BadInput(
            f"the end of {path} was drawn by a refiner, {recorded}",
            f"give its model with --refiner, and --refiner-switch {switch}",
        )
    if now is not None and recorded is None:
        raise BadInput(f"{path} was drawn without a refiner", "leave out --refiner")
    # A1111 writes a name and the start of a hash in brackets
    then = recorded and f"{recorded[-12:]} at {fields.get('Refiner switch at')}"
    if now is not None and then != f"{(now['Refiner'] or '')[-12:]} at {now['Refiner switch at']}":
        raise BadInput(
            f"{path} was drawn with the refiner {recorded} from "
            f"{fields.get('Refiner switch at')} on, not with {now['Refiner']} from "
            f"{now['Refiner switch at']} on",
            "give the very same model and --refiner-switch",
        )


def check_depths(path: Path, fields: dict[str, str], depth_map: Path | None) -> bool:
    """Whether the picture was drawn by a map of depths. Raises BadInput where another one, or none,
    is given."""
    recorded = fields.get("Depth map hash")
    if depth_map is None and recorded is not None:
        raise BadInput(f"{path} was drawn by a map of depths", "give it with --depth-map")
    if depth_map is None:
        return False
    now = pictures.hash_pixels(pictures.read_picture(depth_map).convert("L"))
    if now != recorded:
        raise BadInput(
            f"{depth_map} is not the map of depths of {path} (hash {now}, then {recorded})",
            "give the very same pixels" if recorded else "leave out --depth-map",
        )
    return True


def _draw_again(
    path: Path,
    model: LatentDiffusion,
    unet: Prepared,
    info: Infotext,
    request: dict[str, Any],
    inputs: _Inputs,
) -> tuple[Image.Image, set[str]]:
    """(the picture, the keys that say no more than was used here)."""
    fields, guide = info.fields, inputs.guide
    used = {"Guide hash", "Prediction", "Refiner", "Refiner switch at"}
    if more := infotext_fields.to_hires(info):
        method = inputs.upscalers.get("Hires upscaler")
        own = method if isinstance(method, Upscaler) else None
        two_passes = HiresRequest.of(**request | more)
        picture = hires(model, unet, two_passes, own, None, guide)[0]
        used |= {*infotext_fields.HIRES, "Hires resize", "Hires upscaler hash"}
        used |= {"Size"} if "First pass size" in fields else set()
    elif more := infotext_fields.to_blend(info):
        from fromnoise.pipeline.seeing.blend import BlendRequest, blend

        if inputs.image is None or inputs.image2 is None:
            raise BadInput(
                f"{path} is a blend and does not say of what",
                "only this program's own can be replayed",
            )
        both = (inputs.image, inputs.image2)
        picture = blend(model, unet, BlendRequest.of(**request | more), *both, (), None, guide)[0]
        used |= {*infotext_fields.BLENDS, *OTHER}
    elif more := infotext_fields.to_edit(info):
        if inputs.image is None:
            raise BadInput(
                f"{path} is an edit and does not say of what",
                "only this program's own can be replayed",
            )
        edited = EditRequest.of(**request | more)
        picture = edit(model, unet, edited, inputs.image, inputs.mask, None, guide)[0]
        used |= {*infotext_fields.EDITS, *OTHER}
    elif "Film" in fields:
        picture = film.redraw_frame(model, unet, request, fields["Film"], guide)
        used |= {"Film"}
    else:
        one = GenerationRequest.of(**request)
        picture = generate(model, unet, one, None, None, guide)[0]
    if "Postprocess upscaler" in inputs.upscalers:
        picture = _enlarge_again(picture, fields, inputs.upscalers["Postprocess upscaler"])
        used |= {key for key in fields if key.startswith("Postprocess upscale")}
    return picture, used


def describe_machine(model: LatentDiffusion, unet: Prepared) -> dict[str, str]:
    """What the bits of a picture depend on besides its request, in the words of its text."""
    return {
        "Version": f"fromnoise {__version__}",
        "Model hash": model.digest,
        "VAE hash": model.vae_digest,
        "Plan": unet.plan,
        "Torch": torch.__version__,
        "Threads": str(torch.get_num_threads()),
    }


def explain_differences(
    fields: dict[str, str],
    now: dict[str, str],
    upscalers: Mapping[str, upscale.Method | Upscaler],
) -> list[str]:
    """Why the picture may differ: what was another then, and what it does not say."""
    reasons = [
        f"{key}: {was}, now {now[key]}"
        for key in now
        if (was := fields.get(key, now[key])) != now[key]
    ]
    reasons += [f"{key}: not said" for key in now if now[key] and key not in fields]
    reasons += [
        f"{key} hash: not said"
        for key, method in upscalers.items()
        if isinstance(method, Upscaler) and f"{key} hash" not in fields
    ]
    return reasons


def _compare(
    before: Image.Image,
    kind: str,
    picture: Image.Image,
    reasons: list[str],
    unused: dict[str, str],
) -> Replay:
    """Both pictures in bytes, so that large ones need no more than themselves."""
    if before.size != picture.size:
        was, now = ("{}x{}".format(*size) for size in (before.size, picture.size))
        return Replay(picture, None, (*reasons, f"size: {was}, now {now}"), unused)
    counts = ImageChops.difference(before, picture).histogram()  # 256 of each channel
    difference = max(level % 256 for level, count in enumerate(counts) if count)
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
                f"{method.name} is not the network that enlarged {path} "
                f"(hash {method.digest}, then {was})",
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
        if by is not None:
            width, height = upscale.scale_size(picture.size, float(by))
        else:
            wide, _, high = to.partition("x")
            if max(len(wide), len(high)) > 6:
                raise ValueError
            width, height = int(wide), int(high)
    except (ValueError, OverflowError):
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


def count_cores() -> int:
    """The processor's cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _use_threads(recorded: str) -> Iterator[None]:
    """PyTorch with as many threads as a picture says, at most the machine's cores."""
    before = torch.get_num_threads()
    count = int(recorded) if recorded.isdecimal() and len(recorded) < 9 else 0
    if count:
        torch.set_num_threads(min(count, max(count_cores(), before)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
