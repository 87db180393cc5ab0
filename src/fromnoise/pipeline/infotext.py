"""The way back from a picture to its settings: the text that AUTOMATIC1111's web UI writes (`images.parameters` here),
and as far as they go ComfyUI's and InvokeAI's. Loaded only where someone asks for it; needs no torch."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from fromnoise.diffusion import samplers, spacing
from fromnoise.errors import BadInput, NotFound, UnknownName
from fromnoise.pipeline.request import OPTIONS, GenerationRequest

# what the web UI and its extensions call the fields, older spellings and SD.Next's last
FIELDS = {"Steps": "steps", "CFG scale": "cfg", "Seed": "seed", "Variation seed": "variation_seed",
          "Variation seed strength": "variation_strength", "Variation blend": "variation_blend",
          "ENSD": "eta_noise_seed_delta", "Eta": "eta", "Sigma churn": "s_churn", "Sigma tmin": "s_tmin",
          "Sigma tmax": "s_tmax", "Sigma noise": "s_noise", "CFG Rescale phi": "cfg_rescale",
          "NGMS": "skip_uncond_below", "Discard penultimate sigma": "discard_penultimate",
          "Noise scaling": "noise_scaling", "Eta DDIM": "eta", "CFG Rescale φ": "cfg_rescale",
          "CFG rescale": "cfg_rescale", "Variation strength": "variation_strength", "Clip skip": "clip_skip",
          "CLIP skip": "clip_skip", "Prompt dialect": "dialect", "Prompt steps": "prompt_steps"}  # fmt: skip
SAMPLER_OPTIONS = {"UniPC variant": "variant", "UniPC order": "order", "UniPC lower order final": "lower_order_final"}
SPACING_OPTIONS = {"Schedule min sigma": "sigma_min", "Schedule max sigma": "sigma_max", "Schedule rho": "rho",
                   "Beta schedule alpha": "alpha", "Beta schedule beta": "beta"}  # fmt: skip
DIALECTS = {"comfyui": "comfy", "invokeai": "compel"}  # whose makers do not write A1111's
TIMESTEPS = ("ddim", "plms", "unipc", "ddim_cfg_pp")  # A1111 runs these outside k-diffusion, at timesteps of their own
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
INVOKE = {"steps": "Steps", "cfg_scale": "CFG scale", "seed": "Seed", "cfg_rescale_multiplier": "CFG Rescale phi",
          "clip_skip": "Clip skip", "strength": "Denoising strength"}  # fmt: skip
EDITS = {"Denoising strength": "strength", "Mask blur": "mask_blur", "Masked content": "content",
         "Resize mode": "resize", "Masked area padding": "padding"}  # fmt: skip
HIRES = {"Denoising strength": "hires_strength", "Hires upscale": "hires_scale", "Hires upscaler": "hires_upscaler",
         "Hires steps": "hires_steps", "Hires sampler": "hires_sampler", "Hires schedule type": "hires_spacing",
         "Hires CFG Scale": "hires_cfg", "Hires prompt": "hires_prompt",
         "Hires negative prompt": "hires_negative_prompt"}  # fmt: skip
BLENDS = {"Blend weight": "weight", "Blend strength": "strength", "CLIP guidance scale": "clip_scale"}
CHUNKS = ("parameters", "prompt", "invokeai_metadata")  # A1111's, ComfyUI's and InvokeAI's, in PNG files
KEY = re.compile(r"\s*(\w[\w \-/]+):\s*")
END = re.compile(r"\s*(?:,|\Z)")
INLINE = re.compile(r"(.*[\s.,])(Steps: ?\d+,.*)")
NEGATIVE = (re.compile(r"^[ \t]*negative prompt:", re.IGNORECASE | re.MULTILINE),
            re.compile(r"negative prompt:", re.IGNORECASE))  # fmt: skip
JSON = json.JSONDecoder(strict=False)  # with raw line breaks and tabs in its strings


@dataclass(frozen=True)
class Infotext:
    """What a picture says of itself."""

    prompt: str
    negative_prompt: str
    fields: dict[str, str]  # the settings, key → value without its quotes, in their order


def parse(text: str) -> Infotext:
    """The text in its parts. Nothing is wrong: what does not look like settings is prompt.

    The last line holds the settings if it has three `key: value` pairs, as in the web UI; else the last line that
    begins with "Steps:" and has, and what follows it (Dynamic Prompts' templates, "Used embeddings") joins them.
    Prompts keep every blank in texts of this program; in others the blanks around lines go, as in the web UI, and a
    text that is all one line is taken apart as well.
    """
    if text.count("\n") == text.count("\r\n"):
        text = text.replace("\r\n", "\n")
    lines = text.rstrip().split("\n")
    likely = [len(lines) - 1, *(i for i in reversed(range(len(lines))) if lines[i].lstrip().startswith("Steps:"))]
    at = next((i for i in likely if sum(key is not None for key, _ in _pairs(lines[i])) >= 3), len(lines))
    head, settings, rest = "\n".join(lines[:at]), "".join(lines[at : at + 1]), lines[at + 1 :]
    if not settings.lstrip().startswith("Steps:") and (inline := INLINE.match(settings)):
        keys = [key for key, _ in _pairs(inline[1])]
        if any(key is None or "negative prompt" in key.lower() for key in keys):  # "a cat. Steps: 20, Sampler: …"
            head, settings = f"{head}\n{inline[1]}", inline[2]
    fields, last = {key or value: value for key, value in _pairs(settings)}, None
    for line in filter(str.strip, rest):
        pair = KEY.match(line)
        if last is None or pair:
            last = pair[1] if pair else line.strip()
            fields[last] = line[pair.end() if pair else 0 :].strip()
        else:
            fields[last] += f"\n{line.strip()}"
    if _maker(fields) == "fromnoise":
        prompt, _, negative = f"\n{head}".partition("\nNegative prompt: ")
        return Infotext(prompt[1:], negative, fields)
    parts = next((parts for mark in NEGATIVE if len(parts := mark.split(head, maxsplit=1)) > 1), [head, ""])
    prompt, negative = ("\n".join(map(str.strip, part.strip().split("\n"))) for part in parts)
    return Infotext(prompt, negative, fields)


def _pairs(line: str) -> Iterator[tuple[str | None, str]]:
    """(key, value) of `key: value, …`; (None, text) where there is no key. A value in JSON's quotes, and JSON itself,
    may hold commas."""
    at, faults = 0, 0
    while at < len(line):
        key = KEY.match(line, at)
        start = stop = key.end() if key else at
        value, end = "", None
        if (
            key and faults < 99 and line.startswith(('"', "[", "{"), start)
        ):  # each fault counts the line breaks before it
            try:
                value, stop = JSON.raw_decode(line, start)
                end = END.match(line, stop)
            except (ValueError, RecursionError):
                faults += 1
        if end:
            value, at = value if isinstance(value, str) else line[start:stop], end.end()
        else:
            stop = line.find(",", start) % (len(line) + 1)  # −1, not found: the end
            value, at = line[start:stop].strip(), stop + 1
        if key or value:
            yield key and key[1], value


def _maker(fields: dict[str, str]) -> str:
    version = fields.get("Version", "").lower()
    return next((name for name in ("fromnoise", "comfyui", "invokeai") if version.startswith(name)), "a1111")


def _sampler(name: str) -> tuple[samplers.Entry, str | None] | None:
    """`samplers.parse`, also of what nodes for ComfyUI write: sampler and spacing in one, "euler_sgm_uniform"."""
    words = name.replace("_", " ").split()
    for i in range(len(words), max(0, len(words) - 4), -1):
        with suppress(UnknownName):
            entry, fused = samplers.parse(" ".join(words[:i]))
            return entry, spacing.find(" ".join(words[i:])).name if words[i:] else fused
    return None


def _json(text: str) -> Any:
    """The value that a text is, the text itself where it is none."""
    try:
        return json.loads({"True": "true", "False": "false"}.get(text, text))
    except (ValueError, RecursionError):
        return text


def request(info: Infotext) -> tuple[dict[str, Any], dict[str, str]]:
    """(keywords for `GenerationRequest.of`, each of which it takes; key → "value (why it could not be used)").

    The inverse of `images.parameters`: the one picture, with the seed of its own. Of other programs' texts, what they
    leave unsaid is said here, so that the same noise takes the same way:
    - A1111 draws on the GPU unless it says RNG: "nv" has an NVIDIA GPU's numbers; another maker's GPU (and Apple's)
      gave others, which nothing here can draw.
    - A1111 blends a variation column by column, and starts k-diffusion's samplers from noise · sigma_max unless it says
      "SGM noise multiplier".
    - Where no schedule type is named, nor one in the sampler's name, the levels were uniform (Restart's karras), as in
      A1111 before 1.9; "Automatic" is what 1.9 takes for the sampler; DDIM, PLMS and UniPC had their own.
    - ComfyUI's Beta is of timesteps, A1111's of sigmas.
    - Prompts are in the maker's own dialect, and A1111's change by call of the network.
    """
    texts = {"prompt": info.prompt, "negative_prompt": info.negative_prompt}
    given: dict[str, Any] = {k: v.encode(errors="replace").decode() for k, v in texts.items()}  # no lone surrogates
    fields, unused, maker = dict(info.fields), {}, _maker(info.fields)
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
        drop("Schedule type", "no spacing here is called so" if kind else "it follows from a sampler that is not known")

    for key, field in FIELDS.items():
        if key in fields and field in OPTIONS and field not in (entry.options if entry else ()):
            drop(key, f"the sampler {entry.name} takes no {field}" if entry else "it is of a sampler that is not known")
        elif key in fields:
            use(key, **{field: fields[key]})
    for target, whole, names, owner in (("sampler_options", "Sampler options", SAMPLER_OPTIONS, entry),
                                        ("spacing_options", "Schedule options", SPACING_OPTIONS, chosen)):  # fmt: skip
        for key in [key for key in (whole, *names) if key in fields]:
            options = {names[key]: _json(fields[key])} if key in names else _json(fields[key])
            if not isinstance(options, dict) or not options.keys() <= set(owner.options if owner else ()):
                drop(key, f"{owner.name} takes no such option" if owner else "what it is an option of is not known")
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
        use("Tiling", tiling={"true": "both", "false": "none"}.get(said := fields["Tiling"].strip().lower(), said))
    for key, names, more in (("CFG interval", ("cfg_sigma_min", "cfg_sigma_max"), {}),
                             ("APG", ("apg_parallel", "apg_norm", "apg_momentum"), {"apg": True})):  # fmt: skip
        if key in fields:  # apg's 0 and inf are its defaults; of the interval the model has its own
            numbers = zip(names, fields[key].split(), strict=False)
            use(key, **more, **{name: number for name, number in numbers if not more or number not in ("0", "inf")})

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
            sgm = [fields.pop(key) for key in ("SGM noise multiplier", "SGM noise multplier") if key in fields]
            scaled = entry.name not in TIMESTEPS and "True" not in sgm
            given.setdefault("noise_scaling", "sigma_max" if scaled else "unit")
    for key in list(fields):
        drop(key, next((why for starts, why in WHY.items() if key.startswith(starts)), "no setting is called so"))
    return given, unused


def edit(info: Infotext) -> dict[str, Any]:
    """The keywords that an EditRequest takes besides, where the text is of an edit. Its `width` and `height`, None
    where the picture kept its size, go before those of `request`."""
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


def hires(info: Infotext) -> dict[str, Any]:
    """The keywords that a HiresRequest takes besides, where the text is of a picture drawn in two passes."""
    if not info.fields.keys() & {"Hires upscale", "Hires resize"}:
        return {}
    found: dict[str, Any] = {ours: info.fields[key] for key, ours in HIRES.items() if key in info.fields}
    width, _, height = info.fields.get("Hires resize", "").partition("x")  # 0: in proportion
    sides = {"hires_width": width, "hires_height": height}
    return found | {name: side for name, side in sides.items() if side not in ("", "0")}


def blend(info: Infotext) -> dict[str, Any]:
    """The keywords that a BlendRequest takes besides, where the text is of a blend."""
    is_one = "Blend weight" in info.fields
    return {ours: info.fields[key] for key, ours in BLENDS.items() if key in info.fields} if is_one else {}


def read(path: Path | str) -> str | None:
    """The text of a PNG, JPEG or WebP file in the web UI's format; None where it has none.
    Raises NotFound; BadInput for a file that is no picture, is broken before the text or claims too many pixels."""
    return _texts(Path(path)).get("parameters")


def found(path: Path | str) -> Infotext:
    """What a picture says of itself, by whichever program. Raises as `read`, and BadInput where it says nothing."""
    texts = _texts(Path(path))
    if "parameters" in texts:
        return parse(texts["parameters"])
    for chunk, translated in (("invokeai_metadata", _invoke), ("prompt", _comfy)):
        content = _json(texts.get(chunk, ""))
        if isinstance(content, dict) and (info := translated(content)):
            return info
    raise BadInput(f"{path} says nothing of how it was made",
                   "give the file as the program saved it: most sites and editors strip the settings")  # fmt: skip


def _texts(path: Path) -> dict[str, str]:
    """CHUNKS → their text, those that are there. No pixel is decoded, but in PNG files that have none of them before
    their pixels and may have one behind."""
    try:
        with Image.open(path) as picture:
            texts = {k: v for k, v in picture.info.items() if k in CHUNKS and isinstance(v, str)}
            large = picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or 2**62)
            if texts or (picture.format == "PNG" and large):
                return texts
            exif = picture.getexif()  # reads a PNG file to its end
            texts = {k: v for k, v in picture.info.items() if k in CHUNKS and isinstance(v, str)}
            if comment := exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment):
                texts.setdefault("parameters", comment if isinstance(comment, str) else _comment(bytes(comment)))
            if str(graph := exif.get(ExifTags.Base.Model, "")).startswith("prompt:"):  # ComfyUI's, in WebP
                texts.setdefault("prompt", graph.removeprefix("prompt:").rstrip("\0"))
            return texts
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", "look for a slip in its name") from error
    except Image.DecompressionBombError as error:
        raise BadInput(f"{path} claims too many pixels: {error}", "give a smaller picture") from error
    except Exception as error:  # Pillow promises no fixed set of errors for files that are broken
        raise BadInput(f"cannot read {path}: {error}", "give a whole PNG, JPEG or WebP file") from error


def _comment(raw: bytes) -> str:
    """EXIF 2.32's UserComment, eight bytes that name the code and the text. Writers disagree on UTF-16's order: the one
    in which more of its end is ASCII, as the settings are, whatever the prompt is written in."""
    code, body = raw[:8], raw[8:]
    if code == b"UNICODE\0":
        ways = [body.decode(order, "replace").rstrip("\0") for order in ("utf-16-be", "utf-16-le")]
        return max(ways, key=lambda way: sum(" " <= c <= "~" for c in way[-99:])).removeprefix("\ufeff")
    body = body if code in (b"ASCII\0\0\0", bytes(8)) else raw
    try:
        return body.decode().rstrip("\0")
    except UnicodeDecodeError:
        return body.decode("latin-1").rstrip("\0")


def _comfy(graph: dict[str, Any]) -> Infotext | None:
    """A ComfyUI graph, node id → {inputs: name → value or link [node id, output]}: of the first sampler that starts
    from noise alone, what its inputs lead to. None without a sampler."""
    nodes = {k: n["inputs"] for k, n in graph.items() if isinstance(n, dict) and isinstance(n.get("inputs"), dict)}
    likely = [n for n in nodes.values() if {"sampler_name", "steps", "cfg", "positive"} <= n.keys()]
    if not likely:
        return None

    def up(value: Any, *names: str, but: str = "") -> Any:
        """The value itself; of a link, the nearest value with one of the names, at its node or above."""
        queue, seen = [value], set()
        for value in queue:
            if not isinstance(value, list):
                return value
            if not value or str(value[0]) in seen:
                continue
            seen.add(str(value[0]))
            inputs = nodes.get(str(value[0]), {})
            for name in names:
                if isinstance(inputs.get(name), str | int | float):
                    return inputs[name]
            queue.extend(v for k, v in inputs.items() if isinstance(v, list) and k != but)
        return None

    node = max(likely, key=lambda n: (n.get("denoise", 1) == 1, n.get("add_noise") != "disable"))
    texts = [up(node.get(side), "text", "text_g", "t5xxl", "string", "value", but=other) or ""
             for side, other in (("positive", "negative"), ("negative", "positive"))]  # fmt: skip
    own = {k: up(v, k, "value") for k, v in node.items()
           if k not in ("model", "positive", "negative", "latent_image") and (k, v) != ("denoise", 1)}  # fmt: skip
    names = {"Steps": "steps", "Sampler": "sampler_name", "Schedule type": "scheduler", "CFG scale": "cfg",
             "Seed": "seed" if "seed" in own else "noise_seed", "Denoising strength": "denoise"}  # fmt: skip
    fields = {key: own.pop(name) for key, name in names.items() if own.get(name) is not None}
    width, height = (up(node.get("latent_image"), side) for side in ("width", "height"))
    loras = [f"{n['lora_name']}: {n.get('strength_model', 1)}" for n in nodes.values() if "lora_name" in n]
    fields |= {"Size": f"{width}x{height}" if width and height else None, "RNG": "CPU",
               "Model": up(node.get("model"), "ckpt_name", "unet_name"), "Loras": ", ".join(loras) or None,
               **own, "Version": "ComfyUI"}  # fmt: skip
    return Infotext(str(texts[0]), str(texts[1]), {k: str(v) for k, v in fields.items() if v is not None})


def _invoke(data: dict[str, Any]) -> Infotext:
    """InvokeAI's metadata, of version 3 and later."""
    data = {k: v for k, v in data.items() if v is not None}
    prompt, negative = (str(data.pop(f"{side}_prompt", "")) for side in ("positive", "negative"))
    if isinstance(skipped := data.get("clip_skip"), int):
        data["clip_skip"] = skipped + 1  # it counts the layers that are left out
    fields = {key: data.pop(name) for name, key in INVOKE.items() if name in data}
    if name := str(data.pop("scheduler", "")):
        plain = name.removesuffix("_k").replace("kdpm", "k_dpm")
        fields |= {"Sampler": "plms" if plain == "pndm" else plain}
        fields |= {"Schedule type": "Karras"} if name.endswith("_k") else {}
    if {"width", "height"} <= data.keys():
        fields["Size"] = f"{data.pop('width')}x{data.pop('height')}"
    if isinstance(model := data.get("model"), dict):
        fields |= {"Model": model.get("name", model.get("model_name")), "Model hash": model.get("hash")}
    if axes := "".join(axis for axis in "xy" if data.pop(f"seamless_{axis}", False) is True):
        fields["Tiling"] = {"xy": "True"}.get(axes, axes)
    if "rand_device" in data:
        fields["RNG"] = "CPU" if data.pop("rand_device") == "cpu" else "GPU"
    fields |= data | {"Version": f"InvokeAI {data.pop('app_version', '')}".strip()}
    kept = {k: v if isinstance(v, str) else json.dumps(v) for k, v in fields.items() if v is not None}
    return Infotext(prompt, negative, kept)
