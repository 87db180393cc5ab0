"""What A1111's clients ask for → jobs of the house, and what of it is not done."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from fromnoise.diffusion import samplers, spacing
from fromnoise.errors import BadInput, NotFound, UnknownName, escape
from fromnoise.pipeline.addons.preprocessors import PREPROCESSORS
from fromnoise.pipeline.provenance.fields import to_request
from fromnoise.pipeline.provenance.infotext import parse
from fromnoise.serve.dialects.a1111.options import (
    NONE,
    READ,
    find_checkpoint,
    find_format,
    load_options,
    read_options,
)
from fromnoise.serve.dialects.a1111.shapes import Drawing, ImageToImage, TextToImage
from fromnoise.serve.dialects.a1111.uploading import Pictures

SEEDS = 2**64
RESIZE = ("stretch", "crop", "fill")
CONTENT = ("fill", "original", "noise", "fill")
MODES = ("balanced", "prompt", "control")
SHOWN = 40  # things that `info` says to be ignored


@dataclass
class Wish:
    """A request in the house's words: `rounds` of `batch` pictures, for each picture that it starts
    from. `ignored`: a field → why nothing comes of it."""

    kind: str
    values: dict[str, Any]
    model: str | None
    batch: int
    rounds: int
    seed: int
    subseed: int
    suffix: str  # of the files that come back
    images: list[str] = field(default_factory=list)  # ids of uploads
    ignored: dict[str, str] = field(default_factory=dict)

    def list_jobs(self) -> list[dict[str, Any]]:
        """The values of each job. Picture i of all has seed + i, or with a subseed, subseed + i."""
        varies = bool(self.values.get("variation_strength"))
        jobs = []
        starts = self.images or [None]
        count = self.batch if len(starts) == 1 else 1
        for number in range(self.rounds * len(starts)):
            at = number * count
            image = starts[number % len(starts)]
            jobs.append(
                self.values
                | ({} if image is None else {"image": image})
                | {"count": count, "seed": (self.seed + at * (not varies)) % SEEDS}
                | ({"variation_seed": (self.subseed + at) % SEEDS} if varies else {})
            )
        return jobs


def make_wish(asked: Drawing, pictures: Pictures) -> Wish:
    """Raises BadInput, NotFound, UnknownName and Refusal."""
    server = pictures.server
    override = {k: v for k, v in (asked.override_settings or {}).items() if v is not None}
    options = load_options(server, pictures.client) | override
    ignored = find_ignored(asked, override)
    values = read_infotext(asked)
    values |= {"prompt": asked.prompt or ""} if asked.prompt or "prompt" not in values else {}
    if asked.negative_prompt:
        values["negative_prompt"] = asked.negative_prompt
    sampler, levels = choose_sampler(asked, values)
    values |= read_options(options, sampler, levels)
    values |= read_numbers(asked, sampler)
    size = {k: v for k in ("width", "height") if (v := getattr(asked, k))}
    values |= size
    seed, subseed = (
        secrets.randbelow(2**32) if value in (None, -1) else value
        for value in (
            asked.seed if asked.seed not in (None, -1) else values.pop("seed", -1),
            asked.subseed if asked.subseed not in (None, -1) else values.pop("variation_seed", -1),
        )
    )
    for name in ("seed", "variation_seed", "count"):
        values.pop(name, None)
    if asked.subseed_strength:
        values |= {"variation_strength": asked.subseed_strength, "variation_blend": "columns"}
    if (vae := str(options.get("sd_vae") or "")).lower() not in NONE:
        values["vae"] = vae
    model = options.get("sd_model_checkpoint")
    wish = Wish(
        "generate",
        values,
        find_checkpoint(server, model) if model else None,
        asked.batch_size or 1,
        asked.n_iter or 1,
        seed,
        subseed,
        find_format(options),
    )
    wish.ignored = ignored
    if isinstance(asked, ImageToImage):
        add_images(wish, asked, pictures)
    elif isinstance(asked, TextToImage) and asked.enable_hr:
        add_second_pass(wish, asked)
    add_scripts(wish, asked, pictures)
    total, limit = wish.rounds * max(wish.batch, len(wish.images)), server.settings.limits.count
    if total > limit:
        raise BadInput(
            f"{total:,} pictures are more than one request may ask for",
            f"batch_size times n_iter is {limit:,} at most",
        )
    return wish


def find_ignored(asked: Drawing, override: dict[str, Any]) -> dict[str, str]:
    """What was asked for and is not done → why."""
    found: dict[str, str] = {}
    none = "there is no such thing here"
    if asked.restore_faces:
        found["restore_faces"] = none
    if asked.styles:
        found["styles"] = "this server has no styles: write their words into the prompt"
    if (asked.refiner_checkpoint or "").lower() not in NONE:
        found["refiner_checkpoint"] = "no second model draws the end of a run here"
    if max(asked.seed_resize_from_h or 0, asked.seed_resize_from_w or 0) > 0:
        found["seed_resize_from"] = none
    if asked.disable_extra_networks:
        found["disable_extra_networks"] = "take the tags out of the prompt"
    if isinstance(asked.sampler_index, int):
        found["sampler_index"] = "a number says no sampler: give sampler_name"
    if asked.script_name:
        raise BadInput(f"Script '{escape(asked.script_name[:100])}' not found", "there are none")
    for name in override:
        if name not in READ:
            found[f"override_settings.{name[:60]}"] = "nothing here is set by it"
    for name in asked.model_extra or {}:
        found[name[:60]] = "no field is called so"
    return {escape(k): v for k, v in [*found.items()][:SHOWN]}


def read_infotext(asked: Drawing) -> dict[str, Any]:
    """The settings of a text that comes with a request."""
    if not asked.infotext:
        return {}
    given, _ = to_request(parse(asked.infotext))
    return given


def choose_sampler(
    asked: Drawing, values: dict[str, Any]
) -> tuple[samplers.Entry | None, "spacing.Entry | None"]:
    """Sampler and spacing, which also go into `values`. Raises UnknownName."""
    index = asked.sampler_index if isinstance(asked.sampler_index, str) else None
    entry = None
    if name := asked.sampler_name or index:
        entry, fused = samplers.parse(name)  # "DPM++ 2M Karras" of versions before 1.9
        values |= {"sampler": entry.name, "spacing": fused or "automatic"}
    levels = None
    if asked.scheduler and asked.scheduler.lower() not in NONE:
        levels = spacing.find(asked.scheduler)
        values["spacing"] = levels.name
    elif entry and values["spacing"] == "automatic":
        levels = spacing.find(entry.spacing)
    return entry, levels


def read_numbers(asked: Drawing, sampler: samplers.Entry | None) -> dict[str, Any]:
    """The numbers of a request. Those of a sampler hold where it takes them, as in A1111."""
    found: dict[str, Any] = {
        "steps": asked.steps,
        "cfg": asked.cfg_scale,
        "clip_skip": asked.clip_skip,
        "skip_uncond_below": asked.s_min_uncond or None,
        "tiling": "both" if asked.tiling else None,
    }
    takes = sampler.options if sampler else ()
    if "eta" in takes:
        found["eta"] = asked.eta
    if "s_churn" in takes and asked.s_churn:
        found |= {
            "s_churn": asked.s_churn,
            "s_tmin": asked.s_tmin,
            "s_tmax": asked.s_tmax or None,  # 0: no bound
        }
    if "s_noise" in takes and asked.s_noise not in (None, 1):
        found["s_noise"] = asked.s_noise
    return {name: value for name, value in found.items() if value is not None}


def add_second_pass(wish: Wish, asked: TextToImage) -> None:
    """Makes a wish one of two passes. Raises UnknownName and BadInput."""
    wish.kind = "hires"
    more: dict[str, Any] = {
        "hires_scale": asked.hr_scale,
        "hires_width": asked.hr_resize_x or None,
        "hires_height": asked.hr_resize_y or None,
        "hires_steps": asked.hr_second_pass_steps or None,
        "hires_strength": check_strength(asked.denoising_strength),
        "hires_cfg": asked.hr_cfg or None,
        "hires_prompt": asked.hr_prompt or None,
        "hires_negative_prompt": asked.hr_negative_prompt or None,
    }
    if asked.firstphase_width or asked.firstphase_height:  # A1111's before 2023
        more |= {"hires_width": asked.width, "hires_height": asked.height}
        first = {"width": asked.firstphase_width, "height": asked.firstphase_height}
        wish.values |= {name: side for name, side in first.items() if side}
    if name := asked.hr_upscaler:
        more["hires_upscaler"] = "lanczos" if name.lower() == "none" else name
        if name.lower() == "none":
            wish.ignored["hr_upscaler"] = "None is no upscaler: Lanczos enlarges"
    if (name := asked.hr_sampler_name) and not name.lower().startswith("use same"):
        more["hires_sampler"] = samplers.find(name).name
    if (name := asked.hr_scheduler) and not name.lower().startswith("use same"):
        automatic = name.lower() in NONE
        more["hires_spacing"] = "automatic" if automatic else spacing.find(name).name
    other = asked.hr_checkpoint_name or ""
    if other.lower() not in NONE and not other.lower().startswith("use same"):
        wish.ignored["hr_checkpoint_name"] = "both passes are drawn with one model"
    wish.values |= {name: value for name, value in more.items() if value is not None}


def check_strength(strength: float | None) -> float | None:
    """Raises BadInput for a strength that changes nothing."""
    if strength is not None and strength < 0.01:
        raise BadInput("a denoising_strength of 0 redraws nothing", "give 0.01 to 1")
    return strength


def add_images(wish: Wish, asked: ImageToImage, pictures: Pictures) -> None:
    """Makes a wish one that starts from pictures. Raises BadInput, NotFound and Refusal."""
    if not asked.init_images:
        raise NotFound("Init image not found", "send init_images, a list of files in base64")
    mode = asked.resize_mode or 0
    how = RESIZE[mode % 3]
    if mode == 3:
        wish.ignored["resize_mode"] = "latents are not resized: the picture is stretched"
    first = [pictures.add(text, f"init_images[{i}]") for i, text in enumerate(asked.init_images)]
    wish.kind, wish.images = "edit", [upload.id for upload in first]
    strength = check_strength(asked.denoising_strength)
    more: dict[str, Any] = {"strength": strength, "resize": how, "image_cfg": asked.image_cfg_scale}
    if asked.initial_noise_multiplier not in (None, 1):
        wish.ignored["initial_noise_multiplier"] = "there is no such thing here"
    if asked.mask:
        if len({(one.width, one.height) for one in first}) > 1:
            raise BadInput("one mask cannot be for pictures of several sizes", "send them alone")
        size = first[0].width, first[0].height
        invert = bool(asked.inpainting_mask_invert)
        blurs = {b for b in (asked.mask_blur_x, asked.mask_blur_y) if b is not None}
        if len(blurs) > 1:
            wish.ignored["mask_blur_y"] = "a mask is blurred as much along both axes"
        blur = asked.mask_blur if asked.mask_blur is not None else max(blurs, default=4)
        fill = asked.inpainting_fill or 0
        if fill == 3:
            wish.ignored["inpainting_fill"] = "latent nothing is not there: the mask is filled"
        more |= {
            "mask": pictures.add_mask(asked.mask, size, how, invert).id,
            "mask_blur": blur,
            "content": CONTENT[fill],
        }
        if asked.inpaint_full_res in (True, 1, None):
            more |= {"only_masked": True, "padding": asked.inpaint_full_res_padding or 0}
    wish.values |= {name: value for name, value in more.items() if value is not None}


def add_scripts(wish: Wish, asked: Drawing, pictures: Pictures) -> None:
    """Makes controls of ControlNet's units; other scripts are said to be ignored. Raises BadInput,
    UnknownName and Refusal."""
    controls = []
    for name, script in (asked.alwayson_scripts or {}).items():
        args = script.get("args", []) if isinstance(script, dict) else script
        args = args if isinstance(args, list) else [args]
        if name.lower() not in ("controlnet", "sd-webui-controlnet"):
            if args and args[0] not in (False, None):
                key = f"alwayson_scripts.{escape(name[:60])}"
                wish.ignored[key] = "there is no such script here"
            continue
        for i, unit in enumerate(args[:16]):
            if isinstance(unit, dict) and unit.get("enabled", True):
                place = f"ControlNet unit {i}"
                try:
                    controls.append(read_unit(unit, place, wish, pictures))
                except (ValueError, TypeError, AttributeError):
                    raise BadInput(f"{place} cannot be read", "see docs/server.md") from None
    if controls:
        wish.values["addons"] = {"controls": controls}


def read_unit(unit: dict[str, Any], place: str, wish: Wish, pictures: Pictures) -> dict[str, Any]:
    """A unit of ControlNet's extension as a control. Raises BadInput, UnknownName and Refusal;
    ValueError and the like for what has wrong types."""
    name = str(unit.get("model") or "None").split(" [")[0]
    if name.lower() == "none":
        raise BadInput(f"{place} names no model", "take one of /controlnet/model_list")
    image = unit.get("image") or unit.get("input_image")
    mask = unit.get("mask") or unit.get("mask_image")
    if isinstance(image, dict):
        image, mask = image.get("image"), mask or image.get("mask")
    if mask:
        wish.ignored[f"{place}.mask"] = "a control acts on the whole picture"
    if str(unit.get("hr_option", "Both")) not in ("Both", "HiResFixOption.BOTH", "0"):
        wish.ignored[f"{place}.hr_option"] = "a control acts in both passes"
    module = str(unit.get("module") or "none").lower()
    labels = {entry.label.lower(): key for key, entry in PREPROCESSORS.items()}
    preprocess = module if module in PREPROCESSORS else labels.get(module)
    if preprocess is None:
        raise UnknownName("preprocessor", escape(module[:100]), [*labels])
    control: dict[str, Any] = {
        "name": name,
        "preprocess": preprocess,
        "weight": float(unit.get("weight", 1.0)),
        "start": float(unit.get("guidance_start", 0.0)),
        "end": float(unit.get("guidance_end", 1.0)),
        "mode": MODES[find_choice(unit.get("control_mode", 0), ("bal", "my", "con"))],
        "resize": RESIZE[
            find_choice(unit.get("resize_mode", 1), ("just", "crop", "resize and"), 1)
        ],
    }
    numbers = zip(("low", "high"), ("threshold_a", "threshold_b"), strict=True)
    for (ours, theirs), _ in zip(numbers, PREPROCESSORS[preprocess].usual, strict=False):
        if float(unit.get(theirs, -1)) >= 0:
            control[ours] = float(unit[theirs])
    if image:
        control["image"] = pictures.add(str(image), f"{place}.image").id
    return control


def find_choice(value: Any, starts: tuple[str, ...], usual: int = 0) -> int:
    """The number of a choice, which comes as a number or in words; older words are the usual."""
    if isinstance(value, str) and not value.isdigit():
        low = value.lower()
        return next((i for i, start in enumerate(starts) if low.startswith(start)), usual)
    if not 0 <= int(value) < len(starts):
        raise ValueError(value)
    return int(value)
