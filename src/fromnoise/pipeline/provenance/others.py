"""What other programs write as JSON or as a command line → an Infotext.

SwarmUI, InvokeAI, NovelAI, Fooocus, Draw Things, Easy Diffusion and what resembles them. What has
no counterpart stays a field of its own name, which no request takes: it is told as unused.
"""

import json
import re
from typing import Any

from fromnoise.pipeline.provenance.infotext import Infotext

MOST = 500  # fields that are told one by one
# name without its blanks, marks and capitals → the web UI's key
KEYS = {
    **dict.fromkeys(("prompt", "positiveprompt", "c"), "prompt"),
    **dict.fromkeys(("negativeprompt", "negative", "uc"), "negative_prompt"),
    **dict.fromkeys(("steps", "numinferencesteps", "samplingsteps"), "Steps"),
    **dict.fromkeys(("cfgscale", "guidancescale", "scale", "cfg"), "CFG scale"),
    **dict.fromkeys(("sampler", "samplername", "samplingmethod"), "Sampler"),
    **dict.fromkeys(("scheduler", "schedulername", "noiseschedule"), "Schedule type"),
    **dict.fromkeys(("cfgrescale", "cfgrescalemultiplier"), "CFG Rescale phi"),
    **dict.fromkeys(("strength", "denoisingstrength", "promptstrength"), "Denoising strength"),
    **dict.fromkeys(("initimagecreativity",), "Denoising strength"),
    **dict.fromkeys(("model", "basemodel", "usestablediffusionmodel"), "Model"),
    "stablediffusionmodel": "Model",
    "basemodelhash": "Model hash",
    "seed": "Seed",
    "width": "width",
    "height": "height",
    "size": "Size",
    "resolution": "Size",
    "clipskip": "Clip skip",
    "variationseed": "Variation seed",
    "variationseedstrength": "Variation seed strength",
}
INVOKE = {
    "steps": "Steps",
    "cfg_scale": "CFG scale",
    "seed": "Seed",
    "cfg_rescale_multiplier": "CFG Rescale phi",
    "clip_skip": "Clip skip",
    "strength": "Denoising strength",
}
OLD_SAMPLERS = {"k_dpmpp_2": "dpmpp_2m", "k_dpmpp_2_a": "dpmpp_2s_a"}  # of InvokeAI 2
DREAM = {  # the options of InvokeAI 2's command line
    "s": "Steps",
    "S": "Seed",
    "W": "width",
    "H": "height",
    "C": "CFG scale",
    "A": "Sampler",
    "f": "Denoising strength",
}
BRACKETS = re.compile(r"\[([^\[\]]*)\]")  # InvokeAI 2's negative prompt, in the prompt
SEED_MODES = {"Torch CPU Compatible": "CPU", "NVIDIA GPU Compatible": "NV"}  # of Draw Things


def read_json(data: dict[str, Any]) -> Infotext | None:
    """The settings in a JSON object, by what it holds. None if it holds none that are known."""
    if isinstance(swarm := data.get("sui_image_params"), dict):
        return read_swarmui(swarm, data)
    if isinstance(data.get("image") or data.get("images"), dict | list) and "app_version" in data:
        return read_invokeai_2(data)
    if "app_version" in data or {"positive_prompt", "negative_prompt"} <= data.keys():
        return read_invokeai(data)
    if "c" in data and "uc" in data and "sampler" in data:
        return read_draw_things(data)
    if "metadata_scheme" in data or str(data.get("version", "")).startswith("Fooocus"):
        return read_fooocus(data)
    if "uc" in data and "prompt" in data:
        return read_novelai(data, {})
    names = {KEYS.get(_normalize(name)) for name in list(data)[:MOST]}
    if "prompt" in names and names & {"Steps", "Seed", "Sampler", "CFG scale"}:
        return _read_names(data, "unknown program's JSON")
    return None


def _normalize(name: Any) -> str:
    return re.sub(r"[\s_-]", "", str(name)[:99]).lower()


def _write_value(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):  # numbers of thousands of digits, thousands of levels
        return "…"


def _read_names(data: dict[str, Any], version: str, keep: tuple[str, ...] = ()) -> Infotext:
    """The fields that KEYS knows under their keys, the others under their own names."""
    texts = {"prompt": "", "negative_prompt": ""}
    sides: dict[str, str] = {}
    fields: dict[str, str] = {}
    for name in list(data)[:MOST]:
        value = data[name]
        key = None if name in keep else KEYS.get(_normalize(name))
        if value is None:
            continue
        if key in texts and isinstance(value, str):
            texts[key] = value
        elif key in ("width", "height"):
            sides[key] = _write_value(value)
        elif key and key not in texts and isinstance(value, str | int | float):
            fields[key] = _write_value(value)
        else:
            fields[str(name)] = _write_value(value)
    if len(data) > MOST:
        fields["further settings"] = f"{len(data) - MOST:,}"
    if len(sides) == 2:
        fields["Size"] = f"{sides['width']}x{sides['height']}"
    size = re.fullmatch(r"\(?(\d{1,6})\s?[,x×]\s?(\d{1,6})\)?", fields.get("Size", "").strip())
    if size:
        fields["Size"] = f"{size[1]}x{size[2]}"
    return Infotext(texts["prompt"], texts["negative_prompt"], fields | {"Version": version})


def read_swarmui(settings: dict[str, Any], whole: dict[str, Any]) -> Infotext:
    """SwarmUI's `sui_image_params`; `whole` holds what stands beside it."""
    settings = dict(settings)
    version = f"SwarmUI {settings.pop('swarm_version', '')}".strip()
    layer = settings.pop("clipstopatlayer", None)
    if isinstance(layer, int) and layer < 0:
        settings["clip_skip"] = -layer
    for name in ("aspectratio", "date", "generation_time"):
        settings.pop(name, None)
    if settings.get("initimagecreativity") == 0 or "initimage" not in settings:
        settings.pop("initimagecreativity", None)  # it is of a picture to start from
    beside = {name: value for name, value in whole.items() if name != "sui_image_params"}
    info = _read_names(settings | beside, version)
    return Infotext(info.prompt, info.negative_prompt, info.fields | {"RNG": "CPU"})


def read_fooocus(data: dict[str, Any]) -> Infotext:
    """Fooocus' own scheme. Its styles add words to the prompt that one text cannot say."""
    data = dict(data)
    version = str(data.pop("version", "")).removeprefix("Fooocus").strip()
    info = _read_names(data, f"Fooocus JSON {version}".strip())
    return Infotext(info.prompt, info.negative_prompt, info.fields | {"RNG": "CPU"})


def read_novelai(data: dict[str, Any], texts: dict[str, str]) -> Infotext:
    """NovelAI's Comment; texts: what else the file says."""
    info = _read_names(data, "NovelAI", keep=("strength",))
    fields = dict(info.fields)
    if source := texts.get("source"):
        fields["Model"] = source
    if fields.get("Schedule type", "").lower() == "native":
        fields["Schedule type"] = "uniform"
    for name, plain in (("sm", "false"), ("sm_dyn", "false"), ("n_samples", "1")):
        if fields.get(name) == plain:
            del fields[name]
    skipped = {}
    if re.search(r"[{}\[\]]|::", info.prompt + info.negative_prompt):
        skipped["Prompt syntax"] = "{ }, [ ] and :: (NovelAI's weights of words are read as words)"
    return Infotext(info.prompt, info.negative_prompt, fields, skipped)


def read_draw_things(data: dict[str, Any]) -> Infotext:
    """Draw Things' JSON in XMP: c, uc, model, sampler, scale, seed, size, steps, strength."""
    data = dict(data)
    more = data.pop("v2", None)
    mode = data.pop("seed_mode", None)
    if mode is None and isinstance(more, dict):
        number = more.get("seedMode")
        mode = {"1": "Torch CPU Compatible", "3": "NVIDIA GPU Compatible"}.get(str(number), number)
    if data.get("strength") == 1:
        del data["strength"]  # it starts from noise alone
    info = _read_names(data, "Draw Things")
    rng = {} if mode is None else {"RNG": SEED_MODES.get(str(mode), _write_value(mode))}
    rest = {} if more is None else {"v2": _write_value(more)}
    return Infotext(info.prompt, info.negative_prompt, info.fields | rng | rest)


def read_easy_diffusion(texts: dict[str, str]) -> Infotext:
    """Easy Diffusion: one text for each setting."""
    known = {name: text for name, text in texts.items() if _normalize(name) in KEYS}
    return _read_names(known, "Easy Diffusion")


def read_invokeai(data: dict[str, Any]) -> Infotext:
    """InvokeAI's metadata, of version 3 and later."""
    data = {name: data[name] for name in list(data)[:MOST] if data[name] is not None}
    prompt, negative = (str(data.pop(f"{side}_prompt", "")) for side in ("positive", "negative"))
    if isinstance(skipped := data.get("clip_skip"), int):
        data["clip_skip"] = skipped + 1  # it counts the layers that are left out
    fields: dict[str, Any] = {key: data.pop(name) for name, key in INVOKE.items() if name in data}
    if name := str(data.pop("scheduler", "")):
        plain = name.removesuffix("_k").replace("kdpm", "k_dpm")
        fields |= {"Sampler": "plms" if plain == "pndm" else plain}
        fields |= {"Schedule type": "Karras"} if name.endswith("_k") else {}
    if {"width", "height"} <= data.keys():
        width, height = (_write_value(data.pop(side)) for side in ("width", "height"))
        fields["Size"] = f"{width}x{height}"
    if isinstance(model := data.get("model"), dict):
        fields |= {
            "Model": model.get("name", model.get("model_name")),
            "Model hash": model.get("hash"),
        }
    if axes := "".join(axis for axis in "xy" if data.pop(f"seamless_{axis}", False) is True):
        fields["Tiling"] = {"xy": "True"}.get(axes, axes)
    if "rand_device" in data:
        fields["RNG"] = "CPU" if data.pop("rand_device") == "cpu" else "GPU"
    version = f"InvokeAI {data.pop('app_version', '')}".strip()
    fields |= data | {"Version": version}
    kept = {str(k): _write_value(v) for k, v in fields.items() if v is not None}
    return Infotext(prompt, negative, kept)


def read_invokeai_2(data: dict[str, Any]) -> Infotext:
    """InvokeAI 2's `sd-metadata`. Its negative prompt stands in brackets in the prompt."""
    image = data.get("image") or data.get("images")
    image = image[0] if isinstance(image, list) and image else image
    image = dict(image) if isinstance(image, dict) else {}
    prompts = image.pop("prompt", "")
    parts = prompts if isinstance(prompts, list) else [prompts]
    texts = [str(p.get("prompt", "")) if isinstance(p, dict) else str(p) for p in parts[:MOST]]
    prompt, negative = _split_brackets(texts[0] if texts else "")
    for name in ("threshold", "perlin", "hires_fix", "variations", "postprocessing", "seamless"):
        if not image.get(name):
            image.pop(name, None)
    if image.pop("seamless", False):
        image["Tiling"] = "True"
    if len(texts) > 1:
        image["further prompts"] = texts[1:]
    sampler = str(image.get("sampler", ""))
    info = _read_names(
        image | {"sampler": OLD_SAMPLERS.get(sampler, sampler) or None},
        f"InvokeAI {data.get('app_version', 2)}",
    )
    fields = info.fields | {"Schedule type": "uniform", "RNG": "GPU"}
    for name, key in (("model_weights", "Model"), ("model", "Model"), ("model_hash", "Model hash")):
        if isinstance(data.get(name), str):
            fields.setdefault(key, data[name])
    return Infotext(prompt, negative, fields)


def read_dream(text: str) -> Infotext | None:
    """InvokeAI 2's `Dream`, its command line: "a cat [dog]" -s 50 -S 7 -W 512 -H 512 -C 7.5 …"""
    end = text.rfind('" -')
    if not text.startswith('"') or end < 1:
        return None
    prompt, negative = _split_brackets(text[1:end].replace('\\"', '"'))
    fields: dict[str, str] = {}
    sides: dict[str, str] = {}
    for option in text[end + 2 :].split(" -", MOST):
        name, _, value = option.strip().removeprefix("-").partition(" ")
        if not value and name[:1] in DREAM:  # -s50
            name, value = name[:1], name[1:]
        key = DREAM.get(name, f"-{name}")
        (sides if key in ("width", "height") else fields)[key] = value.strip()
    if len(sides) == 2:
        fields["Size"] = f"{sides['width']}x{sides['height']}"
    if "Sampler" in fields:
        fields["Sampler"] = OLD_SAMPLERS.get(fields["Sampler"], fields["Sampler"])
    fields |= {"Schedule type": "uniform", "RNG": "GPU", "Version": "InvokeAI 2"}
    return Infotext(prompt, negative, fields)


def _split_brackets(text: str) -> tuple[str, str]:
    negative = " ".join(part.strip() for part in BRACKETS.findall(text))
    prompt = BRACKETS.sub("", text)
    return re.sub(r" {2,}", " ", prompt).strip(), negative
