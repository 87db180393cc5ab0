"""What ComfyUI and InvokeAI write into their pictures → an Infotext, as far as it goes."""

import json
from typing import Any

from fromnoise.pipeline.provenance.infotext import Infotext

INVOKE = {
    "steps": "Steps",
    "cfg_scale": "CFG scale",
    "seed": "Seed",
    "cfg_rescale_multiplier": "CFG Rescale phi",
    "clip_skip": "Clip skip",
    "strength": "Denoising strength",
}


def read_comfyui(graph: dict[str, Any]) -> Infotext | None:
    """A ComfyUI graph, node id → {inputs: name → value or link [node id, output]}: of the first
    sampler that starts from noise alone, what its inputs lead to. None without a sampler."""
    nodes = {
        k: n["inputs"]
        for k, n in graph.items()
        if isinstance(n, dict) and isinstance(n.get("inputs"), dict)
    }
    likely = [n for n in nodes.values() if {"sampler_name", "steps", "cfg", "positive"} <= n.keys()]
    if not likely:
        return None

    def up(value: Any, *names: str, but: str = "") -> Any:
        """The value itself; of a link, the nearest value with one of the names, at its node or
        above."""
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
    texts = [
        up(node.get(side), "text", "text_g", "t5xxl", "string", "value", but=other) or ""
        for side, other in (("positive", "negative"), ("negative", "positive"))
    ]
    own = {
        k: up(v, k, "value")
        for k, v in node.items()
        if k not in ("model", "positive", "negative", "latent_image") and (k, v) != ("denoise", 1)
    }
    names = {
        "Steps": "steps",
        "Sampler": "sampler_name",
        "Schedule type": "scheduler",
        "CFG scale": "cfg",
        "Seed": "seed" if "seed" in own else "noise_seed",
        "Denoising strength": "denoise",
    }
    fields = {key: own.pop(name) for key, name in names.items() if own.get(name) is not None}
    width, height = (up(node.get("latent_image"), side) for side in ("width", "height"))
    loras = [
        f"{n['lora_name']}: {n.get('strength_model', 1)}"
        for n in nodes.values()
        if "lora_name" in n
    ]
    fields |= {
        "Size": f"{width}x{height}" if width and height else None,
        "RNG": "CPU",
        "Model": up(node.get("model"), "ckpt_name", "unet_name"),
        "Loras": ", ".join(loras) or None,
        **own,
        "Version": "ComfyUI",
    }
    return Infotext(
        str(texts[0]), str(texts[1]), {k: str(v) for k, v in fields.items() if v is not None}
    )


def read_invokeai(data: dict[str, Any]) -> Infotext:
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
        fields |= {
            "Model": model.get("name", model.get("model_name")),
            "Model hash": model.get("hash"),
        }
    if axes := "".join(axis for axis in "xy" if data.pop(f"seamless_{axis}", False) is True):
        fields["Tiling"] = {"xy": "True"}.get(axes, axes)
    if "rand_device" in data:
        fields["RNG"] = "CPU" if data.pop("rand_device") == "cpu" else "GPU"
    fields |= data | {"Version": f"InvokeAI {data.pop('app_version', '')}".strip()}
    kept = {
        k: v if isinstance(v, str) else json.dumps(v) for k, v in fields.items() if v is not None
    }
    return Infotext(prompt, negative, kept)
