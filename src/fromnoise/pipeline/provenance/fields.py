"""The fields of an infotext → the requests that draw such a picture. Needs no torch."""

import math
import re
from contextlib import suppress
from typing import Any

from fromnoise.diffusion import samplers, spacing
from fromnoise.errors import BadInput, UnknownName, escape
from fromnoise.pipeline.provenance.infotext import Infotext, find_maker, parse_value
from fromnoise.pipeline.request import OPTIONS, GenerationRequest

# what the web UI and its extensions call the fields; older spellings and SD.Next's last
FIELDS = {
    "Steps": "steps", "CFG scale": "cfg", "Seed": "seed", "Variation seed": "variation_seed",
    "Variation seed strength": "variation_strength", "Variation blend": "variation_blend",
    "ENSD": "eta_noise_seed_delta", "Eta": "eta", "Sigma churn": "s_churn", "Sigma tmin": "s_tmin",
    "Sigma tmax": "s_tmax", "Sigma noise": "s_noise", "CFG Rescale phi": "cfg_rescale",
    "NGMS": "skip_uncond_below", "Discard penultimate sigma": "discard_penultimate",
    "Noise scaling": "noise_scaling", "Eta DDIM": "eta", "CFG Rescale φ": "cfg_rescale",
    "CFG rescale": "cfg_rescale", "Variation strength": "variation_strength",
    "Clip skip": "clip_skip", "CLIP skip": "clip_skip", "Prompt dialect": "dialect",
    "Prompt steps": "prompt_steps", "Final sigma": "final_sigma", "Timesteps": "timesteps",
}  # fmt: skip
SAMPLER_OPTIONS = {
    "UniPC variant": "variant",
    "UniPC order": "order",
    "UniPC lower order final": "lower_order_final",
}
SPACING_OPTIONS = {
    "Schedule min sigma": "sigma_min",
    "Schedule max sigma": "sigma_max",
    "Schedule rho": "rho",
    "Beta schedule alpha": "alpha",
    "Beta schedule beta": "beta",
}
# programs that do not write A1111's prompts
DIALECTS = {"comfyui": "comfy", "swarmui": "comfy", "fooocus": "comfy", "invokeai": "compel"}
# A1111 runs these outside k-diffusion, at timesteps of their own
TIMESTEPS = ("ddim", "plms", "unipc", "ddim_cfg_pp")
# what other programs call the web UI's uniform levels
SCHEDULES = {"discrete": "uniform", "default": "uniform", "native": "uniform"}
RNGS = {"gpu": "nv", "cuda": "nv"}
LONGEST = 2_000  # characters of a value that is told as unused
WHY = {  # how keys begin that no field of a request can take
    ("Model", "Module", "VAE", "FP8", "Lora", "LoRA", "TI ", "Hashes", "Hypernet", "AddNet",
     "Refiner", "Civitai", "Guide hash", "Prediction"):
        "which weights draw is said apart from the request",
    ("Hires", "First pass", "Denoising", "Mask", "Init image", "ControlNet", "ADetailer",
     "Face restoration", "Inpaint", "Resize", "Image hash", "Extend", "Postprocess",
     "Second image", "Blend", "CLIP guidance", "Conditional mask"):
        "is of a further pass or of another picture",
    ("Latents hash",): "it began with latents of its own, which no seed gives",
    ("Guidance",): "it is a scale that other networks take as an input",
    ("Film",): "says which frame of which film it is",
    ("Script", "X ", "Y ", "Z ", "Fixed "): "is of a sheet of many pictures",
    ("Version", "App", "User", "Plan", "Torch", "Threads", "Batch", "Parser", "Backend", "Created"):
        "says where the picture is from and sets nothing",
}  # fmt: skip
EDITS = {
    "Denoising strength": "strength",
    "Mask blur": "mask_blur",
    "Masked content": "content",
    "Resize mode": "resize",
    "Masked area padding": "padding",
    "Image CFG scale": "image_cfg",
}
HIRES = {
    "Denoising strength": "hires_strength",
    "Hires upscale": "hires_scale",
    "Hires upscaler": "hires_upscaler",
    "Hires steps": "hires_steps",
    "Hires sampler": "hires_sampler",
    "Hires schedule type": "hires_spacing",
    "Hires CFG Scale": "hires_cfg",
    "Hires prompt": "hires_prompt",
    "Hires negative prompt": "hires_negative_prompt",
}
BLENDS = {
    "Blend weight": "weight",
    "Blend strength": "strength",
    "CLIP guidance scale": "clip_scale",
}


def _find_sampler(name: str) -> tuple[samplers.Entry, str | None] | None:
    """`samplers.parse`, also of other programs' spellings.

    Nodes for ComfyUI write sampler and spacing in one, "euler_sgm_uniform"; stable-diffusion.cpp
    writes "dpm++2m"; NovelAI and InvokeAI put "k_" before k-diffusion's names.
    """
    spaced = re.sub(r"(dpm\+\+)(?=\w)", r"\1 ", name[:200].lower())
    words = spaced.replace("_", " ").split()
    for begin in range(2 if words[:1] == ["k"] else 1):
        for end in range(len(words), max(begin, len(words) - 4), -1):
            with suppress(UnknownName):
                entry, fused = samplers.parse(" ".join(words[begin:end]))
                rest = " ".join(words[end:])
                return entry, spacing.find(rest).name if rest else fused
    return None


def to_request(info: Infotext) -> tuple[dict[str, Any], dict[str, str]]:
    """(keywords for `GenerationRequest.of`, each of which it takes; key → "value (why it could not
    be used)").

    The inverse of `write.write_infotext`: the one picture, with the seed of its own. What other
    programs leave unsaid is said here, so that the same noise takes the same way:

    - A1111 draws on the GPU unless it says RNG. "nv" has an NVIDIA GPU's numbers; another maker's
      GPU (and Apple's) gave others, which nothing here can draw.
    - A1111 blends a variation column by column. It starts k-diffusion's samplers from noise ·
      sigma_max unless it says "SGM noise multiplier".
    - Where no schedule type is named, nor one in the sampler's name, the levels were uniform
      (Restart's karras), as in A1111 before 1.9. "Automatic" is what 1.9 takes for the sampler;
      DDIM, PLMS and UniPC had their own.
    - ComfyUI's Beta is of timesteps, A1111's of sigmas.
    - A1111 before 2023 says the size of its first pass as "First pass size"; 0x0 stands for a size
      near 512 x 512 (`old_hires_fix_first_pass_dimensions` of its processing.py).
    - Prompts are in the maker's own dialect, and A1111's change by call of the network.
    """
    return _Translation(info).translate()


class _Translation:
    """One infotext on its way to a request. `fields` holds what is still to be told."""

    def __init__(self, info: Infotext):
        self.info = info
        self.fields = dict(info.fields)
        self.maker = find_maker(info.fields)
        self.given: dict[str, Any] = {}
        self.unused: dict[str, str] = {}

    def drop(self, key: str, why: str) -> None:
        """Tells a field as unused."""
        self.unused[key] = f"{escape(self.fields.pop(key), LONGEST, keep=chr(10))} ({why})"

    def use(self, key: str, **values) -> None:
        """Gives the request these values of a field, or tells why it does not take them."""
        try:
            checked = GenerationRequest.of(**values)
        except BadInput as error:
            self.drop(key, escape(error.remedy))
        else:
            self.fields.pop(key)
            self.given.update({name: getattr(checked, name) for name in values})

    def translate(self) -> tuple[dict[str, Any], dict[str, str]]:
        self.use_prompts()
        if self.maker == "sdcpp":
            self.part_sampler()
        entry, fused = _find_sampler(self.fields.get("Sampler", "")) or (None, None)
        if entry:
            self.use("Sampler", sampler=entry.name)
        elif "Sampler" in self.fields:
            self.drop("Sampler", "no sampler here is called so")
        chosen = self.use_spacing(entry, fused)
        self.use_fields(entry)
        self.use_options("sampler_options", "Sampler options", SAMPLER_OPTIONS, entry)
        self.use_options("spacing_options", "Schedule options", SPACING_OPTIONS, chosen)
        self.use_size()
        self.use_words()
        self.add_habits(entry, chosen)
        for key in list(self.fields):
            why = next((why for starts, why in WHY.items() if key.startswith(starts)), None)
            self.drop(key, why or "no setting is called so")
        return self.given, self.unused | self.info.skipped

    def use_prompts(self) -> None:
        texts = {"prompt": self.info.prompt, "negative_prompt": self.info.negative_prompt}
        for name, text in texts.items():
            self.given[name] = text.encode(errors="replace").decode()  # no lone surrogates
            try:
                GenerationRequest.of(**{name: self.given[name]})
            except BadInput as error:
                del self.given[name]
                self.unused[name] = f"{escape(text)} ({escape(error.remedy)})"

    def part_sampler(self) -> None:
        """stable-diffusion.cpp's "euler_a karras" → sampler and schedule type. Its numbers have
        six decimals, and its Eta was of DDIM and TCD alone while 0 was the default."""
        name, space, schedule = self.fields.get("Sampler", "").rpartition(" ")
        if space and name == "ddim_trailing":  # it has timesteps of its own
            self.fields["Sampler"] = name
        elif space and "Schedule type" not in self.fields:
            self.fields |= {"Sampler": name, "Schedule type": schedule}
        eta = self.fields.get("Eta", "")
        if re.fullmatch(r"0\.?0*", eta[:20]) and "ddim" not in name:
            self.drop("Eta", "it was of DDIM and TCD alone")

    def use_spacing(
        self, entry: samplers.Entry | None, fused: str | None
    ) -> "spacing.Entry | None":
        named = self.fields.get("Schedule type", "")
        if named.strip().lower() not in ("", "automatic"):
            kind = SCHEDULES.get(named.strip().lower(), named)
        elif fused or not entry or self.maker == "invokeai":
            kind = fused
        elif self.maker == "a1111" and entry.name in TIMESTEPS:
            kind = "ddim"
        else:
            kind = entry.spacing if named or entry.name == "restart" else "uniform"
        chosen = None
        with suppress(UnknownName):
            chosen = spacing.find(kind or "")
            self.given["spacing"] = chosen.name
            self.fields.pop("Schedule type", None)
        if "Schedule type" in self.fields:
            unknown = "it follows from a sampler that is not known"
            self.drop("Schedule type", "no spacing here is called so" if kind else unknown)
        return chosen

    def use_fields(self, entry: samplers.Entry | None) -> None:
        """The fields that are each one field of a request."""
        for key, name in FIELDS.items():
            if key not in self.fields:
                continue
            if name in OPTIONS and name not in (entry.options if entry else ()):
                why = f"the sampler {entry.name} takes no {name}" if entry else None
                self.drop(key, why or "it is of a sampler that is not known")
            else:
                self.use(key, **{name: self.fields[key]})

    def use_options(
        self,
        target: str,
        whole: str,
        names: dict[str, str],
        owner: "samplers.Entry | spacing.Entry | None",
    ) -> None:
        """Options of a sampler or a spacing: all of them as JSON, or one under a key of its own."""
        for key in [key for key in (whole, *names) if key in self.fields]:
            value = parse_value(self.fields[key])
            options = {names[key]: value} if key in names else value
            known = set(owner.options if owner else ())
            if not isinstance(options, dict) or not options.keys() <= known:
                why = f"{owner.name} takes no such option" if owner else None
                self.drop(key, why or "what it is an option of is not known")
            elif any(value != value for value in options.values()):  # NaN alone is not itself
                self.drop(key, "it holds what is no number")
            elif key in names and self.fields[key] in ("0", "0.0"):
                self.drop(key, "0 leaves it to the model")
            else:
                self.use(key, **{target: self.given.get(target, {}) | options})

    def use_size(self) -> None:
        if "Size" not in self.fields:
            return
        size = _read_size(self.fields["Size"])
        if first := find_first_pass(self.info.fields):
            self.use("First pass size", width=first[0], height=first[1])
            if "First pass size" not in self.fields:
                self.drop("Size", "the second pass enlarges the picture to that")
                return
        if size is None:
            self.drop("Size", "it is no size")
        else:
            self.use("Size", width=size[0], height=size[1])

    def use_words(self) -> None:
        """The fields whose values are words of their own."""
        if "Size conditions" in self.fields:
            self.use("Size conditions", size_conditions=parse_value(self.fields["Size conditions"]))
        if "RNG" in self.fields:
            said = self.fields["RNG"].strip().lower()
            self.use("RNG", rng=RNGS.get(said, said))
        if "Tiling" in self.fields:  # A1111's is along both axes
            said = self.fields["Tiling"].strip().lower()
            self.use("Tiling", tiling={"true": "both", "false": "none"}.get(said, said))
        for key, names, more in (
            ("CFG interval", ("cfg_sigma_min", "cfg_sigma_max"), {}),
            ("APG", ("apg_parallel", "apg_norm", "apg_momentum"), {"apg": True}),
        ):
            if key in self.fields:
                # APG's 0 and inf are its defaults; of the interval the model has its own
                numbers = zip(names, self.fields[key].split(), strict=False)
                kept = {n: v for n, v in numbers if not more or v not in ("0", "inf")}
                self.use(key, **more, **kept)

    def add_habits(self, entry: samplers.Entry | None, chosen: "spacing.Entry | None") -> None:
        """What the maker does without saying it."""
        given, maker = self.given, self.maker
        if maker in DIALECTS:
            given.setdefault("dialect", DIALECTS[maker])
        if maker == "a1111" and "[" in self.info.prompt + self.info.negative_prompt:
            given.setdefault("prompt_steps", "call")
        if maker == "fromnoise":
            given.setdefault("discard_penultimate", False)  # it says so where it does
        elif maker in ("comfyui", "swarmui") and chosen and chosen.name == "beta":
            given["spacing_options"] = {"of": "timestep"} | given.get("spacing_options", {})
        elif maker in ("a1111", "sdcpp"):
            if maker == "a1111" and "seed" in given and "RNG" not in self.info.fields:
                given["rng"] = "nv"
            if "variation_seed" in given:
                given.setdefault("variation_blend", "columns")
            if entry:
                keys = ("SGM noise multiplier", "SGM noise multplier")  # the second is 1.6's slip
                multiplied = [self.fields.pop(key) for key in keys if key in self.fields]
                scaled = entry.name not in TIMESTEPS and "True" not in multiplied
                given.setdefault("noise_scaling", "sigma_max" if scaled else "unit")


def _read_size(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"\s*(\d{1,6})\s*[x×]\s*(\d{1,6})\s*", text[:99].lower())
    return (int(match[1]), int(match[2])) if match else None


def find_first_pass(fields: dict[str, str]) -> tuple[int, int] | None:
    """(width, height) of the first of two passes, as A1111 drew them before 2023; None where the
    text is not of that time."""
    first, size = (_read_size(fields.get(key, "")) for key in ("First pass size", "Size"))
    if first is None or size is None or 0 in size:
        return None
    if 0 not in first:
        return first
    scale = math.sqrt(512 * 512 / (size[0] * size[1]))
    return math.ceil(scale * size[0] / 64) * 64, math.ceil(scale * size[1] / 64) * 64


def to_edit(info: Infotext) -> dict[str, Any]:
    """The keywords that an EditRequest takes besides, where the text is of an edit. Its `width` and
    `height`, None where the picture kept its size, go before those of `request`."""
    fields = info.fields
    found: dict[str, Any] = {ours: fields[key] for key, ours in EDITS.items() if key in fields}
    if "Denoising strength" in fields:
        sides = [f"extend_{side}" for side in ("left", "right", "top", "bottom")]
        found |= zip(sides, fields.get("Extend", "").split(), strict=False)
        found["only_masked"] = fields.get("Inpaint area") == "Only masked"
        if not found["only_masked"]:
            width, _, height = fields.get("Resize to", "").partition("x")
            found |= {"width": width or None, "height": height or None}
    return found


def to_hires(info: Infotext) -> dict[str, Any]:
    """The keywords that a HiresRequest takes besides, where the text is of a picture drawn in two
    passes."""
    if find_first_pass(info.fields):
        width, _, height = info.fields["Size"].partition("x")
        found = {"hires_width": width, "hires_height": height}
        if strength := info.fields.get("Denoising strength"):
            found["hires_strength"] = strength
        return found
    if not info.fields.keys() & {"Hires upscale", "Hires resize"}:
        return {}
    found: dict[str, Any] = {
        ours: info.fields[key] for key, ours in HIRES.items() if key in info.fields
    }
    width, _, height = info.fields.get("Hires resize", "").partition("x")  # 0: in proportion
    sides = {"hires_width": width, "hires_height": height}
    return found | {name: side for name, side in sides.items() if side not in ("", "0")}


def to_blend(info: Infotext) -> dict[str, Any]:
    """The keywords that a BlendRequest takes besides, where the text is of a blend."""
    is_one = "Blend weight" in info.fields
    return (
        {ours: info.fields[key] for key, ours in BLENDS.items() if key in info.fields}
        if is_one
        else {}
    )
