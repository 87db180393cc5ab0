"""A ComfyUI graph → an Infotext of the picture that it draws.

Every node that has a part in the picture is either translated whole, or known to change nothing,
or named in `skipped` with what it says. Node names and inputs are those of ComfyUI's nodes.py and
comfy_extras. All walks are loops over visited sets: linear in the graph.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from fromnoise.errors import escape
from fromnoise.pipeline.provenance.infotext import Infotext

MOST = 500  # nodes that are named one by one
# what these do is no more than show, save, name or pass on
IDLE = {
    *("Reroute", "Note", "MarkdownNote", "VAEDecode", "SaveImage", "PreviewImage"),
    *("SaveImageWebsocket", "SaveAnimatedWEBP", "SaveAnimatedPNG", "PreviewAny"),
    *("PrimitiveNode", "PrimitiveInt", "PrimitiveFloat", "PrimitiveBoolean", "PrimitiveString"),
    *("PrimitiveStringMultiline", "BasicGuider", "CFGGuider", "RandomNoise", "KSamplerSelect"),
}
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
# the sampler that a node without sampler_name stands for
NAMED_SAMPLERS = {
    "SamplerEulerAncestral": "euler_ancestral",
    "SamplerDPMPP_2S_Ancestral": "dpmpp_2s_ancestral",
    "SamplerDPMPP_2M_SDE": "dpmpp_2m_sde",
    "SamplerDPMPP_3M_SDE": "dpmpp_3m_sde",
    "SamplerDPMPP_SDE": "dpmpp_sde",
    "SamplerLMS": "lms",
}
SAMPLER_INPUTS = {"eta": "Eta", "s_noise": "Sigma noise"}
# nodes that make noise levels: the schedule type, and which key says which input
SCHEDULERS: dict[str, tuple[str | None, dict[str, str]]] = {
    "BasicScheduler": (None, {"scheduler": "Schedule type", "denoise": "Denoising strength"}),
    "KarrasScheduler": (
        "karras",
        {
            "sigma_max": "Schedule max sigma",
            "sigma_min": "Schedule min sigma",
            "rho": "Schedule rho",
        },
    ),
    "ExponentialScheduler": (
        "exponential",
        {"sigma_max": "Schedule max sigma", "sigma_min": "Schedule min sigma"},
    ),
    "PolyexponentialScheduler": (
        "polyexponential",
        {
            "sigma_max": "Schedule max sigma",
            "sigma_min": "Schedule min sigma",
            "rho": "Schedule rho",
        },
    ),
    "BetaSamplingScheduler": (
        "beta",
        {"alpha": "Beta schedule alpha", "beta": "Beta schedule beta"},
    ),
}
CHECKPOINTS = {"CheckpointLoaderSimple": "ckpt_name", "UNETLoader": "unet_name"}
TEXTS = ("text", "text_g", "t5xxl", "clip_l", "prompt", "string", "value")
# inputs by which a node hands on what it was given, before what it does to it
PASSED = (
    *("conditioning", "conditioning_to", "conditioning_1", "positive", "negative"),
    *("sigmas", "latent_image", "samples", "latent", "model", "clip"),
)
WHY = {  # how the names of nodes begin that have no counterpart in a request
    ("ConditioningZeroOut",): "zeros are not the same as an empty prompt",
    ("ConditioningCombine", "ConditioningConcat", "ConditioningAverage"): (
        "a request has one prompt: the other texts are not part of it"
    ),
    ("CLIPTextEncode",): "it encodes a text that is not, or not alone, the prompt",
    ("CLIPSetLastLayer",): "not all texts go through it, and clip_skip is of all of them",
    ("Lora", "LoRA"): "which weights draw is said apart from the request",
    ("CheckpointLoader", "UNETLoader", "CLIPLoader", "DualCLIPLoader", "TripleCLIPLoader"): (
        "which weights draw is said apart from the request"
    ),
    ("VAELoader", "UpscaleModelLoader", "ControlNetLoader"): (
        "which weights draw is said apart from the request"
    ),
    ("Empty", "RepeatLatentBatch", "LatentFromBatch"): (
        "one stream of noise draws a whole batch there: the seed is that of its first picture"
    ),
    SAMPLERS: "it is another pass of the picture",
}
OTHERWISE = "it has a part in the picture, and no setting here does the same"


@dataclass
class Node:
    """One node of a graph."""

    kind: str
    inputs: dict[str, Any]

    def link(self, name: str) -> str | None:
        """The node that an input comes from."""
        return _target(self.inputs.get(name))

    def literal(self, name: str) -> str | int | float | None:
        """An input that is a value itself."""
        value = self.inputs.get(name)
        return value if isinstance(value, str | int | float) else None


def _target(value: Any) -> str | None:
    """The node's id in a link, [id, number of the output]."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):
        return str(value[0])
    return None


@dataclass
class _Reading:
    """A graph as it is read; `told` holds the ids of nodes that need no more words."""

    nodes: dict[str, Node]
    told: set[str] = field(default_factory=set)
    fields: dict[str, Any] = field(default_factory=dict)

    def ancestors(self, starts: list[str]) -> list[str]:
        """These nodes and all that they depend on, nearest first."""
        queue, seen = deque(starts), set(starts)
        order = []
        while queue:
            name = queue.popleft()
            if name not in self.nodes:
                continue
            order.append(name)
            for value in self.nodes[name].inputs.values():
                if (above := _target(value)) is not None and above not in seen:
                    seen.add(above)
                    queue.append(above)
        return order

    def value(self, node: Node, *names: str) -> Any:
        """The first of these inputs that the node has; of a link the nearest value above it."""
        for name in names:
            if name not in node.inputs:
                continue
            if (literal := node.literal(name)) is not None:
                return literal
            wanted = (name, "value", *TEXTS, "seed", "noise_seed", "int", "float", "number")
            for above in self.ancestors([link] if (link := node.link(name)) else []):
                for one in wanted:
                    if (literal := self.nodes[above].literal(one)) is not None:
                        return literal
        return None


def is_graph(data: Any) -> bool:
    """Whether JSON looks like a ComfyUI graph: node id → {class_type, inputs}."""
    return isinstance(data, dict) and any(
        isinstance(node, dict) and isinstance(node.get("inputs"), dict) for node in data.values()
    )


def read_comfyui(graph: dict[str, Any]) -> Infotext | None:
    """What the graph's first pass draws, the sampler that starts from noise alone. None without a
    sampler that is known."""
    nodes = {
        str(name): Node(str(node.get("class_type", "")), node["inputs"])
        for name, node in graph.items()
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    }
    reading = _Reading(nodes)
    name = _choose_sampler(reading)
    if name is None:
        return None
    sampler = nodes[name]
    reading.told.add(name)
    guider = nodes.get(sampler.link("guider") or "", sampler)
    _read_sampling(reading, sampler, guider)
    prompt, negative = _read_prompts(reading, guider)
    _read_size(reading, sampler)
    _read_weights(reading, guider)
    fields = {key: str(value) for key, value in reading.fields.items() if value is not None}
    skipped = _name_nodes(reading, name)
    return Infotext(prompt, negative, fields | {"Version": "ComfyUI"}, skipped)


def _is_sampler(node: Node) -> bool:
    return node.kind in SAMPLERS or {"sampler_name", "steps", "cfg", "positive"} <= (
        node.inputs.keys()
    )


def _choose_sampler(reading: _Reading) -> str | None:
    """The sampler of the first pass: with no other sampler above it, and whole."""
    nodes = reading.nodes
    likely = [name for name, node in nodes.items() if _is_sampler(node)]
    if len(likely) > 1:  # those that a saved picture depends on
        saved = [name for name, node in nodes.items() if node.kind.startswith("Save")]
        seen = set(reading.ancestors(saved))
        likely = [name for name in likely if name in seen] or likely
        # one walk down from all samplers: the first ones are those that it does not reach
        later = set(_descendants(reading, likely))  # with the samplers themselves
        reached = {
            name
            for name in likely
            for value in nodes[name].inputs.values()
            if _target(value) in later
        }
        likely = [name for name in likely if name not in reached] or likely

    def rank(name: str) -> tuple[bool, bool]:
        node = nodes[name]
        whole = node.inputs.get("denoise", 1) == 1
        return whole, node.inputs.get("add_noise") not in ("disable", False)

    return max(likely, key=rank, default=None)


def _descendants(reading: _Reading, starts: list[str]) -> list[str]:
    """These nodes and all that depend on them."""
    below: dict[str, list[str]] = {}
    for name, node in reading.nodes.items():
        for value in node.inputs.values():
            if (above := _target(value)) is not None:
                below.setdefault(above, []).append(name)
    queue, seen = deque(starts), set(starts)
    while queue:
        for name in below.get(queue.popleft(), ()):
            if name not in seen:
                seen.add(name)
                queue.append(name)
    return list(seen)


def _read_sampling(reading: _Reading, sampler: Node, guider: Node) -> None:
    """Steps, sampler, noise levels, scale and seed → `reading.fields`."""
    fields, nodes = reading.fields, reading.nodes
    chosen = nodes.get(sampler.link("sampler") or "", sampler)
    name = NAMED_SAMPLERS.get(chosen.kind)
    noise = nodes.get(sampler.link("noise") or "", sampler)
    levels_id = _find_levels(reading, sampler.link("sigmas"))
    scheduler = nodes.get(levels_id or "", sampler)
    schedule, keys = SCHEDULERS.get(scheduler.kind, (None, {}))
    fields["Steps"] = reading.value(scheduler, "steps")
    fields["Sampler"] = name or reading.value(chosen, "sampler_name")
    fields["Schedule type"] = schedule or reading.value(scheduler, "scheduler")
    fields["CFG scale"] = reading.value(guider, "cfg")
    if guider.kind == "BasicGuider":
        fields["CFG scale"] = 1
    fields["Seed"] = reading.value(noise, "seed", "noise_seed")
    for input_name, key in keys.items():
        if key != "Schedule type":
            fields[key] = reading.value(scheduler, input_name)
    if levels_id and scheduler.kind in SCHEDULERS:
        reading.told.add(levels_id)
    if name:
        for input_name, key in SAMPLER_INPUTS.items():
            fields[key] = reading.value(chosen, input_name)
        rest = {
            key: value
            for key, value in chosen.inputs.items()
            if key not in (*SAMPLER_INPUTS, "noise_device") and not _is_default(key, value)
        }
        if not rest:
            reading.told.add(sampler.link("sampler") or "")
    if "denoise" in sampler.inputs:
        fields["Denoising strength"] = reading.value(sampler, "denoise")
    if fields.get("Denoising strength") == 1:
        del fields["Denoising strength"]
    known = {
        *("seed", "noise_seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
        *("model", "positive", "negative", "latent_image", "noise", "guider", "sampler", "sigmas"),
    }
    for key, value in sampler.inputs.items():
        literal = sampler.literal(key)
        if key not in known and literal is not None and not _is_default(key, value):
            fields.setdefault(key, literal)
        if len(fields) == MOST:
            break
    fields["RNG"] = "CPU"


def _find_levels(reading: _Reading, name: str | None) -> str | None:
    """The node that makes the noise levels; what changes them on the way is named later."""
    seen: set[str] = set()
    found = None
    while name in reading.nodes and name not in seen:
        seen.add(name)
        found = name
        if reading.nodes[name].kind in SCHEDULERS:
            break
        name = reading.nodes[name].link("sigmas")
    return found


def _is_default(name: str, value: Any) -> bool:
    """Whether an input says what is the case without it."""
    usual = {
        "add_noise": ("enable", True),
        "return_with_leftover_noise": ("disable", False),
        "start_at_step": (0,),
        "control_after_generate": ("fixed", "randomize", "increment", "decrement"),
        "order": (4,),
        "r": (0.5,),
        "solver_type": ("midpoint",),
        "batch_size": (1,),
        "weight_dtype": ("default",),
    }
    if name == "end_at_step":
        return isinstance(value, int) and value >= 1000
    return any(type(value) is type(one) and value == one for one in usual.get(name, ()))


def _read_prompts(reading: _Reading, guider: Node) -> tuple[str, str]:
    """The texts of both sides, as far as one node says each."""
    layers: set[Any] = set()
    texts, skips = [], set()
    for names in (("conditioning", "positive", "cond1"), ("negative",)):
        text = ""
        start = next((guider.inputs[n] for n in names if n in guider.inputs), None)
        encoder = _find_encoder(reading, start)
        if encoder is not None:
            node = reading.nodes[encoder]
            found = reading.value(node, *TEXTS)
            if isinstance(found, str):
                text = found
                if node.kind == "CLIPTextEncode":
                    reading.told.add(encoder)
            layer, through = _find_layer(reading, node)
            layers.add(layer)
            skips |= through
        texts.append(text)
    layer = layers.pop() if len(layers) == 1 else None
    if isinstance(layer, int) and -64 <= layer <= -1:
        reading.fields["Clip skip"] = -layer
        reading.told |= skips
    return texts[0], texts[1]


def _find_encoder(reading: _Reading, start: Any) -> str | None:
    """The node that encodes the text of a conditioning; None where zeros take its place."""
    seen: set[str] = set()
    stack = [start]
    while stack:
        link = stack.pop()
        name = _target(link)
        if name is None or name in seen or name not in reading.nodes:
            continue
        seen.add(name)
        node = reading.nodes[name]
        if node.kind == "ConditioningZeroOut":
            continue
        if any(isinstance(node.inputs.get(key), str) for key in TEXTS):
            return name
        if "clip" in node.inputs and any(_target(node.inputs.get(key)) for key in TEXTS):
            return name
        inputs = [key for key, value in node.inputs.items() if _target(value) is not None]
        slot = link[1]
        if {"positive", "negative"} <= node.inputs.keys() and slot in (0, 1):
            inputs = [("positive", "negative")[slot]]  # the output of that side
        inputs.sort(key=lambda key: PASSED.index(key) if key in PASSED else len(PASSED))
        stack.extend(node.inputs[key] for key in reversed(inputs))
    return None


def _find_layer(reading: _Reading, encoder: Node) -> tuple[Any, set[str]]:
    """(the layer that CLIPSetLastLayer sets for an encoder, the nodes that say so)."""
    name, seen = encoder.link("clip"), set()
    while name in reading.nodes and name not in seen:
        seen.add(name)
        node = reading.nodes[name]
        if node.kind == "CLIPSetLastLayer":
            same = {
                above
                for above in reading.ancestors([name])
                if reading.nodes[above].kind == "CLIPSetLastLayer"
            }
            return reading.value(node, "stop_at_clip_layer"), same
        name = node.link("clip")
    return None, set()


def _read_size(reading: _Reading, sampler: Node) -> None:
    """Width and height, from the empty latents that the noise is for."""
    name = sampler.link("latent_image")
    for above in reading.ancestors([name] if name else []):
        node = reading.nodes[above]
        width, height = (
            reading.value(node, side) if side in node.inputs else None
            for side in ("width", "height")
        )
        if width is not None and height is not None:
            reading.fields["Size"] = f"{width}x{height}"
            batch = reading.value(node, "batch_size")
            if node.kind in ("EmptyLatentImage", "EmptySD3LatentImage") and batch in (1, None):
                reading.told.add(above)
            return


def _read_weights(reading: _Reading, guider: Node) -> None:
    """The checkpoint and the LoRAs that the sampler's network is made of."""
    loras = []
    start = guider.link("model")
    for above in reading.ancestors([start] if start else []):
        node = reading.nodes[above]
        key = next((k for k in ("ckpt_name", "unet_name") if node.literal(k) is not None), None)
        if key and "Model" not in reading.fields:
            reading.fields["Model"] = node.literal(key)
            if node.kind in CHECKPOINTS and _is_default(
                "weight_dtype", node.inputs.get("weight_dtype", "default")
            ):
                reading.told.add(above)
        if (lora := node.literal("lora_name")) is not None:
            loras.append(f"{lora}: {node.inputs.get('strength_model', 1)}")
            if node.kind in ("LoraLoader", "LoraLoaderModelOnly"):
                reading.told.add(above)
    reading.fields["Loras"] = ", ".join(loras) or None


def _name_nodes(reading: _Reading, sampler: str) -> dict[str, str]:
    """Name of a node → "its inputs (why it is not used)", of all that have a part in the picture
    and are not told."""
    below = _descendants(reading, [sampler])
    order = reading.ancestors([sampler])
    seen = set(order)
    # only what a saved picture needs, where one is saved
    ends = [name for name in below if reading.nodes[name].kind.startswith("Save")] or below
    order += [name for name in reading.ancestors(ends) if name not in seen]
    skipped: dict[str, str] = {}
    rest = 0
    counts: dict[str, int] = {}
    for name in order:
        node = reading.nodes[name]
        if name in reading.told or node.kind in IDLE:
            continue
        if len(skipped) == MOST:
            rest += 1
            continue
        kind = escape(node.kind, 100) or "node"
        counts[kind] = counts.get(kind, 0) + 1
        key = kind if counts[kind] == 1 else f"{kind} {counts[kind]}"
        why = next((w for starts, w in WHY.items() if kind.startswith(starts)), OTHERWISE)
        said = [f"{k}: {v}" for k, v in node.inputs.items() if node.literal(k) is not None]
        skipped[key] = f"{escape(', '.join(said)) or f'node {escape(name, 40)}'} ({why})"
    if rest:
        skipped["further nodes"] = f"{rest:,} ({OTHERWISE})"
    return skipped
