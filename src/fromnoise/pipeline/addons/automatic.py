"""Textual inversions that prompts name without asking for them: any word that is the name of a file
in the models' folders, as in A1111."""

import warnings
from collections.abc import Sequence

from fromnoise.checkpoints.library import list_models, shorten
from fromnoise.errors import FromnoiseError
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.addon_fields.addons import Addons
from fromnoise.pipeline.addon_fields.embedding import Embedding
from fromnoise.pipeline.addons.embedding import read_embedding
from fromnoise.pipeline.addons.tags import read_tags
from fromnoise.pipeline.addons.vectors import Named, fit_parts
from fromnoise.pipeline.conditioning.interpolation import InterpolatedPrompt
from fromnoise.pipeline.request import GenerationRequest

NARROWEST = 768  # channels of a published text encoder


def read_all(model: LatentDiffusion, request: GenerationRequest, prompts: list[str]) -> Addons:
    """What a request puts on the model: what it says, what the tags of its prompts say, and the
    embeddings that their words name. Raises as `read_tags`."""
    addons = read_tags(request, prompts)
    if not addons.find_embeddings:
        return addons
    found = {item.name: item for item in find_named(model, request, prompts)}
    both = found | {item.name: item for item in addons.embeddings}
    return addons.model_copy(update={"embeddings": (*both.values(),)})


def find_named(
    model: LatentDiffusion, request: GenerationRequest, prompts: Sequence[str]
) -> list[Embedding]:
    """The embeddings that the words of these prompts and of the negative one name; none for a model
    whose text encoder is narrower than all published ones, which no embedding fits. Warns of a file
    that has the name of a word and does not fit the model: that word is read as a word."""
    if model.text_encoder.config.dim < NARROWEST or request.dialect == "comfy":
        return []  # comfy marks them
    texts = [request.negative_prompt]
    for one in prompts:
        texts += (one.start, one.end) if isinstance(one, InterpolatedPrompt) else (one,)
    read, found = model.tokenizer.encode_words, dict[str, Embedding]()
    words = [f" {' '.join(map(str, read(text)))} " for text in texts]
    for file in list_models():
        if file.kind != "embedding":
            continue
        name = shorten(file.path.as_posix())
        ids = f" {' '.join(map(str, read(name)))} "
        if name in found or not ids.strip() or not any(ids in text for text in words):
            continue
        try:
            fit_parts(model, Named([name], read_embedding(file.path).parts))
            found[name] = Embedding(name=name, file=file.path)
        except FromnoiseError as error:
            warnings.warn(f"{name!r} is read as words: {error.message}", stacklevel=2)
    return [*found.values()]
