"""What a picture says of its LoRA, in A1111's words: tags in the prompt, and the files' hashes."""

import json
from collections.abc import Mapping
from pathlib import Path

from fromnoise.checkpoints.lora.digest import read_digest
from fromnoise.errors import BadInput, NotFound, escape
from fromnoise.pipeline.addon_fields.addons import Addons
from fromnoise.pipeline.addon_fields.lora import Lora
from fromnoise.pipeline.addons.files import find_file
from fromnoise.pipeline.addons.tags import read_tags
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.prompt.dialects.base import write_number

MOST = 99  # hashes of one picture that are read


def spell(
    request: GenerationRequest, more: dict[str, str | None]
) -> tuple[GenerationRequest, dict[str, str | None]]:
    """(the request with a tag in its prompt for each LoRA that a field names; what else there is to
    say, with the hashes). The prompts of a second pass have the same tags."""
    found: dict[str, str] = {}
    prompts = [request.prompt, *filter(None, [more.get("Hires prompt")])]
    for lora in (lora for text in prompts for lora in read_tags(request, [text]).loras):
        found[lora.name] = read_digest(find_file("lora", lora))
    named = request.addons.loras if request.addons else ()
    tags = "".join(f" {write_tag(lora)}" for lora in named)
    request = request.model_copy(update={"prompt": request.prompt + tags})
    if second := more.get("Hires prompt"):
        more = more | {"Hires prompt": second + tags}
    if tags and (film := more.get("Film")):  # a frame is drawn again from the film's prompts
        values = json.loads(film)
        values["prompts"] = [prompt + tags for prompt in values["prompts"]]
        more = more | {"Film": json.dumps(values, ensure_ascii=False)}
    if not found:
        return request, more
    return request, more | {"Lora hashes": ", ".join(f"{k}: {v}" for k, v in found.items())}


def write_tag(lora: Lora) -> str:
    """The tag that `tags.make_lora` reads as this LoRA again."""
    text = lora.weight if lora.text_weight is None else lora.text_weight
    parts = ["lora", lora.name, write_number(text)]
    more = [f"lbw={','.join(map(write_number, lora.blocks))}"] if lora.blocks else []
    more += [f"from={write_number(lora.start)}"] if lora.start else []
    more += [f"to={write_number(lora.end)}"] if lora.end != 1 else []
    if more or text != lora.weight:
        parts.append(write_number(lora.weight))
    return f"<{':'.join([*parts, *more])}>"


def check_files(path: Path, fields: Mapping[str, str], places: Mapping[str, Path]) -> Addons | None:
    """The add-ons of a replay: where the files lie that the picture at `path` names. Raises
    NotFound for one that is not here, and BadInput for another one of its name."""
    recorded: dict[str, str] = {}
    for pair in fields.get("Lora hashes", "").split(",")[:MOST]:
        name, colon, digest = pair.strip().rpartition(": ")
        if colon:
            recorded[name] = digest
    for name, digest in recorded.items():
        try:
            file = find_file("lora", Lora(name=name, file=places.get(name)))
            now = read_digest(file)
        except (NotFound, ValueError) as error:
            raise NotFound(
                f"{path} was drawn with the LoRA {escape(name)} (hash {digest}), which is not here",
                f"give its file with --lora, or: {getattr(error, 'remedy', 'rename it')}",
            ) from None
        if now[:10] != digest[:10]:
            raise BadInput(
                f"{file} is not the LoRA {escape(name)} that {path} was drawn with (hash {now}, "
                f"then {digest})",
                "give the very same file with --lora",
            )
    if unknown := [name for name in places if name not in recorded]:
        raise BadInput(f"{path} was drawn without the LoRA {unknown[0]}", "leave out its --lora")
    return Addons(places=dict(places)) if places else None
