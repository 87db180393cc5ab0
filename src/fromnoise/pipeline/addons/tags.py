"""What the prompts of a request ask for beside words: A1111's <lora:name:weight> and its kin."""

from fromnoise.errors import BadInput
from fromnoise.pipeline.addon_fields.addons import Addons
from fromnoise.pipeline.conditioning.interpolation import InterpolatedPrompt
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.prompt.grammar import parse_prompt
from fromnoise.prompt.tree import Network


def read_tags(request: GenerationRequest, prompts: list[str]) -> Addons:
    """The request's add-ons, with those that its prompts name. Raises BadInput for one that cannot
    be put on, and where the prompts of one run ask for different ones."""
    named = [list_networks(prompt, request.dialect) for prompt in prompts]
    negative = list_networks(request.negative_prompt, request.dialect)
    for network in [network for one in (*named, negative) for network in one]:
        raise BadInput(
            f"the prompt asks for {network.kind} {network.name!r}",
            "leave it out: none can be loaded yet",
        )
    return request.addons or Addons()


def list_networks(text: str, dialect: str) -> tuple[Network, ...]:
    """The networks that a prompt names."""
    ends = (text.start, text.end) if isinstance(text, InterpolatedPrompt) else (text,)
    return tuple(dict.fromkeys(n for end in ends for n in parse_prompt(end, dialect).networks))
