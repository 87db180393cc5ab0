"""The file of an add-on: by its path, or by its name in the models' folders."""

from pathlib import Path

from fromnoise.checkpoints.library import find_addon
from fromnoise.pipeline.addon_fields.base import AddOn


def find_file(kind: str, item: AddOn) -> Path:
    """Raises NotFound and BadInput, see library.find_addon."""
    return find_addon(kind, item.name) if item.file is None else item.file.expanduser()
