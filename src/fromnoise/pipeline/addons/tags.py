"""What the prompts of a request ask for beside words: A1111's <lora:name:weight> and its kin."""

from collections.abc import Iterable
from typing import Any

from fromnoise.checkpoints.library import ENDINGS
from fromnoise.errors import BadInput
from fromnoise.pipeline.addon_fields.addons import Addons, read_addons
from fromnoise.pipeline.addon_fields.embedding import Embedding
from fromnoise.pipeline.addon_fields.lora import Lora
from fromnoise.pipeline.conditioning.interpolation import InterpolatedPrompt
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.prompt.grammar import parse_prompt
from fromnoise.prompt.tree import Network

LORAS = ("lora", "lyco")


def read_tags(request: GenerationRequest, prompts: list[str]) -> Addons:
    """The request's add-ons, with those that its prompts name. Raises BadInput for one that cannot
    be put on, and where the prompts of one run ask for different ones."""
    named = [list_networks(prompt, request.dialect) for prompt in prompts]
    negative = list_networks(request.negative_prompt, request.dialect)
    for network in (network for one in (*named, negative) for network in one):
        if network.kind not in (*LORAS, "embedding"):
            raise BadInput(
                f"the prompt asks for {network.kind} {network.name!r}",
                "leave it out: none can be loaded yet",
            )
    inversions = [n for one in (*named, negative) for n in one if n.kind == "embedding"]
    named = [tuple(n for n in one if n.kind != "embedding") for one in named]
    for network in (n for n in negative if n.kind != "embedding"):
        raise BadInput(
            f"the negative prompt asks for {network.kind} {network.name!r}",
            "name it in the prompt: it changes the whole model, and a weight below 0 reverses it",
        )
    if any(one != named[0] for one in named):
        raise BadInput(
            "the prompts of one run ask for different LoRA", "give all of them the same tags"
        )
    addons, steps = request.addons or Addons(), request.steps or 1
    loras = [make_lora(network, steps) for network in named[0]]
    files = addons.places
    loras = [lora.model_copy(update={"file": files.get(lora.name)}) for lora in loras]
    found = [name_embedding(network.name) for network in inversions]
    embeddings = {item.name: item for item in (*found, *addons.embeddings)}
    update = {"loras": (*addons.loras, *loras), "embeddings": (*embeddings.values(),)}
    return addons.model_copy(update=update)


def name_embedding(name: str) -> Embedding:
    """The embedding of that name, with or without the ending of a file. Raises BadInput for what is
    no name."""
    stem = next((name[: -len(end)] for end in ENDINGS if name.lower().endswith(end)), name)
    addons = read_addons({"embeddings": [{"name": stem}]})
    assert addons is not None
    return addons.embeddings[0]


def make_lora(network: Network, steps: int) -> Lora:
    """A tag as a LoRA. What follows its weights is that of A1111's extension for block weights:
    lbw=1,0.5,…, start=STEP, stop=STEP, step=FROM-TO; and of ours, from=SHARE, to=SHARE."""
    more: dict[str, Any] = {}
    for argument in network.extra:
        key, _, value = argument.partition("=")
        try:
            match key:
                case "lbw":
                    more["blocks"] = tuple(map(float, value.split(",")))
                case "from" | "to":
                    more["start" if key == "from" else "end"] = float(value)
                case "start":
                    more["start"] = min(int(value) / steps, 1.0)
                case "stop":
                    more["end"] = min(int(value) / steps, 1.0)
                case "step":
                    first, last = value.split("-")
                    more |= {"start": min(int(first) / steps, 1.0)}
                    more |= {"end": min(int(last) / steps, 1.0)}
                case _:
                    raise ValueError
        except ValueError:
            raise BadInput(
                f"the tag of {network.kind} {network.name!r} has {argument[:99]!r}",
                "write <lora:name:weight>, <lora:name:text weight:weight>, and after that "
                "lbw=1,0.5,…, from=0.2, to=0.8, start=4, stop=12 or step=4-12",
            ) from None
    weights = {"weight": network.unet, "text_weight": network.text}
    addons = read_addons({"loras": [{"name": network.name, **weights, **more}]})
    assert addons is not None
    return addons.loras[0]


def list_networks(text: str, dialect: str) -> tuple[Network, ...]:
    """The networks that a prompt names. Raises BadInput for a frame between two prompts that name
    different ones."""
    ends = (text.start, text.end) if isinstance(text, InterpolatedPrompt) else (text,)
    check_same(ends, dialect)
    return tuple(dict.fromkeys(n for end in ends for n in parse_prompt(end, dialect).networks))


def check_same(prompts: Iterable[str], dialect: str) -> None:
    """Raises BadInput where the prompts of a film ask for different LoRA: there is no way from one
    to the other, and the picture would jump."""
    asked = dict.fromkeys(
        frozenset(n for n in parse_prompt(text, dialect).networks if n.kind != "embedding")
        for text in prompts
    )
    if len(asked) > 1:
        named = [" ".join(sorted(f"{n.name}:{n.unet:g}" for n in one)) or "none" for one in asked]
        raise BadInput(
            f"the prompts of the film ask for different LoRA: {named[0]}, and {named[1]}",
            "give all of them the same tags, or name the LoRA apart from them: --lora",
        )
