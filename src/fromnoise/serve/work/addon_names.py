"""Whether what a request puts on a model is there, before its job is taken."""

from fromnoise.checkpoints.library import find_addon
from fromnoise.errors import NotFound
from fromnoise.pipeline.addons.tags import read_tags
from fromnoise.pipeline.request import GenerationRequest

# a field of Addons → the kinds of files, see library.KINDS, that it may name
KINDS = {
    "loras": ("lora",),
    "embeddings": ("embedding",),
    "ip_adapters": ("ip-adapter",),
    "controls": ("controlnet", "t2i-adapter"),
}


def check_addons(request: GenerationRequest) -> None:
    """Raises NotFound for a name that no file has, and BadInput for a tag of a prompt that cannot
    be used. What the files hold is read when they are drawn with."""
    plain = request.dialect == "a1111" and "<" not in request.prompt + request.negative_prompt
    if request.addons is None and plain:
        return
    addons = read_tags(request, [request.prompt])
    for field, kinds in KINDS.items():
        for name in {item.name for item in getattr(addons, field)}:
            find_one(kinds, name)


def find_one(kinds: tuple[str, ...], name: str) -> None:
    """Raises as `find_addon` where no file of these kinds has the name."""
    for kind in kinds[1:]:
        try:
            find_addon(kind, name)
            return
        except NotFound:
            continue
    find_addon(kinds[0], name)
