"""A textual inversion, as a request asks for it."""

from fromnoise.pipeline.addon_fields.base import AddOn


class Embedding(AddOn):
    """A textual inversion. Prompts hold it by its name, or by the name that its file gives it; a
    weight is what the prompt says."""
