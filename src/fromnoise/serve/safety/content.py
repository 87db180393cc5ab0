"""A hook for a content filter of the operator's own. Off by default."""

from collections.abc import Callable
from importlib import import_module

from PIL import Image

from fromnoise.errors import BadInput, escape

# (prompt or None, picture or None) → why it is refused, or None
ContentFilter = Callable[[str | None, Image.Image | None], str | None]


def load_filter(name: str) -> ContentFilter | None:
    """The function "module:function"; None for "". It is called with (prompt, None) before a job is
    accepted, and with (None, picture) before a picture is kept; what it returns is the reason of a
    refusal, None lets it pass. Raises BadInput."""
    if not name:
        return None
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(
            f"cannot load the content filter {escape(name)}: {error}",
            "give --content-filter module:function, of a module that Python finds",
        ) from error
