"""The fields of an infotext → the requests that draw such a picture. Needs no torch."""

from contextlib import suppress
from typing import Any

from fromnoise.diffusion import samplers, spacing
from fromnoise.errors import BadInput, UnknownName
from fromnoise.pipeline.provenance.infotext import Infotext, find_maker, parse_value
from fromnoise.pipeline.request import OPTIONS, GenerationRequest

# what the web UI and its extensions call the fields, older spellings and SD.Next's last
FIELDS = {
    "Steps": "steps", "CFG scale": "cfg", "Seed": "seed", "Variation seed": "variation_seed",
    "Variation seed strength": "variation_strength", "Variation blend": "variation_blend",
    "ENSD": "eta_noise_seed_delta", "Eta": "eta", "Sigma churn": "s_churn", "Sigma tmin": "s_tmin",
    "Sigma tmax": "s_tmax", "Sigma noise": "s_noise", "CFG Rescale phi": "cfg_rescale",
    "NGMS": "skip_uncond_below", "Discard penultimate sigma": "discard_penultimate",
    "Noise scaling": "noise_scaling", "Eta DDIM": "eta", "CFG Rescale φ": "cfg_rescale",
    "CFG rescale": "cfg_rescale", "Variation strength": "variation_strength",
    "Clip skip": "clip_skip", "CLIP skip": "clip_skip", "Prompt dialect": "dialect",
    "Prompt steps": "prompt_steps",
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
DIALECTS = {"comfyui": "comfy", "invokeai": "compel"}  # whose makers do not write A1111's
TIMESTEPS = (
    "ddim",
    "plms",
    "unipc",
    "ddim_cfg_pp",
)  # A1111 runs these outside k-diffusion, at timesteps of their own
WHY = {  # how keys begin that no field of a request can take
    ("Model", "Module", "VAE", "FP8", "Lora", "LoRA", "TI ", "Hashes", "Hypernet", "AddNet", "Refiner", "Civitai"):
        "which weights draw is said apart from the request",
    ("Hires", "First pass", "Denoising", "Mask", "Init image", "ControlNet", "ADetailer", "Face restoration",
     "Inpaint", "Resize", "Image hash", "Extend", "Postprocess", "Second image", "Blend", "CLIP guidance"):
        "is of a further pass or of another picture",
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


def _sampler(name: str) -> tuple[samplers.Entry, str | None] | None:
    """`samplers.parse`, also of what nodes for ComfyUI write: sampler and spacing in one,
    "euler_sgm_uniform"."""
    words = name.replace("_", " ").split()
    for i in range(len(words), max(0, len(words) - 4), -1):
        with suppress(UnknownName):
            entry, fused = samplers.parse(" ".join(words[:i]))
            return entry, spacing.find(" ".join(words[i:])).name if words[i:] else fused
    return None


def to_request(info: Infotext) -> tuple[dict[str, Any], dict[str, str]]:
    """(keywords for `GenerationRequest.of`, each of which it takes; key → "value (why it could not
    be used)").

    The inverse of `write.write_infotext`: the one picture, with the seed of its own. Of other
    programs' texts, what they leave unsaid is said here, so that the same noise takes the same way:
    - A1111 draws on the GPU unless it says RNG: "nv" has an NVIDIA GPU's numbers; another maker's
    GPU (and Apple's)
      gave others, which nothing here can draw.
    - A1111 blends a variation column by column, and starts k-diffusion's samplers from noise ·
    sigma_max unless it says
      "SGM noise multiplier".
    - Where no schedule type is named, nor one in the sampler's name, the levels were uniform
    (Restart's karras), as in
      A1111 before 1.9; "Automatic" is what 1.9 takes for the sampler; DDIM, PLMS and UniPC had
    their own.
    - ComfyUI's Beta is of timesteps, A1111's of sigmas.
    - Prompts are in the maker's own dialect, and A1111's change by call of the network.
    """
    texts = {"prompt": info.prompt, "negative_prompt": info.negative_prompt}
    given: dict[str, Any] = {
        k: v.encode(errors="replace").decode() for k, v in texts.items()
    }  # no lone surrogates
    fields, unused, maker = dict(info.fields), {}, find_maker(info.fields)
    entry, fused = _sampler(fields.get("Sampler", "")) or (None, None)

    def drop(key: str, why: str) -> None:
        unused[key] = f"{fields.pop(key)} ({why})"

    def use(key: str, **values) -> None:
        try:
            checked = GenerationRequest.of(**values)
        except BadInput as error:
            drop(key, error.remedy)
        else:
            fields.pop(key)
            given.update({name: getattr(checked, name) for name in values})

    if entry:
        use("Sampler", sampler=entry.name)
    elif "Sampler" in fields:
        drop("Sampler", "no sampler here is called so")
    named = fields.get("Schedule type", "")
    if named.strip().lower() not in ("", "automatic"):
        kind = named
    elif fused or not entry or maker == "invokeai":
        kind = fused
    elif maker == "a1111" and entry.name in TIMESTEPS:
        kind = "ddim"
    else:
        kind = entry.spacing if named or entry.name == "restart" else "uniform"
    chosen = None
    with suppress(UnknownName):
        chosen = spacing.find(kind or "")
        given["spacing"] = chosen.name
        fields.pop("Schedule type", None)
    if "Schedule type" in fields:
        drop(
            "Schedule type",
            "no spacing here is called so"
            if kind
            else "it follows from a sampler that is not known",
        )

    for key, field in FIELDS.items():
        if key in fields and field in OPTIONS and field not in (entry.options if entry else ()):
            drop(
                key,
                f"the sampler {entry.name} takes no {field}"
                if entry
                else "it is of a sampler that is not known",
            )
        elif key in fields:
            use(key, **{field: fields[key]})
    for target, whole, names, owner in (
        ("sampler_options", "Sampler options", SAMPLER_OPTIONS, entry),
        ("spacing_options", "Schedule options", SPACING_OPTIONS, chosen),
    ):
        for key in [key for key in (whole, *names) if key in fields]:
            options = (
                {names[key]: parse_value(fields[key])} if key in names else parse_value(fields[key])
            )
            if not isinstance(options, dict) or not options.keys() <= set(
                owner.options if owner else ()
            ):
                drop(
                    key,
                    f"{owner.name} takes no such option"
                    if owner
                    else "what it is an option of is not known",
                )
            elif key in names and fields[key] in ("0", "0.0"):
                drop(key, "0 leaves it to the model")
            else:
                use(key, **{target: given.get(target, {}) | options})
    if "Size" in fields:
        width, _, height = fields["Size"].lower().replace("×", "x").partition("x")
        use("Size", width=width.strip(), height=height.strip())
    if "RNG" in fields:
        use("RNG", rng={"gpu": "nv"}.get(rng := fields["RNG"].strip().lower(), rng))
    if "Tiling" in fields:  # A1111's is along both axes
        use(
            "Tiling",
            tiling={"true": "both", "false": "none"}.get(
                said := fields["Tiling"].strip().lower(), said
            ),
        )
    for key, names, more in (
        ("CFG interval", ("cfg_sigma_min", "cfg_sigma_max"), {}),
        ("APG", ("apg_parallel", "apg_norm", "apg_momentum"), {"apg": True}),
    ):
        if key in fields:  # apg's 0 and inf are its defaults; of the interval the model has its own
            numbers = zip(names, fields[key].split(), strict=False)
            use(
                key,
                **more,
                **{
                    name: number
                    for name, number in numbers
                    if not more or number not in ("0", "inf")
                },
            )

    if maker in DIALECTS:
        given.setdefault("dialect", DIALECTS[maker])
    if maker == "a1111" and "[" in info.prompt + info.negative_prompt:
        given.setdefault("prompt_steps", "call")
    if maker == "fromnoise":
        given.setdefault("discard_penultimate", False)  # it says so where it does
    elif maker == "comfyui" and chosen and chosen.name == "beta":
        given["spacing_options"] = {"of": "timestep"} | given.get("spacing_options", {})
    elif maker == "a1111":
        if "seed" in given and "RNG" not in info.fields:
            given["rng"] = "nv"
        if "variation_seed" in given:
            given.setdefault("variation_blend", "columns")
        if entry:
            sgm = [
                fields.pop(key)
                for key in ("SGM noise multiplier", "SGM noise multplier")
                if key in fields
            ]
            scaled = entry.name not in TIMESTEPS and "True" not in sgm
            given.setdefault("noise_scaling", "sigma_max" if scaled else "unit")
    for key in list(fields):
        drop(
            key,
            next(
                (why for starts, why in WHY.items() if key.startswith(starts)),
                "no setting is called so",
            ),
        )
    return given, unused


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
