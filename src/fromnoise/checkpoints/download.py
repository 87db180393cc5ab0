"""A name that is no folder here → the folder of a model: its replacement repaired, or downloaded by
its hub id."""

from pathlib import Path

from fromnoise.errors import NotFound
from fromnoise.folders import repair

# what a pipeline folder needs: a repository may hold pickles, single files and other precisions
# beside it
PATTERNS = ["model_index.json", "fromnoise.json", "clip_head.safetensors", "*/*.json", "*/*.txt"]
PATTERNS += ["*/model.safetensors", "*/diffusion_pytorch_model.safetensors"]


def find_elsewhere(name: str, folder: Path) -> Path:
    """The folder of a model whose name is no folder. Raises NotFound."""
    repair(folder.absolute())
    if folder.is_dir():
        return folder
    if folder.is_file() or name.count("/") != 1 or name.startswith((".", "~", "/")):
        reason = "is a file, not a folder" if folder.is_file() else "does not exist"
        raise NotFound(
            f"no model {name!r}: {folder.absolute()} {reason}",
            "give a folder with a model_index.json, a hub id 'owner/name', or nothing for the "
            "bundled model",
        )
    return download(name)


def download(name: str) -> Path:
    """A hub id "owner/name" → the local folder of its pipeline. Raises NotFound."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS))
    # its classes, and those of the HTTP library under it, change from version to version
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise NotFound(
            f"no model {name!r}: no folder {Path(name).absolute()}, and the Hugging Face hub gave "
            f"none ({reason[0]})",
            "check the spelling, the connection and, for a gated model, `hf auth login`",
        ) from error
